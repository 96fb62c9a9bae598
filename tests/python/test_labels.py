"""Which labels, soft targets and weights the cross-entropy takes, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import normcore as nc
from normcore import _core
from normcore.testing import assert_same_bits

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
FLOATS = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
X = np.arange(12.0).reshape(4, 3)
LABELS = np.array([0, 1, 2, 1])


def some(*shape: int, dtype: Any = F32) -> Any:
    return np.random.default_rng(list(shape)).normal(size=shape).astype(dtype)


def cross_entropy(**options: Any) -> Any:
    return nc.softmax_cross_entropy(X, LABELS, **options)


@pytest.mark.parametrize("dtype", [*"bhilqBHILQ", ">i2", "<u4"])
def test_labels_of_any_integer_type(dtype: str) -> None:
    expected = nc.softmax_cross_entropy(X, LABELS.astype(np.int64))
    for labels in (LABELS.astype(dtype), np.repeat(LABELS, 2).astype(dtype)[::2], LABELS[::-1].astype(dtype)[::-1]):
        loss, dlogits, weight_sum = nc.softmax_cross_entropy(X, labels)
        assert (loss, weight_sum) == (expected[0], 4.0)
        assert dlogits.tobytes() == expected[1].tobytes()


def test_labels_that_are_listed_bool_or_shaped() -> None:
    expected = nc.softmax_cross_entropy(X, LABELS)[0]
    assert nc.softmax_cross_entropy(X, LABELS.tolist())[0] == expected
    assert nc.softmax_cross_entropy(X, tuple(LABELS))[0] == expected
    assert nc.softmax_cross_entropy(X.reshape(2, 2, 3), LABELS.reshape(2, 2))[0] == expected
    assert nc.softmax_cross_entropy(X, LABELS > 1)[0] == nc.softmax_cross_entropy(X, (LABELS > 1).astype(int))[0]
    assert nc.softmax_cross_entropy(X[:0], [])[0] == 0.0
    one_hot = np.eye(3)[LABELS]
    np.testing.assert_allclose(nc.softmax_cross_entropy(X, one_hot)[0], expected, rtol=1e-14)
    np.testing.assert_allclose(nc.softmax_cross_entropy(X, one_hot.astype(np.float32))[0], expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("labels", "row", "value"),
    [
        ([0, 3, 1, 1], 1, 3),
        ([0, 1, -1, 9], 2, -1),
        (np.array([0, 2**64 - 1, 1, 1], np.uint64), 1, 2**64 - 1),
        (np.array([0, 1, 1, 2**63], np.uint64), 3, 2**63),
        (np.array([2**62, 1, 1, 1]), 0, 2**62),
        (np.array([[0, 1], [127, 0]], np.int8), 2, 127),
    ],
)
def test_label_out_of_range(labels: Any, row: int, value: int) -> None:
    x = X.reshape((*np.shape(labels), 3))
    with pytest.raises(ValueError, match=rf"softmax_cross_entropy: labels has {value} in row {row}; .* in \[0, 3\)$"):
        nc.softmax_cross_entropy(x, labels)


@pytest.mark.parametrize("value", [-1, 5, 7, 2**62, -(2**63)])
@pytest.mark.parametrize("row", [0, 2, 3])
def test_cross_entropy_refuses_a_label_out_of_range(value: int, row: int) -> None:
    labels = np.zeros(4, np.int64)
    labels[row] = value
    with pytest.raises(
        ValueError,
        match=rf"softmax_cross_entropy: labels has {value} in row {row}; .*\[0, 5\)",
    ):
        nc.softmax_cross_entropy(some(4, 5), labels)
    with pytest.raises(
        ValueError,
        match=rf"labels has {value} in row {row}; .*\[0, 5\) \(or ignore_index, -100\)",
    ):
        nc.softmax_cross_entropy(some(4, 5), labels, ignore_index=-100)
    nc.softmax_cross_entropy(some(4, 5), labels, ignore_index=value)


def test_cross_entropy_checks_labels_before_anything_is_written() -> None:
    network = _core.Network((3, 4, 2), norm="batch")
    params, buffers = (
        np.empty(network.parameter_count, F32),
        np.empty(network.buffer_count, F32),
    )
    network.initialize(params, buffers, seed=1)
    grads, kept = np.full_like(params, 7), buffers.copy()
    with pytest.raises(ValueError, match=r"labels has 2 in row 1; .*\[0, 2\)"):
        network.loss_and_grads(some(3, 3), np.array([0, 2, 1]), params, buffers, grads)
    assert (grads == 7).all()
    assert_same_bits(buffers, kept)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(list("abca")),
        LABELS.astype(object),
        LABELS.astype(complex),
        LABELS.astype(float),  # class indices as floats: probably a mistake
        np.ma.masked_array(LABELS, LABELS == 2),
        X.astype(np.float16),
        X.astype(np.longdouble),
        LABELS.astype("M8[s]"),
        None,
    ],
    ids=["str", "object", "complex", "1-D float", "masked", "float16", "longdouble", "date", "None"],
)
def test_refused_labels(labels: Any) -> None:
    with pytest.raises(TypeError, match=r"softmax_cross_entropy: labels is an? "):
        nc.softmax_cross_entropy(X, labels)


def test_ignore_index() -> None:
    labels = np.array([0, -100, 2, -100])
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(X, labels, ignore_index=-100)
    assert weight_sum == 2.0
    np.testing.assert_array_equal(dlogits[1::2], 0.0)
    np.testing.assert_allclose(loss, nc.softmax_cross_entropy(X[::2], labels[::2])[0], rtol=1e-15)
    for reduction in ("mean", "sum"):
        nothing = nc.softmax_cross_entropy(X, np.full(4, 7), ignore_index=7, reduction=reduction)
        assert (nothing[0], nothing[2]) == (0.0, 0.0)
        np.testing.assert_array_equal(nothing[1], 0.0)
    with pytest.raises(ValueError, match=r"labels has -100 in row 1; .*\(or ignore_index, 1\)"):
        nc.softmax_cross_entropy(X, labels, ignore_index=1)
    # Not to be confused with -1, which has the same bits.
    with pytest.raises(ValueError, match=r"labels has 18446744073709551615 in row 0"):
        nc.softmax_cross_entropy(X, np.array([2**64 - 1, 0, 0, 0], np.uint64), ignore_index=-1)
    with pytest.raises(ValueError, match="softmax_cross_entropy: ignore_index is 1, but labels are soft targets"):
        nc.softmax_cross_entropy(X, X, ignore_index=1)
    with pytest.raises(ValueError, match="softmax_cross_entropy: ignore_index is 9223372036854775808; it must be in"):
        cross_entropy(ignore_index=2**63)
    with pytest.raises(TypeError, match="softmax_cross_entropy: ignore_index is a float; it must be an integer"):
        cross_entropy(ignore_index=1.0)


@FLOATS
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_with_everything_ignored_is_0(reduction: str, dtype: Any) -> None:
    x = some(4, 5, dtype=dtype)
    x[1] = np.nan
    labels = np.full(4, -100)
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(x, labels, ignore_index=-100, reduction=reduction)
    assert not np.any(loss)
    assert_same_bits(dlogits, np.zeros((4, 5), dtype))
    assert weight_sum == 0


def test_cross_entropy_ignored_rows_count_nothing() -> None:
    x = some(4, 5)
    labels = np.array([1, -1, 2, -1])
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(x, labels, ignore_index=-1)
    expected = nc.softmax_cross_entropy(x[[0, 2]], labels[[0, 2]])
    assert (loss, weight_sum) == (expected[0], expected[2])
    assert_same_bits(dlogits[[0, 2]], expected[1])
    assert not dlogits[[1, 3]].any()


def test_weights_of_any_form() -> None:
    class_weight, sample_weight = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.0, 1.0, 1.0])
    expected = cross_entropy(class_weight=class_weight, sample_weight=sample_weight)
    assert expected[2] == 3.0 * 1.0 + 0.0 + 0.5 + 2.0
    forms: list[Callable[[np.ndarray], Any]] = [
        lambda w: w.tolist(),
        lambda w: w.astype(np.float32),
        lambda w: w.astype(">f8"),
        lambda w: np.repeat(w, 2)[::2],
        lambda w: w.astype(np.float16),
    ]
    for form in forms:
        got = cross_entropy(class_weight=form(class_weight), sample_weight=form(sample_weight))
        assert (got[0], got[2]) == (expected[0], expected[2])
        assert got[1].tobytes() == expected[1].tobytes()
    named = cross_entropy(class_weight={1: 2.0, np.int64(2): 0.5}, sample_weight=[3, 0, 1, True])
    assert (named[0], named[2]) == (expected[0], expected[2])
    assert cross_entropy(class_weight={})[0] == cross_entropy()[0]
    leading = nc.softmax_cross_entropy(
        X.reshape(2, 2, 3), LABELS.reshape(2, 2), sample_weight=sample_weight.reshape(2, 2), class_weight=class_weight
    )
    assert leading[0] == expected[0]


def test_cross_entropy_weights() -> None:
    x = np.log(np.array([[1, 1, 2], [1, 2, 1], [2, 1, 1]], float))  # probabilities 1/4, 1/4, 1/2 in some order
    labels = np.array([2, 0, 1])
    each = np.log([2, 4, 4])
    scale, sample = np.array([2.0, 3.0, 5.0]), np.array([1.0, 0.5, 2.0])
    w = np.array([5.0, 2.0, 3.0]) * sample
    options: dict[str, Any] = {"class_weight": scale, "sample_weight": sample}
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(x, labels, **options)
    assert weight_sum == w.sum()
    np.testing.assert_allclose(loss, (w * each).sum() / w.sum(), rtol=1e-14)
    p = np.exp(x) / 4 - np.eye(3)[labels]
    np.testing.assert_allclose(dlogits, p * (w / w.sum())[:, None], rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(
        nc.softmax_cross_entropy(x, labels, reduction="none", **options)[0],
        w * each,
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        nc.softmax_cross_entropy(x, labels, reduction="sum", **options)[0],
        w @ each,
        rtol=1e-14,
    )


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_bad_weights_are_named(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"softmax_cross_entropy: class_weight\[2\] is {bad}; weights must be finite"):
        cross_entropy(class_weight=[1, 1, bad])
    with pytest.raises(ValueError, match=rf"class_weight\[0\] is {bad}"):
        cross_entropy(class_weight={0: bad}, sample_weight=[bad] * 4)
    with pytest.raises(ValueError, match=rf"softmax_cross_entropy: sample_weight\[3\] is {bad}; weights must be"):
        cross_entropy(sample_weight=[1, 1, 1, bad], class_weight=[1, 1, 1])


def test_refused_weights() -> None:
    for name, size in (("class_weight", 3), ("sample_weight", 4)):
        for wrong in (["a"] * size, np.ones(size, complex), np.ones(size, object)):
            with pytest.raises(TypeError, match=f"softmax_cross_entropy: {name} is an array of .*; it must be of real"):
                cross_entropy(**{name: wrong})
        with pytest.raises(TypeError, match=f"softmax_cross_entropy: {name} is a masked array"):
            cross_entropy(**{name: np.ma.ones(size)})
    with pytest.raises(ValueError, match=r"class_weight has the class 3; classes are in \[0, 3\)"):
        cross_entropy(class_weight={3: 1.0})
    with pytest.raises(TypeError, match="class_weight has the key 'a'; keys must be class indices"):
        cross_entropy(class_weight={"a": 1.0})
    with pytest.raises(TypeError, match=r"class_weight\[1\] is a str; it must be a real number"):
        cross_entropy(class_weight={1: "a"})


def test_reductions_agree() -> None:
    weights = {"class_weight": [1.0, 2.0, 0.5], "sample_weight": [1.0, 0.0, 2.0, 4.0]}
    losses, gradient, weight_sum = cross_entropy(reduction="none", **weights)
    assert losses.dtype == np.float64
    assert losses.shape == (4,)
    assert nc.softmax_cross_entropy(X.reshape(2, 2, 3), LABELS.reshape(2, 2), reduction="none")[0].shape == (2, 2)
    total, total_gradient, _ = cross_entropy(reduction="sum", **weights)
    mean, mean_gradient, _ = cross_entropy(reduction="mean", **weights)
    assert isinstance(total, float)
    np.testing.assert_allclose(losses.sum(), total, rtol=1e-15)
    np.testing.assert_allclose(total / weight_sum, mean, rtol=1e-15)
    np.testing.assert_array_equal(gradient, total_gradient)
    np.testing.assert_allclose(total_gradient / weight_sum, mean_gradient, rtol=1e-14)
