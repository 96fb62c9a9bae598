"""Numbers of 106 bits as unevaluated sums of two float64, high and low part; and sums rounded once.

Algorithms of Dekker (Numerische Mathematik 18 (1971) 224) and Knuth; `math.fsum` is exact. Nothing here guards
overflow: parts and their products must stay below 1e290, and above 1e-270 where the low part is to count.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Doubled(NamedTuple):
    """The number high + low, element by element."""

    high: Array
    low: Array

    def column(self) -> Doubled:
        """One number a row, for arithmetic with whole rows."""
        return Doubled(self.high[:, None], self.low[:, None])


def two_sum(a: Array, b: Array) -> Doubled:
    """a + b without error."""
    s = a + b
    part = s - a
    return Doubled(s, (a - (s - part)) + (b - part))


def two_product(a: Array, b: Array) -> Doubled:
    """a b without error."""

    def halves(v: Array) -> tuple[Array, Array]:
        c = 134217729.0 * v  # 2^27 + 1
        high = c - (c - v)
        return high, v - high

    p = a * b
    (ah, al), (bh, bl) = halves(a), halves(b)
    return Doubled(p, ((ah * bh - p) + ah * bl + al * bh) + al * bl)


def exactly(a: Array) -> Doubled:
    """float64 as it is."""
    return Doubled(a, np.zeros_like(a))


def add(a: Doubled, b: Doubled) -> Doubled:
    """a + b, also where they cancel."""
    s, t = two_sum(a.high, b.high), two_sum(a.low, b.low)
    s = two_sum(s.high, s.low + t.high)
    return two_sum(s.high, s.low + t.low)


def subtract(a: Doubled, b: Doubled) -> Doubled:
    """a - b."""
    return add(a, Doubled(-b.high, -b.low))


def multiply(a: Doubled, b: Doubled) -> Doubled:
    """Product."""
    p = two_product(a.high, b.high)
    return two_sum(p.high, p.low + (a.high * b.low + a.low * b.high))


def divide(a: Doubled, divisor: float) -> Doubled:
    """Quotient by a float64."""
    d = np.full_like(a.high, divisor)
    q = a.high / d
    rest = subtract(a, two_product(q, d))
    return two_sum(q, rest.high / d)


def inverse_root(a: Doubled) -> Doubled:
    """1/sqrt(a), by one step of Newton's from float64."""
    r = 1 / np.sqrt(a.high)
    gap = subtract(exactly(np.ones_like(r)), multiply(a, two_product(r, r)))
    return two_sum(r, 0.5 * r * gap.high)


def row_sums(*parts: Array) -> Doubled:
    """The sum of all parts along each row, rounded once to each half."""
    highs, lows = [], []
    for row in np.concatenate(parts, axis=1):
        terms = row.tolist()
        try:
            high = math.fsum(terms)
            low = math.fsum([*terms, -high])
        except (OverflowError, ValueError):
            high, low = math.nan, math.nan
        highs.append(high)
        lows.append(low)
    return Doubled(np.array(highs), np.array(lows))
