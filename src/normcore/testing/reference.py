"""Naive NumPy reference of every operation.

Each function is the textbook formula, written for reading and computed one precision wider than its data: float64 for
float32 arrays, ``numpy.longdouble`` for float64 ones. Results keep the wide type and are what a correctly rounded
library would round. Nothing here shares code, order of summation or constants with the kernels.

The names and arguments are those of `normcore` itself; functions are pure, so that what `normcore` updates in place
(running statistics, optimiser slots) is returned instead. Only NumPy is needed.

Not promised: bits. ``numpy.longdouble`` is 80 bits wide on x86, 128 on some other machines, and plain double on others,
where float64 data are then checked only to a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

__all__ = [
    "BatchNormResult",
    "CrossEntropyResult",
    "LossResult",
    "NormGradients",
    "NormResult",
    "affine_backward",
    "affine_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "huber_loss",
    "inverse_normal_cdf",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "log_softmax",
    "log_softmax_backward",
    "logistic_backward",
    "logistic_forward",
    "logistic_loss",
    "mlp_forward",
    "mlp_loss_and_grads",
    "optimizer_update",
    "philox4x32",
    "poisson_loss",
    "quantile_loss",
    "random_integers",
    "random_normal",
    "random_permutation",
    "random_uniform",
    "random_words32",
    "random_words64",
    "relu6_backward",
    "relu6_forward",
    "relu_backward",
    "relu_forward",
    "silu_backward",
    "silu_forward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "squared_error",
    "sum_of_squares",
    "tanh_backward",
    "tanh_forward",
    "wide",
    "wide_dtype",
]


def wide_dtype(*dtypes: Any) -> np.dtype[Any]:
    """The type the reference computes in: float64 for float32 and narrower data, ``longdouble`` for float64."""
    common = np.result_type(np.float32, *dtypes)
    return np.dtype(np.float64 if common == np.float32 else np.longdouble)


def wide(x: ArrayLike, *others: ArrayLike) -> Array:
    """`x` as a native, contiguous array of the wide type of `x` and `others` together."""
    arrays = [np.asarray(a) for a in (x, *others)]
    return np.array(arrays[0], dtype=wide_dtype(*(a.dtype for a in arrays)), order="C")


def _cast(x: ArrayLike, kind: np.dtype[Any]) -> Array:
    return np.array(np.asarray(x), dtype=kind, order="C")


def _rows(x: Array) -> Array:
    """`x` with its leading axes flattened into rows."""
    return x.reshape(int(np.prod(x.shape[:-1], dtype=np.int64)), x.shape[-1])


# ---------------------------------------------------------------- activations


def relu_forward(x: ArrayLike) -> Array:
    """Rectified linear unit: ``x`` where it is positive or NaN, +0 elsewhere (also for -0)."""
    a = wide(x)
    return np.where((a > 0) | np.isnan(a), a, 0.0)


def relu_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """The gradient passes where the output `y` is not at or below zero; NaN counts as above."""
    g, a = wide(dy, y), wide(y, dy)
    return np.where(a <= 0, 0.0, g)


def relu6_forward(x: ArrayLike) -> Array:
    """ReLU that ends at 6."""
    return np.minimum(relu_forward(x), 6)


def relu6_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """The gradient passes where the output `y` is not at or below 0 and not at 6; NaN lets it pass."""
    g, a = wide(dy, y), wide(y, dy)
    return np.where((a <= 0) | (a >= 6), 0.0, g)


def leaky_relu_forward(x: ArrayLike, *, slope: float = 0.01) -> Array:
    """``x``, times the slope where it is not above 0. The slope is rounded to the type of the data first."""
    a = wide(x)
    factor = a.dtype.type(np.asarray(slope, np.asarray(x).dtype))
    return np.where(a <= 0, a * factor, a) if factor else relu_forward(x)


def leaky_relu_backward(dy: ArrayLike, y: ArrayLike, *, slope: float = 0.01) -> Array:
    """``dy``, times the slope where the output `y` is not above 0; NaN counts as above."""
    g, a = wide(dy, y), wide(y, dy)
    factor = g.dtype.type(np.asarray(slope, np.result_type(np.asarray(dy), np.asarray(y))))
    return np.where(a <= 0, g * factor, g) if factor else relu_backward(dy, y)


def tanh_forward(x: ArrayLike) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(wide(x))


def tanh_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dy (1 - y²)`` with the output `y`."""
    g, a = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(g * ((1 - a) * (1 + a)))


