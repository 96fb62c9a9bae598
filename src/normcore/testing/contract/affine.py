"""Sections 4 and 5 of NC1: affine maps and ReLU."""

from __future__ import annotations

import numpy as np

from .arithmetic import Array, batch_sum, chunks, product, stored, tree


@np.errstate(all="ignore")
def affine_forward(x: Array, w: Array, b: Array | None = None, *, relu: bool = False) -> Array:
    """X w + b: sums in blocks, then the bias, then ReLU."""
    y = product(x, w)
    if b is not None:
        y = y + b
    return relu_forward(y) if relu else stored(y)


@np.errstate(all="ignore")
def affine_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """dx in blocks; dw and db by chunks and tree, dw in the data's precision, db in float64."""
    parts = [product(x[rows].T, dy[rows]) for rows in chunks(len(x))]
    dw = tree(parts, np.add) if parts else np.zeros_like(w)
    return stored(product(dy, w.T)), stored(dw), stored(batch_sum(dy), x.dtype)


def relu_forward(x: Array) -> Array:
    """X where it is positive or NaN, else +0."""
    return stored(np.where((x > 0) | np.isnan(x), x, x.dtype.type(0)))


def relu_backward(dy: Array, y: Array) -> Array:
    """Dy except where y is at most 0."""
    return stored(np.where(y <= 0, dy.dtype.type(0), dy))
