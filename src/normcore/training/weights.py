"""The weights of the best epoch, beside those that training goes on from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from normcore._signals import uninterrupted
from normcore.mlp import MLP

__all__ = ["BestWeights", "Weights"]

FloatArray = npt.NDArray[Any]
Weights = tuple[FloatArray, FloatArray]  # parameters_flat and buffers_flat of a model


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
