"""Section 10 of NC1: optimiser updates and sums of squares."""

from __future__ import annotations

import math

import numpy as np

from .arithmetic import Array, fma, lane_sum, stored


def _power(base: float, exponent: int) -> float:
    power = 1.0
    while exponent:
        if exponent & 1:
            power *= base
        base *= base
        exponent >>= 1
    return power


@np.errstate(all="ignore")
def optimizer_update(
    optimizer: str,
    params: Array,
    grads: Array,
    slot1: Array | None,
    slot2: Array | None,
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
) -> None:
    """One update of parameters and slots, in place. Scalars are combined in float64 and rounded once."""
    real = params.dtype.type
    p, g = params, grads
    v = params if slot1 is None else slot1
    s = params if slot2 is None else slot2
    if gradient_scale != 1.0:
        g = g * real(gradient_scale)
    if l2 != 0.0:
        g = fma(real(l2), p, g)
    if weight_decay != 0.0:
        p = fma(-real(learning_rate * weight_decay), p, p)
    lr, mu = real(learning_rate), real(momentum)
    if optimizer == "sgd":
        p = fma(-lr, g, p)
    elif optimizer in ("momentum", "nesterov"):
        v = fma(-lr, g, mu * v)
        p = p + (v if optimizer == "momentum" else fma(-lr, g, mu * v))
    elif optimizer == "rmsprop":
        s = fma(real(decay_rate), s, (real(1.0 - decay_rate) * g) * g)
        p = fma(-lr, g / (np.sqrt(s) + real(eps)), p)
    elif optimizer == "adam":
        v = fma(real(beta1), v, real(1.0 - beta1) * g)
        s = fma(real(beta2), s, (real(1.0 - beta2) * g) * g)
        alpha = real(learning_rate / (1.0 - _power(beta1, step)))
        kappa = real(math.sqrt(1.0 / (1.0 - _power(beta2, step))))
        p = fma(-alpha, v / fma(np.sqrt(s), kappa, real(eps)), p)
    else:
        raise ValueError(f"no optimizer is called {optimizer!r}")
    params[...] = stored(p)
    if slot1 is not None:
        slot1[...] = stored(v)
    if slot2 is not None:
        slot2[...] = stored(s)


@np.errstate(all="ignore")
def sum_of_squares(x: Array) -> float:
    """The elements in row-major order as one row, in sixteen lanes."""
    flat = x.reshape(1, -1)
    return float(stored(lane_sum(flat, flat))[0])
