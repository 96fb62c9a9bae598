"""Section 8 of NC1: batch and layer normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arithmetic import Array, batch_sum, chunks, column_sum, double, fma, lane_sum, stored, tree

SHORT = 16  # over fewer elements the backward pass is in float64

Sum = Callable[..., Array]

# ---------------------------------------------------------------- statistics


def _moments(x: Array, first: Array, count: int, total: Sum) -> tuple[Array, Array]:
    """Mean and M2 of columns or rows with the sum `total`; `first`, their first element, is shaped like x."""
    wide, n = double(x), float(count)

    def across(values: Array) -> Array:  # one a column or row, shaped to go with x
        return values[:, None] if total is lane_sum else values

    start = double(first[:, 0] if total is lane_sum else first)
    mean = start
    if x.dtype == np.float64:
        mean = start + total(wide - across(start)) / n
    t = wide - across(mean)
    s1, s2 = total(t), total(t, t)
    if x.dtype == np.float32:
        mean = start + s1 / n
    m2 = s2 - s1 * s1 / n
    return mean, np.where(m2 < 0, 0.0, m2)


def _batch_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of the columns: chunks merged by (count, mean, M2) in the tree."""
    Moments = tuple[int, Array, Array]

    def merge(a: Moments, b: Moments) -> Moments:
        count = a[0] + b[0]
        share = b[0] / count
        weight = a[0] * share
        delta = b[1] - a[1]
        return count, a[1] + delta * share, (a[2] + b[2]) + (delta * delta) * weight

    parts: list[Moments] = []
    for rows in chunks(len(x)):
        chunk = x[rows]
        parts.append((len(chunk), *_moments(chunk, chunk[0], len(chunk), column_sum)))
    _, mean, m2 = tree(parts, merge)
    return mean, m2 / float(len(x))


def _row_moments(x: Array) -> tuple[Array, Array]:
    mean, m2 = _moments(x, x[:, :1], x.shape[1], lane_sum)
    return mean, m2 / float(x.shape[1])


def _rstd(variance: Array, eps: float) -> Array:
    return stored(1.0 / np.sqrt(variance + eps))


# ---------------------------------------------------------------- elements


@dataclass(frozen=True)
class _Constants:
    """What mean and rstd become before they meet elements of float32."""

    pre: Array
    post: Array
    hi: Array
    c: Array
    r: Array
    r_lo: Array


def _power(rstd: Array, dtype: Any) -> Array:
    """The exponent k of the power of two that is taken out of rstd."""
    if dtype == np.float64:
        return np.zeros(rstd.shape, int)
    _, exponent = np.frexp(np.where(np.isfinite(rstd), rstd, 1.0))
    k = np.where(rstd == np.inf, 126, np.clip(exponent - 1, -126, 126))
    plain = (rstd >= 2.0**-64) & (rstd <= 2.0**64)
    return np.where(plain | ~(rstd > 0), 0, k)


def _constants(mean: Array, rstd: Array) -> _Constants:
    real = np.float32
    k = _power(rstd, real)
    pre, post = np.ldexp(1.0, np.minimum(k, 0)), np.ldexp(1.0, np.maximum(k, 0))
    m, big_r = mean * pre, rstd * np.ldexp(1.0, -k)
    hi, r = m.astype(real), big_r.astype(real)
    c = ((double(hi) - m) * (post * big_r)).astype(real)
    r_lo = (big_r - double(r)).astype(real)
    return _Constants(pre.astype(real), post.astype(real), hi, c, r, r_lo)


def _xhat(x: Array, mean: Array, rstd: Array) -> Array:
    """The normalised value; mean and rstd broadcast against x."""
    if x.dtype == np.float64:
        return np.asarray((x - mean) * rstd)
    k = _constants(mean, rstd)
    t = (x * k.pre - k.hi) * k.post
    return fma(t, k.r, fma(t, k.r_lo, k.c))


def _wide_xhat(x: Array, mean: Array, rstd: Array) -> Array:
    return np.asarray((double(x) - mean) * rstd)


def _closed_form(
    g: Array, x: Array, mean: Array, rstd: Array, gamma: Array | float, mean_g: Array, mean_g_xhat: Array
) -> Array:
    """Dx from the means of g and of g xhat; everything broadcasts against x."""
    real = x.dtype
    k = _power(rstd, real)
    u = rstd * np.ldexp(1.0, -k)
    scale = gamma * u
    h, rest = -mean_g_xhat * scale, -mean_g * scale
    if real == np.float64:
        return fma(g, scale, fma(_xhat(x, mean, rstd), h, rest))
    _, exponent = np.frexp(rstd.astype(real))
    plain = (rstd >= 2.0**-64) & (rstd <= 2.0**64)
    w = np.ldexp(1.0, np.where(plain, exponent - 1, 0))
    c = _constants(mean, rstd)
    t = (x * c.pre - c.hi) * c.post * w.astype(real)
    product, p = h * (u / w), (double(c.c) * h + rest).astype(real)
    s, q = scale.astype(real), product.astype(real)
    s_lo, q_lo = (scale - double(s)).astype(real), (product - double(q)).astype(real)
    dx = fma(t, q, fma(g, s, fma(g, s_lo, fma(t, q_lo, p))))
    return np.asarray(dx * c.pre * c.post)


