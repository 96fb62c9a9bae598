"""Section 7 of NC1: softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .arithmetic import Array, batch_sum, double, lane_sum, stored
from .functions import log1p
from .softmax import scale, terms


def _row_weights(
    n: int, labels: Array | None, targets: Array | None, class_weight: Any, sample_weight: Any, ignored: Array
) -> Array:
    weight = np.ones(n)
    if class_weight is not None and labels is not None:
        weight = double(class_weight)[labels]
    elif class_weight is not None and targets is not None:
        weight = lane_sum(double(class_weight) * double(targets))
    if sample_weight is not None:
        weight = weight * double(sample_weight)
    return np.where(ignored, 0.0, weight)


@np.errstate(all="ignore")
def softmax_cross_entropy(
    logits: Array,
    labels: Any,
    *,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[float | Array, Array, float]:
    """Loss, gradient and sum of the weights; integer labels (n,), or targets (n, c)."""
    n, c = logits.shape
    real = logits.dtype
    if isinstance(class_weight, Mapping):
        class_weight = [class_weight.get(j, 1.0) for j in range(c)]
    given = np.asarray(labels)
    targets = given.astype(real) if given.dtype.kind == "f" else None
    index = None if targets is not None else given.astype(np.int64)
    ignored = np.zeros(n, bool) if index is None or ignore_index is None else index == ignore_index
    if index is not None:
        index = np.where(ignored, 0, index)

    weight = _row_weights(n, index, targets, class_weight, sample_weight, ignored)
    weight_sum = float(stored(batch_sum(weight)))
    if not n:
        return (np.zeros(0) if reduction == "none" else 0.0), logits.copy(), weight_sum
    mean = reduction == "mean" and weight_sum > 0.0
    factor = weight / weight_sum if mean else weight

    loss, gradient = _rows(logits, index, targets, label_smoothing, factor)
    loss = np.where((weight == 0.0) & ~np.isnan(loss), 0.0, loss * weight)
    loss = stored(np.where(ignored, 0.0, loss))
    gradient = stored(np.where(ignored[:, None], real.type(0), gradient))
    if reduction == "none":
        return loss, gradient, weight_sum
    total = stored(batch_sum(loss))
    return float(stored(total / weight_sum if mean else total)), gradient, weight_sum


def _rows(
    logits: Array, labels: Array | None, targets: Array | None, smoothing: float, factor: Array
) -> tuple[Array, Array]:
    """Loss and gradient of each row for its own weight."""
    n, c = logits.shape
    real = logits.dtype
    t = terms(logits)
    base = smoothing / float(c)
    rest = t.rest()
    total = 1.0 + rest  # of the terms
    log_sum = log1p(rest)
    gap = double(t.greatest) - double(t.x)

    if targets is not None:
        smooth = (1.0 - smoothing) * double(targets) + base
        if base == 0.0:
            gap = np.where(targets == 0, 0.0, gap)
        share = lane_sum(smooth)
        loss = log_sum * share + lane_sum(smooth, gap)
        gradient = stored(scale(t.e, (share * factor / total)[:, None])) - (smooth * factor[:, None]).astype(real)
    else:
        assert labels is not None
        at = (np.arange(n), labels)
        own = 1.0 - smoothing
        own_gap, own_term, f = gap[at], double(t.e[at]), factor / total
        others = np.where(own_gap == 0.0, rest, (rest - own_term) + 1.0)
        gradient = scale(t.e, f[:, None])
        if smoothing > 0.0:
            even = lane_sum(np.full((n, c), base), gap)
            loss = log_sum + ((own * own_gap if own > 0.0 else 0.0) + even)
            gradient = gradient - (base * factor[:, None]).astype(real)
            own_gradient = (smoothing - base) * own_term * f - (own + base) * others * f
        else:
            loss = log_sum + own_gap
            own_gradient = -others * f
        gradient[at] = own_gradient.astype(real)
    return np.where(t.defined[:, 0], loss, np.nan), np.where(t.defined, gradient, real.type(np.nan))
