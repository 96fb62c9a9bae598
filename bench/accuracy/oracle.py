"""What the results should be, to at least ten bits more than their type holds; written apart from the kernels.

Norms and products are in doubled float64 with exact sums, for both dtypes. Softmax, its logarithms and activations are
in float64 for float32 data (29 bits to spare), in `decimal` for float64 data; losses of rows always in `decimal`.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .doubled import Doubled, add, divide, exactly, inverse_root, multiply, row_sums, subtract, two_product

_DECIMAL = decimal.Context(prec=45, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


class Norm(NamedTuple):
    """Rows normalised: xhat (rows, count), and one mean and rstd a row."""

    xhat: Doubled
    mean: Doubled
    rstd: Doubled


def normalise(x: NDArray[Any], eps: float) -> Norm:
    """(x - mean)/sqrt(variance + eps) along each row."""
    a = x.astype(np.float64)
    count = float(a.shape[1])
    mean = divide(row_sums(a), count)
    deviation = subtract(exactly(a), mean.column())
    square = multiply(deviation, deviation)
    variance = divide(row_sums(square.high, square.low), count)
    rstd = inverse_root(add(variance, exactly(np.full(len(a), eps))))
    return Norm(multiply(deviation, rstd.column()), mean, rstd)


def normalise_backward(norm: Norm, dy: NDArray[Any]) -> Doubled:
    """Gradient with respect to x of sum(dy xhat)."""
    g = dy.astype(np.float64)
    count = float(g.shape[1])
    product = multiply(exactly(g), norm.xhat)
    mean_g = divide(row_sums(g), count)
    mean_product = divide(row_sums(product.high, product.low), count)
    centred = subtract(exactly(g), mean_g.column())
    return multiply(subtract(centred, multiply(norm.xhat, mean_product.column())), norm.rstd.column())


def affine(x: NDArray[Any], w: NDArray[Any]) -> Doubled:
    """The product x w."""
    a, b = x.astype(np.float64), w.astype(np.float64)
    columns = [row_sums(*two_product(a, np.broadcast_to(b[:, j], a.shape))) for j in range(b.shape[1])]
    return Doubled(*(np.stack(part, axis=1) for part in zip(*columns, strict=True)))


class Softmax(NamedTuple):
    """Probabilities p, their logarithms, and the loss of each row for its label, as float64 or Decimal objects."""

    p: NDArray[Any]
    log_p: NDArray[Any]
    loss: NDArray[Any]


def exp(x: NDArray[Any]) -> NDArray[Any]:
    """exp(x)."""
    if x.dtype == np.float32:
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(x.astype(np.float64))
    return _decimals([_DECIMAL.exp(decimal.Decimal(v)) for v in x.tolist()])


def activation(name: str, x: NDArray[Any]) -> NDArray[Any]:
    """tanh, logistic, silu, or silu's derivative."""
    if x.dtype == np.float32:
        a = x.astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.tanh(a) if name == "tanh" else _of_logistic(name, a, _logistic(a), _logistic(-a)))
    with decimal.localcontext(_DECIMAL):
        values = []
        for a in map(decimal.Decimal, x.tolist()):
            s, rest = (1 / (1 + b.exp()) for b in (-a, a))
            values.append(_expm1(2 * a) / ((2 * a).exp() + 1) if name == "tanh" else _of_logistic(name, a, s, rest))
        return _decimals(values)


