"""Softmax, log-softmax and cross-entropy against the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import (
    assert_same_bits,
    assert_ulp,
    check_gradients,
    plain,
    reference,
)
from normcore.testing.strategies import CrossEntropyProblem, cross_entropy_problems, dtypes, matrices, shapes

SPREADS = (1.0, 10.0, 60.0, 1e4)


@st.composite
def logits(
    draw: st.DrawFn,
    dtype: Any = None,
    spread: tuple[float, ...] = SPREADS,
    special: bool = False,
) -> Any:
    x = draw(
        matrices(
            dtype,
            shapes(max_rows=20, large=True),
            fills=("normal", "integers", "constant"),
            special=special,
        )
    )
    with np.errstate(over="ignore"):
        return x * x.dtype.type(draw(st.sampled_from(spread)))


# ---------------------------------------------------------------- softmax


@given(logits(np.float32))
@example(np.array([[0.0, -87.0, -87.3, -88.0, -103.0, -104.0]], np.float32))
@example(np.array([[1e4, 1e4 - 7.25, 1e4 - 60.0]], np.float32))
def test_softmax_float32_is_within_3_ulp(x: Any) -> None:
    y, exact = nc.softmax(x), reference.softmax(x)
    normal = exact >= 2.0**-126
    assert_ulp(y[normal], exact[normal], 3)
    # below the normal range probabilities fade out: never negative, never larger than that range
    assert ((y[~normal] >= 0) & (y[~normal] <= 2.0**-126)).all()


@given(logits(np.float64))
@example(10 * np.random.default_rng(0).normal(size=(5, 1031)))
def test_softmax_float64_is_within_a_few_ulp(x: Any) -> None:
    y, exact = nc.softmax(x), reference.softmax(x)
    normal = exact >= 2.0**-1022
    # exp, the reciprocal and the product; and the sum, in sixteen lanes of double itself
    assert_ulp(y[normal], exact[normal], 3 + x.shape[1] / 16)


@given(logits())
def test_softmax_rows_sum_to_one(x: Any) -> None:
    total = nc.softmax(x).astype(np.longdouble).sum(axis=1)
    # each of d probabilities p is off by at most a few u p, and by the least subnormal
    lanes = x.shape[1] / 32 if x.dtype == np.float64 else 0.0  # half an eps an addition
    np.testing.assert_allclose(total.astype(float), 1, rtol=0, atol=(4 + lanes) * float(np.finfo(x.dtype).eps))


@given(logits(spread=(1.0, 4.0)), st.sampled_from([-4096.0, -1.0, 0.5, 1024.0]))
def test_softmax_ignores_a_shift(x: Any, shift: float) -> None:
    x = np.round(plain(x) * 16) / 16  # so that the shift is exact in either precision
    assert_same_bits(nc.softmax(x + x.dtype.type(shift)), nc.softmax(x))


@given(logits(), st.randoms(use_true_random=False))
def test_softmax_is_monotone(x: Any, random: Any) -> None:
    x = plain(x)
    y = nc.softmax(x)
    order = np.argsort(x, axis=1)
    assert (np.diff(np.take_along_axis(y, order, axis=1), axis=1) >= 0).all()


@given(logits())
@example(np.array([[0.0, -30.0], [0.0, -100.0]], np.float32))
def test_log_softmax_is_accurate(x: Any) -> None:
    y, exact = nc.log_softmax(x), reference.log_softmax(x)
    kind = np.finfo(y.dtype)
    # two roundings of the result, and one of the gap to the maximum
    limit = 1.5 * float(kind.eps) * np.abs(exact) + (2.0**-50 if y.dtype == np.float32 else 2.0**-51)
    assert (np.abs(y - exact) <= limit).all()
    assert (y <= 0).all()


@given(st.data(), dtypes())
def test_backward_matches_the_reference(data: st.DataObject, dtype: Any) -> None:
    x = data.draw(logits(dtype, (1.0, 10.0)))
    check_backward(x, data.draw(matrices(dtype, x.shape)))


@pytest.mark.parametrize("seed", [0, 1])
def test_backward_of_long_rows_of_doubles(seed: int) -> None:
    """Sixteen double lanes of d / 16 terms: more than two roundings of the sum."""
    d = np.random.default_rng(seed).normal(size=(5, 1031))
    check_backward(10 * d, d)


def check_backward(x: Any, dy: Any) -> None:
    dtype = x.dtype
    # Of the sum in double: d / 16 additions a lane, four folds, one product; each half an eps.
    roundings = 2.0 if dtype == np.float32 else 2.0 + (x.shape[1] / 16 + 5) / 2
    eps = roundings / 2 * float(np.finfo(dtype).eps)
    y, z = nc.softmax(x), nc.log_softmax(x)
    size = np.abs(y) * (np.abs(dy) + np.abs(dy * y).sum(axis=1, keepdims=True))
    error = np.abs(nc.softmax_backward(dy, y) - reference.softmax_backward(dy, y))
    assert (error <= 2 * eps * size + 2 * float(np.finfo(dtype).smallest_subnormal)).all()
    # exp(y) below the normal range is off by up to the least subnormal, which the sum multiplies
    tiny = float(np.finfo(dtype).tiny)
    size = np.abs(dy) + (np.exp(z.astype(float)) + tiny) * np.abs(dy).sum(axis=1, keepdims=True) + tiny
    error = np.abs(nc.log_softmax_backward(dy, z) - reference.log_softmax_backward(dy, z))
    assert (error <= 2 * eps * size).all()


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 2), (2, 3), (3, 13), (1, 131)])
def test_gradients_match_finite_differences(n: int, d: int) -> None:
    random = np.random.default_rng(d)
    x, dy = random.normal(size=(n, d)), random.normal(size=(n, d))
    check_gradients(nc.softmax, {"x": x}, {"x": nc.softmax_backward(dy, nc.softmax(x))}, dy)
    check_gradients(
        nc.log_softmax,
        {"x": x},
        {"x": nc.log_softmax_backward(dy, nc.log_softmax(x))},
        dy,
    )


# ---------------------------------------------------------------- cross-entropy


def assert_loss(actual: Any, exact: Any, limit: float) -> None:
    """Losses are doubles, but their accuracy is promised in units of float32 for float32 data."""
    actual, exact = np.asarray(actual, np.float64), np.asarray(exact)
    error = np.abs(actual - exact)
    # the promise ends at 1e-37, below which float32 itself fades out
    assert (error <= limit * np.abs(exact) + 1e-42).all(), f"errors {error} of {exact}"


def relative(dtype: Any) -> float:
    return 4 * float(np.finfo(dtype).eps) if dtype == np.float32 else 1e-13


def gradient_terms(p: CrossEntropyProblem) -> Any:
    """Magnitude of the two terms of the gradient m (p s - u): their difference is rounded as they are."""
    n, c = p.logits.shape
    scale = np.asarray(p.options.get("class_weight", np.ones(c)), float)
    w = np.asarray(p.options.get("sample_weight", np.ones(n)), float)
    row = np.ones(n)
    if p.labels.ndim == 2:
        target = p.labels.astype(float)
    else:
        labels = p.labels.astype(int)
        ignored = labels == p.options.get("ignore_index", -1)
        labels = np.where(ignored, 0, labels)
        target = np.eye(c)[labels]
        w, row = np.where(ignored, 0, w), scale[labels]
    smoothing = p.options.get("label_smoothing", 0.0)
    target = scale * ((1 - smoothing) * target + smoothing / c)
    if p.options["reduction"] == "mean":
        w = w / (w @ row) if w @ row else 0 * w
    y = reference.softmax(p.logits).astype(float)
    # what is lost where y is subnormal counts as if y were the least normal number
    tiny = float(np.finfo(p.logits.dtype).tiny)
    return w[:, None] * ((y + tiny) * target.sum(axis=1, keepdims=True) + target)


@given(cross_entropy_problems())
def test_cross_entropy_matches_the_reference(p: CrossEntropyProblem) -> None:
    kind = p.logits.dtype.newbyteorder("=")
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(p.logits, p.labels, **p.options)
    exact = reference.softmax_cross_entropy(p.logits, p.labels, **p.options)
    assert_loss(loss, exact.loss, relative(kind))
    assert abs(weight_sum - exact.weight_sum) <= 1e-12 * abs(exact.weight_sum)
    assert isinstance(weight_sum, float)
    assert dlogits.dtype == kind
    assert dlogits.shape == p.logits.shape
    if p.options["reduction"] == "none":
        assert loss.dtype == np.float64
        assert loss.shape == (len(p.logits),)
    else:
        assert isinstance(loss, float)
    limit = 3 * float(np.finfo(kind).eps) * gradient_terms(p) + 4 * float(np.finfo(kind).smallest_subnormal)
    if kind == np.float64:
        limit = limit * (3 + plain(p.logits).max(axis=1, keepdims=True) - plain(p.logits))
    assert (np.abs(dlogits - exact.dlogits) <= limit).all()


@given(st.floats(0, 85), dtypes(), st.integers(2, 40), st.integers(0, 40))
@example(18.0, np.dtype(np.float32), 2, 0)
@example(85.0, np.dtype(np.float32), 2, 0)
@example(0.0, np.dtype(np.float32), 2, 0)
def test_small_losses_keep_their_accuracy(gap: float, dtype: Any, classes: int, label: int) -> None:
    label %= classes
    z = np.full((1, classes), -gap, dtype)
    z[0, label] = 0
    loss, _, _ = nc.softmax_cross_entropy(z, np.array([label]))
    exact = reference.softmax_cross_entropy(z, np.array([label])).loss
    assert loss > 0
    assert_loss(loss, exact, relative(dtype))


@given(cross_entropy_problems())
def test_gradient_rows_of_labels_sum_to_zero(p: CrossEntropyProblem) -> None:
    labels = p.labels if p.labels.ndim == 1 else p.labels.argmax(axis=1)
    if p.options.get("ignore_index") is not None:
        labels = np.where(labels == p.options["ignore_index"], 0, labels)
    _, dlogits, _ = nc.softmax_cross_entropy(p.logits, labels, reduction="sum")
    limit = 4 * float(np.finfo(dlogits.dtype).eps)
    assert (np.abs(dlogits.astype(np.longdouble).sum(axis=1)) <= limit).all()


@given(cross_entropy_problems())
def test_mean_is_sum_over_weight_sum(p: CrossEntropyProblem) -> None:
    options = p.options | {"reduction": "sum"}
    total, gradient, weight_sum = nc.softmax_cross_entropy(p.logits, p.labels, **options)
    mean, scaled, same = nc.softmax_cross_entropy(p.logits, p.labels, **(options | {"reduction": "mean"}))
    each, summed, _ = nc.softmax_cross_entropy(p.logits, p.labels, **(options | {"reduction": "none"}))
    assert same == weight_sum
    assert_same_bits(summed, gradient)
    np.testing.assert_allclose(each.sum(), total, rtol=1e-12)
    if weight_sum == 0:
        assert mean == 0
        assert not scaled.any()
    else:
        np.testing.assert_allclose(mean, total / weight_sum, rtol=1e-15)
        limit = 4 * float(np.finfo(scaled.dtype).eps) * gradient_terms(replace(p, options=options)) / weight_sum
        limit = limit + float(np.finfo(scaled.dtype).tiny) * (1 + 1 / weight_sum)
        assert (np.abs(scaled - gradient.astype(np.longdouble) / weight_sum) <= limit).all()


@given(st.data(), dtypes())
def test_one_hot_targets_are_labels(data: st.DataObject, dtype: Any) -> None:
    z = data.draw(logits(dtype, (1.0, 10.0)).filter(lambda z: z.shape[1] > 1))
    n, c = z.shape
    labels = np.array(data.draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n)))
    class_weight = data.draw(st.sampled_from([None, np.linspace(0.5, 2, c), np.linspace(0, 2, c)]))
    options = {
        "class_weight": class_weight,
        "sample_weight": np.linspace(2, 0, n),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.25, 1.0])),
        "reduction": data.draw(st.sampled_from(["mean", "sum", "none"])),
    }
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(z, labels, **options)
    soft_loss, soft_dlogits, soft_sum = nc.softmax_cross_entropy(z, np.eye(c, dtype=dtype)[labels], **options)
    np.testing.assert_allclose(soft_sum, options["sample_weight"].sum(), rtol=1e-15)
    if class_weight is None:
        assert soft_sum == weight_sum
    if options["reduction"] == "mean":
        # the one is divided by what the labels weigh, the other by what the rows weigh
        loss, dlogits = loss * weight_sum, dlogits * dtype.type(weight_sum)
        soft_loss, soft_dlogits = soft_loss * soft_sum, soft_dlogits * dtype.type(soft_sum)
        if weight_sum == 0:
            return
    np.testing.assert_allclose(soft_loss, loss, rtol=relative(dtype), atol=8 * float(np.finfo(dtype).eps))
    np.testing.assert_allclose(soft_dlogits, dlogits, rtol=1e-5, atol=16 * float(np.finfo(dtype).eps))


@given(cross_entropy_problems(special=True), st.booleans())
def test_class_weights_of_one_change_nothing(p: CrossEntropyProblem, negative: bool) -> None:
    labels = -p.labels if negative and p.labels.ndim == 2 else p.labels
    options = {name: value for name, value in p.options.items() if name != "class_weight"}
    none = nc.softmax_cross_entropy(p.logits, labels, **options)
    ones = nc.softmax_cross_entropy(p.logits, labels, class_weight=np.ones(p.logits.shape[1]), **options)
    assert_same_bits(np.asarray(ones[0]), np.asarray(none[0]))
    assert_same_bits(ones[1], none[1])
    assert ones[2] == none[2]


@st.composite
def signed_targets(draw: st.DrawFn, n: int, c: int, dtype: Any) -> Any:
    """Multiples of 1/8 in [-2, 2], so that sums of a few of them are exact; zeros among them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (random.integers(-16, 17, (n, c)) / 8 * random.integers(0, 2, (n, c))).astype(dtype)


