"""Signatures, errors of scalar parameters, labels and weights, the network, and what concerns the process."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore as nc
from normcore import _config
from normcore.testing import use_num_threads

SIGNATURES = {
    "affine_forward": "(x, w, b=None, *, relu=False, out=None)",
    "affine_backward": "(dy, x, w)",
    "relu_forward": "(x, *, out=None)",
    "relu_backward": "(dy, y, *, out=None)",
    "leaky_relu_forward": "(x, *, slope=0.01, out=None)",
    "leaky_relu_backward": "(dy, y, *, slope=0.01, out=None)",
    "tanh_forward": "(x, *, out=None)",
    "tanh_backward": "(dy, y, *, out=None)",
    "logistic_forward": "(x, *, out=None)",
    "logistic_backward": "(dy, y, *, out=None)",
    "silu_forward": "(x, *, out=None)",
    "silu_backward": "(dy, x, *, out=None)",
    "softmax": "(x, *, out=None)",
    "log_softmax": "(x, *, out=None)",
    "softmax_backward": "(dy, y, *, out=None)",
    "log_softmax_backward": "(dy, y, *, out=None)",
    "softmax_cross_entropy": "(logits, labels, *, class_weight=None, sample_weight=None, label_smoothing=0.0, "
    "ignore_index=None, reduction='mean')",
    "squared_error": "(outputs, targets, *, sample_weight=None, reduction='mean')",
    "huber_loss": "(outputs, targets, *, delta=1.0, sample_weight=None, reduction='mean')",
    "quantile_loss": "(outputs, targets, *, tau=0.5, sample_weight=None, reduction='mean')",
    "poisson_loss": "(outputs, targets, *, sample_weight=None, reduction='mean')",
    "logistic_loss": "(outputs, targets, *, sample_weight=None, reduction='mean')",
    "batch_norm_forward": "(x, gamma, beta, running_mean=None, running_var=None, *, training=True, momentum=0.9, "
    "eps=1e-05, unbiased_running_var=False, out=None)",
    "batch_norm_backward": "(dy, x, gamma, mean, rstd, *, algorithm='fused', training=True)",
    "layer_norm_forward": "(x, gamma, beta, *, eps=1e-05, out=None)",
    "layer_norm_backward": "(dy, x, gamma, mean, rstd)",
    "dropout_forward": "(x, keep, *, seed, stream=0, offset=0, out=None)",
    "dropout_backward": "(dy, keep, *, seed, stream=0, offset=0, out=None)",
    "sum_of_squares": "(x)",
    "random_uniform": "(n, *, seed, stream=0, offset=0, low=0.0, high=1.0, dtype='float64')",
    "random_normal": "(n, *, seed, stream=0, offset=0, mean=0.0, scale=1.0, dtype='float64')",
    "random_integers": "(n, bound, *, seed, stream=0, offset=0)",
    "random_permutation": "(n, *, seed, stream=0, offset=0)",
    "optimizer_update": "(optimizer, params, grads, slot1, slot2, *, learning_rate, momentum=0.9, decay_rate=0.99, "
    "beta1=0.9, beta2=0.999, eps=1e-08, l2=0.0, weight_decay=0.0, gradient_scale=1.0, step=1)",
    "available_isas": "()",
    "get_isa": "()",
    "set_isa": "(name)",
    "get_num_threads": "()",
    "set_num_threads": "(n)",
    "selftest": "()",
    "cpu_features": "()",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    assert str(inspect.signature(getattr(nc, name))) == SIGNATURES[name]


def test_public_names() -> None:
    functions = {"show_config", "get_include", "get_library_dir", "encode_labels", "load_model", "save_model"}
    classes = {"Network", "MLP", "Trainer", "History", "Generator", "NonFiniteError"}
    classes |= {"Schedule", "ConstantSchedule", "CosineSchedule", "ExponentialSchedule", "StepSchedule"}
    assert set(nc.__all__) == {*SIGNATURES, *functions, *classes, "CONTRACT", "__version__"}
    for name in nc.__all__:
        assert getattr(nc, name) is not None
    assert nc.CONTRACT == "NC1"
    assert re.fullmatch(r"\d+\.\d+\.\d+", nc.__version__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_docstring_names_every_parameter(name: str) -> None:
    function = getattr(nc, name)
    text = inspect.getdoc(function)
    assert text is not None
    if "errors are those of" not in text:
        for parameter in inspect.signature(function).parameters:
            assert re.search(rf"\b{parameter}\b", text), parameter
        if inspect.signature(function).parameters:
            assert "Raises" in text


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NORMCORE_")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def output(*code: str, **environment: str) -> str:
    result = run("".join(code), **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# ---------------------------------------------------------------------------------------------- scalar parameters

X, V = np.arange(12.0).reshape(4, 3), np.ones(3)
LABELS = np.array([0, 1, 2, 1])
NOT_NEGATIVE = [-1e-300, -1.0, float("nan"), float("inf"), float("-inf")]
OUTSIDE_0_1 = [-1e-9, 1.0000001, float("nan"), float("inf")]


def batch_norm(**options: Any) -> Any:
    return nc.batch_norm_forward(X, V, V, **options)


def cross_entropy(**options: Any) -> Any:
    return nc.softmax_cross_entropy(X, LABELS, **options)


def update(name: str = "adam", **options: Any) -> np.ndarray:
    needs = {"sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 2, "adam": 3}[name]
    params = np.ones(4)
    slots = [np.zeros(4) if needs & bit else None for bit in (1, 2)]
    nc.optimizer_update(name, params, np.ones(4), *slots, **{"learning_rate": 0.1, **options})
    return params


BAD_NUMBERS: list[tuple[str, str, Callable[..., Any], list[Any]]] = [
    ("batch_norm_forward", "eps", batch_norm, NOT_NEGATIVE),
    ("layer_norm_forward", "eps", lambda **o: nc.layer_norm_forward(X, V, V, **o), NOT_NEGATIVE),
    ("batch_norm_forward", "momentum", batch_norm, OUTSIDE_0_1),
    ("softmax_cross_entropy", "label_smoothing", cross_entropy, OUTSIDE_0_1),
    ("leaky_relu_forward", "slope", lambda **o: nc.leaky_relu_forward(X, **o), OUTSIDE_0_1),
    ("leaky_relu_backward", "slope", lambda **o: nc.leaky_relu_backward(X, X, **o), OUTSIDE_0_1),
    ("dropout_forward", "keep", lambda keep: nc.dropout_forward(X, keep, seed=0), [0.0, *OUTSIDE_0_1]),
    ("dropout_backward", "keep", lambda keep: nc.dropout_backward(X, keep, seed=0), [0.0, *OUTSIDE_0_1]),
    ("random_normal", "scale", lambda **o: nc.random_normal(3, seed=0, **o), NOT_NEGATIVE),
    ("random_normal", "mean", lambda **o: nc.random_normal(3, seed=0, **o), NOT_NEGATIVE[2:]),
    ("random_uniform", "low", lambda **o: nc.random_uniform(3, seed=0, **o), NOT_NEGATIVE[2:]),
    ("random_uniform", "high", lambda **o: nc.random_uniform(3, seed=0, **o), NOT_NEGATIVE[2:]),
    ("optimizer_update", "gradient_scale", update, NOT_NEGATIVE[2:]),
    *[("optimizer_update", name, update, NOT_NEGATIVE) for name in ("learning_rate", "eps", "l2", "weight_decay")],
    *[("optimizer_update", name, update, [1.0, *OUTSIDE_0_1]) for name in ("momentum", "decay_rate", "beta1", "beta2")],
    ("Network", "eps", lambda **o: nc.Network((2, 2), **o), NOT_NEGATIVE),
    ("Network", "momentum", lambda **o: nc.Network((2, 2), **o), OUTSIDE_0_1),
    ("Network", "keep", lambda **o: nc.Network((2, 2), **o), [0.0, *OUTSIDE_0_1]),
]


@pytest.mark.parametrize(("op", "name", "call", "values"), BAD_NUMBERS, ids=[f"{op}-{n}" for op, n, *_ in BAD_NUMBERS])
def test_bad_numbers_are_named(op: str, name: str, call: Callable[..., Any], values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{op}: {name} is {re.escape(repr(value))}; it "):
            call(**{name: value})
    for wrong in ("0.5", None, [0.5], 1j):
        with pytest.raises(TypeError, match=rf"^{op}: {name} is a {type(wrong).__name__}; it must be a real number"):
            call(**{name: wrong})
    with pytest.raises(ValueError, match=rf"^{op}: {name} is 1000.*; it must be finite"):
        call(**{name: 10**400})


@pytest.mark.parametrize(("op", "name", "call", "values"), BAD_NUMBERS, ids=[f"{op}-{n}" for op, n, *_ in BAD_NUMBERS])
def test_numbers_of_other_types(op: str, name: str, call: Callable[..., Any], values: list[Any]) -> None:
    for value in (np.float32(0.5), np.float64(0.5), np.array(0.5)):
        call(**{name: value})


WORDS: list[tuple[str, Callable[..., Any]]] = [
    ("dropout_forward", lambda **o: nc.dropout_forward(X, 0.5, **{"seed": 0, **o})),
    ("dropout_backward", lambda **o: nc.dropout_backward(X, 0.5, **{"seed": 0, **o})),
    ("random_uniform", lambda **o: nc.random_uniform(2, **{"seed": 0, **o})),
    ("random_normal", lambda **o: nc.random_normal(2, **{"seed": 0, **o})),
    ("random_integers", lambda **o: nc.random_integers(2, 7, **{"seed": 0, **o})),
    ("random_permutation", lambda **o: nc.random_permutation(2, **{"seed": 0, **o})),
]


@pytest.mark.parametrize(("op", "call"), WORDS, ids=[op for op, _ in WORDS])
def test_seed_stream_and_offset(op: str, call: Callable[..., Any]) -> None:
    for name in ("seed", "stream", "offset"):
        for value in (0, 2**64 - 1, np.uint64(2**64 - 1), np.int8(3), True):
            call(**{name: value})
        for bad in (-1, 2**64, -(2**70)):
            with pytest.raises(ValueError, match=rf"^{op}: {name} is {bad}; it must be in \[0, 18446744073709551615\]"):
                call(**{name: bad})
        for wrong in (1.0, "1", None):
            with pytest.raises(TypeError, match=rf"^{op}: {name} is a .*; it must be an integer"):
                call(**{name: wrong})


def test_numbers_of_random_values() -> None:
    for name in ("random_uniform", "random_normal", "random_permutation"):
        function = getattr(nc, name)
        assert function(0, seed=1).shape == (0,)
        assert function(np.int32(5), seed=1).shape == (5,)
        with pytest.raises(ValueError, match=rf"{name}: n is -1"):
            function(-1, seed=1)
        with pytest.raises(TypeError, match=rf"{name}: n is a float; it must be an integer"):
            function(3.0, seed=1)
    for bound in (0, -1, 2**63 + 1):
        with pytest.raises(ValueError, match=rf"random_integers: bound is {bound}; it must be in \[1, "):
            nc.random_integers(1, bound, seed=0)
    values = nc.random_integers(1000, 2**63, seed=0)
    assert values.dtype == np.int64
    assert (values >= 0).all()
    for function in (nc.random_uniform, nc.random_normal):
        dtype: Any
        for dtype in ("float32", np.float64, np.dtype("float32")):
            assert function(3, seed=0, dtype=dtype).dtype == dtype
        for dtype in ("float16", np.int64, "nonsense", None, "complex128"):
            with pytest.raises(TypeError, match=r"random_\w+: dtype is .*; it must be float32 or float64"):
                function(3, seed=0, dtype=dtype)


def test_names_of_variants() -> None:
    for bad in ("average", None, 3, "Mean"):
        with pytest.raises(ValueError, match=r"softmax_cross_entropy: reduction is .*'mean', 'sum' or 'none'"):
            cross_entropy(reduction=bad)
        with pytest.raises(ValueError, match=r"batch_norm_backward: algorithm is .*; it must be 'fused' or 'graph'"):
            nc.batch_norm_backward(X, X, V, V, V, algorithm=bad)  # type: ignore[arg-type]
        with pytest.raises(
            ValueError, match=r"optimizer_update: optimizer is .*sgd, momentum, nesterov, rmsprop, adam"
        ):
            nc.optimizer_update(bad, V, V, None, None, learning_rate=0.1)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- labels and weights


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


# ---------------------------------------------------------------------------------------------- normalisation


def test_running_statistics_follow_momentum() -> None:
    x = np.array([[1.0, 10.0], [3.0, 20.0], [5.0, 60.0]])
    batch_mean, batch_var = x.mean(0), x.var(0)
    for momentum in (0.0, 0.25, 1.0):
        for unbiased in (False, True):
            running_mean, running_var = np.array([2.0, -1.0]), np.array([3.0, 0.5])
            expected_mean = momentum * running_mean + (1 - momentum) * batch_mean
            moved_to = batch_var * 3 / 2 if unbiased else batch_var
            expected_var = momentum * running_var + (1 - momentum) * moved_to
            nc.batch_norm_forward(
                x, V[:2], V[:2], running_mean, running_var, momentum=momentum, unbiased_running_var=unbiased
            )
            np.testing.assert_allclose(running_mean, expected_mean, rtol=1e-14)
            np.testing.assert_allclose(running_var, expected_var, rtol=1e-14)


def test_evaluation_uses_the_running_statistics() -> None:
    mean, var = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    y, used_mean, rstd = nc.batch_norm_forward(X, 2 * V, V, mean, var, training=False, eps=0.5)
    np.testing.assert_array_equal(used_mean, mean)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(var + 0.5), rtol=1e-15)
    np.testing.assert_allclose(y, 2 * (X - mean) / np.sqrt(var + 0.5) + 1, rtol=1e-14, atol=1e-14)
    for algorithm in ("fused", "graph"):
        dx, _, _ = nc.batch_norm_backward(X, X, 2 * V, used_mean, rstd, training=False, algorithm=algorithm)
        np.testing.assert_allclose(dx, X * 2 / np.sqrt(var + 0.5), rtol=1e-15)


def test_one_row_in_training_gives_beta() -> None:
    beta = np.array([1.0, -2.0, 0.5])
    y, mean, rstd = nc.batch_norm_forward(X[:1], V, beta)
    np.testing.assert_array_equal(y, [beta])
    for algorithm in ("fused", "graph"):
        dx, dgamma, dbeta = nc.batch_norm_backward(X[1:2], X[:1], V, mean, rstd, algorithm=algorithm)
        np.testing.assert_array_equal(dx, np.zeros((1, 3)))
        np.testing.assert_array_equal(dgamma, np.zeros(3))
        np.testing.assert_array_equal(dbeta, X[1])


# ---------------------------------------------------------------------------------------------- optimisers


def test_optimizer_arguments() -> None:
    def refused(error: type[Exception], match: str, *arguments: Any, **options: Any) -> None:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        before = [a.tobytes() for a in arrays]
        with pytest.raises(error, match="^optimizer_update: " + match):
            nc.optimizer_update(*arguments, **{"learning_rate": 0.1, **options})
        assert [a.tobytes() for a in arrays] == before

    def a(n: int = 4, dtype: Any = np.float64) -> np.ndarray:
        return np.ones(n, dtype)

    locked = a()
    locked.flags.writeable = False
    refused(
        TypeError, "params is a list; it must be a NumPy array of float32 or float64", "sgd", [1.0], a(), None, None
    )
    refused(TypeError, "params is an array of int64", "sgd", a(dtype=int), a(), None, None)
    refused(TypeError, "grads is an array of float32; it must be float64", "sgd", a(), a(dtype="f4"), None, None)
    refused(TypeError, "grads is a list", "sgd", a(), [1.0], None, None)
    refused(ValueError, r"grads is \(5,\); it must be \(4,\)", "sgd", a(), a(5), None, None)
    refused(ValueError, r"params is \(2, 2\)", "sgd", a().reshape(2, 2), a(), None, None)
    refused(ValueError, "params must be contiguous", "sgd", a(8)[::2], a(), None, None)
    refused(ValueError, "grads must be contiguous.*byte order", "sgd", a(), a(dtype=">f8"), None, None)
    refused(ValueError, "params is read-only", "sgd", locked, a(), None, None)
    refused(ValueError, "slot1 is read-only", "momentum", a(), a(), locked, None)
    refused(ValueError, "adam needs slot2", "adam", a(), a(), a(), None)
    refused(ValueError, "rmsprop needs slot2", "rmsprop", a(), a(), None, None)
    refused(ValueError, "rmsprop has no slot1", "rmsprop", a(), a(), a(), a())
    refused(ValueError, "sgd has no slot1", "sgd", a(), a(), a(), None)
    refused(TypeError, "slot1 is an array of float32; it must be float64", "nesterov", a(), a(), a(dtype="f4"), None)
    same = a(6)
    refused(ValueError, "params overlaps grads", "sgd", same, same, None, None)
    refused(ValueError, "slot1 overlaps params", "momentum", same[:4], a(), same[2:], None)
    refused(ValueError, "slot1 overlaps grads", "momentum", a(), same[:4], same[2:], None)
    refused(ValueError, "slot2 overlaps slot1", "adam", a(), a(), same[:4], same[2:])
    refused(ValueError, "step is 0; it must be in", "sgd", a(), a(), None, None, step=0)
    refused(TypeError, "step is a float", "sgd", a(), a(), None, None, step=1.0)
    assert update("sgd").tolist() == [0.9] * 4


def test_optimizer_updates_in_place() -> None:
    params, grads = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    nc.optimizer_update("sgd", params, grads, None, None, learning_rate=0.5, gradient_scale=2.0)
    np.testing.assert_array_equal(params, [0.5, 3.0])
    velocity = np.zeros(2)
    for _ in range(2):
        nc.optimizer_update("momentum", params, grads, velocity, None, learning_rate=0.5, momentum=0.5)
    np.testing.assert_array_equal(velocity, [-0.375, 0.75])
    grads.flags.writeable = False
    nc.optimizer_update("sgd", params, grads, None, None, learning_rate=0.0)
    assert (params == params).all()


def test_sum_of_squares() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (x, x[..., ::2], x.T, x[:, ::-1], x[:, :, :2]):
        assert nc.sum_of_squares(view) == float((view.astype(float) ** 2).sum())
    assert isinstance(nc.sum_of_squares(x), float)
    assert np.isnan(nc.sum_of_squares(np.array([1.0, np.nan])))
    assert nc.sum_of_squares(np.array([np.inf])) == np.inf
    assert nc.sum_of_squares(np.array([3e38], np.float32)) == float(np.float32(3e38)) ** 2
    with pytest.raises(ValueError, match="sum_of_squares: x is 0-D"):
        nc.sum_of_squares(np.array(1.0))


# ---------------------------------------------------------------------------------------------- network


def network(**options: Any) -> tuple[nc.Network, np.ndarray, np.ndarray, np.ndarray]:
    made = nc.Network((3, 5, 4), **options)
    params = np.empty(made.parameter_count, made.dtype)
    buffers = np.empty(made.buffer_count, made.dtype)
    made.initialize(params, buffers, seed=3)
    return made, params, buffers, np.empty_like(params)


def test_network_attributes() -> None:
    made = nc.Network(
        [3, np.int64(5), 4], norm="batch", activation="tanh", keep=0.5, eps=1e-3, momentum=0.8, dtype="float64"
    )
    assert made.sizes == (3, 5, 4)
    assert (made.norm, made.activation, made.keep, made.eps, made.momentum) == ("batch", "tanh", 0.5, 1e-3, 0.8)
    assert made.unbiased_running_var is False
    assert made.dtype == np.float64
    assert made.parameter_count == 3 * 5 + 5 + 2 * 5 + 5 * 4 + 4
    assert made.buffer_count == 10
    assert repr(made) == "Network((3, 5, 4), norm='batch', activation='tanh', keep=0.5, dtype='float64')"
    assert nc.Network((3, 4)).dtype == np.float32
    assert nc.Network((3, 4)).norm is None
    assert nc.Network((3, 4)).activation == "relu"
    with pytest.raises(AttributeError):
        made.keep = 1.0  # type: ignore[misc]
    for twin in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        for name in ("sizes", "norm", "activation", "keep", "eps", "momentum", "unbiased_running_var", "dtype"):
            assert getattr(twin, name) == getattr(made, name)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_segments_cover_the_flat_arrays(norm: Any) -> None:
    made = nc.Network((3, 5, 2, 4), norm=norm)
    segments = made.segments()
    for names, size in (
        (("w", "b", "gamma", "beta"), made.parameter_count),
        (("running_mean", "running_var"), made.buffer_count),
    ):
        at = 0
        for name, layer, offset, rows, columns in segments:
            if name in names:
                assert offset == at
                at += rows * columns
                assert columns == made.sizes[layer + 1]
                assert rows == (made.sizes[layer] if name == "w" else 1)
        assert at == size
    assert [s[:2] for s in segments if s[0] == "w"] == [("w", 0), ("w", 1), ("w", 2)]
    assert sum(s[0] == "gamma" for s in segments) == (0 if norm is None else 2)


def test_network_arguments() -> None:
    for sizes, error, match in (
        ((3,), ValueError, r"Network: sizes is \(3,\); it needs at least two"),
        ((3, 0), ValueError, r"Network: sizes\[1\] is 0; it must be in \[1, "),
        ((-1, 3), ValueError, r"Network: sizes\[0\] is -1"),
        ((3, 2.0), TypeError, r"Network: sizes\[1\] is a float; it must be an integer"),
        (3, TypeError, "Network: sizes is a int; it must be a sequence of integers"),
        ((2**62, 2**62), ValueError, "Network: "),
    ):
        with pytest.raises(error, match=match):
            nc.Network(sizes)  # type: ignore[arg-type]
    for norm in ("group", 1, True, ["batch"]):
        with pytest.raises(ValueError, match=r"Network: norm is .*; it must be None, 'batch' or 'layer'"):
            nc.Network((2, 2), norm=norm)  # type: ignore[arg-type]
    for activation in ("gelu", None, 2, ["tanh"]):
        with pytest.raises(
            ValueError, match=r"Network: activation is .*; it must be one of relu, leaky_relu, tanh, logistic, silu"
        ):
            nc.Network((2, 2), activation=activation)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Network: dtype is 'float16'; it must be float32 or float64"):
        nc.Network((2, 2), dtype="float16")


def test_initial_values() -> None:
    made, params, buffers, _ = network(norm="batch", dtype="float64")
    values = {name: params[o : o + r * c] for name, layer, o, r, c in made.segments()[:4] if layer == 0}
    np.testing.assert_array_equal(values["b"], 0.0)
    np.testing.assert_array_equal(values["gamma"], 1.0)
    np.testing.assert_array_equal(values["beta"], 0.0)
    np.testing.assert_array_equal(buffers, [0.0] * 5 + [1.0] * 5)
    normal = nc.random_normal(15, seed=3, scale=np.sqrt(2 / 3))
    np.testing.assert_allclose(values["w"], normal, rtol=1e-15)
    made.initialize(params, buffers, seed=3, stream=7, weight_scale=0.25)
    np.testing.assert_array_equal(params[:15], nc.random_normal(15, seed=3, stream=7, scale=0.25))
    with pytest.raises(ValueError, match=r"Network.initialize: weight_scale is -1.0; it must be finite and not neg"):
        made.initialize(params, buffers, seed=3, weight_scale=-1.0)
    with pytest.raises(TypeError, match=r"Network.initialize: buffers is a NoneType"):
        made.initialize(params, None, seed=3)
    with pytest.raises(ValueError, match=r"Network.initialize: seed is -1"):
        made.initialize(params, buffers, seed=-1)


def test_network_forward_takes_any_layout() -> None:
    made, params, buffers, _ = network(norm="layer")
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    expected = np.empty((6, 4), np.float32)
    made.forward(x, params, buffers, expected)
    made.forward(x, params, None, expected)  # no buffers without batch norm
    wide = np.zeros((6, 9), np.float32)
    for rows in (x[::-1][::-1], np.asfortranarray(x), x.astype(">f4"), x.astype(np.float64)):
        for out in (np.empty((6, 4), np.float32), np.empty((4, 6), np.float32).T, wide[:, 1:5], wide[:, ::-2][:, :4]):
            made.forward(rows, params, buffers, out)
            np.testing.assert_array_equal(out, expected)
    out = np.empty((2, 3, 4), np.float32)
    made.forward(x.reshape(2, 3, 3), params, buffers, out)
    np.testing.assert_array_equal(out.reshape(6, 4), expected)
    one = np.empty(4, np.float32)
    made.forward(x[2], params, buffers, one)
    np.testing.assert_array_equal(one, expected[2])
    made.forward(x[:0], params, buffers, out=np.empty((0, 4), np.float32))


def test_network_arrays_are_checked() -> None:
    made, params, buffers, grads = network(norm="batch")
    x, labels, out = np.zeros((6, 3), np.float32), np.zeros(6, int), np.zeros((6, 4), np.float32)

    def refused(error: type[Exception], match: str, method: str, *arguments: Any, **options: Any) -> None:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        before = [a.tobytes() for a in arrays]
        with pytest.raises(error, match=rf"^Network\.{method}: " + match):
            getattr(made, method)(*arguments, **options)
        assert [a.tobytes() for a in arrays] == before

    def forward(
        error: type[Exception], match: str, x: Any = x, p: Any = params, b: Any = buffers, o: Any = out
    ) -> None:
        refused(error, match, "forward", x, p, b, o)

    forward(ValueError, r"x is \(6, 4\) but the network has 3 features", x=out)
    forward(TypeError, "x is a list; it must be a NumPy array of float32 or float64", x=x.tolist())
    forward(TypeError, "x is an array of int64", x=x.astype(int))
    forward(ValueError, "x is 0-D", x=np.array(1.0))
    forward(TypeError, "params is an array of float64; it must be float32", p=params.astype(float))
    forward(ValueError, r"params is \(53,\); it must be \(54,\)", p=params[1:])
    forward(ValueError, "params must be contiguous", p=np.repeat(params, 2)[::2])
    forward(ValueError, r"buffers is \(11,\); it must be \(10,\)", b=np.zeros(11, np.float32))
    forward(TypeError, "buffers is a NoneType", b=None)
    forward(TypeError, "out is None", o=None)
    forward(ValueError, r"out is \(5, 4\) but the result is \(6, 4\)", o=out[:5])
    forward(ValueError, "out is an array of float64 but the result is float32", o=out.astype(float))
    forward(ValueError, "out overlaps params", o=params[:24].reshape(6, 4))
    both = np.zeros((7, 4), np.float32)
    forward(ValueError, "out overlaps x", x=both[:6, :3], o=both[1:])

    def train(
        error: type[Exception],
        match: str,
        x: Any = x,
        y: Any = labels,
        p: Any = params,
        b: Any = buffers,
        g: Any = grads,
        **options: Any,
    ) -> None:
        refused(error, match, "loss_and_grads", x, y, p, b, g, **options)

    locked = buffers.copy()
    locked.flags.writeable = False
    train(ValueError, r"x is \(0, 3\); a training pass needs at least one row", x=x[:0], y=labels[:0])
    train(ValueError, "x is 1-D", x=x[0], y=labels[:1])
    train(ValueError, r"labels is \(5,\) but x is \(6, 3\); labels must be \(6,\)", y=labels[:5])
    train(ValueError, r"labels has 4 in row 2; labels must be in \[0, 4\)", y=[0, 0, 4, 0, 0, 0])
    train(TypeError, "labels is an array of <U1", y=list("abcdef"))
    train(ValueError, r"sample_weight\[1\] is -1.0", sample_weight=[1, -1, 1, 1, 1, 1])
    train(ValueError, r"class_weight is \(3,\) but x is", class_weight=[1, 1, 1])
    train(ValueError, "reduction is 'none'; it must be 'mean' or 'sum'", reduction="none")
    train(ValueError, "reduction is 'all'", reduction="all")
    train(ValueError, "label_smoothing is 2.0", label_smoothing=2.0)
    train(ValueError, "buffers is read-only", b=locked)
    train(ValueError, r"grads is \(3,\)", g=grads[:3])
    train(ValueError, "grads overlaps params", g=params)
    train(ValueError, "seed is -1", seed=-1)
    train(ValueError, "stream is 18446744073709551616", stream=2**64)


def test_training_pass() -> None:
    made, params, buffers, grads = network(norm="batch", keep=0.5)
    x = np.random.default_rng(0).normal(size=(6, 3))
    labels = np.array([0, 1, 2, 3, 3, 3], np.uint8)
    start, before = buffers.copy(), params.copy()
    loss, weight_sum = made.loss_and_grads(x, labels, params, buffers, grads, seed=1, sample_weight=[1, 2, 3, 4, 5, 6])
    assert isinstance(loss, float)
    assert weight_sum == 21.0
    assert np.isfinite(grads).all()
    assert not np.array_equal(buffers, start)
    np.testing.assert_array_equal(params, before)
    again, running = np.empty_like(grads), start.copy()
    soft = np.eye(4, dtype=np.float32)[labels]
    narrow = x.astype(np.float32)
    same, _ = made.loss_and_grads(narrow, labels, params, running, again, seed=1, sample_weight=np.arange(1.0, 7.0))
    assert same == loss
    np.testing.assert_array_equal(again, grads)
    np.testing.assert_array_equal(running, buffers)
    made.loss_and_grads(x, labels, params, running, again, seed=1, stream=2)
    assert not np.array_equal(again, grads)
    from_targets, _ = made.loss_and_grads(
        x, soft, params, start.copy(), again, seed=1, sample_weight=[1, 2, 3, 4, 5, 6]
    )
    np.testing.assert_allclose(from_targets, loss, rtol=1e-6)
    total, _ = made.loss_and_grads(
        x, labels, params, start.copy(), again, seed=1, sample_weight=[1, 2, 3, 4, 5, 6], reduction="sum"
    )
    np.testing.assert_allclose(total, 21.0 * loss, rtol=1e-6)


# ---------------------------------------------------------------------------------------------- instruction sets


@pytest.fixture
def restore_isa() -> Any:
    yield
    nc.set_isa(None)


def test_set_isa(restore_isa: None) -> None:
    isas = nc.available_isas()
    assert isinstance(isas, tuple)
    assert "scalar" in isas
    assert len(set(isas)) == len(isas)
    x = np.random.default_rng(0).normal(size=(7, 19)).astype(np.float32)
    results = set()
    for isa in isas:
        nc.set_isa(isa)
        assert nc.get_isa() == isa
        results.add(nc.softmax(x).tobytes())
        nc.selftest()
    assert len(results) == 1
    for bad in ("", "AVX2", "mmx", "scalar ", "scalar\0", "é"):
        with pytest.raises(ValueError, match=f"set_isa: name is {re.escape(repr(bad))}; it must be one of .*scalar"):
            nc.set_isa(bad)
    assert nc.get_isa() == isas[-1]
    with pytest.raises(TypeError, match="set_isa: name is a bytes; it must be a str or None"):
        nc.set_isa(b"scalar")  # type: ignore[arg-type]
    nc.set_isa(None)
    assert nc.get_isa() == isas[0]


def test_isa_environment_variable() -> None:
    for isa in nc.available_isas():
        assert output("import normcore; print(normcore.get_isa())", NORMCORE_ISA=isa) == isa
    code = """
