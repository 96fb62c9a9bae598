"""Section 7.2 of NC1: losses of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arithmetic import Array, double, lane_sum, pair_sum, pair_value, stored
from .functions import exp, log1p_unit

Elements = tuple[Array, Array]
"""Of each element in float64: its loss, and the derivative of that by the output."""


def _logistic(y: Array, t: Array) -> Elements:
    one = y.dtype.type(1)
    e = exp(-abs(y))
    above = y > 0
    missing = np.where(above, one - t, t)
    other = e / (one + e)
    gap = np.where(missing == 0, 0.0, double(missing) * double(abs(y)))
    return gap + log1p_unit(double(e)), double(np.where(above, missing - other, other - missing))


def _squared(y: Array, t: Array) -> Elements:
    r = double(y) - double(t)
    return r * r, r + r


def _huber(y: Array, t: Array, delta: Any) -> Elements:
    r = y - t
    c = double(np.where(r > delta, delta, np.where(r < -delta, -delta, r)))
    return c * ((double(y) - double(t)) - 0.5 * c), c


def _quantile(y: Array, t: Array, tau: Any) -> Elements:
    slope = double(np.where(y > t, y.dtype.type(1) - tau, np.where(y < t, -tau, y - t)))
    return slope * (double(y) - double(t)), slope


def _poisson(y: Array, t: Array) -> Elements:
    mean, count = double(exp(y)), double(t)
    return mean - count * np.where(count == 0, 0.0, double(y)), mean - count


@np.errstate(all="ignore")
def _loss(
    elements: Callable[..., Elements],
    outputs: Array,
    targets: Any,
    sample_weight: Any,
    reduction: str,
    *parameters: float,
) -> tuple[float | Array, Array, float]:
    n, d = outputs.shape
    real = outputs.dtype.type
    t = np.asarray(targets).astype(real).reshape(n, d)
    weight = np.ones(n) if sample_weight is None else double(sample_weight)
    weight_sum = pair_value(pair_sum(weight))
    divisor = weight_sum if reduction == "mean" else 1.0
    if not n:
        return (np.zeros(0) if reduction == "none" else 0.0), outputs.copy(), weight_sum
    if not divisor > 0.0:
        weight = np.zeros(n)
    element, derivative = elements(outputs, t, *map(real, parameters))
    loss = lane_sum(element) / float(d)
    factor = weight / divisor / float(d) if divisor > 0.0 else weight
    nothing = (weight == 0.0) & ~np.isnan(loss)
    gradient = stored(np.where(nothing[:, None], 0.0, derivative * factor[:, None]), outputs.dtype)
    loss = stored(np.where(nothing, 0.0, loss * weight))
    if reduction == "none":
        return loss, gradient, weight_sum
    total = pair_value(pair_sum(loss))
    return float(stored(total / divisor if divisor > 0.0 else total)), gradient, weight_sum


def logistic_loss(
    outputs: Array, targets: Any, *, sample_weight: Any = None, reduction: str = "mean"
) -> tuple[float | Array, Array, float]:
    """log(1 + exp(y)) - t y."""
    return _loss(_logistic, outputs, targets, sample_weight, reduction)


def squared_error(
    outputs: Array, targets: Any, *, sample_weight: Any = None, reduction: str = "mean"
) -> tuple[float | Array, Array, float]:
    """(y - t)^2."""
    return _loss(_squared, outputs, targets, sample_weight, reduction)


def huber_loss(
    outputs: Array, targets: Any, *, delta: float = 1.0, sample_weight: Any = None, reduction: str = "mean"
) -> tuple[float | Array, Array, float]:
    """R^2 / 2 within delta, delta (|r| - delta / 2) beyond, r = y - t."""
    return _loss(_huber, outputs, targets, sample_weight, reduction, delta)


def quantile_loss(
    outputs: Array, targets: Any, *, tau: float = 0.5, sample_weight: Any = None, reduction: str = "mean"
) -> tuple[float | Array, Array, float]:
    """max(tau (t - y), (tau - 1) (t - y))."""
    return _loss(_quantile, outputs, targets, sample_weight, reduction, tau)


def poisson_loss(
    outputs: Array, targets: Any, *, sample_weight: Any = None, reduction: str = "mean"
) -> tuple[float | Array, Array, float]:
    """exp(y) - t y."""
    return _loss(_poisson, outputs, targets, sample_weight, reduction)