def _of_logistic(name: str, x: Any, s: Any, rest: Any) -> Any:
    """By the logistic functions of x and of -x."""
    return {"logistic": s, "silu": x * s, "silu derivative": s * (1 + x * rest)}[name]


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(-abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _expm1(x: decimal.Decimal) -> decimal.Decimal:
    """exp(x) - 1, by its series where the difference would lose digits that matter."""
    return x + x * x / 2 + x * x * x / 6 if abs(x) < decimal.Decimal("1e-10") else x.exp() - 1


def softmax(x: NDArray[Any], labels: NDArray[np.int64]) -> Softmax:
    """Softmax along each row, with log1p of all terms but one of the greatest."""
    rows = np.arange(len(x))
    if x.dtype == np.float32:
        a = x.astype(np.float64)
        t = a - a.max(axis=1, keepdims=True)
        e = np.exp(t)
        others = e.copy()
        others[rows, a.argmax(axis=1)] = 0
        log_sum = np.log1p(others.sum(axis=1))[:, None]
        return Softmax(e / e.sum(axis=1, keepdims=True), t - log_sum, (log_sum - t)[rows, labels])
    p, log_p = [], []
    with decimal.localcontext(_DECIMAL):
        for row, top in zip(x.tolist(), x.argmax(axis=1), strict=True):
            shifted = [decimal.Decimal(v) - decimal.Decimal(row[top]) for v in row]
            terms = [v.exp() if v > -10000 else decimal.Decimal(0) for v in shifted]
            rest = sum(terms[:top] + terms[top + 1 :], decimal.Decimal(0))
            log_sum = _log1p(rest)
            p.append([v / (1 + rest) for v in terms])
            log_p.append([v - log_sum for v in shifted])
    return Softmax(_decimals(p), _decimals(log_p), -_decimals(log_p)[rows, labels])


def logistic_loss(y: NDArray[Any], positive: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """log(1 + exp(-y)) for the target 1, log(1 + exp(y)) for 0, and the derivative by y."""
    sign = -1 if positive else 1
    if y.dtype == np.float32:
        a = sign * y.astype(np.float64)
        return np.maximum(a, 0) + np.log1p(np.exp(-abs(a))), sign * _logistic(a)
    losses, slopes = [], []
    with decimal.localcontext(_DECIMAL):
        for a in (sign * decimal.Decimal(v) for v in y.tolist()):
            losses.append(max(a, decimal.Decimal(0)) + _log1p((-abs(a)).exp()))
            slopes.append(sign / (1 + (-a).exp()))
    return _decimals(losses), _decimals(slopes)


def mean_square(y: NDArray[Any], t: NDArray[Any]) -> NDArray[Any]:
    """The mean of (y - t)^2, as an array of one number, exact but for the last rounding."""
    with decimal.localcontext(prec=800):
        squares = [(decimal.Decimal(a) - decimal.Decimal(b)) ** 2 for a, b in zip(y.tolist(), t.tolist(), strict=True)]
        return _decimals([sum(squares, decimal.Decimal(0)) / len(squares)])


_HALF, _ONE = decimal.Decimal("0.5"), decimal.Decimal(1)


def _huber(y: decimal.Decimal, t: decimal.Decimal) -> tuple[decimal.Decimal, ...]:
    r = y - t
    size = abs(r)
    value = r * r / 2 if size <= 1 else size - _HALF
    return value, min(max(r, -_ONE), _ONE), value, _ONE


def _quantile(tau: decimal.Decimal) -> Callable[[decimal.Decimal, decimal.Decimal], tuple[decimal.Decimal, ...]]:
    def loss(y: decimal.Decimal, t: decimal.Decimal) -> tuple[decimal.Decimal, ...]:
        value = max(tau * (t - y), (tau - 1) * (t - y))
        slope = decimal.Decimal(0) if y == t else 1 - tau if y > t else -tau
        return value, slope, value, _ONE

    return loss


def _poisson(y: decimal.Decimal, t: decimal.Decimal) -> tuple[decimal.Decimal, ...]:
    return y.exp() - t * y, y.exp() - t, y.exp() + t * abs(y), y.exp() + t


class RowLosses(NamedTuple):
    """Losses of rows, gradients of their outputs, and what each is measured by."""

    loss: NDArray[Any]
    gradient: NDArray[Any]
    loss_scale: NDArray[np.float64]
    gradient_scale: NDArray[np.float64]


def row_losses(name: str, y: NDArray[Any], t: NDArray[Any]) -> RowLosses:
    """``huber`` with delta 1, ``quantile`` with tau 0.9 (rounded to the type), ``poisson``: means over rows (n, d)."""
    tau = decimal.Decimal(float(y.dtype.type(0.9)))
    of_one = {"huber": _huber, "quantile": _quantile(tau), "poisson": _poisson}[name]
    d = y.shape[1]
    with decimal.localcontext(_DECIMAL):
        found = [
            [of_one(decimal.Decimal(a), decimal.Decimal(b)) for a, b in zip(*row, strict=True)]
            for row in zip(y.tolist(), t.tolist(), strict=True)
        ]
        loss, loss_scale = ([sum(one[part] for one in row) / d for row in found] for part in (0, 2))
        gradient, gradient_scale = ([[one[part] / d for one in row] for row in found] for part in (1, 3))
    scales = (np.array(scale, dtype=np.float64) for scale in (loss_scale, gradient_scale))
    return RowLosses(_decimals(loss), _decimals(gradient), *scales)


def _log1p(x: decimal.Decimal) -> decimal.Decimal:
    """log(1 + x), by its series where 1 + x would lose digits that matter."""
    return x - x * x / 2 + x * x * x / 3 if x < decimal.Decimal("1e-10") else (1 + x).ln()


def _decimals(values: Any) -> NDArray[Any]:
    return np.array(values, dtype=object)


def difference(actual: NDArray[Any], expected: NDArray[Any] | Doubled) -> NDArray[np.float64]:
    """|actual - expected| in float64: of a few good digits, which is all that a measure needs."""
    with np.errstate(all="ignore"):
        if isinstance(expected, Doubled):
            return np.abs((actual.astype(np.float64) - expected.high) - expected.low)
        if expected.dtype != object:
            return np.asarray(np.abs(actual.astype(np.float64) - expected))
    with decimal.localcontext(_DECIMAL):
        pairs = zip(actual.ravel().tolist(), expected.ravel().tolist(), strict=True)
        gaps = [float(abs(decimal.Decimal(a) - e)) if math.isfinite(a) else math.inf for a, e in pairs]
    return np.array(gaps).reshape(actual.shape)


def magnitude(expected: NDArray[Any] | Doubled) -> NDArray[np.float64]:
    """|expected| in float64."""
    return np.abs(expected.high if isinstance(expected, Doubled) else expected.astype(np.float64))
