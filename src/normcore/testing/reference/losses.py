"""Losses of numbers: a row's loss is the mean over its outputs, a batch's the weighted mean over its rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .activations import sigmoid
from .precision import Array, wide

__all__ = ["LossResult", "huber_loss", "logistic_loss", "poisson_loss", "quantile_loss", "squared_error"]


class LossResult(NamedTuple):
    """Loss of numbers, its gradient and the sum of the sample weights; n losses for ``reduction="none"``."""

    loss: Array
    doutputs: Array
    weight_sum: Any


def reduce_rows(loss: Array, gradient: Array, weight_sum: Any, reduction: str) -> tuple[Any, Array]:
    """The weighted losses of rows (n) and their gradient as `reduction` says; the mean of no weight is 0."""
    if reduction == "none":
        return loss, gradient
    if reduction == "sum":
        return loss.sum(), gradient
    if reduction != "mean":
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    if weight_sum == 0:
        return gradient.dtype.type(0), np.zeros_like(gradient)
    return loss.sum() / weight_sum, gradient / weight_sum


def _loss_of_rows(each: Array, derivative: Array, sample_weight: ArrayLike | None, reduction: str) -> LossResult:
    """The losses and derivatives of single outputs (n, d) made those of rows, and these those of the batch."""
    n, d = each.shape
    kind = each.dtype
    weight = np.ones(n, kind) if sample_weight is None else np.asarray(sample_weight).astype(kind)
    weight_sum = weight.sum()
    loss: Any = weight * (each.sum(axis=1) / d if n else np.zeros(0, kind))
    gradient = weight[:, None] * derivative / d if n else derivative
    return LossResult(*reduce_rows(loss, gradient, weight_sum, reduction), weight_sum)


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
    return _loss_of_rows(each, (1 - t) * sigmoid(y) - t * sigmoid(-y), sample_weight, reduction)