def _logistic(a: Array) -> Array:
    with np.errstate(under="ignore"):
        e = np.exp(-np.abs(a))
        return np.asarray(np.where(a < 0, e, 1) / (1 + e))


def logistic_forward(x: ArrayLike) -> Array:
    """``1 / (1 + exp(-x))``."""
    return _logistic(wide(x))


def logistic_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dy y (1 - y)`` with the output `y`."""
    g, a = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(g * (a * (1 - a)))


def silu_forward(x: ArrayLike) -> Array:
    """``x / (1 + exp(-x))``, and -0, the limit, for -inf."""
    a = wide(x)
    with np.errstate(invalid="ignore", under="ignore"):
        return np.where(a == -np.inf, -0.0, a * _logistic(a))


def silu_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """``dy s (1 + x (1 - s))`` with the input `x` and its logistic function s; the limits -0 and 1 at infinities."""
    g, a = wide(dy, x), wide(x, dy)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        inside = np.where(np.isinf(a), 0.0, a)
        derivative = _logistic(inside) * (1 + inside * _logistic(-inside))
        return np.asarray(g * np.where(np.isinf(a), np.where(a > 0, 1.0, -0.0), derivative))


# ---------------------------------------------------------------- affine


def affine_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, relu: bool = False) -> Array:
    """``y = x w + b``, then ReLU if asked. `x` (..., k), `w` (k, m), `b` (m)."""
    parts = (x, w) if b is None else (x, w, b)
    a, v = wide(x, *parts), wide(w, *parts)
    with np.errstate(invalid="ignore", over="ignore"):
        y: Array = _rows(a) @ v
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
            (_rows(g) @ v.T).reshape(a.shape),
            _rows(a).T @ _rows(g),
            _rows(g).sum(axis=0),
        )


# ---------------------------------------------------------------- softmax and cross-entropy


def _unusable_rows(z: Array) -> Array:
    """Rows whose softmax does not exist: with NaN or +inf, or with nothing but -inf."""
    return np.asarray((np.isnan(z) | (z == np.inf)).any(axis=-1) | (z == -np.inf).all(axis=-1))


def _shifted(z: Array) -> Array:
    """`z` less the maximum of its row; rows without a softmax become NaN."""
    bad = _unusable_rows(z)
    clean = np.where(bad[..., None], 0.0, z)
    top = clean.max(axis=-1, keepdims=True) if z.shape[-1] else clean
    with np.errstate(over="ignore"):
        return np.where(bad[..., None], np.nan, clean - top)


def softmax(x: ArrayLike) -> Array:
    """``exp(x - max) / sum(exp(x - max))`` along the last axis."""
    e = np.exp(_shifted(wide(x)))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def log_softmax(x: ArrayLike) -> Array:
    """Logarithm of :func:`softmax`, from the logits, never from the probabilities."""
    t = _shifted(wide(x))
    return np.asarray(t - _log_sum_exp(t)[..., None])


def _log_sum_exp(t: Array) -> Array:
    """log(sum(exp(t))) of rows whose maximum is 0, as log1p of all terms but one of the greatest."""
    if not t.shape[-1]:
        return np.full(t.shape[:-1], -np.inf, dtype=t.dtype)
    e = np.exp(t)
    np.put_along_axis(e, t.argmax(axis=-1)[..., None], 0.0, axis=-1)
    return np.where(np.isnan(t).any(axis=-1), np.nan, np.log1p(e.sum(axis=-1)))


def softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dx = y (dy - sum(dy y))`` with the softmax `y` itself, the sum along the last axis."""
    g, p = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(p * (g - (g * p).sum(axis=-1, keepdims=True)))


def log_softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """``dx = dy - exp(y) sum(dy)`` with the log-softmax `y`, the sum along the last axis."""
    g, a = wide(dy, y), wide(y, dy)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(g - np.exp(a) * g.sum(axis=-1, keepdims=True))


