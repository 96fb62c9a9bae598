"""Sections 1 and 2 of NC1: the exact fma, what is stored, and the three orders of summation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Part = TypeVar("Part")

BLOCK = 256  # of the summed index of a product
CHUNK = 256  # rows of a batch
LANES = 16  # of a sum along a row


def _fma64(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c  # however large a finite product is, it does not cancel an infinity
    (an, ad), (bn, bd), (cn, cd) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    exact = an * bn * cd + cn * ad * bd
    if exact == 0:
        return a * b + c if a == 0 or b == 0 else 0.0  # only the signs of zeros are left to decide
    try:
        return exact / (ad * bd * cd)  # integers divide with one rounding, subnormal quotients included
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


_fma64_arrays = np.frompyfunc(_fma64, 3, 1)


@np.errstate(all="ignore")
def fma(a: Any, b: Any, c: Any) -> Array:
    """``a b + c`` rounded once, in the precision of the arguments.

    In float32 the product is exact in float64; the sum is rounded there to odd, after which rounding to float32
    cannot go wrong (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008). In float64 it goes through
    integers.
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    if np.result_type(a, b, c) == np.float64:
        return np.asarray(_fma64_arrays(a, b, c), dtype=np.float64)
    p, d = np.asarray(a.astype(np.float64) * b.astype(np.float64)), c.astype(np.float64)
    s = np.asarray(p + d)
    # what the addition lost (Knuth's TwoSum): exact, and NaN where the sum is not finite
    t = s - p
    lost = (p - (s - t)) + (d - t)
    bits = s.view(np.int64)
    inexact_even = np.isfinite(s) & np.isfinite(lost) & (lost != 0) & (bits & 1 == 0)
    # One step toward the exact value: away from zero (bits + 1) if what was lost has the sign of the sum.
    odd = np.asarray(np.where(inexact_even, bits + np.where((lost > 0) == (s > 0), 1, -1), bits)).view(np.float64)
    return np.asarray(odd.astype(np.float32))


def stored(x: Any, dtype: Any = None) -> Array:
    """`x` rounded to `dtype`, with canonical NaN."""
    a = np.asarray(x)
    with np.errstate(over="ignore", invalid="ignore"):
        a = a.astype(a.dtype if dtype is None else dtype)
    return np.where(np.isnan(a), a.dtype.type(np.nan), a)


def double(x: Any) -> Array:
    """`x` in float64, exactly."""
    return np.asarray(x, dtype=np.float64)


# ---------------------------------------------------------------- sums


def tree(parts: Sequence[Part], join: Callable[[Part, Part], Part]) -> Part:
    """The parts joined by the tree that splits a range at the largest power of two below its length."""
    if len(parts) == 1:
        return parts[0]
    left = 1
    while 2 * left < len(parts):
        left *= 2
    return join(tree(parts[:left], join), tree(parts[left:], join))


def chunks(n: int) -> list[slice]:
    """The rows of each chunk."""
    return [slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]


def column_sum(a: Array, b: Array | None = None) -> Array:
    """Sum in float64 over the rows of one chunk, of `a`, or of fma(a, b, sum)."""
    s = np.zeros(a.shape[1:])
    for i in range(len(a)):
        s = np.asarray(s + double(a[i])) if b is None else fma(double(a[i]), double(b[i]), s)
    return s


def batch_sum(a: Array, b: Array | None = None) -> Array:
    """The same over the rows of a batch, by chunks and tree."""
    parts = [column_sum(a[rows], None if b is None else b[rows]) for rows in chunks(len(a))]
    return tree(parts, np.add) if parts else np.zeros(a.shape[1:])


def _pair_add(a: tuple[float, float], b: float) -> tuple[float, float]:
    hi = a[0] + b
    t = hi - a[0]
    return hi, a[1] + ((a[0] - (hi - t)) + (b - t))  # Knuth's TwoSum: what rounding hi lost, exactly


def pair_join(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """The pair of the two parts of a tree."""
    hi, lo = _pair_add(a, b[0])
    return hi, lo + b[1]


def pair_sum(values: Array) -> tuple[float, float]:
    """Sum hi + lo in pairs of float64 of the values (n,), by chunks and tree."""
    parts = []
    for rows in chunks(len(values)):
        s = (0.0, 0.0)
        for value in double(values[rows]).tolist():
            s = _pair_add(s, value)
        parts.append(s)
    return tree(parts, pair_join) if parts else (0.0, 0.0)


def pair_value(pair: tuple[float, float]) -> float:
    """The pair as one number; hi alone where lo is not finite."""
    hi, lo = pair
    return hi + lo if math.isfinite(lo) else hi


def lane_sum(a: Array, b: Array | None = None) -> Array:
    """Sum in float64 along each row, of `a`, or of fma(a, b, sum), in sixteen lanes."""
    lanes = np.zeros((len(a), LANES))
    for j in range(0, a.shape[1], LANES):
        columns = slice(j, j + LANES)
        part = double(a[:, columns])
        used = slice(0, part.shape[1])
        lanes[:, used] = lanes[:, used] + part if b is None else fma(part, double(b[:, columns]), lanes[:, used])
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
    return lanes[:, 0]


def product(a: Array, b: Array) -> Array:
    """The matrix product: blocks of the summed index, each one fma chain from +0, added in order."""
    total: Array | None = None
    for block in range(0, max(a.shape[1], 1), BLOCK):
        s = np.zeros((a.shape[0], b.shape[1]), a.dtype)
        for k in range(block, min(block + BLOCK, a.shape[1])):
            s = fma(a[:, k, None], b[None, k, :], s)
        total = s if total is None else total + s
    assert total is not None
    return total
