"""The data of a fit, checked once; which rows each step takes of them; and the streams of the trainer's seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from normcore._inputs import check_weights
from normcore.losses import Loss
from normcore.mlp import MLP
from normcore.random import Generator

__all__ = [
    "DROPOUT_STREAM",
    "SHUFFLE_STREAM",
    "Batch",
    "DataSet",
    "Part",
    "ValidationData",
    "epoch_order",
    "step_bounds",
]

FloatArray = npt.NDArray[Any]
ValidationData = tuple[npt.ArrayLike, npt.ArrayLike] | tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]

Part = tuple[FloatArray, npt.NDArray[Any], FloatArray | None]
"""Rows as the network sees them, targets, sample weights: what one training pass takes."""

# Streams of the trainer's seed. A model made with the same seed draws its weights from the streams 0, 1, 2 ...; these
# lie far from them and from each other. Epoch e takes its batches from SHUFFLE_STREAM + e, and step s drops the units
# of layer l by DROPOUT_STREAM + s * layers + l: a run can go on from any step without replaying what came before.
SHUFFLE_STREAM = 1 << 62
DROPOUT_STREAM = 1 << 63

_EVALUATION_ROWS = 1024  # rows a forward pass: bounds the work memory; the result does not depend on it


class DataSet:
    """Checked features, as the network sees them, and targets, with what evaluation needs, made once a fit."""

    def __init__(
        self,
        model: MLP,
        loss: Loss,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None,
        operation: str,
        ignore_index: int | None = None,
    ) -> None:
        features = model._rows(X, operation)
        if features.ndim != 2:
            raise ValueError(f"{operation}: X is {features.shape}; it must be (rows, {model.features})")
        if not features.shape[0]:
            raise ValueError(f"{operation}: X is {features.shape}; it must have at least one row")
        # np.take would copy the whole array at each step if it were not contiguous.
        self.X: FloatArray = np.ascontiguousarray(features)
        self.rows: int = features.shape[0]
        targets = loss.check_targets(
            y, self.rows, model.outputs, operation, dtype=model.dtype, ignore_index=ignore_index
        )
        self.y: npt.NDArray[Any] = np.ascontiguousarray(targets)
        self.sample_weight = check_weights(sample_weight, (self.rows,), operation, "sample_weight")
        self._counts: FloatArray | None = self.sample_weight  # of the rows, in the scores
        if ignore_index is not None and self.y.ndim == 1:
            counted = (self.y != ignore_index).astype(np.float64)
            self._counts = counted if self.sample_weight is None else counted * self.sample_weight
        self._operation = operation
        self._outputs: FloatArray = np.empty((self.rows, model.outputs), dtype=model.dtype)

    @classmethod
    def validation(
        cls, model: MLP, loss: Loss, given: ValidationData | None, ignore_index: int | None
    ) -> DataSet | None:
        """What `given`, the validation data of a fit, is; None if that is."""
        if given is None:
            return None
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise TypeError("Trainer.fit: validation_data must be a pair (X, y), or (X, y, sample_weight)")
        X, y, weight = (*given, None)[:3]
        return cls(model, loss, X, y, weight, "Trainer.fit: validation_data", ignore_index)

    def evaluate(self, model: MLP, loss: Loss, **options: Any) -> dict[str, float]:
        """The loss, called with the options, and the scores of the model in evaluation mode, by name."""
        outputs = self._outputs
        for start in range(0, self.rows, _EVALUATION_ROWS):
            rows = slice(start, start + _EVALUATION_ROWS)
            model._forward(self.X[rows], outputs[rows], "Trainer.fit")
        value, _, _ = loss(outputs, self.y, sample_weight=self.sample_weight, **options)
        return {"loss": float(value), **loss.metrics(outputs, self.y, self._counts)}

    def balanced(self, outputs: int, ignore_index: int | None) -> FloatArray:
        """Class weights (outputs,) rows / (classes * rows of the class), of the classes that there are; 1 of others."""
        if self.y.ndim != 1:
            raise ValueError(f"{self._operation}: class_weight='balanced' counts labels, and y are soft targets")
        labels = self.y if ignore_index is None else self.y[self.y != ignore_index]
        counts = np.bincount(labels, minlength=outputs).astype(np.float64)
        present = counts > 0
        weights = np.ones(outputs)
        weights[present] = len(labels) / (np.count_nonzero(present) * counts[present])
        return weights


class Batch:
    """Arrays which each minibatch is gathered into, made once a fit: a step allocates nothing large."""

    def __init__(self, data: DataSet) -> None:
        self._data = data
        self._rows = 0

    def make_room(self, rows: int) -> None:
        """For batches of up to that many rows."""
        data = self._data
        if rows <= self._rows:
            return
        self._rows = rows
        self._X = np.empty((rows, *data.X.shape[1:]), dtype=data.X.dtype)
        self._y = np.empty((rows, *data.y.shape[1:]), dtype=data.y.dtype)
        self._sample_weight = None if data.sample_weight is None else np.empty(rows, dtype=np.float64)

    def parts(self, order: npt.NDArray[np.int64], bounds: list[tuple[int, int]]) -> tuple[Part] | Iterator[Part]:
        """The batches of one step: one as it is, of several each overwritten by the next."""
        if len(bounds) == 1:
            start, stop = bounds[0]
            return (self.gather(order[start:stop]),)
        return (self.gather(order[start:stop]) for start, stop in bounds)

    def gather(self, index: npt.NDArray[np.int64]) -> Part:
        rows = len(index)
        # mode="clip", because "raise" gathers into a temporary first; the indices are in range by construction.
        data = self._data
        X = data.X.take(index, 0, self._X[:rows], "clip")
        y = data.y.take(index, 0, self._y[:rows], "clip")
        if self._sample_weight is None or data.sample_weight is None:
            return X, y, None
        return X, y, data.sample_weight.take(index, 0, self._sample_weight[:rows], "clip")


def step_bounds(rows: int, size: int, shuffle: str, norm: str | None, accumulate: int) -> list[list[tuple[int, int]]]:
    """Where the batches of each step of an epoch begin and end in the index array of `epoch_order`."""
    bounds = _batch_bounds(rows, size, shuffle, norm)
    return [bounds[first : first + accumulate] for first in range(0, len(bounds), accumulate)]


def _batch_bounds(rows: int, size: int, shuffle: str, norm: str | None) -> list[tuple[int, int]]:
    if shuffle == "replacement":
        return [(start, start + size) for start in range(0, max(rows // size, 1) * size, size)]
    bounds = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    if norm == "batch" and len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
        bounds[-2:] = [(bounds[-2][0], rows)]
    return bounds


def epoch_order(rows: int, count: int, shuffle: str, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Index array of an epoch, of which the batches take `count` entries."""
    generator = Generator(seed, SHUFFLE_STREAM + epoch)
    if shuffle == "replacement":
        return generator.integers(rows, count)
    return generator.permutation(rows)
