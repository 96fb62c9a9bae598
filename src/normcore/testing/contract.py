"""The numeric contract NC1 as a program: what the sums of normcore are, bit for bit, in NumPy.

Where `reference` says what a result is, this says which of the neighbouring floating-point numbers it is: sums are cut
into blocks and chunks of 256 and into 16 lanes exactly as the contract writes them, products are added by an exact fma.
Slow (float64 fma goes through rational numbers), for small arrays. Softmax and its kin are not here: their
exponential is a polynomial that only its constants define.

Arguments are native arrays of float32 or float64, all of one dtype; results have the bits of `normcore`, canonical NaN
included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Part = TypeVar("Part")

__all__ = [
    "affine_backward",
    "affine_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "fma",
    "layer_norm_backward",
    "layer_norm_forward",
    "optimizer_update",
    "sum_of_squares",
]

CHUNK = 256
LANES = 16
SHORT = 16  # a norm's backward pass over fewer elements is in double


# ---------------------------------------------------------------- arithmetic


def _fma64(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c  # however large a finite product is, it does not cancel an infinity
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c if a == 0 or b == 0 else 0.0  # only the signs of zeros are left to decide
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


_fma64_arrays = np.frompyfunc(_fma64, 3, 1)


def fma(a: Any, b: Any, c: Any) -> Array:
    """``a b + c`` rounded once, in the precision of the arguments.

    In float32 the product is exact in float64; the sum is rounded there to odd, after which rounding to float32
    cannot go wrong (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008).
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    if np.result_type(a, b, c) == np.float64:
        return np.asarray(_fma64_arrays(a, b, c), dtype=np.float64)
    p, d = np.asarray(a.astype(np.float64) * b.astype(np.float64)), c.astype(np.float64)
    s = np.asarray(p + d)
    # what the addition lost (Knuth's TwoSum): exact, and NaN where the sum is not finite
    t = s - p
    lost = (p - (s - t)) + (d - t)
    bits = s.view(np.int64)
    inexact_even = np.isfinite(s) & np.isfinite(lost) & (lost != 0) & (bits & 1 == 0)
    # One step toward the exact value: away from zero (bits + 1) if what was lost has the sign of the sum.
    odd = np.asarray(np.where(inexact_even, bits + np.where((lost > 0) == (s > 0), 1, -1), bits)).view(np.float64)
    return np.asarray(odd.astype(np.float32))


def _stored(x: Any, dtype: Any = None) -> Array:
    """`x` rounded to `dtype`, with canonical NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        a = np.asarray(x).astype(np.asarray(x).dtype if dtype is None else dtype)
    return np.where(np.isnan(a), a.dtype.type(np.nan), a)


def _tree(parts: Sequence[Part], add: Callable[[Part, Part], Part]) -> Part:
    """The parts added by the tree that splits a range at the largest power of two below its length."""
    if len(parts) == 1:
        return parts[0]
    left = 1 << (len(parts) - 1).bit_length() - 1
    return add(_tree(parts[:left], add), _tree(parts[left:], add))


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


def _batch_sums(n: int, shape: tuple[int, ...], dtype: Any, chunk_sum: Callable[[slice], Array]) -> Array:
    """Sum over the batch: chunks of 256 rows, combined by the tree."""
    if n == 0:
        return np.zeros(shape, dtype)
    return _tree([chunk_sum(rows) for rows in _chunks(n)], np.add)


def _lane_sums(rows: Array, step: Callable[[Array, int], Array]) -> Array:
    """Sums along rows in 16 lanes: ``step(lanes, j)`` adds column j to its lane; then the lanes fold 8-4-2-1."""
    lanes = np.zeros((len(rows), LANES))
    for j in range(rows.shape[1]):
        lanes[:, j % LANES] = step(lanes[:, j % LANES], j)
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
    return lanes[:, 0]


# ---------------------------------------------------------------- affine


def _product(a: Array, b: Array) -> Array:
    """a b: blocks of 256 of the summed index, each one fma chain from +0, added in order."""
    total: Array | None = None
    for block in range(0, max(a.shape[1], 1), CHUNK):
        s = np.zeros((a.shape[0], b.shape[1]), a.dtype)
        for k in range(block, min(block + CHUNK, a.shape[1])):
            s = fma(a[:, k, None], b[None, k, :], s)
        total = s if total is None else total + s
    assert total is not None
    return total


def affine_forward(x: Array, w: Array, b: Array | None = None, *, relu: bool = False) -> Array:
    """Rule 1: block sums in order, then the bias, then ReLU."""
    with np.errstate(all="ignore"):
        y = _product(x, w)
        if b is not None:
            y = y + b
        if relu:
            y = np.where((y > 0) | np.isnan(y), y, y.dtype.type(0))
    return _stored(y)


def affine_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """Rules 1 and 2: dx in blocks; dw and db by chunks of rows, dw in the data's precision, db in float64."""
    with np.errstate(all="ignore"):
        dx = _product(dy, w.T)
        dw = _batch_sums(len(x), w.shape, x.dtype, lambda rows: _product(x[rows].T, dy[rows]))
        db = _batch_sums(len(x), dy.shape[1:], np.float64, lambda rows: _column_sums(dy[rows]))
    return _stored(dx), _stored(dw), _stored(db, x.dtype)


