"""What the features and outputs of a model are: their names, and how raw features are scaled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SCALE_NAMES", "check_feature_scale", "check_names", "judge_feature_scale", "scaled"]

SCALE_NAMES = ("feature_mean", "feature_scale")
_AT_ONCE = 1 << 16  # elements scaled at a time, which stay in the cache


def check_names(names: Iterable[str] | None, count: int, argument: str) -> tuple[str, ...] | None:
    """Return `count` different names; None stays None."""
    if names is None:
        return None
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"MLP: {argument} is {names!r}; it must be a sequence of {count} names")
    result: dict[str, None] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"MLP: {argument}[{index}] is {name!r}; it must be a str")
        if name in result:
            raise ValueError(f"MLP: {argument} has {str(name)!r} twice; the names must be different")
        result[str(name)] = None  # of NumPy's str, too
    if len(result) != count:
        raise ValueError(f"MLP: {argument} has {len(result)} names; it must have {count}")
    return tuple(result)


def check_feature_scale(
    mean: npt.ArrayLike | None, scale: npt.ArrayLike | None, features: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return copies of mean and scale as float64 (features,); None if both are."""
    if mean is None and scale is None:
        return None
    if mean is None or scale is None:
        missing, given = SCALE_NAMES if mean is None else SCALE_NAMES[::-1]
        raise TypeError(f"MLP: {given} needs {missing}: features are scaled as (X - feature_mean) / feature_scale")
    arrays = []
    for name, value in zip(SCALE_NAMES, (mean, scale), strict=True):
        array = np.asarray(value)
        if isinstance(value, np.ma.MaskedArray) or array.dtype.kind not in "iuf":
            raise TypeError(f"MLP: {name} is {array.dtype.name}; it must be numbers, and not masked")
        if array.shape != (features,):
            raise ValueError(f"MLP: {name} is {array.shape}; it must be {(features,)}")
        arrays.append(array.astype(np.float64))
    judge_feature_scale(arrays[0], arrays[1])
    return arrays[0], arrays[1]


def judge_feature_scale(mean: npt.NDArray[Any], scale: npt.NDArray[Any]) -> None:
    for name, array, sound in (
        ("feature_mean", mean, np.isfinite(mean)),
        ("feature_scale", scale, (scale > 0.0) & (scale < np.inf)),
    ):
        if not sound.all():
            index = int(np.flatnonzero(~sound)[0])
            wanted = "finite" if array is mean else "finite and greater than 0"
            raise ValueError(f"MLP: {name}[{index}] is {float(array[index])!r}; it must be {wanted}")


def scaled(
    array: npt.NDArray[Any], mean: npt.NDArray[Any], scale: npt.NDArray[Any], dtype: np.dtype[Any], operation: str
) -> npt.NDArray[Any]:
    """``(array - mean) / scale`` in double, rounded once to `dtype`; ValueError if a finite value becomes infinite."""
    result: npt.NDArray[Any] = np.empty(array.shape, dtype=dtype)
    given, rows = array.reshape(-1, array.shape[-1]), result.reshape(-1, array.shape[-1])
    step = max(_AT_ONCE // array.shape[-1], 1)
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), step):
            part = given[start : start + step]
            rows[start : start + step] = (part.astype(np.float64) - mean) / scale
            lost = np.argwhere(np.isinf(rows[start : start + step]) & np.isfinite(part))
            if lost.size:
                row, column = lost[0].tolist()
                place = (*map(int, np.unravel_index(start + row, array.shape[:-1])), column)
                raise ValueError(
                    f"{operation}: X[{', '.join(map(str, place))}] is {float(array[place])!r}, too far from the mean "
                    f"of its feature, {float(mean[column])!r}, for {dtype.name}"
                )
    return result
