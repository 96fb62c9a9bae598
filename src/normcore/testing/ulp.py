"""Distances in units in the last place, and equality of bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

__all__ = [
    "assert_same_bits",
    "assert_ulp",
    "column_ulp_error",
    "row_ulp_error",
    "same_bits",
    "ulp",
    "ulp_error",
]


def ulp(x: ArrayLike, dtype: Any) -> Array:
    """Spacing of the numbers of `dtype` around `x`, which may be of a wider type.

    The spacing above the power of two at or below |x|; in the subnormal range, and for 0, the smallest subnormal;
    NaN for NaN and infinities.

    Examples
    --------
    >>> from normcore.testing.ulp import ulp
    >>> ulp([1.0, 2.0**10], np.float64) * 2.0**52
    array([1.000e+00, 1.024e+03])
    """
    kind = np.finfo(np.dtype(dtype))
    a = np.asarray(x)
    _, exponent = np.frexp(np.where(np.isfinite(a), a, 1))
    power = np.maximum(np.where(a == 0, kind.minexp, exponent - 1), kind.minexp) - kind.nmant
    # float64 itself reaches down to 2**-1074, the smallest subnormal of either type.
    return np.where(np.isfinite(a), np.ldexp(1.0, power), np.nan)


def _distance(actual: Array, expected: Array, unit: Array, dtype: np.dtype[Any]) -> Array:
    """|actual - expected| in `unit`; 0 for equal infinities and NaN with NaN, inf where only one is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        gone = expected.astype(dtype)  # what overflows in dtype may be infinite there
        same = (np.isnan(actual) & np.isnan(expected)) | (actual == expected) | (np.isinf(gone) & (actual == gone))
        error = np.abs(actual.astype(np.longdouble) - expected.astype(np.longdouble)) / unit
    return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf)).astype(np.float64)


def ulp_error(actual: ArrayLike, expected: ArrayLike, dtype: Any = None) -> Array:
    """Element-wise error of `actual` in units in the last place of the exact value `expected`.

    The unit is that of `dtype`, by default the type of `actual`. NaN for NaN, and equal infinities, are 0 apart; a
    finite against a non-finite value is infinitely far.

    Examples
    --------
    >>> from normcore.testing import ulp_error
    >>> ulp_error(np.float32([1.0, 1.0, np.nan]), [1.0, 1 + 2.0**-23, np.nan])
    array([0., 1., 0.])
    """
    a, e = np.asarray(actual), np.asarray(expected)
    kind = np.dtype(a.dtype if dtype is None else dtype)
    return _distance(a, e, ulp(e, kind), kind)


def row_ulp_error(
    actual: ArrayLike,
    expected: ArrayLike,
    dtype: Any = None,
    *,
    axis: int = -1,
    floor: float = 1 / 64,
) -> Array:
    """Error in units in the last place, where small elements are measured by the greatest of their row.

    Elements of at least `floor` times the greatest magnitude along `axis` count in their own unit, the others in the
    unit of that greatest one: the measure of the norms' accuracy goals (``axis=0`` for columns).

    Examples
    --------
    >>> from normcore.testing import row_ulp_error, ulp_error
    >>> actual, exact = np.float32([[1024.0, 2.0**-10]]), [[1024.0, 2.0**-9]]
    >>> ulp_error(actual, exact).tolist()
    [[0.0, 4194304.0]]
    >>> row_ulp_error(actual, exact).tolist()
    [[0.0, 8.0]]
    """
    a, e = np.asarray(actual), np.asarray(expected)
    kind = np.dtype(a.dtype if dtype is None else dtype)
    if e.size == 0:
        return np.zeros(e.shape)
    size = np.abs(np.where(np.isfinite(e), e, 0))
    top = np.broadcast_to(size.max(axis=axis, keepdims=True), e.shape)
    return _distance(a, e, np.where(size >= floor * top, ulp(size, kind), ulp(top, kind)), kind)