def _column_sums(x: Array) -> Array:
    s = np.zeros(x.shape[1])
    for row in x.astype(np.float64):
        s = s + row
    return s


def sum_of_squares(x: Array) -> float:
    """Rule 3: sixteen lanes of float64, whatever the shape."""
    flat = x.astype(np.float64).reshape(1, -1)
    with np.errstate(all="ignore"):
        return float(_stored(_lane_sums(flat, lambda lane, j: fma(flat[:, j], flat[:, j], lane)))[0])


# ---------------------------------------------------------------- normalisation


def _m2(s1: Array, s2: Array, n: float) -> Array:
    m2 = s2 - s1 * s1 / n
    return np.where(m2 < 0, 0.0, m2)


def _column_moments(x: Array) -> tuple[Array, Array]:
    """Mean and M2 of the columns of one chunk (rule 4)."""
    wide, n = x.astype(np.float64), float(len(x))
    mean = wide[0]
    if x.dtype == np.float64:
        mean = mean + _column_sums(wide - wide[0]) / n
    s1, s2 = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for row in wide:
        t = row - mean
        s1, s2 = s1 + t, fma(t, t, s2)
    return (mean + s1 / n if x.dtype == np.float32 else mean), _m2(s1, s2, n)


def _batch_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of the columns: chunks merged by (count, mean, M2) in the tree."""
    Moments = tuple[int, Array, Array]

    def merge(a: Moments, b: Moments) -> Moments:
        count = a[0] + b[0]
        share = b[0] / count
        weight = a[0] * share
        delta = b[1] - a[1]
        return count, a[1] + delta * share, (a[2] + b[2]) + (delta * delta) * weight

    parts: list[Moments] = [(rows.stop - rows.start, *_column_moments(x[rows])) for rows in _chunks(len(x))]
    _, mean, m2 = _tree(parts, merge)
    return mean, m2 / float(len(x))


def _row_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of the rows, in lanes."""
    wide, d = x.astype(np.float64), float(x.shape[1])
    mean = wide[:, 0]
    if x.dtype == np.float64:
        first = wide[:, 0]
        mean = first + _lane_sums(x, lambda lane, j: lane + (wide[:, j] - first)) / d
    t = wide - mean[:, None]
    s1 = _lane_sums(x, lambda lane, j: lane + t[:, j])
    s2 = _lane_sums(x, lambda lane, j: fma(t[:, j], t[:, j], lane))
    return (mean + s1 / d if x.dtype == np.float32 else mean), _m2(s1, s2, d) / d


