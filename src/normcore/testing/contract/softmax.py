"""Section 6 of NC1: softmax, log-softmax and their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arithmetic import Array, double, fma, lane_sum, stored
from .functions import exp, exp_sum, log1p


@dataclass(frozen=True)
class Terms:
    """exp(x - greatest) of rows; rows where softmax is undefined are taken for zeros."""

    x: Array
    greatest: Array
    """(n, 1)"""
    e: Array
    defined: Array
    """(n, 1)"""

    def rest(self) -> Array:
        """Sum of the terms (n,) without one of the greatest."""
        top = self.x == self.greatest
        others = lane_sum(np.where(top, self.e.dtype.type(0), self.e))
        return np.asarray(others + (np.count_nonzero(top, axis=1) - 1).astype(np.float64))


def terms(x: Array) -> Terms:
    """The terms of softmax; rows have at least one element."""
    greatest = x.max(axis=1, keepdims=True)
    defined = np.isfinite(greatest)
    x, greatest = np.where(defined, x, x.dtype.type(0)), np.where(defined, greatest, x.dtype.type(0))
    hi = x - greatest
    # Knuth's TwoSum: hi + lo is x - greatest
    part = hi - x
    lo = (x - (hi - part)) - (greatest + part)
    return Terms(x, greatest, exp_sum(hi, lo), defined)


def scale(e: Array, f: Any) -> Array:
    """E times the float64 number f."""
    if e.dtype == np.float64:
        return np.asarray(e * f)
    h = np.asarray(f, np.float32)
    rest = np.asarray(f - double(h), np.float32)
    return fma(e, h, e * rest)


@np.errstate(all="ignore")
def softmax(x: Array) -> Array:
    """Softmax along rows."""
    if not x.size:
        return x.copy()
    t = terms(x)
    y = scale(t.e, 1.0 / lane_sum(t.e)[:, None])
    return stored(np.where(t.defined, y, x.dtype.type(np.nan)))


@np.errstate(all="ignore")
def log_softmax(x: Array) -> Array:
    """Its logarithm."""
    if not x.size:
        return x.copy()
    t = terms(x)
    y = (double(t.x) - double(t.greatest)) - log1p(t.rest())[:, None]
    return stored(np.where(t.defined, y, np.nan), x.dtype)


@np.errstate(all="ignore")
def softmax_backward(dy: Array, y: Array) -> Array:
    """Gradient of softmax, y its result."""
    return stored(double(y) * (double(dy) - lane_sum(dy, y)[:, None]), dy.dtype)


@np.errstate(all="ignore")
def log_softmax_backward(dy: Array, y: Array) -> Array:
    """Gradient of log-softmax, y its result."""
    return stored(fma(double(exp(y)), -lane_sum(dy)[:, None], double(dy)), dy.dtype)
