"""Section 4 of NC1: affine maps."""

from __future__ import annotations

import numpy as np

from .activations import relu_forward
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
