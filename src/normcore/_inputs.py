"""Checks of arrays that users give: features, gradients, weights. What fits stays as it lies, else it is converted.

`operation` is what the caller is called, `name` what it calls the argument; every message begins with the two. Targets
are checked by the loss that they are for: `normcore.losses.Loss.check_targets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from normcore import _core

__all__ = ["ClassWeight", "check_class_weight", "check_features", "check_floats", "check_weights", "convert"]

FloatArray = npt.NDArray[Any]
ClassWeight = npt.ArrayLike | Mapping[Any, float] | None


def convert(array: npt.NDArray[Any], dtype: np.dtype[Any], operation: str, name: str) -> FloatArray:
    """Round `array` to `dtype`; ValueError if a finite value becomes infinite."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        converted = array.astype(dtype)
    if dtype.itemsize < array.dtype.itemsize:
        infinite = np.isinf(converted)
        if infinite.any() and (lost := np.argwhere(infinite & np.isfinite(array))).size:
            index = tuple(lost[0].tolist())
            raise ValueError(
                f"{operation}: {name}[{', '.join(map(str, index))}] is {float(array[index])!r}, which does not fit "
                f"{dtype.name}, the dtype of the model"
            )
    return converted


def check_floats(values: npt.ArrayLike, operation: str, name: str) -> FloatArray:
    """Return `values` as an array of float32 or float64, which they must be; any layout is kept."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{operation}: {name} is a masked array; fill or drop the masked elements first")
    array = np.asarray(values)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{operation}: {name} is {array.dtype.name}; accepted are float32 and float64")
    return array


def check_features(X: npt.ArrayLike, features: int, operation: str) -> FloatArray:
    """Return `X` as an array with at least two axes, the last one `features` long; any layout is kept.

    Integers, bool and float16 are numbers like others: each stands for one number, which is then rounded to the dtype.
    """
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(f"{operation}: X is a masked array; fill or drop the masked elements first")
    array = np.asarray(X)
    if array.dtype.kind not in "iub" and (array.dtype.kind != "f" or array.dtype.itemsize > 8):
        raise TypeError(
            f"{operation}: X is {array.dtype.name}; accepted are float32 and float64, and float16, integers and bool, "
            "which are converted"
        )
    if array.ndim < 2:
        raise ValueError(f"{operation}: X is {array.shape}; it must be (rows, features) (one row is X[np.newaxis])")
    if array.shape[-1] != features:
        raise ValueError(f"{operation}: X is {array.shape} but the model takes {features} features on its last axis")
    return array


def check_class_weight(weights: ClassWeight, outputs: int, operation: str) -> FloatArray | None:
    """Return class weights as a float64 array (outputs,), from one or from a mapping {class: weight}; None stays None.

    Classes that a mapping does not name weigh 1, as in scikit-learn.
    """
    if isinstance(weights, str):
        raise TypeError(
            f"{operation}: class_weight is {weights!r}; it must be numbers, one for each class, or a mapping of class "
            "to weight"
        )
    if isinstance(weights, Mapping):
        weights = _core.class_weights(operation, weights, outputs)
    return check_weights(weights, (outputs,), operation, "class_weight")


def check_weights(
    weights: npt.ArrayLike | None, shape: tuple[int, ...], operation: str, name: str
) -> FloatArray | None:
    """Return class or sample weights as a flat float64 array of the given shape; None stays None."""
    if weights is None:
        return None
    if isinstance(weights, np.ma.MaskedArray):
        raise TypeError(f"{operation}: {name} is a masked array")
    array = np.asarray(weights)
    if array.dtype.kind not in "iubf":
        raise TypeError(f"{operation}: {name} is {array.dtype.name}; it must be numbers")
    if array.shape != shape:
        raise ValueError(f"{operation}: {name} is {array.shape}; it must be {shape}")
    flat = np.ascontiguousarray(array, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~((flat >= 0.0) & (flat < np.inf)))
    if bad.size:
        index = int(bad[0])
        raise ValueError(f"{operation}: {name}[{index}] is {flat[index]}; it must be finite and not negative")
    return flat
