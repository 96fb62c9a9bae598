"""Activations of hidden layers, and their gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .precision import Array, wide

__all__ = [
    "leaky_relu_backward",
    "leaky_relu_forward",
    "logistic_backward",
    "logistic_forward",
    "relu6_backward",
    "relu6_forward",
    "relu_backward",
    "relu_forward",
    "silu_backward",
    "silu_forward",
    "tanh_backward",
    "tanh_forward",
]


def relu_forward(x: ArrayLike) -> Array:
    """Rectified linear unit: ``x`` where it is positive or NaN, +0 elsewhere (also for -0)."""
    a = wide(x)
    return np.where((a > 0) | np.isnan(a), a, 0.0)


def relu_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """The gradient passes where the output `y` is not at or below zero; NaN counts as above."""
    g, a = wide(dy, y), wide(y, dy)
    return np.where(a <= 0, 0.0, g)


def relu6_forward(x: ArrayLike) -> Array:
    """ReLU that ends at 6."""
    return np.minimum(relu_forward(x), 6)


def relu6_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """The gradient passes where the output `y` is not at or below 0 and not at 6; NaN lets it pass."""
    g, a = wide(dy, y), wide(y, dy)
    return np.where((a <= 0) | (a >= 6), 0.0, g)


def leaky_relu_forward(x: ArrayLike, *, slope: float = 0.01) -> Array:
    """``x``, times the slope where it is not above 0. The slope is rounded to the type of the data first."""
    a = wide(x)
    factor = a.dtype.type(np.asarray(slope, np.asarray(x).dtype))
    return np.where(a <= 0, a * factor, a) if factor else relu_forward(x)


def leaky_relu_backward(dy: ArrayLike, y: ArrayLike, *, slope: float = 0.01) -> Array:
    """``dy``, times the slope where the output `y` is not above 0; NaN counts as above."""
    g, a = wide(dy, y), wide(y, dy)
    factor = g.dtype.type(np.asarray(slope, np.result_type(np.asarray(dy), np.asarray(y))))
    return np.where(a <= 0, g * factor, g) if factor else relu_backward(dy, y)


def tanh_forward(x: ArrayLike) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(wide(x))


def tanh_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dy (1 - y²)`` with the output `y`."""
    g, a = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(g * ((1 - a) * (1 + a)))


def sigmoid(a: Array) -> Array:
    """The logistic function of an array that is wide already."""
    with np.errstate(under="ignore"):
        e = np.exp(-np.abs(a))
        return np.asarray(np.where(a < 0, e, 1) / (1 + e))


def logistic_forward(x: ArrayLike) -> Array:
    """``1 / (1 + exp(-x))``."""
    return sigmoid(wide(x))


def logistic_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dy y (1 - y)`` with the output `y`."""
    g, a = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(g * (a * (1 - a)))


def silu_forward(x: ArrayLike) -> Array:
    """``x / (1 + exp(-x))``, and -0, the limit, for -inf."""
    a = wide(x)
    with np.errstate(invalid="ignore", under="ignore"):
        return np.where(a == -np.inf, -0.0, a * sigmoid(a))


def silu_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """``dy s (1 + x (1 - s))`` with the input `x` and its logistic function s; the limits -0 and 1 at infinities."""
    g, a = wide(dy, x), wide(x, dy)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        inside = np.where(np.isinf(a), 0.0, a)
        derivative = sigmoid(inside) * (1 + inside * sigmoid(-inside))
        return np.asarray(g * np.where(np.isinf(a), np.where(a > 0, 1.0, -0.0), derivative))
