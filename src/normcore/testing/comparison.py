"""Distances in units in the last place (ULP), and equality of bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

__all__ = ["assert_same_bits", "assert_ulp", "same_bits", "ulp", "ulp_error", "within_ulp"]

_SHOWN = 5  # elements of an array that a message names


def _float_type(dtype: Any, name: str) -> np.dtype[Any]:
    kind: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    if kind not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{name}: {kind.name} has no ULP here; pass dtype= float16, float32 or float64")
    return kind


def ulp(x: ArrayLike, dtype: Any) -> Array:
    """Spacing of the numbers of `dtype` (float16, float32 or float64) around `x`, which may be of a wider type.

    The spacing above the power of two at or below |x|; in the subnormal range, and for 0, the smallest subnormal;
    NaN for NaN and infinities.

    Examples
    --------
    >>> from normcore.testing import ulp
    >>> ulp([1.0, 2.0**10], np.float64) * 2.0**52
    array([1.000e+00, 1.024e+03])
    """
    kind = np.finfo(_float_type(dtype, "ulp"))
    a = np.asarray(x)
    _, exponent = np.frexp(np.where(np.isfinite(a), a, 1))
    power = np.maximum(np.where(a == 0, kind.minexp, exponent - 1), kind.minexp) - kind.nmant
    # float64 itself reaches down to 2**-1074, the smallest subnormal of all three.
    return np.where(np.isfinite(a), np.ldexp(1.0, power), np.nan)


def _distance(actual: Array, expected: Array, unit: Array, dtype: np.dtype[Any]) -> Array:
    """|actual - expected| in `unit`; 0 for equal infinities and NaN with NaN, inf where only one is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        gone = expected.astype(dtype)  # what overflows in dtype may be infinite there
        same = (np.isnan(actual) & np.isnan(expected)) | (actual == expected) | (np.isinf(gone) & (actual == gone))
        error = np.abs(actual.astype(np.longdouble) - expected.astype(np.longdouble)) / unit
        return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf)).astype(np.float64)


def ulp_error(
    actual: ArrayLike,
    expected: ArrayLike,
    dtype: Any = None,
    *,
    axis: int | None = None,
    floor: float = 1 / 64,
) -> Array:
    """Error of each element of `actual` in units in the last place of the exact value `expected`.

    Parameters
    ----------
    actual, expected : array_like
        Of shapes that broadcast. `expected` is best of a wider type, as what `normcore.testing.reference` gives.
    dtype : dtype, optional
        Whose unit it is: float16, float32 or float64; by default the type of `actual`.
    axis : int, optional
        The results of sums and norms are as exact as the greatest element allows that went into them. With an axis,
        elements below `floor` times the greatest magnitude along it are measured in the unit of that greatest one:
        ``axis=-1`` for what is computed by rows, ``axis=0`` for columns.
    floor : float
        See `axis`.

    Returns
    -------
    ndarray of float64
        NaN for NaN, and equal infinities, are 0 apart; a finite against a non-finite value is infinitely far.

    Raises
    ------
    TypeError
        `dtype` is none of the three.

    Examples
    --------
    >>> from normcore.testing import ulp_error
    >>> ulp_error(np.float32([1.0, 1.0, np.nan]), [1.0, 1 + 2.0**-23, np.nan])
    array([0., 1., 0.])
    >>> actual, exact = np.float32([[1024.0, 2.0**-10]]), [[1024.0, 2.0**-9]]
    >>> ulp_error(actual, exact).tolist()
    [[0.0, 4194304.0]]
    >>> ulp_error(actual, exact, axis=-1).tolist()
    [[0.0, 8.0]]
    """
    a, e = np.asarray(actual), np.asarray(expected)
    kind = _float_type(a.dtype if dtype is None else dtype, "ulp_error")
    unit = ulp(e, kind)
    if axis is not None and e.size:
        size = np.abs(np.where(np.isfinite(e), e, 0))
        top = np.broadcast_to(size.max(axis=axis, keepdims=True), e.shape)
        unit = np.where(size >= floor * top, ulp(size, kind), ulp(top, kind))
    return _distance(a, e, unit, kind)


# ---------------------------------------------------------------- results that are the same but for a few ULP


class _DifferentStructureError(Exception):
    """Two results are not of the same parts; the message says where."""


