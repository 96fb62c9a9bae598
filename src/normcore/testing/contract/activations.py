"""Section 5 of NC1: activations and their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arithmetic import Array, fma, stored
from .functions import exp_rest, times_power

# S: where silu has rounded to -0
_LEAST: dict[Any, float] = {np.float32: -110.0, np.float64: -755.0}


@dataclass(frozen=True)
class Pieces:
    """exp(m) as power + power rest, and 1 + exp(m) as d + d_lo."""

    n: Array
    power: Array
    rest: Array
    product: Array
    d: Array
    d_lo: Array

    def quotient(self, a: Array, a_lo: Array) -> tuple[Array, Array]:
        """(a + a_lo) by 1 + exp(m): what is rounded, and what that left out."""
        v = 1 / self.d
        y = a * v
        return y, (fma(-y, self.d, a) + fma(-y, self.d_lo, a_lo)) * v


def pieces(m: Array) -> Pieces:
    """The pieces of exp(m), S <= m <= 0."""
    n, rest = exp_rest(m, m.dtype.type(0))
    power = np.ldexp(m.dtype.type(1), n.astype(int))
    product = power * rest
    w = power + product
    d = 1 + w
    return Pieces(n, power, rest, product, d, (w - (d - 1)) + (product - (w - power)))


def _inside(x: Array) -> Array:
    """`x` within S of 0; NaN, which the results are set for in the end, as 0."""
    least = x.dtype.type(_LEAST[x.dtype.type])
    return np.where(np.isnan(x), x.dtype.type(0), np.clip(x, least, -least))


@dataclass(frozen=True)
class Logistic:
    """The logistic function of x as (y + y_lo) 2^k."""

    z: Array
    y: Array
    y_lo: Array
    k: Array
    power: Array


def logistic_pieces(x: Array) -> Logistic:
    """The pieces of the logistic function."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    z = _inside(x)
    p = pieces(-abs(z))
    below = z < 0
    a = 1 + p.rest
    y, y_lo = p.quotient(np.where(below, a, one), np.where(below, p.rest - (a - 1), zero))
    return Logistic(z, y, y_lo, np.where(below, p.n, zero), np.where(below, p.power, one))


def relu_forward(x: Array) -> Array:
    """X where it is positive or NaN, else +0."""
    return stored(np.where((x > 0) | np.isnan(x), x, x.dtype.type(0)))


def relu_backward(dy: Array, y: Array) -> Array:
    """Dy except where y is at most 0."""
    return stored(np.where(y <= 0, dy.dtype.type(0), dy))


def relu6_forward(x: Array) -> Array:
    """6 where x is more, else ReLU."""
    return np.where(x > 6, x.dtype.type(6), relu_forward(x))


def relu6_backward(dy: Array, y: Array) -> Array:
    """Dy except where y is at most 0 or at least 6."""
    return stored(np.where((y <= 0) | (y >= 6), dy.dtype.type(0), dy))


@np.errstate(all="ignore")
def leaky_relu_forward(x: Array, *, slope: float = 0.01) -> Array:
    """X, times the slope where it is at most 0; ReLU where the slope rounds to 0."""
    a = x.dtype.type(slope)
    return stored(np.where(x <= 0, x * a, x)) if a else relu_forward(x)


@np.errstate(all="ignore")
def leaky_relu_backward(dy: Array, y: Array, *, slope: float = 0.01) -> Array:
    """Dy, times the slope where y is at most 0."""
    a = dy.dtype.type(slope)
    return stored(np.where(y <= 0, dy * a, dy)) if a else relu_backward(dy, y)


@np.errstate(all="ignore")
def tanh_forward(x: Array) -> Array:
    """(1 - exp(-2 |x|)) / (1 + exp(-2 |x|)) with the sign of x."""
    p = pieces(_inside(-2 * abs(x)))
    b = 1 - p.power
    a = b - p.product
    y, y_lo = p.quotient(a, -p.product - (a - b))
    t = y + y_lo
    return stored(np.where(x > 0, t, np.where(x < 0, -t, x)))


@np.errstate(all="ignore")
def tanh_backward(dy: Array, y: Array) -> Array:
    """Dy (1 - y^2)."""
    return stored(dy * fma(-y, y, y.dtype.type(1)))


@np.errstate(all="ignore")
def logistic_forward(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    s = logistic_pieces(x)
    return stored(np.where(np.isnan(x), x, times_power(s.y + s.y_lo, s.k)))


@np.errstate(all="ignore")
def logistic_backward(dy: Array, y: Array) -> Array:
    """Dy (y - y^2)."""
    return stored(dy * fma(-y, y, y))


@np.errstate(all="ignore")
def silu_forward(x: Array) -> Array:
    """X / (1 + exp(-x))."""
    s = logistic_pieces(x)
    y = times_power(fma(s.z, s.y, s.z * s.y_lo), s.k)
    return stored(np.where(x <= -_LEAST[x.dtype.type], y, x))


@np.errstate(all="ignore")
def silu_backward(dy: Array, x: Array) -> Array:
    """Dy s (1 + x (1 - s)), s the logistic function of x."""
    s = logistic_pieces(x)
    one = x.dtype.type(1)
    others = fma(-s.power, s.y_lo, fma(-s.power, s.y, one))
    derivative = times_power((s.y + s.y_lo) * fma(s.z, others, one), s.k)
    return stored(dy * np.where(np.isnan(x), x, derivative))