import normcore, numpy as np
for call in (lambda: normcore.relu_forward(np.ones(3)), lambda: normcore.random_normal(3, seed=0), normcore.get_isa):
    try:
        call()
    except ValueError as error:
        print(error)
normcore.set_isa("scalar")
print(normcore.relu_forward(np.ones(3)).sum(), normcore.get_isa())
"""
    lines = output(code, NORMCORE_ISA="pdp11").splitlines()
    for line, op in zip(lines, ("relu_forward", "random_normal", "get_isa"), strict=False):
        assert line.startswith(f"{op}: the environment variable NORMCORE_ISA is 'pdp11'")
        assert line.endswith("available: " + ", ".join(nc.available_isas()))
    assert lines[3:] == ["3.0 scalar"]


def test_selftest_and_features() -> None:
    nc.selftest()
    assert isinstance(nc.cpu_features(), str)


# ---------------------------------------------------------------------------------------------- threads


def test_number_of_threads() -> None:
    before = nc.get_num_threads()
    assert before >= 1
    try:
        for n in (1, 3, 1024, np.int64(2)):
            nc.set_num_threads(n)
            assert nc.get_num_threads() == n
        for bad in (-1, 1025, 2**70):
            with pytest.raises(ValueError, match=rf"set_num_threads: n is {bad}; it must be in \[0, 1024\]"):
                nc.set_num_threads(bad)
        for wrong in (1.0, "2", None):
            with pytest.raises(TypeError, match=r"set_num_threads: n is a .*; it must be an integer"):
                nc.set_num_threads(wrong)  # type: ignore[arg-type]
        assert nc.get_num_threads() == 2
        nc.set_num_threads(0)
        assert nc.get_num_threads() == int(output("import normcore; print(normcore.get_num_threads())"))
    finally:
        nc.set_num_threads(before)


def test_threadpoolctl_controls_the_threads() -> None:
    threadpoolctl = importlib.import_module("threadpoolctl")
    importlib.import_module("normcore.threadpool")
    with use_num_threads(3):
        (entry,) = threadpoolctl.ThreadpoolController().select(user_api="normcore").info()
        assert (entry["num_threads"], entry["version"]) == (3, nc.__version__)
        with threadpoolctl.threadpool_limits(1, user_api="normcore"):
            assert nc.get_num_threads() == 1
        assert nc.get_num_threads() == 3


def test_threads_environment_variable() -> None:
    code = "import normcore; print(normcore.get_num_threads())"
    assert output(code, NORMCORE_NUM_THREADS="") == str(len(os.sched_getaffinity(0)))  # empty is unset
    for value in ("1", "7", "1024", "007"):
        assert output(code, NORMCORE_NUM_THREADS=value) == str(int(value))
    for bad in ("0", "-1", "two", "1.0", "1025", "9" * 30, " 2", "٣"):
        result = run("import normcore", NORMCORE_NUM_THREADS=bad)
        assert result.returncode == 1
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("ValueError: ")
        assert f"NORMCORE_NUM_THREADS is {bad!r}" in last
    code = """
