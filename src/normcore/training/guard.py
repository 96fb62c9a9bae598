"""Values that are not finite: where they show first, and what a training does about them."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore.mlp import MLP

__all__ = ["NonFiniteError", "all_finite", "guarded_norm", "has_diverged", "is_unmeasurable"]

FloatArray = npt.NDArray[Any]


class NonFiniteError(FloatingPointError):
    """A loss, a gradient, a parameter, a running statistic or the optimiser's state became NaN or infinite.

    Attributes
    ----------
    step : int
        The step, from 0, that was not done: parameters and running statistics are those before it. If it shows only
        after the last step of an epoch: that step, which is done.
    name : str
        Where it shows first: "X", a parameter or, if all those are finite, a gradient such as "w1", or a running
        statistic; else "loss", "train_loss" or "val_loss". For the optimiser's state: the parameter it belongs to.

    Examples
    --------
    >>> trainer = nc.Trainer(nc.MLP([2, 4, 2]))
    >>> trainer.step([[0.0, np.nan]], [1])
    Traceback (most recent call last):
        ...
    normcore.training.guard.NonFiniteError: Trainer: step 0 (epoch 0): the loss is nan; the features of row 0 ...
    """

    def __init__(self, message: str, step: int, name: str) -> None:
        super().__init__(message)
        self.step = step
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.step, self.name)


def all_finite(array: FloatArray) -> bool:
    """Whether no element of a contiguous array is NaN or infinite."""
    # The sum needs no temporary; squares of finite float64 may overflow.
    return math.isfinite(_core.sum_of_squares(array)) or bool(np.isfinite(array).all())


def _first_nonfinite(*kinds: tuple[str, Mapping[str, FloatArray]]) -> tuple[str, str] | None:
    """Name and description of the first array that is not finite."""
    for kind, views in kinds:
        for name, view in views.items():
            if not np.isfinite(view).all():
                layer = name.lstrip(string.ascii_lowercase + "_")
                return name, f"the first {kind} that is not finite is {name} (layer {layer})"
    return None


def guarded_norm(model: MLP, loss: float, X: FloatArray) -> tuple[float, tuple[str, str] | None]:
    """Norm of the model's gradients; and if they, the loss or the running statistics are not finite, where and how.

    `X`: the rows that the pass was of.
    """
    flat, statistics = model._gradients, model._buffers
    norm_squared = _core.sum_of_squares(flat)
    if math.isfinite(norm_squared + _core.sum_of_squares(statistics) + loss):
        return math.sqrt(norm_squared), None
    # Something is not finite, or a square of something that is.
    small = math.isfinite(norm_squared)
    if not (math.isfinite(loss) and (small or np.isfinite(flat).all()) and all_finite(statistics)):
        return norm_squared, _nonfinite_in_pass(model, X)
    if small:
        return math.sqrt(norm_squared), None
    # Finite float64 gradients whose squares overflow.
    greatest = float(np.abs(flat).max())
    return greatest * math.sqrt(_core.sum_of_squares(flat / greatest)), None


def _nonfinite_in_pass(model: MLP, X: FloatArray) -> tuple[str, str]:
    """Say where a NaN or Inf of a training pass shows first: in what goes in, and only then in what comes out."""
    if not np.isfinite(X).all():
        row = int(np.flatnonzero(~np.isfinite(X).all(axis=-1))[0])
        return "X", f"the features of row {row} of the batch are not finite"
    found = _first_nonfinite(
        ("parameter", model.parameters()), ("gradient", model.gradients()), ("running statistic", model.buffers())
    )
    return found or ("loss", "all parameters and gradients are finite")


def has_diverged(model: MLP, policy: str, step: int, epoch: int) -> bool:
    """Whether the update of `step` left something that is not finite; NonFiniteError if the policy is "raise"."""
    if all_finite(model.parameters_flat) and all_finite(model.buffers_flat):
        return False
    if policy == "raise":
        found = _first_nonfinite(("parameter", model.parameters()), ("running statistic", model.buffers()))
        name, what = found or ("parameters_flat", "the parameters are not finite")
        raise NonFiniteError(f"Trainer: after step {step} (epoch {epoch}): {what}", step, name)
    return True


def is_unmeasurable(values: Mapping[str, float], policy: str, step: int, epoch: int) -> bool:
    """Whether a loss measured at the end of an epoch ends the training; NonFiniteError if the policy is "raise"."""
    bad = next((name for name in ("train_loss", "val_loss") if not math.isfinite(values.get(name, 0.0))), None)
    if bad is None or policy == "skip":
        return False
    if policy == "raise":
        what = f"{bad} is {values[bad]}; all parameters are finite"
        raise NonFiniteError(f"Trainer: after step {step} (end of epoch {epoch - 1}): {what}", step, bad)
    return True