@given(st.data(), dtypes(), st.sampled_from(["mean", "sum", "none"]), st.booleans(), st.booleans())
def test_soft_targets_are_linear(data: st.DataObject, dtype: Any, reduction: str, weighted: bool, sample: bool) -> None:
    z = data.draw(logits(dtype, (1.0, 10.0)).filter(lambda z: z.shape[1] > 1))
    n, c = z.shape
    first, second = data.draw(signed_targets(n, c, dtype)), data.draw(signed_targets(n, c, dtype))
    a, b = data.draw(st.sampled_from([(1.0, 1.0), (0.5, 0.25), (-1.0, 0.0), (2.0, -0.75)]))
    options: dict[str, Any] = {"reduction": reduction}
    if weighted:
        options["class_weight"] = np.linspace(0, 3, c)
    if sample:
        options["sample_weight"] = np.linspace(0.5, 2, n)
    mixed = nc.softmax_cross_entropy(z, (a * first + b * second).astype(dtype), **options)
    parts = [nc.softmax_cross_entropy(z, t, **options) for t in (first, second)]
    assert mixed[2] == parts[0][2] == parts[1][2]
    # relative to the losses of the targets' magnitudes, for the mix may be small
    size = nc.softmax_cross_entropy(z, (abs(a * first) + abs(b * second)).astype(dtype), **options)
    eps = float(np.finfo(dtype).eps) if dtype == np.float64 else 1e-9
    for actual, one, other, scale in zip(mixed[:1], parts[0][:1], parts[1][:1], size[:1], strict=True):
        assert (np.abs(actual - (a * one + b * other)) <= 64 * eps * np.abs(scale) + 1e-300).all()
    limit = 16 * float(np.finfo(dtype).eps) * (abs(a) + abs(b)) * 2 * 3 * c
    assert (np.abs(mixed[1] - (a * parts[0][1] + b * parts[1][1])) <= limit).all()


