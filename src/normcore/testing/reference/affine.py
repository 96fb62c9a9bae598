"""Affine maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .activations import relu_forward
from .precision import Array, as_rows, wide

__all__ = ["AffineGradients", "affine_backward", "affine_forward"]


def affine_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, relu: bool = False) -> Array:
    """``y = x w + b``, then ReLU if asked. `x` (..., k), `w` (k, m), `b` (m)."""
    parts = (x, w) if b is None else (x, w, b)
    a, v = wide(x, *parts), wide(w, *parts)
    with np.errstate(invalid="ignore", over="ignore"):
        y: Array = as_rows(a) @ v
        if b is not None:
            y = y + wide(b, *parts)
    y = y.reshape(*a.shape[:-1], v.shape[1])
    return relu_forward(y) if relu else y


class AffineGradients(NamedTuple):
    """Gradients of :func:`affine_forward`."""

    dx: Array
    dw: Array
    db: Array


def affine_backward(dy: ArrayLike, x: ArrayLike, w: ArrayLike) -> AffineGradients:
    """Gradients of :func:`affine_forward` without ReLU: ``dx = dy wᵀ``, ``dw = xᵀ dy``, ``db`` = sum of the rows."""
    g, a, v = wide(dy, x, w), wide(x, dy, w), wide(w, dy, x)
    with np.errstate(invalid="ignore", over="ignore"):
        return AffineGradients(
            (as_rows(g) @ v.T).reshape(a.shape),
            as_rows(a).T @ as_rows(g),
            as_rows(g).sum(axis=0),
        )
