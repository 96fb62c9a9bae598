"""When training stops, and which weights are kept: the best epoch, patience, and values that are not finite."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._signals import uninterrupted
from normcore.mlp import MLP

__all__ = [
    "BestWeights",
    "NonFiniteError",
    "Weights",
    "all_finite",
    "has_diverged",
    "is_unmeasurable",
    "nonfinite_in_pass",
]

FloatArray = npt.NDArray[Any]
Weights = tuple[FloatArray, FloatArray]  # parameters_flat and buffers_flat of a model


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
    normcore.training.stopping.NonFiniteError: Trainer: step 0 (epoch 0): the loss is nan; the features of row 0 ...
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
    return not array.size or math.isfinite(_core.sum_of_squares(array)) or bool(np.isfinite(array).all())


def first_nonfinite(*kinds: tuple[str, Mapping[str, FloatArray]]) -> tuple[str, str] | None:
    """Name and description of the first array that is not finite."""
    for kind, views in kinds:
        for name, view in views.items():
            if not np.isfinite(view).all():
                layer = name.lstrip(string.ascii_lowercase + "_")
                return name, f"the first {kind} that is not finite is {name} (layer {layer})"
    return None


def nonfinite_in_pass(model: MLP, X: npt.ArrayLike) -> tuple[str, str]:
    """Say where a NaN or Inf of a training pass shows first: in what goes in, and only then in what comes out."""
    features = np.asarray(X)
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=-1))[0])
        return "X", f"the features of row {row} of the batch are not finite"
    found = first_nonfinite(
        ("parameter", model.parameters()), ("gradient", model.gradients()), ("running statistic", model.buffers())
    )
    return found or ("loss", "all parameters and gradients are finite")


def has_diverged(model: MLP, policy: str, step: int, epoch: int) -> bool:
    """Whether the update of `step` left something that is not finite; NonFiniteError if the policy is "raise"."""
    if all_finite(model.parameters_flat) and all_finite(model.buffers_flat):
        return False
    if policy == "raise":
        found = first_nonfinite(("parameter", model.parameters()), ("running statistic", model.buffers()))
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


def _same_bits(a: FloatArray, b: FloatArray) -> bool:
    return np.array_equal(a.view(np.uint8), b.view(np.uint8))


class BestWeights:
    """The weights that a model had at its best epoch and, while the model has those, the ones of its last step."""

    def __init__(self, model: MLP) -> None:
        self._model = model
        self.best: Weights | None = None
        self.last: Weights | None = None

    def current(self) -> Weights:
        """Return a copy of what the model has."""
        return self._model.parameters_flat.copy(), self._model.buffers_flat.copy()

    def show(self) -> None:
        """Give the model the weights of the best epoch, if there are any, and keep its own to go on from."""
        if self.best is not None:
            self._give(self.best, self.current())

    def leave(self) -> bool:
        """Undo `show`, if it was done and the model has not been changed since; return whether that was so."""
        model, last, best = self._model, self.last, self.best
        if last is None or best is None:
            return False
        unchanged = _same_bits(model.parameters_flat, best[0]) and _same_bits(model.buffers_flat, best[1])
        if unchanged:
            self._give(last, None)
        self.last = None
        return unchanged

    def _give(self, weights: Weights, last: Weights | None) -> None:
        arrays = (self._model.parameters_flat, self._model.buffers_flat)
        calls = [(array.__setitem__, ..., values) for array, values in zip(arrays, weights, strict=True)]
        uninterrupted((*calls, (setattr, self, "last", last)))
