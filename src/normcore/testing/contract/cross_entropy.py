"""Section 7.1 of NC1: softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .arithmetic import Array, double, lane_sum, pair_sum, pair_value, stored
from .functions import log1p
from .softmax import scale, terms


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
    classes = np.ones(c) if class_weight is None else double(class_weight)
    given = np.asarray(labels)
    targets = given.astype(real) if given.dtype.kind == "f" else None
    index = None if targets is not None else given.astype(np.int64)
    ignored = np.zeros(n, bool) if index is None or ignore_index is None else index == ignore_index
    if index is not None:
        index = np.where(ignored, 0, index)

    sample = np.where(ignored, 0.0, 1.0 if sample_weight is None else double(sample_weight))
    weight_sum = pair_value(pair_sum(sample if index is None else np.where(ignored, 0.0, classes[index] * sample)))
    if not n:
        return (np.zeros(0) if reduction == "none" else 0.0), logits.copy(), weight_sum
    mean = reduction == "mean"
    if mean and not weight_sum > 0.0:
        sample = np.zeros(n)
    factor = sample / weight_sum if mean and weight_sum > 0.0 else sample

    loss, gradient = _rows(logits, index, targets, classes, label_smoothing, factor)
    loss = np.where((sample == 0.0) & ~np.isnan(loss), 0.0, loss * sample)
    loss = stored(np.where(ignored, 0.0, loss))
    gradient = stored(np.where(ignored[:, None], real.type(0), gradient))
    if reduction == "none":
        return loss, gradient, weight_sum
    total = pair_value(pair_sum(loss))
    return float(stored(total / weight_sum if mean and weight_sum > 0.0 else total)), gradient, weight_sum


def _rows(
    logits: Array, labels: Array | None, targets: Array | None, classes: Array, smoothing: float, factor: Array
) -> tuple[Array, Array]:
    """Loss and gradient of each row, the gradient times `factor`."""
    n, c = logits.shape
    real = logits.dtype
    t = terms(logits)
    base = smoothing / float(c)
    rest = t.rest()
    term_sum = 1.0 + rest
    log_sum = log1p(rest)
    all_gaps = double(t.greatest) - double(t.x)

    share = np.broadcast_to(
        classes * ((1.0 - smoothing) * double(targets) + base if targets is not None else base), (n, c)
    )
    gap = np.where(share == 0.0, 0.0, all_gaps)
    if targets is not None:
        total = lane_sum(share)
        loss = log_sum * total + lane_sum(share, gap)
        gradient = scale(t.e, (total * factor / term_sum)[:, None]) - (share * factor[:, None]).astype(real)
    else:
        assert labels is not None
        at = (np.arange(n), labels)
        weight = classes[labels]
        own, own_gap, own_term = (1.0 - smoothing) * weight, all_gaps[at], double(t.e[at])
        others = np.where(own_gap == 0.0, rest, (rest - own_term) + 1.0)
        own_loss = np.where(own > 0.0, own * own_gap, 0.0)
        if smoothing > 0.0:
            hi, lo = pair_sum(classes)
            own_share = own + base * weight
            other_shares = base * ((hi - weight) + lo)
            total, f = own_share + other_shares, factor / term_sum
            loss = log_sum * total + (own_loss + lane_sum(share, gap))
            gradient = scale(t.e, (total * factor / term_sum)[:, None]) - (share * factor[:, None]).astype(real)
            own_gradient = other_shares * own_term * f - own_share * others * f
        else:
            loss = log_sum * own + own_loss
            f = own * factor / term_sum
            gradient = scale(t.e, f[:, None])
            own_gradient = -others * f
        gradient[at] = own_gradient.astype(real)
    return np.where(t.defined[:, 0], loss, np.nan), np.where(t.defined, gradient, real.type(np.nan))
