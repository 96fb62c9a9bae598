"""What the training passes of one step leave: gradients in the model, and here what goes with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from normcore.training.batches import Part

__all__ = ["Gradients", "mean_of_passes"]

FloatArray = npt.NDArray[Any]


@dataclass(slots=True)
class Gradients:
    """What a step knows of the gradients in the model's ``gradients_flat``."""

    loss: float
    """Mean over the batch, with the L2 term."""
    weight: float
    """Sum of the weights of the rows which that is the mean of."""
    penalty: float
    """The L2 term, whose own gradient is the optimiser's to add."""
    X: FloatArray
    """The rows, or those of the last part; of the first part whose loss is not finite, if there is one."""


def mean_of_passes(
    flat: FloatArray, training_pass: Callable[[Part, int], tuple[float, float]], parts: Iterable[Part]
) -> tuple[float, float, FloatArray]:
    """Leave the mean of the parts' gradients by their weights in `flat`; return loss, weight and last rows.

    ``training_pass(part, number)`` leaves the gradients of a part in `flat` and returns its loss and weight.
    """
    summed, loss, weight = np.zeros_like(flat), 0.0, 0.0
    X: Any = None
    with np.errstate(all="ignore"):  # what is not finite is seen afterwards
        for number, part in enumerate(parts):
            X = part[0]
            value, rows = training_pass(part, number)
            if not math.isfinite(value):
                return value, rows, X
            np.multiply(flat, flat.dtype.type(rows), out=flat)
            np.add(summed, flat, out=summed)
            loss, weight = loss + rows * value, weight + rows
        divisor = weight if weight > 0.0 else 1.0
        np.divide(summed, flat.dtype.type(divisor), out=flat)
    return loss / divisor, weight, X
