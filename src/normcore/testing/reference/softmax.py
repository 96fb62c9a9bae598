"""Softmax and its logarithm, along the last axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .precision import Array, wide

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


def unusable_rows(z: Array) -> Array:
    """Rows whose softmax does not exist: with NaN or +inf, or with nothing but -inf."""
    return np.asarray((np.isnan(z) | (z == np.inf)).any(axis=-1) | (z == -np.inf).all(axis=-1))


def shifted(z: Array) -> Array:
    """`z` less the maximum of its row; rows without a softmax become NaN."""
    bad = unusable_rows(z)
    clean = np.where(bad[..., None], 0.0, z)
    top = clean.max(axis=-1, keepdims=True) if z.shape[-1] else clean
    with np.errstate(over="ignore"):
        return np.where(bad[..., None], np.nan, clean - top)


def softmax(x: ArrayLike) -> Array:
    """``exp(x - max) / sum(exp(x - max))`` along the last axis."""
    e = np.exp(shifted(wide(x)))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def log_softmax(x: ArrayLike) -> Array:
    """Logarithm of :func:`softmax`, from the logits, never from the probabilities."""
    t = shifted(wide(x))
    return np.asarray(t - log_sum_exp(t)[..., None])


def log_sum_exp(t: Array) -> Array:
    """log(sum(exp(t))) of rows whose maximum is 0, as log1p of all terms but one of the greatest."""
    if not t.shape[-1]:
        return np.full(t.shape[:-1], -np.inf, dtype=t.dtype)
    e = np.exp(t)
    np.put_along_axis(e, t.argmax(axis=-1)[..., None], 0.0, axis=-1)
    return np.where(np.isnan(t).any(axis=-1), np.nan, np.log1p(e.sum(axis=-1)))


def softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dx = y (dy - sum(dy y))`` with the softmax `y` itself, the sum along the last axis."""
    g, p = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(p * (g - (g * p).sum(axis=-1, keepdims=True)))


def log_softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dx = dy - exp(y) sum(dy)`` with the log-softmax `y`, the sum along the last axis."""
    g, a = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(g - np.exp(a) * g.sum(axis=-1, keepdims=True))
