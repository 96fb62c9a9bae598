"""Three functions of vectors that look simpler than they are. test_my_vectors.py tests them; no neural network here."""

import numpy as np


def compensated_sum(x):
    """The sum of the elements of x (n,), nearly as if rounded once (Neumaier, 1974)."""
    total, rest = 0.0, 0.0
    for value in x.tolist():
        new = total + value
        rest += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
        total = new
    return total + rest


def log_sum_exp(x):
    """log(sum(exp(x))) along the last axis, which overflows only where the result does."""
    top = x.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore"):
        return np.log(np.exp(x - shift).sum(axis=-1)) + shift[..., 0]


def unit_vectors(x):
    """The rows of x (n, d) divided by their lengths, which need not be numbers of the type of x; rows of 0 stay 0."""
    top = np.abs(x).max(axis=1, keepdims=True)
    scaled = x / np.where(top > 0, top, 1)
    length = np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return scaled / np.where(length > 0, length, 1)
