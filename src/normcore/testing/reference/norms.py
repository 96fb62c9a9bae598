"""Batch and layer normalisation, and the mathematics of their gradients.

Both normalise groups of n numbers: batch normalisation every column of a batch, layer normalisation every row. Of one
group x, with the parameters gamma and beta::

    m    = mean(x)                  r    = 1 / sqrt(v + eps)
    v    = mean((x - m)^2)          xhat = (x - m) r            y = gamma xhat + beta

Let L be the loss, and write dy for the derivatives of L by y, dx for those by x, and so on. They arrive as dy, and what
is asked for is dx, dgamma and dbeta. Backwards through the last line::

    dbeta  = sum(dy)                dgamma = sum(dy xhat)       dxhat = dy gamma

(In layer normalisation gamma and beta differ along the group, and these two sums run over the rows instead.)

Every xhat_j depends on x_i in three ways: directly where j = i, through m, and through r. These depend on x_i by::

    dm/dx_i = 1 / n                 dv/dx_i = 2 (x_i - m) / n
    dr/dv   = -r^3 / 2              dr/dx_i = -r^3 (x_i - m) / n = -r^2 xhat_i / n

(m moves v as well, but by -2 mean(x - m) = 0). Together, with 1 where i = j and else 0 for the first term::

    dxhat_j/dx_i = r ([i = j] - 1 / n) + (x_j - m) dr/dx_i = r ([i = j] - 1 / n - xhat_j xhat_i / n)

and summed over all j, as the chain rule says::

    dx = r (dxhat - mean(dxhat) - xhat mean(dxhat xhat))

That is dxhat without its mean and without its part along xhat, scaled by r: shifting or stretching a group does not
change its xhat, and so the gradient has nothing in these two directions (nearly nothing in the second, because of eps).
In batch normalisation gamma is one number for the group, and the two means are sums that are there already::

    dx = gamma r (dy - dbeta / n - xhat dgamma / n)

In evaluation, batch normalisation takes m and r from the running statistics; they do not depend on x, and
``dx = gamma r dy``.

Finite differences agree:

>>> from normcore.testing import check_gradients, reference
>>> x, dy = np.random.default_rng(0).normal(size=(2, 5, 3))
>>> gamma, beta = np.array([1.0, -2.0, 0.5]), np.zeros(3)
>>> _, mean, rstd, _, _ = reference.batch_norm_forward(x, gamma, beta)
>>> dx, dgamma, dbeta = reference.batch_norm_backward(dy, x, gamma, mean, rstd)
>>> def y(**arrays):
...     return reference.batch_norm_forward(**arrays).y
>>> check_gradients(y, {"x": x, "gamma": gamma, "beta": beta}, {"x": dx, "gamma": dgamma, "beta": dbeta}, dy)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .precision import Array, as_rows, cast, wide

__all__ = [
    "BatchNormResult",
    "NormGradients",
    "NormResult",
    "batch_norm_backward",
    "batch_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
]


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
    rows = as_rows(a)
    n = len(rows)
    new_mean = None if running_mean is None else cast(running_mean, a.dtype)
    new_var = None if running_var is None else cast(running_var, a.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        if not training:
            if new_mean is None or new_var is None:
                raise ValueError("evaluation needs the running statistics")
            mean, var = new_mean, new_var
            rstd = _rstd(var, eps)
        elif n == 0:
            mean = rstd = np.zeros(rows.shape[1], a.dtype)
        else:
            mean, var = _moments(rows, 0)
            rstd = _rstd(var, eps)
            if new_mean is not None and new_var is not None:
                m = a.dtype.type(momentum)
                spread = var * n / (n - 1) if unbiased_running_var and n > 1 else var
                new_mean = m * new_mean + (1 - m) * mean
                new_var = m * new_var + (1 - m) * spread
        y = cast(gamma, a.dtype) * ((rows - mean) * rstd) + cast(beta, a.dtype)
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
    g, v = as_rows(cast(dy, a.dtype)), cast(gamma, a.dtype)
    rows = as_rows(a)
    n = len(rows)
    mu, r = cast(mean, a.dtype), cast(rstd, a.dtype)
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
            dxhat = g * v  # from y = gamma xhat + beta
            drstd = (dxhat * centred).sum(axis=0)  # from xhat = centred rstd
            dvar = drstd * r**3 / -2  # from rstd = (var + eps)^(-1/2)
            dcentred = dxhat * r + 2 * centred / n * dvar  # from xhat = centred rstd and var = mean(centred^2)
            dmean = -dcentred.sum(axis=0)  # from centred = x - mean
            dx = dcentred + dmean / n  # from centred = x - mean and mean = sum(x) / n
    return NormGradients(dx.reshape(a.shape), dgamma, dbeta)


def layer_norm_forward(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, eps: float = 1e-5) -> NormResult:
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` by rows (Ba, Kiros and Hinton, arXiv 1607.06450)."""
    a = wide(x, gamma, beta)
    rows = as_rows(a)
    with np.errstate(invalid="ignore", over="ignore"):
        mean, var = _moments(rows, 1) if rows.shape[1] else (np.zeros(len(rows)), np.zeros(len(rows)))
        rstd = _rstd(var, eps)
        y = cast(gamma, a.dtype) * ((rows - mean[:, None]) * rstd[:, None]) + cast(beta, a.dtype)
    return NormResult(y.reshape(a.shape), mean.reshape(a.shape[:-1]), rstd.reshape(a.shape[:-1]))


def layer_norm_backward(
    dy: ArrayLike, x: ArrayLike, gamma: ArrayLike, mean: ArrayLike, rstd: ArrayLike
) -> NormGradients:
    """Gradients of :func:`layer_norm_forward` from the `mean` and `rstd` it used.

    With ``g = dy gamma``: ``dx = rstd (g - mean(g) - xhat mean(g xhat))``, the means along the row.
    """
    a = wide(x, dy, gamma)
    rows, g = as_rows(a), as_rows(cast(dy, a.dtype))
    mu, r = (cast(s, a.dtype).reshape(-1, 1) for s in (mean, rstd))
    with np.errstate(invalid="ignore", over="ignore"):
        xhat = (rows - mu) * r
        dxhat = g * cast(gamma, a.dtype)
        if rows.shape[1]:
            dx = r * (dxhat - dxhat.mean(1, keepdims=True) - xhat * (dxhat * xhat).mean(1, keepdims=True))
        else:
            dx = np.zeros_like(rows)
        return NormGradients(dx.reshape(a.shape), (g * xhat).sum(axis=0), g.sum(axis=0))