class CrossEntropyResult(NamedTuple):
    """What :func:`softmax_cross_entropy` gives; `loss` is an array of n losses for ``reduction="none"``."""

    loss: Array
    dlogits: Array
    weight_sum: Any


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> CrossEntropyResult:
    """Softmax cross-entropy and its gradient.

    `labels` are integers or bool (n), or floats (n, c): soft targets; a label is a target of 1 for its class. Label
    smoothing e mixes the target with e / c. A row costs ``-sum(class_weight * target * log(softmax(z)))`` times its
    sample weight. For the mean the sum of that is divided by the sum of the rows' weights: the sample weight, of labels
    times the class weight of the label. Where class weight times target is 0, an infinite cost of that class counts
    nothing. The mean of rows that weigh nothing is 0.
    """
    z = wide(logits)
    n, c = z.shape
    kind = z.dtype
    given = np.asarray(labels)
    scale = np.ones(c, kind) if class_weight is None else np.asarray(class_weight).astype(kind)
    weight = np.ones(n, kind) if sample_weight is None else np.asarray(sample_weight).astype(kind)
    ignored = np.zeros(n, bool)
    if given.ndim == 2:
        target = given.astype(kind)
        row_weight = weight
    else:
        index = given.astype(np.int64)
        if ignore_index is not None:
            ignored = index == ignore_index
        target = np.zeros((n, c), kind)
        target[np.flatnonzero(~ignored), index[~ignored]] = 1.0
        weight = np.where(ignored, 0.0, weight)
        row_weight = weight * scale[np.where(ignored, 0, index)] if c else weight
    smoothing = kind.type(label_smoothing)
    if label_smoothing:
        target = (1 - smoothing) * target + smoothing / c
    target = target * scale

    t = _shifted(z)
    p = np.exp(t - _log_sum_exp(t)[:, None])
    with np.errstate(invalid="ignore"):
        cost = np.where(target == 0, 0.0, target * (_log_sum_exp(t)[:, None] - t)).sum(axis=1)
    # The loss of a confident row is tiny next to the terms of its sum: take log1p over every class but the label's.
    total = target.sum(axis=1)
    gradient = p * total[:, None] - target
    one = (target != 0).sum(axis=1) == 1
    for i in np.flatnonzero(one & ~_unusable_rows(z)):
        k = int(np.flatnonzero(target[i])[0])
        others = np.arange(c) != k
        if t[i, k] == 0.0:
            rest = np.exp(t[i, others]).sum()
            cost[i] = target[i, k] * np.log1p(rest)
            gradient[i, k] = -target[i, k] * rest / (1 + rest)
    bad = _unusable_rows(z)
    cost[bad] = np.nan
    gradient[bad] = np.nan

    cost[ignored] = 0.0
    gradient[ignored] = 0.0
    weight_sum = row_weight.sum()
    with np.errstate(invalid="ignore"):
        loss: Any = weight * cost
    gradient = weight[:, None] * gradient
    if reduction == "mean":
        if weight_sum == 0:
            return CrossEntropyResult(kind.type(0), np.zeros_like(gradient), weight_sum)
        return CrossEntropyResult(loss.sum() / weight_sum, gradient / weight_sum, weight_sum)
    if reduction == "sum":
        return CrossEntropyResult(loss.sum(), gradient, weight_sum)
    if reduction == "none":
        return CrossEntropyResult(loss, gradient, weight_sum)
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")


# ---------------------------------------------------------------- losses of numbers


class LossResult(NamedTuple):
    """Loss of numbers, its gradient and the sum of the sample weights; n losses for ``reduction="none"``."""

    loss: Array
    doutputs: Array
    weight_sum: Any


def _loss_of_rows(each: Array, derivative: Array, sample_weight: ArrayLike | None, reduction: str) -> LossResult:
    """The losses and derivatives of single outputs (n, d) made those of rows, and these those of the batch."""
    n, d = each.shape
    kind = each.dtype
    weight = np.ones(n, kind) if sample_weight is None else np.asarray(sample_weight).astype(kind)
    weight_sum = weight.sum()
    loss: Any = weight * (each.sum(axis=1) / d if n else np.zeros(0, kind))
    gradient = weight[:, None] * derivative / d if n else derivative
    if reduction == "none":
        return LossResult(loss, gradient, weight_sum)
    if reduction == "sum":
        return LossResult(loss.sum(), gradient, weight_sum)
    if reduction != "mean":
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    if weight_sum == 0:
        return LossResult(kind.type(0), np.zeros_like(gradient), weight_sum)
    return LossResult(loss.sum() / weight_sum, gradient / weight_sum, weight_sum)