def _leaves(a: Any, b: Any, path: str) -> Iterator[tuple[str, Array, Array]]:
    """The arrays of two results of the same structure side by side, with their names."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if list(a) != list(b):
            raise _DifferentStructureError(f"{path}: keys {list(a)} and {list(b)}")
        for key in a:
            yield from _leaves(a[key], b[key], f"{path}[{key!r}]")
    elif isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        if len(a) != len(b):
            raise _DifferentStructureError(f"{path}: lengths {len(a)} and {len(b)}")
        names = getattr(b, "_fields", None) or getattr(a, "_fields", None)  # of a namedtuple
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _leaves(x, y, f"{path}.{names[i]}" if names else f"{path}[{i}]")
    elif a is None or b is None:
        if a is not b:
            raise _DifferentStructureError(f"{path}: {a!r} and {b!r}")
    else:
        yield path, np.asarray(a), np.asarray(b)


def _index(at: Any) -> str:
    return "" if at == () else f" at {tuple(int(i) for i in at)}"


def _far(actual: Any, expected: Any, limit: float, axis: int | None, dtype: Any, what: str) -> list[str]:
    """What is wrong, a line each: the elements of `actual` that are further than `limit` from `expected`."""
    lines: list[str] = []
    try:
        for path, a, e in _leaves(actual, expected, what):
            if a.shape != e.shape:
                lines.append(f"{path}: shape {a.shape}, expected {e.shape}")
                continue
            error = np.atleast_1d(ulp_error(a, e, dtype, axis=axis))
            wrong = np.flatnonzero(~(error <= limit))
            if not wrong.size:
                continue
            kind = np.dtype(a.dtype if dtype is None else dtype)
            lines.append(f"{path}: {wrong.size} of {a.size} elements are more than {limit:g} ULP of {kind.name} away")
            worst = wrong[np.argsort(-error.flat[wrong], kind="stable")][:_SHOWN]
            for i in worst:
                at = np.unravel_index(i, a.shape)
                far = f"{float(error.flat[i]):.6g} ULP"
                lines.append(f"{path}{_index(at)}: {a[at]!s}, expected {e[at]!s}, {far}")
    except _DifferentStructureError as difference:
        lines.append(str(difference))
    return lines


def assert_ulp(
    actual: Any, expected: Any, limit: float, *, axis: int | None = None, dtype: Any = None, what: str = "result"
) -> None:
    """Raise AssertionError, naming the worst elements, unless `actual` is within `limit` ULP of `expected`.

    Parameters
    ----------
    actual, expected
        Arrays or numbers of the same shape, or tuples, lists or mappings of them.
    limit : float
        How many units in the last place; see `ulp_error`.
    axis, dtype
        As for `ulp_error`.
    what : str
        What the message calls it.

    Examples
    --------
    >>> from normcore.testing import assert_ulp, reference
    >>> x = np.float32([0.5, -2.0])
    >>> assert_ulp(nc.tanh_forward(x), reference.tanh_forward(x), 2)
    >>> assert_ulp(np.float32([0.25, 1.0]), [0.25, 1 + 2.0**-20], 2, what="y")
    Traceback (most recent call last):
        ...
    AssertionError: y: 1 of 2 elements are more than 2 ULP of float32 away
    y at (1,): 1.0, expected 1.0000009536743164, 8 ULP
    """
    if lines := _far(actual, expected, limit, axis, dtype, what):
        raise AssertionError("\n".join(lines))


class within_ulp:  # noqa: N801 (used like a function, as pytest.approx is)
    """Compares equal to what is within `limit` ULP of `expected`: ``assert y == within_ulp(exact, 2)``.

    The arguments are those of `assert_ulp`. pytest shows the worst elements of a comparison that fails, by the plugin
    that comes with normcore.

    Examples
    --------
    >>> from normcore.testing import within_ulp
    >>> np.float32(0.1) == within_ulp(0.1, 1)
    True
    >>> np.float32([0.1, 0.2]) == within_ulp([0.1, 0.3], 1)
    False
    """

    __array_ufunc__ = None  # NumPy's arrays leave the comparison to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expected: Any, limit: float, *, axis: int | None = None, dtype: Any = None) -> None:
        self.expected, self.limit, self.axis, self.dtype = expected, limit, axis, dtype

    def explain(self, actual: Any) -> list[str]:
        """Why `actual` is not equal, a line each; empty if it is.

        >>> from normcore.testing import within_ulp
        >>> within_ulp(np.zeros(3), 2).explain(np.zeros(2))
        ['result: shape (2,), expected (3,)']
        """
        return _far(actual, self.expected, self.limit, self.axis, self.dtype, "result")

    def __eq__(self, actual: object) -> bool:
        return not self.explain(actual)

    def __repr__(self) -> str:
        options = "".join(
            f", {name}={value!r}" for name in ("axis", "dtype") if (value := getattr(self, name)) is not None
        )
        return f"within_ulp({self.expected!r}, {self.limit:g}{options})"


# ---------------------------------------------------------------- results that are the same bit for bit


def _bits(a: Array) -> Array:
    native = np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("="))
    return native.reshape(-1).view(np.uint8).reshape(native.size, native.dtype.itemsize)


def _difference(a: Any, b: Any, what: str) -> str | None:
    """Where two results first differ in type, shape or bits; None if nowhere."""
    try:
        for path, x, y in _leaves(a, b, what):
            if x.dtype.newbyteorder("=") != y.dtype.newbyteorder("="):
                return f"{path}: dtypes {x.dtype} and {y.dtype}"
            if x.shape != y.shape:
                return f"{path}: shapes {x.shape} and {y.shape}"
            wrong = np.flatnonzero((_bits(x) != _bits(y)).any(axis=1))
            if wrong.size:
                at = np.unravel_index(int(wrong[0]), x.shape)
                first = f"first{_index(at)}: {x[at]!r} and {y[at]!r}"
                return f"{path}: {wrong.size} of {x.size} elements differ in bits, {first}"
    except _DifferentStructureError as difference:
        return str(difference)
    return None


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
