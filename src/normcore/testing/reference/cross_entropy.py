"""Softmax cross-entropy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .losses import reduce_rows
from .precision import Array, wide
from .softmax import log_sum_exp, shifted, unusable_rows

__all__ = ["CrossEntropyResult", "softmax_cross_entropy"]


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

    t = shifted(z)
    p = np.exp(t - log_sum_exp(t)[:, None])
    with np.errstate(invalid="ignore"):
        cost = np.where(target == 0, 0.0, target * (log_sum_exp(t)[:, None] - t)).sum(axis=1)
    # The loss of a confident row is tiny next to the terms of its sum: take log1p over every class but the label's.
    total = target.sum(axis=1)
    gradient = p * total[:, None] - target
    one = (target != 0).sum(axis=1) == 1
    for i in np.flatnonzero(one & ~unusable_rows(z)):
        k = int(np.flatnonzero(target[i])[0])
        others = np.arange(c) != k
        if t[i, k] == 0.0:
            rest = np.exp(t[i, others]).sum()
            cost[i] = target[i, k] * np.log1p(rest)
            gradient[i, k] = -target[i, k] * rest / (1 + rest)
    bad = unusable_rows(z)
    cost[bad] = np.nan
    gradient[bad] = np.nan

    cost[ignored] = 0.0
    gradient[ignored] = 0.0
    weight_sum = row_weight.sum()
    with np.errstate(invalid="ignore"):
        loss: Any = weight * cost
    gradient = weight[:, None] * gradient
    return CrossEntropyResult(*reduce_rows(loss, gradient, weight_sum, reduction), weight_sum)