import os, normcore
normcore.set_num_threads(3)
os.environ["NORMCORE_NUM_THREADS"] = "5"
normcore.set_num_threads(0)
print(normcore.get_num_threads())
os.environ["NORMCORE_NUM_THREADS"] = "many"
try:
    normcore.set_num_threads(0)
except ValueError as error:
    print(error)
print(normcore.get_num_threads())
"""
    assert output(code).splitlines() == [
        "5",
        "set_num_threads: the environment variable NORMCORE_NUM_THREADS is 'many'; it must be an integer in [1, 1024]",
        "5",
    ]


BIG = """
import numpy as np, normcore as nc
rng = np.random.default_rng(0)
x = rng.normal(size=(1500, 300)).astype(np.float32)
w = rng.normal(size=(300, 400)).astype(np.float32)
ones = np.ones(300, np.float32)
def work():
    y = nc.affine_forward(x, w)
    dx, dw, db = nc.affine_backward(y, x, w)
    z, mean, rstd = nc.batch_norm_forward(x, ones, ones)
    return b"".join(a.tobytes() for a in (y, dx, dw, db, z, mean, rstd, nc.softmax(y)))
"""


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    code = "import hashlib; print(hashlib.sha256(work()).hexdigest())"
    digests = {output(BIG, code, NORMCORE_NUM_THREADS=n) for n in ("1", "2", "3", "64")}
    assert len(digests) == 1


def test_calls_from_several_threads_at_once() -> None:
    space: dict[str, Any] = {}
    exec(BIG, space)
    expected = space["work"]()
    before = nc.get_num_threads()
    try:
        nc.set_num_threads(3)
        with ThreadPoolExecutor(6) as pool:
            futures = [pool.submit(space["work"]) for _ in range(18)]
            for n in (1, 4, 2, 3):
                nc.set_num_threads(n)  # while calls are in progress
            for future in futures:
                assert future.result() == expected
    finally:
        nc.set_num_threads(before)


def test_threads_may_share_a_network() -> None:
    made = nc.Network((64, 128, 10), norm="batch", keep=0.8)
    params = np.empty(made.parameter_count, np.float32)
    buffers = np.empty(made.buffer_count, np.float32)
    made.initialize(params, buffers, seed=0)
    x = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    labels = np.arange(500) % 10

    def train(seed: int) -> tuple[float, bytes, bytes]:
        grads, running = np.empty_like(params), buffers.copy()
        loss, _ = made.loss_and_grads(x, labels, params, running, grads, seed=seed)
        return loss, grads.tobytes(), running.tobytes()

    expected = [train(seed) for seed in range(4)]
    assert len({loss for loss, _, _ in expected}) == 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(train, [0, 1, 2, 3] * 5)) == expected * 5


@pytest.mark.parametrize("first", ["parent", "child"])
def test_fork_after_use(first: str) -> None:
    """A child process computes on, whether or not the parent had started threads."""
    code = f"""
