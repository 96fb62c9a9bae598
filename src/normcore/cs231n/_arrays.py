"""What the course's functions take, made what normcore's take: arrays of one floating dtype, checked by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normcore._checks import check_number

__all__ = ["Array", "check_labels", "check_shape", "floating", "mode_of", "option"]

Array = NDArray[Any]


def floating(operation: str, **given: ArrayLike) -> list[Array]:
    """The arguments as arrays of their common dtype, which is float32 or float64, as NumPy would promote them.

    Integers count as float64. Nothing is copied that is of that dtype already.
    """
    arrays = {name: np.asanyarray(value) for name, value in given.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
            raise TypeError(
                f"{operation}: {name} is an array of {array.dtype}; it must be of float32, float64 or integers"
            )
    narrow = all(array.dtype.kind == "f" and array.dtype.itemsize <= 4 for array in arrays.values())
    dtype = np.float32 if narrow else np.float64
    return [array.astype(dtype, copy=False) for array in arrays.values()]


def check_shape(operation: str, name: str, array: Array, shape: Sequence[int], reason: str) -> None:
    if array.shape != tuple(shape):
        raise ValueError(f"{operation}: {name} is {array.shape}; it must be {tuple(shape)}, {reason}")


def check_labels(operation: str, x: Array, y: ArrayLike) -> NDArray[np.intp]:
    """The labels `y` of the rows of the scores `x`."""
    if x.ndim != 2:
        raise ValueError(f"{operation}: x is {x.shape}; it must be (N, C)")
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{operation}: y is an array of {labels.dtype}; it must be of integers")
    check_shape(operation, "y", labels, x.shape[:1], f"one label for each row of x, which is {x.shape}")
    wrong = np.flatnonzero((labels < 0) | (labels >= x.shape[1]))
    if wrong.size:
        raise ValueError(
            f"{operation}: y has {labels[wrong[0]]} in row {wrong[0]}; labels must be in [0, {x.shape[1]})"
        )
    return labels.astype(np.intp)


def mode_of(operation: str, name: str, params: Any) -> str:
    """The ``"mode"`` of `params`, a dict called `name`: "train" or "test"."""
    mode = _dict(operation, name, params).get("mode")
    if mode not in ("train", "test"):
        found = f"['mode'] is {mode!r}" if "mode" in params else " lacks 'mode'"
        raise ValueError(f"{operation}: {name}{found}; it must be 'train' or 'test'")
    return str(mode)


def option(operation: str, name: str, params: Any, key: str, default: float, high: float = math.inf) -> float:
    """The number that `params`, a dict called `name`, has for `key`, from 0 to `high`."""
    value = _dict(operation, name, params).get(key, default)
    return check_number(value, operation, f"{name}[{key!r}]", 0.0, high)


def _dict(operation: str, name: str, params: Any) -> Mapping[str, Any]:
    if not isinstance(params, Mapping):
        raise TypeError(f"{operation}: {name} is a {type(params).__name__}; it must be a dict")
    return params
