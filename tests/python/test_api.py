"""Signatures, errors of scalar parameters, labels and weights, the network, and what concerns the process."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import normcore as nc
from normcore import _core

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
    "relu6_forward": "(x, *, out=None)",
    "relu6_backward": "(dy, y, *, out=None)",
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
    classes = {"MLP", "Trainer", "History", "Monitor", "Generator", "NonFiniteError"}
    classes |= {"Schedule", "ConstantSchedule", "CosineSchedule", "ExponentialSchedule", "StepSchedule"}
    classes |= {"OneCycleSchedule", "PlateauSchedule"}
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


# ---------------------------------------------------------------------------------------------- scalar parameters

X, V = np.arange(12.0).reshape(4, 3), np.ones(3)
LABELS = np.array([0, 1, 2, 1])
NOT_NEGATIVE = [-1e-300, -1.0, float("nan"), float("inf"), float("-inf")]
OUTSIDE_0_1 = [-1e-9, 1.0000001, float("nan"), float("inf")]
BAD_KEEP = [0.0, 2.0**-32 * (1 - 2.0**-53), *OUTSIDE_0_1]


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
    ("dropout_forward", "keep", lambda keep: nc.dropout_forward(X, keep, seed=0), BAD_KEEP),
    ("dropout_backward", "keep", lambda keep: nc.dropout_backward(X, keep, seed=0), BAD_KEEP),
    ("random_normal", "scale", lambda **o: nc.random_normal(3, seed=0, **o), NOT_NEGATIVE),
    ("random_normal", "mean", lambda **o: nc.random_normal(3, seed=0, **o), NOT_NEGATIVE[2:]),
    ("random_uniform", "low", lambda **o: nc.random_uniform(3, seed=0, **o), NOT_NEGATIVE[2:]),
    ("random_uniform", "high", lambda **o: nc.random_uniform(3, seed=0, **o), NOT_NEGATIVE[2:]),
    ("optimizer_update", "gradient_scale", update, NOT_NEGATIVE[2:]),
    *[("optimizer_update", name, update, NOT_NEGATIVE) for name in ("learning_rate", "eps", "l2", "weight_decay")],
    *[("optimizer_update", name, update, [1.0, *OUTSIDE_0_1]) for name in ("momentum", "decay_rate", "beta1", "beta2")],
    ("Network", "eps", lambda **o: _core.Network((2, 2), **o), NOT_NEGATIVE),
    ("Network", "momentum", lambda **o: _core.Network((2, 2), **o), OUTSIDE_0_1),
    ("Network", "keep", lambda **o: _core.Network((2, 2), **o), [0.0, *OUTSIDE_0_1]),
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


# ---------------------------------------------------------------------------------------------- network


def network(**options: Any) -> tuple[_core.Network, np.ndarray, np.ndarray, np.ndarray]:
    made = _core.Network((3, 5, 4), **options)
    params = np.empty(made.parameter_count, made.dtype)
    buffers = np.empty(made.buffer_count, made.dtype)
    made.initialize(params, buffers, seed=3)
    return made, params, buffers, np.empty_like(params)


def test_network_attributes() -> None:
    made = _core.Network(
        [3, np.int64(5), 4], norm="batch", activation="tanh", keep=0.5, eps=1e-3, momentum=0.8, dtype="float64"
    )
    assert made.sizes == (3, 5, 4)
    assert (made.norm, made.activation, made.keep, made.eps, made.momentum) == ("batch", "tanh", 0.5, 1e-3, 0.8)
    assert made.unbiased_running_var is False
    assert made.dtype == np.float64
    assert made.parameter_count == 3 * 5 + 5 + 2 * 5 + 5 * 4 + 4
    assert made.buffer_count == 10
    assert repr(made) == "Network((3, 5, 4), norm='batch', activation='tanh', keep=0.5, dtype='float64')"
    assert _core.Network((3, 4)).dtype == np.float32
    assert _core.Network((3, 4)).norm is None
    assert _core.Network((3, 4)).activation == "relu"
    with pytest.raises(AttributeError):
        made.keep = 1.0  # type: ignore[misc]
    for twin in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        for name in ("sizes", "norm", "activation", "keep", "eps", "momentum", "unbiased_running_var", "dtype"):
            assert getattr(twin, name) == getattr(made, name)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_segments_cover_the_flat_arrays(norm: Any) -> None:
    made = _core.Network((3, 5, 2, 4), norm=norm)
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
            _core.Network(sizes)  # type: ignore[arg-type]
    for norm in ("group", 1, True, ["batch"]):
        with pytest.raises(ValueError, match=r"Network: norm is .*; it must be None, 'batch' or 'layer'"):
            _core.Network((2, 2), norm=norm)  # type: ignore[arg-type]
    for activation in ("gelu", None, 2, ["tanh"]):
        with pytest.raises(
            ValueError, match=r"Network: activation is .*; it must be one of relu, leaky_relu, .*, relu6"
        ):
            _core.Network((2, 2), activation=activation)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Network: dtype is 'float16'; it must be float32 or float64"):
        _core.Network((2, 2), dtype="float16")


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
    forward(TypeError, "out is a list", o=out.tolist())
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