def column_ulp_error(actual: ArrayLike, expected: ArrayLike, dtype: Any = None, *, floor: float = 1 / 64) -> Array:
    """:func:`row_ulp_error` by columns: small elements are measured by the greatest of their column.

    Examples
    --------
    >>> from normcore.testing import column_ulp_error
    >>> column_ulp_error(np.float32([[1024.0], [2.0**-10]]), [[1024.0], [2.0**-9]])
    array([[0.],
           [8.]])
    """
    return row_ulp_error(actual, expected, dtype, axis=0, floor=floor)


def assert_ulp(error: ArrayLike, limit: float, what: str = "error") -> None:
    """Raise AssertionError, naming the worst element, unless every `error` is at most `limit`.

    Examples
    --------
    >>> from normcore.testing import assert_ulp, ulp_error
    >>> assert_ulp(ulp_error(nc.tanh_forward(np.float32([0.5])), np.tanh([0.5])), 2)
    >>> assert_ulp([0.5, 3.0], 2, "tanh")
    Traceback (most recent call last):
        ...
    AssertionError: tanh: 3 units in the last place at (1,), limit 2
    """
    a = np.asarray(error)
    if a.size == 0:
        return
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(a), np.inf, a))), a.shape)
    if not a[worst] <= limit:
        at = tuple(int(i) for i in worst)
        raise AssertionError(f"{what}: {float(a[worst]):.6g} units in the last place at {at}, limit {limit:g}")


def _bits(a: Array) -> Array:
    native = np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("="))
    return native.reshape(-1).view(np.uint8).reshape(native.size, native.dtype.itemsize)


def _difference(a: Any, b: Any, path: str) -> str | None:
    """Where two results first differ in type, shape or bits; None if nowhere."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if list(a) != list(b):
            return f"{path}: keys {list(a)} and {list(b)}"
        return next(
            (d for key in a if (d := _difference(a[key], b[key], f"{path}[{key!r}]"))),
            None,
        )
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        if len(a) != len(b):
            return f"{path}: lengths {len(a)} and {len(b)}"
        pairs = enumerate(zip(a, b, strict=True))
        return next((d for i, (u, v) in pairs if (d := _difference(u, v, f"{path}[{i}]"))), None)
    if a is None or b is None:
        return None if a is b else f"{path}: {a!r} and {b!r}"
    x, y = np.asarray(a), np.asarray(b)
    if x.dtype.newbyteorder("=") != y.dtype.newbyteorder("="):
        return f"{path}: dtypes {x.dtype} and {y.dtype}"
    if x.shape != y.shape:
        return f"{path}: shapes {x.shape} and {y.shape}"
    wrong = np.flatnonzero((_bits(x) != _bits(y)).any(axis=1))
    if not wrong.size:
        return None
    at = tuple(int(i) for i in np.unravel_index(int(wrong[0]), x.shape))
    return f"{path}: {wrong.size} of {x.size} elements differ in bits, first at {at}: {x[at]!r} and {y[at]!r}"


def same_bits(a: Any, b: Any) -> bool:
    """Whether two results are the same bit for bit: NaN equals NaN of the same bits, +0 is not -0.

    Arrays (of equal shape and dtype; the byte order does not matter), numbers, None, and tuples, lists and mappings of
    them.

    Examples
    --------
    >>> from normcore.testing import same_bits
    >>> same_bits(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]))
    True
    >>> same_bits(0.0, -0.0)
    False
    """
    return _difference(a, b, "result") is None


def assert_same_bits(a: Any, b: Any, what: str = "result") -> None:
    """Raise AssertionError, naming the first difference, unless :func:`same_bits`.

    Examples
    --------
    >>> from normcore.testing import assert_same_bits
    >>> assert_same_bits(np.array([1.0, 0.0]), np.array([1.0, -0.0]), "y")
    Traceback (most recent call last):
        ...
    AssertionError: y: 1 of 2 elements differ in bits, first at (1,): ...
    """
    if difference := _difference(a, b, what):
        raise AssertionError(difference)