def _outputs_and_targets(outputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    y = wide(outputs)
    return y, np.asarray(targets).astype(y.dtype).reshape(y.shape)


def _rounded(parameter: float, outputs: ArrayLike, kind: np.dtype[Any]) -> Any:
    """A parameter of a loss is rounded to the type of the data first."""
    return kind.type(np.asarray(parameter, np.asarray(outputs).dtype))


def squared_error(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: str = "mean"
) -> LossResult:
    """``(y - t)²``."""
    y, t = _outputs_and_targets(outputs, targets)
    return _loss_of_rows((y - t) ** 2, 2 * (y - t), sample_weight, reduction)


def huber_loss(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> LossResult:
    """``r² / 2`` where ``|r| <= delta``, else ``delta (|r| - delta / 2)``, with r = y - t."""
    y, t = _outputs_and_targets(outputs, targets)
    limit = _rounded(delta, outputs, y.dtype)
    r = y - t
    near = abs(r) <= limit
    each = np.where(near, r**2 / 2, limit * (abs(r) - limit / 2))
    return _loss_of_rows(each, np.where(near, r, limit * np.sign(r)), sample_weight, reduction)


def quantile_loss(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    tau: float = 0.5,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> LossResult:
    """``max(tau (t - y), (tau - 1) (t - y))``; the derivative where y = t is 0."""
    y, t = _outputs_and_targets(outputs, targets)
    part = _rounded(tau, outputs, y.dtype)
    each = np.maximum(part * (t - y), (part - 1) * (t - y))
    return _loss_of_rows(each, np.where(y > t, 1 - part, np.where(y < t, -part, y - t)), sample_weight, reduction)


def poisson_loss(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: str = "mean"
) -> LossResult:
    """``exp(y) - t y``."""
    y, t = _outputs_and_targets(outputs, targets)
    return _loss_of_rows(np.exp(y) - t * y, np.exp(y) - t, sample_weight, reduction)


def logistic_loss(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: str = "mean"
) -> LossResult:
    """``-t log(p) - (1 - t) log(1 - p)`` with the logistic function p of y."""
    y, t = _outputs_and_targets(outputs, targets)
    each = t * np.logaddexp(0, -y) + (1 - t) * np.logaddexp(0, y)
    return _loss_of_rows(each, (1 - t) * _logistic(y) - t * _logistic(-y), sample_weight, reduction)


# ---------------------------------------------------------------- normalisation


class NormResult(NamedTuple):
    """Output of a layer normalisation with the statistics it used."""

    y: Array
    mean: Array
    rstd: Array


class BatchNormResult(NamedTuple):
    """Output of a batch normalisation, the statistics it used and the running statistics after it (None if none)."""

    y: Array
    mean: Array
    rstd: Array
    running_mean: Array | None
    running_var: Array | None


class NormGradients(NamedTuple):
    """Gradients of a normalisation."""

    dx: Array
    dgamma: Array
    dbeta: Array


def _moments(x: Array, axis: int) -> tuple[Array, Array]:
    """Mean and biased variance along `axis`, taken about the first element so that a constant has variance 0."""
    first = np.take(x, [0], axis=axis)
    t = x - first
    shift = t.mean(axis=axis, keepdims=True)
    return np.squeeze(first + shift, axis), np.squeeze(((t - shift) ** 2).mean(axis=axis, keepdims=True), axis)


def _rstd(var: Array, eps: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 / np.sqrt(var + var.dtype.type(eps)))


def batch_norm_forward(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    *,
    training: bool = True,
    momentum: float = 0.9,
    eps: float = 1e-5,
    unbiased_running_var: bool = False,
) -> BatchNormResult:
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` by columns (Ioffe and Szegedy, arXiv 1502.03167).

    Training takes mean and biased variance from the batch and moves the running statistics by
    ``momentum running + (1 - momentum) batch``; evaluation uses the running statistics and returns them as they are.
    """
    a = wide(x, gamma, beta)
    rows = _rows(a)
    n = len(rows)
    new_mean = None if running_mean is None else _cast(running_mean, a.dtype)
    new_var = None if running_var is None else _cast(running_var, a.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        if not training:
            if new_mean is None or new_var is None:
                raise ValueError("evaluation needs the running statistics")
            mean, var = new_mean, new_var
            rstd = _rstd(var, eps)
        elif n == 0:
            mean, var = (
                np.zeros(rows.shape[1], a.dtype),
                np.zeros(rows.shape[1], a.dtype),
            )
            rstd = var
        else:
            mean, var = _moments(rows, 0)
            rstd = _rstd(var, eps)
            if new_mean is not None and new_var is not None:
                m = a.dtype.type(momentum)
                spread = var * n / (n - 1) if unbiased_running_var and n > 1 else var
                new_mean = m * new_mean + (1 - m) * mean
                new_var = m * new_var + (1 - m) * spread
        y = _cast(gamma, a.dtype) * ((rows - mean) * rstd) + _cast(beta, a.dtype)
    return BatchNormResult(y.reshape(a.shape), mean, rstd, new_mean, new_var)


def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    mean: ArrayLike,
    rstd: ArrayLike,
    *,
    algorithm: str = "fused",
    training: bool = True,
) -> NormGradients:
    """Gradients of :func:`batch_norm_forward` from the `mean` and `rstd` it used.

    ``algorithm="graph"`` walks back through the computational graph step by step, ``"fused"`` is the closed form
    ``dx = gamma rstd (dy - mean(dy) - xhat mean(dy xhat))``. Evaluation: ``dx = dy gamma rstd``.
    """
    a = wide(x, dy, gamma)
    g, v = _rows(_cast(dy, a.dtype)), _cast(gamma, a.dtype)
    rows = _rows(a)
    n = len(rows)
    mu, r = _cast(mean, a.dtype), _cast(rstd, a.dtype)
    if algorithm not in ("fused", "graph"):
        raise ValueError(f"algorithm must be 'fused' or 'graph', not {algorithm!r}")
    with np.errstate(invalid="ignore", over="ignore"):
        centred = rows - mu
        xhat = centred * r
        dgamma, dbeta = (g * xhat).sum(axis=0), g.sum(axis=0)
        if not training:
            dx = g * v * r
        elif n == 0:
            dx = np.zeros_like(rows)
        elif algorithm == "fused":
            dx = v * r * (g - dbeta / n - xhat * (dgamma / n))
        else:
            dxhat = g * v
            drstd = (dxhat * centred).sum(axis=0)
            dvar = drstd * r**3 / -2
            dcentred = dxhat * r + 2 * centred / n * dvar
            dmean = -dcentred.sum(axis=0)
            dx = dcentred + dmean / n
    return NormGradients(dx.reshape(a.shape), dgamma, dbeta)


def layer_norm_forward(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, eps: float = 1e-5) -> NormResult:
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` by rows (Ba, Kiros and Hinton, arXiv 1607.06450)."""
    a = wide(x, gamma, beta)
    rows = _rows(a)
    with np.errstate(invalid="ignore", over="ignore"):
        mean, var = _moments(rows, 1) if rows.shape[1] else (np.zeros(len(rows)), np.zeros(len(rows)))
        rstd = _rstd(var, eps)
        y = _cast(gamma, a.dtype) * ((rows - mean[:, None]) * rstd[:, None]) + _cast(beta, a.dtype)
    return NormResult(y.reshape(a.shape), mean.reshape(a.shape[:-1]), rstd.reshape(a.shape[:-1]))


def layer_norm_backward(
    dy: ArrayLike, x: ArrayLike, gamma: ArrayLike, mean: ArrayLike, rstd: ArrayLike
) -> NormGradients:
    """Gradients of :func:`layer_norm_forward` from the `mean` and `rstd` it used.

    With ``g = dy gamma``: ``dx = rstd (g - mean(g) - xhat mean(g xhat))``, the means along the row.
    """
    a = wide(x, dy, gamma)
    rows, g = _rows(a), _rows(_cast(dy, a.dtype))
    mu, r = (_cast(s, a.dtype).reshape(-1, 1) for s in (mean, rstd))
    with np.errstate(invalid="ignore", over="ignore"):
        xhat = (rows - mu) * r
        dxhat = g * _cast(gamma, a.dtype)
        if rows.shape[1]:
            dx = r * (dxhat - dxhat.mean(1, keepdims=True) - xhat * (dxhat * xhat).mean(1, keepdims=True))
        else:
            dx = np.zeros_like(rows)
        return NormGradients(dx.reshape(a.shape), (g * xhat).sum(axis=0), g.sum(axis=0))


# ---------------------------------------------------------------- random numbers

_MASK32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)


def philox4x32(counter: ArrayLike, key: ArrayLike, rounds: int = 10) -> NDArray[np.uint32]:
    """Philox4x32 (Salmon et al., SC'11): `counter` (..., 4) and `key` (2) of 32-bit words to (..., 4) words."""
    c = [np.asarray(word, np.uint64) for word in np.moveaxis(np.asarray(counter, np.uint64), -1, 0)]
    k0, k1 = (int(k) for k in np.asarray(key, np.uint64))
    for _ in range(rounds):
        product0 = np.uint64(0xD2511F53) * c[0]
        product1 = np.uint64(0xCD9E8D57) * c[2]
        c = [
            (product1 >> _SHIFT32) ^ c[1] ^ np.uint64(k0),
            product1 & _MASK32,
            (product0 >> _SHIFT32) ^ c[3] ^ np.uint64(k1),
            product0 & _MASK32,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=-1).astype(np.uint32)


def _stream_blocks(seed: int, stream: int, block: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The four words of each block of a stream: the key is the seed, the counter (block, stream), low halves first."""
    low, high = stream & 0xFFFFFFFF, stream >> 32
    counter = np.stack(
        [
            block & _MASK32,
            block >> _SHIFT32,
            np.full_like(block, low),
            np.full_like(block, high),
        ],
        axis=-1,
    )
    return philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32])


def _indices(offset: int, n: int) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return np.uint64(offset % 2**64) + np.arange(n, dtype=np.uint64)


def random_words32(n: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.uint32]:
    """The 32-bit words `offset` ... `offset` + n - 1 of a stream: word i is element i mod 4 of block i // 4."""
    i = _indices(offset, n)
    words = _stream_blocks(seed, stream, i >> np.uint64(2))
    return words[np.arange(n), (i & np.uint64(3)).astype(np.intp)]


def random_words64(n: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.uint64]:
    """64-bit words `offset` ...: word i is made of the 32-bit words 2 i (low half) and 2 i + 1 (high half)."""
    i = _indices(offset, n)
    words = _stream_blocks(seed, stream, i >> np.uint64(1)).astype(np.uint64)
    half = (i & np.uint64(1)).astype(np.intp) * 2
    rows = np.arange(n)
    return (words[rows, half + 1] << _SHIFT32) | words[rows, half]


def random_uniform(
    n: int,
    *,
    seed: int,
    stream: int = 0,
    offset: int = 0,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = "float64",
) -> Array:
    """``low + (high - low) u`` with u a multiple of 2⁻²⁴ (float32) or 2⁻⁵³ (float64) in [0, 1)."""
    out = wide_dtype(dtype)
    if np.dtype(dtype) == np.float32:
        u = (random_words32(n, seed=seed, stream=stream, offset=offset) >> np.uint32(8)).astype(out)
        u = u * out.type(2.0**-24)
    else:
        u = (random_words64(n, seed=seed, stream=stream, offset=offset) >> np.uint64(11)).astype(out)
        u = u * out.type(2.0**-53)
    return np.asarray(out.type(low) + (out.type(high) - out.type(low)) * u)


# Wichura, Algorithm AS 241, Applied Statistics 37 (1988), PPND16: numerator and denominator, constant term first.
_CENTRAL = (
    (
        "3.3871328727963666080e0 1.3314166789178437745e2 1.9715909503065514427e3 1.3731693765509461125e4 "
        "4.5921953931549871457e4 6.7265770927008700853e4 3.3430575583588128105e4 2.5090809287301226727e3"
    ),
    (
        "1 4.2313330701600911252e1 6.8718700749205790830e2 5.3941960214247511077e3 2.1213794301586595867e4 "
        "3.9307895800092710610e4 2.8729085735721942674e4 5.2264952788528545610e3"
    ),
)
_MIDDLE = (
    (
        "1.42343711074968357734e0 4.63033784615654529590e0 5.76949722146069140550e0 3.64784832476320460504e0 "
        "1.27045825245236838258e0 2.41780725177450611770e-1 2.27238449892691845833e-2 7.74545014278341407640e-4"
    ),
    (
        "1 2.05319162663775882187e0 1.67638483018380384940e0 6.89767334985100004550e-1 1.48103976427480074590e-1 "
        "1.51986665636164571966e-2 5.47593808499534494600e-4 1.05075007164441684324e-9"
    ),
)
_TAIL = (
    (
        "6.65790464350110377720e0 5.46378491116411436990e0 1.78482653991729133580e0 2.96560571828504891230e-1 "
        "2.65321895265761230930e-2 1.24266094738807843860e-3 2.71155556874348757815e-5 2.01033439929228813265e-7"
    ),
    (
        "1 5.99832206555887937690e-1 1.36929880922735805310e-1 1.48753612908506148525e-2 7.86869131145613259100e-4 "
        "1.84631831751005468180e-5 1.42151175831644588870e-7 2.04426310338993978564e-15"
    ),
)


def _rational(coefficients: tuple[str, str], r: Array) -> Array:
    def horner(text: str) -> Array:
        total = np.zeros_like(r)
        for term in reversed(text.split()):
            total = total * r + r.dtype.type(term)
        return total

    return np.asarray(horner(coefficients[0]) / horner(coefficients[1]))


def inverse_normal_cdf(p: ArrayLike) -> Array:
    """Quantile of the standard normal distribution for 0 < p < 1: Wichura's AS 241 (PPND16), good to 1e-16.

    The work is done in ``numpy.longdouble``, so that `p` must hold the probability itself: 1 - p is taken exactly.
    """
    u = np.asarray(p, np.longdouble)
    q = u - np.longdouble("0.5")
    central = q * _rational(_CENTRAL, np.longdouble("0.180625") - q * q)
    r = np.sqrt(-np.log(np.minimum(u, 1 - u)))
    outer = np.where(r <= 5, _rational(_MIDDLE, r - np.longdouble("1.6")), _rational(_TAIL, r - 5))
    return np.where(np.abs(q) <= np.longdouble("0.425"), central, np.copysign(outer, q))


def random_normal(
    n: int,
    *,
    seed: int,
    stream: int = 0,
    offset: int = 0,
    mean: float = 0.0,
    scale: float = 1.0,
    dtype: Any = "float64",
) -> Array:
    """``mean + scale Phi⁻¹(u)``, with u at the middle of one of 2³² (float32) or 2⁵² (float64) equal cells."""
    if np.dtype(dtype) == np.float32:
        word = random_words32(n, seed=seed, stream=stream, offset=offset).astype(np.longdouble)
        u = (word + np.longdouble("0.5")) * np.longdouble(2.0**-32)
    else:
        word = (random_words64(n, seed=seed, stream=stream, offset=offset) >> np.uint64(12)).astype(np.longdouble)
        u = (word + np.longdouble("0.5")) * np.longdouble(2.0**-52)
    return np.asarray(np.longdouble(mean) + np.longdouble(scale) * inverse_normal_cdf(u)).astype(wide_dtype(dtype))


def random_integers(n: int, bound: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.int64]:
    """Integers in [0, bound): the high half of a 64-bit word times `bound`, ``1 <= bound <= 2**63``."""
    words = random_words64(n, seed=seed, stream=stream, offset=offset)
    return np.array([(int(word) * bound) >> 64 for word in words], dtype=np.int64)


def random_permutation(n: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.int64]:
    """A permutation of 0 ... n-1: Fisher-Yates from the end, element i drawing value ``offset + n - 1 - i``."""
    order = np.arange(n, dtype=np.int64)
    words = random_words64(max(n - 1, 0), seed=seed, stream=stream, offset=offset)
    for i in range(n - 1, 0, -1):
        j = (int(words[n - 1 - i]) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def dropout_mask(
    shape: tuple[int, ...], keep: float, *, seed: int, stream: int = 0, offset: int = 0
) -> NDArray[np.bool_]:
    """Which elements (counted row by row from `offset`) stay: those whose word is below ``floor(keep 2³²)``."""
    size = int(np.prod(shape, dtype=np.int64))
    words = random_words32(size, seed=seed, stream=stream, offset=offset)
    return np.asarray(words.astype(np.uint64) < np.uint64(int(keep * 2**32))).reshape(shape)


def dropout_forward(x: ArrayLike, keep: float, *, seed: int, stream: int = 0, offset: int = 0) -> Array:
    """Inverted dropout: ``x / keep`` with probability `keep`, else +0."""
    a = wide(x)
    mask = dropout_mask(a.shape, keep, seed=seed, stream=stream, offset=offset)
    return np.where(mask, a / a.dtype.type(keep), 0.0)


def dropout_backward(dy: ArrayLike, keep: float, *, seed: int, stream: int = 0, offset: int = 0) -> Array:
    """Gradient of :func:`dropout_forward`: the same map, with the same mask."""
    return dropout_forward(dy, keep, seed=seed, stream=stream, offset=offset)


# ---------------------------------------------------------------- optimisers


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
        g = _cast(grads, p.dtype) * real(gradient_scale) + real(l2) * p
        v = np.zeros_like(p) if slot1 is None else _cast(slot1, p.dtype)
        s = np.zeros_like(p) if slot2 is None else _cast(slot2, p.dtype)
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


# ---------------------------------------------------------------- multilayer perceptron

Layers = Sequence[Mapping[str, ArrayLike]]


class _Activation(NamedTuple):
    """An activation of hidden layers; its backward pass takes the input or the output of the forward pass."""

    forward: Callable[[ArrayLike], Array]
    backward: Callable[[ArrayLike, ArrayLike], Array]
    takes_input: bool = False


_ACTIVATIONS = {
    "relu": _Activation(relu_forward, relu_backward),
    "leaky_relu": _Activation(leaky_relu_forward, leaky_relu_backward),
    "tanh": _Activation(tanh_forward, tanh_backward),
    "logistic": _Activation(logistic_forward, logistic_backward),
    "silu": _Activation(silu_forward, silu_backward, takes_input=True),
    "relu6": _Activation(relu6_forward, relu6_backward),
}


def mlp_forward(
    x: ArrayLike,
    parameters: Layers,
    *,
    norm: str | None = None,
    activation: str = "relu",
    buffers: Layers = (),
    eps: float = 1e-5,
) -> Array:
    """Logits in evaluation mode of {affine - [norm] - activation} x (layers - 1) - affine.

    `parameters` has one mapping a layer with ``w``, ``b`` and, for hidden layers of a normalised network, ``gamma`` and
    ``beta``; `buffers` one with ``running_mean`` and ``running_var`` for each hidden layer of a batch-normalised one.
    """
    a = wide(x)
    for index, layer in enumerate(parameters):
        a = affine_forward(a, layer["w"], layer["b"])
        if index == len(parameters) - 1:
            break
        if norm == "batch":
            old = buffers[index]["running_mean"], buffers[index]["running_var"]
            a = batch_norm_forward(a, layer["gamma"], layer["beta"], *old, training=False, eps=eps).y
        elif norm == "layer":
            a = layer_norm_forward(a, layer["gamma"], layer["beta"], eps=eps).y
        a = _ACTIVATIONS[activation].forward(a)
    return a


class MLPResult(NamedTuple):
    """Loss, weight sum, gradients (one dict a layer) and the buffers after the step (one dict a hidden layer)."""

    loss: Any
    weight_sum: Any
    grads: list[dict[str, Array]]
    buffers: list[dict[str, Array]]


def mlp_loss_and_grads(
    x: ArrayLike,
    labels: ArrayLike,
    parameters: Layers,
    *,
    norm: str | None = None,
    activation: str = "relu",
    buffers: Layers = (),
    keep: float = 1.0,
    eps: float = 1e-5,
    momentum: float = 0.9,
    unbiased_running_var: bool = False,
    seed: int = 0,
    stream: int = 0,
    **loss_options: Any,
) -> MLPResult:
    """One training pass: forward, cross-entropy (`loss_options`), backward. Layer l drops by stream ``stream + l``."""
    a = wide(x)
    inputs: list[Array] = []
    tapes: list[dict[str, Array]] = []
    new_buffers: list[dict[str, Array]] = []
    last = len(parameters) - 1
    for index, layer in enumerate(parameters):
        inputs.append(a)
        a = affine_forward(a, layer["w"], layer["b"])
        if index == last:
            break
        tape = {"x": a}
        if norm == "batch":
            old = buffers[index] if buffers else {"running_mean": None, "running_var": None}
            done = batch_norm_forward(
                a,
                layer["gamma"],
                layer["beta"],
                old["running_mean"],
                old["running_var"],
                momentum=momentum,
                eps=eps,
                unbiased_running_var=unbiased_running_var,
            )
            a = done.y
            tape |= {"mean": done.mean, "rstd": done.rstd}
            if done.running_mean is not None and done.running_var is not None:
                new_buffers.append({"running_mean": done.running_mean, "running_var": done.running_var})
        elif norm == "layer":
            a, tape["mean"], tape["rstd"] = layer_norm_forward(a, layer["gamma"], layer["beta"], eps=eps)
        y = _ACTIVATIONS[activation].forward(a)
        tape["saved"] = a if _ACTIVATIONS[activation].takes_input else y
        tapes.append(tape)
        a = y
        if keep < 1:
            a = dropout_forward(a, keep, seed=seed, stream=stream + index)
    loss, g, weight_sum = softmax_cross_entropy(a, labels, **loss_options)

    grads: list[dict[str, Array]] = []
    for index in range(last, -1, -1):
        layer = parameters[index]
        found: dict[str, Array] = {}
        if index < last:
            tape = tapes[index]
            if keep < 1:
                g = dropout_backward(g, keep, seed=seed, stream=stream + index)
            g = _ACTIVATIONS[activation].backward(g, tape["saved"])
            if norm == "batch":
                g, found["gamma"], found["beta"] = batch_norm_backward(
                    g, tape["x"], layer["gamma"], tape["mean"], tape["rstd"]
                )
            elif norm == "layer":
                g, found["gamma"], found["beta"] = layer_norm_backward(
                    g, tape["x"], layer["gamma"], tape["mean"], tape["rstd"]
                )
        g, found["w"], found["b"] = affine_backward(g, inputs[index], layer["w"])
        grads.insert(0, found)
    return MLPResult(loss, weight_sum, grads, new_buffers)
