"""Updates of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .precision import Array, cast, wide

__all__ = ["optimizer_update", "sum_of_squares"]


def sum_of_squares(x: ArrayLike) -> Any:
    """Sum of the squares of all elements."""
    with np.errstate(over="ignore"):
        return (wide(x) ** 2).sum()


def optimizer_update(
    optimizer: str,
    params: ArrayLike,
    grads: ArrayLike,
    slot1: ArrayLike | None = None,
    slot2: ArrayLike | None = None,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    decay_rate: float = 0.99,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    gradient_scale: float = 1.0,
    step: int = 1,
) -> tuple[Array, Array | None, Array | None]:
    """The parameters and slots after one step of ``sgd``, ``momentum``, ``nesterov``, ``rmsprop`` or ``adam``.

    Adam with `weight_decay` is AdamW (Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101).
    `slot1` is the velocity or the first moment, `slot2` the second moment.
    """
    p = wide(params)
    real = p.dtype.type
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        g = cast(grads, p.dtype) * real(gradient_scale) + real(l2) * p
        v = np.zeros_like(p) if slot1 is None else cast(slot1, p.dtype)
        s = np.zeros_like(p) if slot2 is None else cast(slot2, p.dtype)
        lr, mu = real(learning_rate), real(momentum)
        p = p - lr * real(weight_decay) * p
        if optimizer == "sgd":
            return p - lr * g, None, None
        if optimizer == "momentum":
            v = mu * v - lr * g
            return p + v, v, None
        if optimizer == "nesterov":
            v = mu * v - lr * g
            return p + mu * v - lr * g, v, None
        if optimizer == "rmsprop":
            rho = real(decay_rate)
            s = rho * s + (1 - rho) * g * g
            return p - lr * g / (np.sqrt(s) + real(eps)), None, s
        if optimizer == "adam":
            b1, b2 = real(beta1), real(beta2)
            v = b1 * v + (1 - b1) * g
            s = b2 * s + (1 - b2) * g * g
            return (
                p - lr * (v / (1 - b1**step)) / (np.sqrt(s / (1 - b2**step)) + real(eps)),
                v,
                s,
            )
    raise ValueError(f"no optimizer is called {optimizer!r}")