def _xhat(x: Array, mean: Array, rstd: Array) -> tuple[Array, Array]:
    """The normalised data, and the powers of two that the scale of dx is applied with.

    float32: xhat = t r + (t r_lo + c) with t = x - hi, hi the mean rounded to float32, c = -(mean - hi) rstd, r + r_lo
    rstd. Where rstd leaves 2**±64, a power of two is taken out of it, and multiplies large data before the subtraction
    (pre) or small data after it (post).
    """
    if x.dtype == np.float64:
        return (x - mean) * rstd, np.ones_like(rstd)
    real = np.float32
    _, exponent = np.frexp(np.where(np.isfinite(rstd) & (rstd > 0), rstd, 1.0))
    k = np.clip(exponent - 1, -126, 126)
    k = np.where(np.isposinf(rstd), 126, k)
    k = np.where(((rstd >= 2.0**-64) & (rstd <= 2.0**64)) | ~(rstd > 0), 0, k)
    pre, post = np.ldexp(1.0, np.minimum(k, 0)), np.ldexp(1.0, np.maximum(k, 0))
    scaled = mean * pre
    hi = scaled.astype(real)
    scaled_rstd = rstd * np.ldexp(1.0, -k)
    c = ((hi.astype(np.float64) - scaled) * (post * scaled_rstd)).astype(real)
    r = scaled_rstd.astype(real)
    r_lo = (scaled_rstd - r.astype(np.float64)).astype(real)
    t = (x * pre.astype(real) - hi) * post.astype(real)
    return fma(t, r, fma(t, r_lo, c)), pre * post


def _dx(g: Array, xhat: Array, scale: Array, q: Array, p: Array, power: Array) -> Array:
    """Dx = g s + (g s_lo + (xhat q + p))."""
    s = scale.astype(g.dtype)
    rest = fma(xhat, q, p)
    if g.dtype == np.float32:
        rest = fma(g, (scale - s.astype(np.float64)).astype(g.dtype), rest)
    dx: Array = fma(g, s, rest) * power.astype(g.dtype)
    return dx


def _rstd(var: Array, eps: float) -> Array:
    return _stored(1.0 / np.sqrt(var + eps))


