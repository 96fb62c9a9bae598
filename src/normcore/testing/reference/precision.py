"""Arrays one precision wider than the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "as_rows", "cast", "wide", "wide_dtype"]

Array = NDArray[Any]


def wide_dtype(*dtypes: Any) -> np.dtype[Any]:
    """The type the reference computes in: float64 for float32 and narrower data, ``longdouble`` for float64."""
    common = np.result_type(np.float32, *dtypes)
    return np.dtype(np.float64 if common == np.float32 else np.longdouble)


def wide(x: ArrayLike, *others: ArrayLike) -> Array:
    """`x` as a native, contiguous array of the wide type of `x` and `others` together."""
    arrays = [np.asarray(a) for a in (x, *others)]
    return np.array(arrays[0], dtype=wide_dtype(*(a.dtype for a in arrays)), order="C")


def cast(x: ArrayLike, kind: np.dtype[Any]) -> Array:
    """`x` as a native, contiguous array of type `kind`."""
    return np.array(np.asarray(x), dtype=kind, order="C")


def as_rows(x: Array) -> Array:
    """`x` with its leading axes flattened into rows."""
    return x.reshape(int(np.prod(x.shape[:-1], dtype=np.int64)), x.shape[-1])
