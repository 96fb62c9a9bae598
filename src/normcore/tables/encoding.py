"""From a table's cells to what a network takes and gives: classes by number, features to one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from normcore import _core
from normcore.labels import encode_labels
from normcore.mlp import MLP
from normcore.tables.reading import DataError, parse_number

__all__ = ["check_scaled", "column_statistics", "encode_texts"]


def encode_texts(labels: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each row's class and the classes in order: by value if all of them are numbers, else by text."""
    try:
        codes, keys = encode_labels([(parse_number(label), label) for label in labels])
    except ValueError:
        return encode_labels(labels)
    return codes, [label for _, label in keys]


def column_statistics(
    x: NDArray[np.float64], source: object, names: list[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; the deviation of a constant column is taken as 1.

    `source` and `names` are what a DataError calls the file and the columns.
    The library's own batch-norm statistics: NumPy's sums have other last bits on other machines.
    """
    ones = np.ones(x.shape[1])
    _, mean, rstd = _core.batch_norm_forward(x, ones, np.zeros_like(ones), eps=0.0)
    if not (np.isfinite(mean).all() and (rstd > 0.0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(mean) & (rstd > 0.0)))[0])
        column = repr(names[bad]) if names else f"number {bad + 1}"
        raise DataError(f"{source}: the values of feature {column} are too large to standardise")
    constant = np.isinf(rstd)
    return mean, np.where(constant, 1.0, 1.0 / rstd)


def check_scaled(model: MLP, x: NDArray[np.float64], source: object) -> None:
    """DataError, which names `source`, if a value of the finite rows `x` is infinite in the scale of the model."""
    mean, scale = model.feature_mean, model.feature_scale
    with np.errstate(over="ignore"):
        result = (x if mean is None or scale is None else (x - mean) / scale).astype(model.dtype)
    if not np.isfinite(result).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise DataError(
            f"{source}: {x[row, column]:g} (feature {column + 1}) is too far from the training rows' values"
        )