def batch_norm_forward(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """Training mode, without running statistics: y, mean, rstd."""
    if not len(x):
        return x.copy(), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    with np.errstate(all="ignore"):
        mean, var = _batch_moments(x)
        mean, rstd = _stored(mean), _rstd(var, eps)
        xhat, _ = _xhat(x, mean, rstd)
        return _stored(fma(xhat, gamma, beta)), mean, rstd


def _parameter_gradients(dy: Array, xhat: Array) -> tuple[Array, Array]:
    """dgamma and dbeta in float64."""
    wide, hat = dy.astype(np.float64), xhat.astype(np.float64)

    def chunk(rows: slice) -> Array:
        s = np.zeros(dy.shape[1])
        for g, h in zip(wide[rows], hat[rows], strict=True):
            s = fma(g, h, s)
        return s

    dgamma = _batch_sums(len(dy), dy.shape[1:], np.float64, chunk)
    return dgamma, _batch_sums(len(dy), dy.shape[1:], np.float64, lambda rows: _column_sums(wide[rows]))


def batch_norm_backward(dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """The fused algorithm: dx, dgamma, dbeta."""
    real = x.dtype
    with np.errstate(all="ignore"):
        n = float(len(x))
        if n < SHORT:
            xhat = (x.astype(np.float64) - mean) * rstd
            dgamma, dbeta = _parameter_gradients(dy, xhat)
            g, scale = dy.astype(np.float64), gamma.astype(np.float64) * rstd
            dx = (((g - dbeta / n) - xhat * (dgamma / n)) * scale).astype(real)
            return _stored(dx), _stored(dgamma, real), _stored(dbeta, real)
        xhat, power = _xhat(x, mean, rstd)
        dgamma, dbeta = _parameter_gradients(dy, xhat)
        scale = gamma.astype(np.float64) * (rstd / power)
        q, p = (-(dgamma / n) * scale).astype(real), (-(dbeta / n) * scale).astype(real)
        dx = _dx(dy, xhat, scale, q, p, power)
    return _stored(dx), _stored(dgamma, real), _stored(dbeta, real)


def layer_norm_forward(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """y, mean, rstd; rows have at least one element."""
    with np.errstate(all="ignore"):
        mean, var = _row_moments(x)
        mean, rstd = _stored(mean), _rstd(var, eps)
        xhat, _ = _xhat(x, mean[:, None], rstd[:, None])
        return _stored(fma(xhat, gamma, beta)), mean, rstd


def layer_norm_backward(dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta; rows have at least one element."""
    real, d = x.dtype, float(x.shape[1])
    with np.errstate(all="ignore"):
        short = d < SHORT
        if short:
            xhat = (x.astype(np.float64) - mean[:, None]) * rstd[:, None]
            g = dy.astype(np.float64) * gamma.astype(np.float64)
        else:
            xhat, power = _xhat(x, mean[:, None], rstd[:, None])
            g = dy * gamma
        wide, hat = g.astype(np.float64), xhat.astype(np.float64)
        m1 = (_lane_sums(x, lambda lane, j: lane + wide[:, j]) / d)[:, None]
        m2 = (_lane_sums(x, lambda lane, j: fma(wide[:, j], hat[:, j], lane)) / d)[:, None]
        if short:
            dx = (((g - m1) - xhat * m2) * rstd[:, None]).astype(real)
        else:
            scale = rstd[:, None] / power
            q, p = (-m2 * scale).astype(real), (-m1 * scale).astype(real)
            dx = _dx(g, xhat, scale, q, p, power)
        dgamma, dbeta = _parameter_gradients(dy, xhat)
    return _stored(dx), _stored(dgamma, real), _stored(dbeta, real)


# ---------------------------------------------------------------- optimisers


def _power(base: float, exponent: int) -> float:
    """By repeated squaring: the pow() of C libraries differs."""
    power = 1.0
    while exponent:
        if exponent & 1:
            power *= base
        base *= base
        exponent >>= 1
    return power


def optimizer_update(
    optimizer: str,
    params: Array,
    grads: Array,
    slot1: Array | None = None,
    slot2: Array | None = None,
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
    """Rule 13: parameters and slots after one step. Scalars are combined in float64 and rounded once."""
    real = params.dtype.type
    x, g = params, grads
    v = params if slot1 is None else slot1
    s = params if slot2 is None else slot2
    with np.errstate(all="ignore"):
        if gradient_scale != 1.0:
            g = g * real(gradient_scale)
        if l2 != 0.0:
            g = fma(real(l2), x, g)
        if weight_decay != 0.0:
            x = fma(-real(learning_rate * weight_decay), x, x)
        lr, mu = real(learning_rate), real(momentum)
        if optimizer == "sgd":
            return _stored(fma(-lr, g, x)), None, None
        if optimizer in ("momentum", "nesterov"):
            v = fma(-lr, g, mu * v)
            x = x + (v if optimizer == "momentum" else fma(-lr, g, mu * v))
            return _stored(x), _stored(v), None
        if optimizer == "rmsprop":
            s = fma(real(decay_rate), s, real(1.0 - decay_rate) * (g * g))
            return _stored(x - (lr * g) / (np.sqrt(s) + real(eps))), None, _stored(s)
        if optimizer == "adam":
            lr = real(learning_rate / (1.0 - _power(beta1, step)))
            v = fma(real(beta1), v, real(1.0 - beta1) * g)
            s = fma(real(beta2), s, real(1.0 - beta2) * (g * g))
            root = np.sqrt(s * real(1.0 / (1.0 - _power(beta2, step)))) + real(eps)
            return _stored(x - (lr * v) / root), _stored(v), _stored(s)
    raise ValueError(f"no optimizer is called {optimizer!r}")