# ---------------------------------------------------------------- batch norm


@np.errstate(all="ignore")
def batch_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    training: bool = True,
    momentum: float = 0.9,
    eps: float = 1e-5,
    unbiased_running_var: bool = False,
) -> tuple[Array, Array, Array]:
    """Y, mean, rstd; running statistics are moved in place in training."""
    n, d = x.shape
    if not training:
        assert running_mean is not None
        assert running_var is not None
        mean, var = double(running_mean), double(running_var)
    elif not n:
        return x.copy(), np.zeros(d), np.zeros(d)
    else:
        mean, var = _batch_moments(x)
        if running_mean is not None and running_var is not None:
            factor = n / (n - 1.0) if unbiased_running_var and n > 1 else 1.0
            for running, batch in ((running_mean, mean), (running_var, var * factor)):
                running[...] = stored(momentum * double(running) + (1.0 - momentum) * batch, x.dtype)
    mean, rstd = stored(mean), _rstd(var, eps)
    return stored(fma(_xhat(x, mean, rstd), gamma, beta)), mean, rstd


@np.errstate(all="ignore")
def batch_norm_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    rstd: Array,
    *,
    algorithm: str = "fused",
    training: bool = True,
) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta."""
    n, real = len(x), x.dtype
    if not n:
        return x.copy(), np.zeros_like(gamma), np.zeros_like(gamma)
    short = n < SHORT and training and algorithm == "fused"
    xhat = _wide_xhat(x, mean, rstd) if short else _xhat(x, mean, rstd)
    dgamma, dbeta = batch_sum(dy, xhat), batch_sum(dy)
    if not training:
        k = _power(rstd, real)
        dx = dy * (double(gamma) * (rstd / np.ldexp(1.0, k))).astype(real) * np.ldexp(1.0, k).astype(real)
    elif algorithm == "graph":
        dx = _graph_dx(dy, x, gamma, mean, rstd)
    elif short:
        dx = ((double(dy) - dbeta / n) - xhat * (dgamma / n)) * (double(gamma) * rstd)
    else:
        dx = _closed_form(dy, x, mean, rstd, double(gamma), dbeta / n, dgamma / n)
    return stored(dx, real), stored(dgamma, real), stored(dbeta, real)


def _graph_dx(dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> Array:
    n = float(len(x))
    xmu = double(x) - mean
    g = double(dy) * double(gamma)
    divar = batch_sum(g, xmu)
    dsq = (0.5 * rstd * (-(rstd * rstd) * divar)) / n
    dx1 = fma(2.0 * xmu, dsq, g * rstd)
    dx2 = -batch_sum(dx1) / n
    return np.asarray(dx1 + dx2)


# ---------------------------------------------------------------- layer norm


@np.errstate(all="ignore")
def layer_norm_forward(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """Y, mean, rstd."""
    n, d = x.shape
    if not d:
        return x.copy(), np.zeros(n), np.zeros(n)
    mean, var = _row_moments(x)
    mean, rstd = stored(mean), _rstd(var, eps)
    return stored(fma(_xhat(x, mean[:, None], rstd[:, None]), gamma, beta)), mean, rstd


@np.errstate(all="ignore")
def layer_norm_backward(dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta."""
    d, real = x.shape[1], x.dtype
    if not d:
        return x.copy(), np.zeros_like(gamma), np.zeros_like(gamma)
    mean, rstd = mean[:, None], rstd[:, None]
    if d < SHORT:
        xhat = _wide_xhat(x, mean, rstd)
        g = double(dy) * double(gamma)
        mean_g, mean_g_xhat = lane_sum(g)[:, None] / d, lane_sum(g, xhat)[:, None] / d
        dx = ((g - mean_g) - xhat * mean_g_xhat) * rstd
    else:
        xhat = _xhat(x, mean, rstd)
        g = dy * gamma
        mean_g, mean_g_xhat = lane_sum(g)[:, None] / d, lane_sum(g, xhat)[:, None] / d
        dx = _closed_form(g, x, mean, rstd, 1.0, mean_g, mean_g_xhat)
    return stored(dx, real), stored(batch_sum(dy, xhat), real), stored(batch_sum(dy), real)