@pytest.mark.parametrize(
    ("labels", "smoothing", "expected"),
    [
        # -sum(w t log p): for the mean over labels divided by the sum of their weights, over targets by their number
        (np.array([0, 1, 2]), 0.0, "labels"),
        (np.array([0, 1, 2]), 0.1, "labels"),
        (np.array([[0.3, 0.7, 0.0], [0.0, 0.3, 0.7], [0.5, -1.0, 2.0]]), 0.0, "targets"),
        (np.array([[0.3, 0.7, 0.0], [0.0, 0.3, 0.7], [0.5, -1.0, 2.0]]), 0.1, "targets"),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_weights_weigh_the_targets(labels: Any, smoothing: float, expected: str, reduction: str) -> None:
    z = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5], [3.0, 1.0, 0.0]])
    w, s = np.array([1.0, 5.0, 0.25]), np.array([2.0, 0.5, 3.0])
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    target = np.eye(3)[labels] if expected == "labels" else labels
    smooth = (1 - smoothing) * target + smoothing / 3
    each = -s * (w * smooth * log_p).sum(axis=1)
    weight = (s * w[labels] if expected == "labels" else s).sum()
    want = {"mean": each.sum() / weight, "sum": each.sum(), "none": each}[reduction]
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(
        z, labels, class_weight=w, sample_weight=s, label_smoothing=smoothing, reduction=reduction
    )
    np.testing.assert_allclose(loss, want, rtol=1e-14, atol=1e-14)
    assert weight_sum == weight
    gradient = s[:, None] * (np.exp(log_p) * (w * smooth).sum(axis=1, keepdims=True) - w * smooth)
    np.testing.assert_allclose(dlogits, gradient / (weight if reduction == "mean" else 1), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_classes_without_a_share_may_have_any_logit(dtype: Any) -> None:
    z = np.array([[-np.inf, 1.0, 2.0]], dtype)
    w = [0.0, 1.0, 2.0]
    for smoothing in (0.0, 0.3):
        for labels in (np.array([1]), np.array([[0.5, 0.25, 0.25]], dtype)):
            loss, dlogits, _ = nc.softmax_cross_entropy(z, labels, class_weight=w, label_smoothing=smoothing)
            assert np.isfinite(loss)
            assert dlogits[0, 0] == 0
    assert nc.softmax_cross_entropy(z, np.array([0]), class_weight=w)[0] == 0
    assert nc.softmax_cross_entropy(z, np.array([0]), class_weight=[1, 1, 1])[0] == np.inf


def ulps(actual: float, exact: Fraction) -> float:
    return float(abs(Fraction(actual) - exact) / Fraction(math.ulp(float(exact))))


@pytest.mark.parametrize("n", [1, 3, 255, 256, 257, 5000, 1_000_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_sums_of_losses_and_weights_are_within_4_ulp(n: int, dtype: Any, spread: float) -> None:
    random = np.random.default_rng(n)
    # equal losses, alike, and over many orders of magnitude
    z = np.concatenate([np.zeros((n, 1)), 0.7 + spread * random.normal(size=(n, 1))], axis=1).astype(dtype)
    labels = np.zeros(n, int)
    for weights in (None, random.exponential(size=n), np.exp(15 * random.normal(size=n))):
        options = {} if weights is None else {"sample_weight": weights}
        each, _, _ = nc.softmax_cross_entropy(z, labels, reduction="none", **options)
        total, _, _ = nc.softmax_cross_entropy(z, labels, reduction="sum", **options)
        mean, _, weight_sum = nc.softmax_cross_entropy(z, labels, **options)
        exact = sum(map(Fraction, each.tolist())) if n <= 5000 else Fraction(math.fsum(each))
        weight = Fraction(n) if weights is None else Fraction(math.fsum(weights))
        assert ulps(weight_sum, weight) <= 1
        assert ulps(total, exact) <= 1
        assert ulps(mean, exact / weight) <= 4


def test_sums_of_losses_of_both_signs_do_not_cancel() -> None:
    z, t = np.zeros((3000, 2)), np.zeros((3000, 2))
    t[:, 0] = np.tile([1.0, -1.0, 1e-10], 1000)
    loss, _, _ = nc.softmax_cross_entropy(z, t, reduction="sum")
    each, _, _ = nc.softmax_cross_entropy(z, t, reduction="none")
    assert loss == math.fsum(each)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_and_nan_losses_stay_so_in_sums(dtype: Any) -> None:
    z = np.zeros((600, 2), dtype)
    z[300, 0] = -np.inf
    for n in (301, 600):
        labels = np.zeros(n, int)
        assert nc.softmax_cross_entropy(z[:n], labels)[0] == np.inf
        assert nc.softmax_cross_entropy(z[:n], labels, reduction="sum")[0] == np.inf
    z[5] = np.nan
    assert np.isnan(nc.softmax_cross_entropy(z, np.zeros(600, int))[0])


@pytest.mark.parametrize(("n", "c"), [(1, 2), (2, 2), (2, 3), (3, 13), (2, 131)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_gradient_matches_finite_differences(
    n: int, c: int, reduction: str, soft: bool, smoothing: float
) -> None:
    random = np.random.default_rng(c)
    z = random.normal(size=(n, c))
    labels = random.random((n, c)) if soft else random.integers(0, c, n)
    options = {
        "class_weight": random.exponential(size=c),
        "sample_weight": random.exponential(size=n),
        "label_smoothing": smoothing,
        "reduction": reduction,
    }
    _, dlogits, _ = nc.softmax_cross_entropy(z, labels, **options)
    check_gradients(
        lambda z: nc.softmax_cross_entropy(z, labels, **options)[0],
        {"z": z},
        {"z": dlogits},
    )


@given(cross_entropy_problems())
def test_shards_combine(p: CrossEntropyProblem) -> None:
    if "sample_weight" in p.options or len(p.logits) < 2:
        return
    options = p.options | {"reduction": "mean"}
    whole, _, weight_sum = nc.softmax_cross_entropy(p.logits, p.labels, **options)
    half = len(p.logits) // 2
    parts = [nc.softmax_cross_entropy(p.logits[s], p.labels[s], **options) for s in (slice(half), slice(half, None))]
    np.testing.assert_allclose(sum(part[2] for part in parts), weight_sum, rtol=1e-14)
    if weight_sum:
        np.testing.assert_allclose(sum(part[0] * part[2] for part in parts) / weight_sum, whole, rtol=1e-13)