import os
nc.set_num_threads(4)
expected = work() if {first == "parent"} else None
child = os.fork()
if child == 0:
    mine = work()
    nc.set_num_threads(2)
    os._exit(0 if mine == work() and expected in (None, mine) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert expected in (None, work())
print("done")
"""
    assert output(BIG, code) == "done"


def test_fork_while_another_thread_is_in_a_call() -> None:
    code = """
import os, threading
nc.set_num_threads(4)
expected = work()
stop = threading.Event()
def loop():
    while not stop.is_set():
        work()
thread = threading.Thread(target=loop)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
print("done")
"""
    assert output(BIG, code) == "done"


# ---------------------------------------------------------------------------------------------- the process


def test_import_is_light() -> None:
    heavy = ("scipy", "sklearn", "matplotlib", "torch", "safetensors", "hypothesis", "tqdm", "pandas")
    code = f"import sys, normcore; print([m for m in {heavy} if m in sys.modules])"
    assert output(code) == "[]"
    code = "import sys, normcore; print([m for m in sys.modules if m.startswith('normcore.')])"
    loaded = output(code)
    assert loaded == "['normcore._interrupt', 'normcore._core', 'normcore._config']"
    code = "import normcore; normcore.MLP; normcore.Trainer; print({'MLP', 'Trainer'} <= set(dir(normcore)))"
    assert output(code) == "True"
    code = "from normcore import *; print(MLP.__module__, Generator.__module__, softmax.__module__)"
    assert output(code) == "normcore.mlp normcore.random normcore._core"
    with pytest.raises(AttributeError, match="module 'normcore' has no attribute 'nonsense'"):
        nc.nonsense  # noqa: B018


def test_floating_point_environment_is_left_alone() -> None:
    """Importing and calling change neither the rounding mode nor the treatment of subnormals."""
    code = """
import ctypes, ctypes.util, platform
import numpy as np
libm = ctypes.CDLL(ctypes.util.find_library("m"))
def probe():
    tiny = np.full(64, 1e-40, np.float32)
    third = np.array([1.0]) / np.array([3.0])
    return libm.fegetround(), (tiny * np.float32(0.5)).tobytes(), third.tobytes(), (-third).tobytes()
nearest = probe()
import normcore as nc
assert probe() == nearest
x = np.linspace(-3, 5, 60, dtype=np.float32).reshape(6, 10) * np.float32(1e-38)
ones = np.ones((10, 3), np.float32)
def work():
    y, mean, rstd = nc.layer_norm_forward(x, x[0], x[1])
    z = nc.affine_forward(x, ones)
    return b"".join(a.tobytes() for a in (y, mean, rstd, z, nc.softmax(x), nc.random_normal(5, seed=1)))
reference = work()
assert probe() == nearest
upward = {"x86_64": 0x800, "AMD64": 0x800, "aarch64": 0x400000, "arm64": 0x400000}[platform.machine()]
assert libm.fesetround(upward) == 0
changed = probe()
assert changed != nearest
assert work() == reference
assert probe() == changed
print("done")
"""
    assert output(code) == "done"


def test_get_include_and_library() -> None:
    header = Path(nc.get_include()) / "normcore.h"
    assert f'#define NORMCORE_VERSION_STRING "{nc.__version__}"' in header.read_text()
    assert (Path(nc.get_library_dir()) / "libnormcore.a").read_bytes()[:8] == b"!<arch>\n"


def test_config_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert _config.main(["--version"]) == 0
    assert capsys.readouterr().out == nc.__version__ + "\n"
    assert _config.main(["--cflags", "--libs"]) == 0
    words = capsys.readouterr().out.split()
    assert words == [f"-I{nc.get_include()}", f"-L{nc.get_library_dir()}", "-lnormcore", "-lm", "-pthread"]
    assert _config.main(["--pkgconfigdir"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert f"Version: {nc.__version__}" in (folder / "normcore.pc").read_text()
    assert _config.main([]) == 2
    assert "usage: normcore-config" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        _config.main(["--nonsense"])


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    nc.show_config()
    printed = capsys.readouterr().out
    for text in (nc.__version__, nc.CONTRACT, nc.get_isa(), np.__version__, nc.get_include()):
        assert text in printed


def test_cython_declarations_follow_the_header() -> None:
    """Every function of normcore.h stands in c_api.pxd with the same parameters, and none that the header lacks."""

    def declarations(text: str) -> dict[str, str]:
        found = {}
        pattern = r"([\w][\w \*]*?)(normcore_\w+)\(((?:[^()]|\([^()]*\))*)\)(?=;|\n)"
        for kind, name, parameters in re.findall(pattern, text):
            found[name] = " ".join(f"{kind}({parameters.strip()})".split()).replace("(void)", "()")
        return found

    header = (Path(nc.get_include()) / "normcore.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL).replace("NORMCORE_API ", "")
    header = re.sub(r"^#.*$|^typedef .*\)\(.*;$", "", header, flags=re.MULTILINE)
    package = Path(nc.__file__).parent
    # `pass` is a parameter's name in C and a keyword in Python, where it has an underscore.
    pxd = re.sub(r"#.*|^ +ctypedef void \(\*(?:.|\n)*?noexcept nogil$", "", (package / "c_api.pxd").read_text())
    pxd = re.sub(r"\bpass_\b", "pass", pxd)
    in_header, in_pxd = declarations(header), declarations(pxd)
    assert len(in_header) > 60
    assert in_pxd == in_header
