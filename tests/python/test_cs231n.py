"""The course's layers, networks, update rules and solver: against the reference, published numbers and differences."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore.cs231n import edition_2017, edition_2018, fast_layers, gradient_check, layer_utils, layers, optim
from normcore.cs231n.classifiers import cnn, fc_net
from normcore.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from normcore.cs231n.solver import Solver
from normcore.testing import reference
from normcore.testing.strategies import LAYOUTS, apply_layout

Array = np.ndarray[Any, Any]
# Those that leave the values as they are.
LAID_OUT = [layout for layout in LAYOUTS if layout != "broadcast"]
TRAIN: dict[str, Any] = {"mode": "train"}


def relative_error(x: Any, y: Any) -> float:
    """The measure of the course's notebooks."""
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y))))


def close(actual: Any, exact: Any) -> None:
    for a, e in zip(actual, exact, strict=True):
        np.testing.assert_allclose(a, np.asarray(e, np.float64), rtol=1e-10, atol=1e-11)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


def random_array(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


# ---------------------------------------------------------------- layers against the reference

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 5), st.integers(0, 2**32 - 1))


@given(SIZES, st.sampled_from([(), (2,), (2, 3)]), st.sampled_from(LAID_OUT))
def test_affine(sizes: tuple[int, ...], more: tuple[int, ...], layout: str) -> None:
    n, d, m, seed = sizes
    x, dout = random_array(seed, n, d, *more), random_array(seed + 1, n, m)
    w, b = random_array(seed + 2, d * int(np.prod(more)), m), random_array(seed + 3, m)
    rows = x.reshape(n, -1)
    out, cache = layers.affine_forward(apply_layout(x, layout), apply_layout(w, layout), apply_layout(b, layout))
    close([out], [reference.affine_forward(rows, w, b)])
    dx, dw, db = layers.affine_backward(apply_layout(dout, layout), cache)
    assert dx.shape == x.shape
    close([dx.reshape(n, -1), dw, db], reference.affine_backward(dout, rows, w))
    both, cache = layer_utils.affine_relu_forward(x, w, b)
    exact = reference.affine_forward(rows, w, b, relu=True)
    close([both], [exact])
    gradients = layer_utils.affine_relu_backward(dout, cache)
    close([gradients[0].reshape(n, -1), *gradients[1:]], reference.affine_backward(dout * (both > 0), rows, w))


@given(SIZES, st.sampled_from(LAID_OUT))
def test_relu(sizes: tuple[int, ...], layout: str) -> None:
    x, dout = random_array(sizes[3], *sizes[:3]), random_array(sizes[3] + 1, *sizes[:3])
    out, cache = layers.relu_forward(apply_layout(x, layout))
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    np.testing.assert_array_equal(layers.relu_backward(apply_layout(dout, layout), cache), dout * (x > 0))


def norm_arguments(sizes: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    n, d, _, seed = sizes
    x, dout = random_array(seed, n, d) * 5 + 12, random_array(seed + 1, n, d)
    return x, random_array(seed + 2, d), random_array(seed + 3, d), dout


@given(SIZES, st.sampled_from(LAID_OUT), st.sampled_from([None, 1e-5, 1e-2]), st.sampled_from([None, 0.0, 0.75, 1.0]))
def test_batchnorm(sizes: tuple[int, ...], layout: str, eps: float | None, momentum: float | None) -> None:
    x, gamma, beta, dout = norm_arguments(sizes)
    bn_param: dict[str, Any] = TRAIN | {k: v for k, v in {"eps": eps, "momentum": momentum}.items() if v is not None}
    given = dict(bn_param)
    eps, momentum = 1e-5 if eps is None else eps, 0.9 if momentum is None else momentum
    out, cache = layers.batchnorm_forward(apply_layout(x, layout), apply_layout(gamma, layout), beta, bn_param)
    exact = reference.batch_norm_forward(x, gamma, beta, eps=eps)
    close([out], [exact.y])
    # from zero, with the biased variance
    close(
        [bn_param["running_mean"], bn_param["running_var"]],
        [(1 - momentum) * x.mean(axis=0), (1 - momentum) * x.var(axis=0)],
    )
    assert {key: bn_param[key] for key in given} == given
    derivatives = reference.batch_norm_backward(dout, x, gamma, exact.mean, exact.rstd)
    for backward in (layers.batchnorm_backward, layers.batchnorm_backward_alt):
        for actual, wanted in zip(backward(apply_layout(dout, layout), cache), derivatives, strict=True):
            np.testing.assert_allclose(actual, np.asarray(wanted, np.float64), rtol=1e-7, atol=1e-9)
    # a second batch moves them on; testing uses them and leaves them
    layers.batchnorm_forward(x + 1, gamma, beta, bn_param)
    mean, var = bn_param["running_mean"], bn_param["running_var"]
    close([mean], [momentum * (1 - momentum) * x.mean(axis=0) + (1 - momentum) * (x + 1).mean(axis=0)])
    bn_param["mode"] = "test"
    out, cache = layers.batchnorm_forward(x, gamma, beta, bn_param)
    np.testing.assert_allclose(out, gamma * (x - mean) / np.sqrt(var + eps) + beta, rtol=1e-9, atol=1e-9)
    close([bn_param["running_mean"], bn_param["running_var"]], [mean, var])
    np.testing.assert_allclose(layers.batchnorm_backward(dout, cache)[0], dout * gamma / np.sqrt(var + eps), rtol=1e-9)


def test_running_statistics_are_new_arrays() -> None:
    mean, var = np.zeros(3), np.ones(3)
    bn_param = TRAIN | {"running_mean": mean, "running_var": var}
    layers.batchnorm_forward(random_array(0, 4, 3), np.ones(3), np.zeros(3), bn_param)
    assert not mean.any()
    assert (var == 1).all()
    assert bn_param["running_mean"] is not mean


def test_running_statistics_are_of_the_dtype_of_x() -> None:
    bn_param = TRAIN | {"running_mean": [0, 0], "running_var": np.ones(2)}
    ones = np.ones(2, np.float32)
    layers.batchnorm_forward(np.ones((3, 2), np.float32), ones, ones, bn_param)
    assert bn_param["running_mean"].dtype == bn_param["running_var"].dtype == np.float32


@given(SIZES, st.sampled_from(LAID_OUT))
def test_layernorm(sizes: tuple[int, ...], layout: str) -> None:
    x, gamma, beta, dout = norm_arguments(sizes)
    ln_param = {"mode": "test", "eps": 1e-4}
    out, cache = layers.layernorm_forward(apply_layout(x, layout), gamma, apply_layout(beta, layout), ln_param)
    exact = reference.layer_norm_forward(x, gamma, beta, eps=1e-4)
    close([out], [exact.y])
    assert ln_param == {"mode": "test", "eps": 1e-4}
    derivatives = reference.layer_norm_backward(dout, x, gamma, exact.mean, exact.rstd)
    for actual, wanted in zip(layers.layernorm_backward(apply_layout(dout, layout), cache), derivatives, strict=True):
        np.testing.assert_allclose(actual, np.asarray(wanted, np.float64), rtol=1e-7, atol=1e-9)


IMAGES = st.tuples(*[st.integers(1, 3)] * 4, st.integers(0, 1000))


@given(IMAGES, st.sampled_from(LAID_OUT))
def test_spatial_batchnorm(sizes: tuple[int, ...], layout: str) -> None:
    n, c, h, w, seed = sizes
    x, dout = random_array(seed, n, c, h, w) * 4 + 10, random_array(seed + 1, n, c, h, w)
    gamma, beta = random_array(seed + 2, c), random_array(seed + 3, c)
    bn_param: dict[str, Any] = dict(TRAIN)
    out, cache = layers.spatial_batchnorm_forward(apply_layout(x, layout), gamma, beta, bn_param)
    rows = np.moveaxis(x, 1, -1).reshape(-1, c)
    exact = reference.batch_norm_forward(rows, gamma, beta)
    close([np.moveaxis(out, 1, -1).reshape(-1, c)], [exact.y])
    close([bn_param["running_mean"]], [0.1 * x.mean(axis=(0, 2, 3))])
    douts = np.moveaxis(dout, 1, -1).reshape(-1, c)
    dx, dgamma, dbeta = layers.spatial_batchnorm_backward(apply_layout(dout, layout), cache)
    derivatives = reference.batch_norm_backward(douts, rows, gamma, exact.mean, exact.rstd)
    for actual, wanted in zip([np.moveaxis(dx, 1, -1).reshape(-1, c), dgamma, dbeta], derivatives, strict=True):
        np.testing.assert_allclose(actual, np.asarray(wanted, np.float64), rtol=1e-7, atol=1e-9)
    bn_param["mode"] = "test"
    one, _ = layers.spatial_batchnorm_forward(x[:1], gamma, beta, bn_param)
    whole, _ = layers.spatial_batchnorm_forward(x, gamma, beta, bn_param)
    np.testing.assert_array_equal(one, whole[:1])


@given(IMAGES, st.integers(1, 3), st.booleans(), st.sampled_from(LAID_OUT))
def test_spatial_groupnorm(sizes: tuple[int, ...], groups: int, flat: bool, layout: str) -> None:
    n, c, h, w, seed = sizes
    c *= groups
    x, dout = random_array(seed, n, c, h, w) * 4 + 10, random_array(seed + 1, n, c, h, w)
    shape = (c,) if flat else (1, c, 1, 1)
    gamma, beta = random_array(seed + 2, *shape), random_array(seed + 3, *shape)
    out, cache = layers.spatial_groupnorm_forward(apply_layout(x, layout), gamma, beta, groups, {"eps": 1e-3})
    grouped = x.reshape(n, groups, -1)
    mean, var = grouped.mean(axis=2, keepdims=True), grouped.var(axis=2, keepdims=True)
    normalized = ((grouped - mean) / np.sqrt(var + 1e-3)).reshape(x.shape)
    column = (1, c, 1, 1)
    np.testing.assert_allclose(out, normalized * gamma.reshape(column) + beta.reshape(column), rtol=1e-9, atol=1e-9)
    dx, dgamma, dbeta = layers.spatial_groupnorm_backward(apply_layout(dout, layout), cache)
    assert dgamma.shape == dbeta.shape == shape
    np.testing.assert_allclose(dgamma.ravel(), (dout * normalized).sum(axis=(0, 2, 3)), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(dbeta.ravel(), dout.sum(axis=(0, 2, 3)), rtol=1e-10, atol=1e-11)
    numerical = gradient_check.eval_numerical_gradient_array(
        lambda a: layers.spatial_groupnorm_forward(a, gamma, beta, groups, {"eps": 1e-3})[0], x.copy(), dout
    )
    np.testing.assert_allclose(dx, numerical, rtol=1e-4, atol=1e-6)


@given(SIZES)
def test_losses(sizes: tuple[int, ...]) -> None:
    n, c, _, seed = sizes
    c += 1
    x, y = 3 * random_array(seed, n, c), np.random.default_rng(seed).integers(0, c, n)
    loss, dx = layers.softmax_loss(x, y)
    exact = reference.softmax_cross_entropy(x, y)
    close([loss, dx], [exact.loss, exact.dlogits])
    loss, dx = layers.svm_loss(x, y.astype(np.uint8))
    terms = [max(0, x[i, j] - x[i, y[i]] + 1) for i in range(n) for j in range(c) if j != y[i]]
    close([loss], [sum(terms) / n])
    numerical = gradient_check.eval_numerical_gradient(lambda a: layers.svm_loss(a, y)[0], x.copy(), verbose=False)
    np.testing.assert_allclose(dx, numerical, rtol=1e-4, atol=1e-6)


def test_svm_loss_of_no_rows_is_0() -> None:
    loss, dx = layers.svm_loss(np.ones((0, 3)), np.zeros(0, int))
    assert loss == 0
    assert dx.shape == (0, 3)


# ---------------------------------------------------------------- dtypes

CALLS = {
    "affine": lambda x, g: layers.affine_forward(x, np.outer(g, g).astype(g.dtype), g),
    "relu": lambda x, g: layers.relu_forward(x),
    "batchnorm": lambda x, g: layers.batchnorm_forward(x, g, g, dict(TRAIN)),
    "layernorm": lambda x, g: layers.layernorm_forward(x, g, g, {}),
    "dropout": lambda x, g: layers.dropout_forward(x, TRAIN | {"p": 0.5, "seed": 1}),
    "softmax": lambda x, g: layers.softmax_loss(x, np.array([0, 1, 2, 0]))[::-1],
    "svm": lambda x, g: layers.svm_loss(x, np.array([0, 1, 2, 0]))[::-1],
    "sgd": lambda x, g: optim.sgd(x, x),
    "adam": lambda x, g: optim.adam(x, x),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_dtypes(call: Any) -> None:
    whole = np.arange(12).reshape(4, 3) % 5
    wanted = call(whole.astype(float), np.ones(3))[0]
    assert wanted.dtype == np.float64
    for dtype in (np.int64, np.uint8, bool, np.float64, ">f8"):
        x = whole.astype(dtype)
        kept = x.copy()
        out = call(x, np.ones(3))[0]
        assert out.dtype == np.float64
        np.testing.assert_array_equal(out, call(x.astype(float), np.ones(3))[0])
        np.testing.assert_array_equal(x, kept)
    for dtype in (np.float32, np.float16):
        out = call(whole.astype(dtype), np.ones(3, dtype))[0]
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)
    out = call(whole.tolist(), np.ones(3))[0]
    np.testing.assert_array_equal(out, wanted)


def test_float32_meets_float64_as_in_numpy() -> None:
    out, _ = layers.affine_forward(np.ones((2, 3), np.float32), np.ones((3, 1)), np.zeros(1, np.float32))
    assert out.dtype == np.float64


# ---------------------------------------------------------------- dropout and its editions


def test_dropout_masks_are_numpys() -> None:
    x = np.full((30, 40), 7.0)
    np.random.seed(5)
    kept = np.random.rand(30, 40) < 0.6
    np.random.seed(5)
    out, cache = layers.dropout_forward(x, TRAIN | {"p": 0.6})
    np.testing.assert_array_equal(out, x * (kept / 0.6))
    np.testing.assert_array_equal(layers.dropout_backward(x, cache), out)
    np.random.seed(5)
    out, cache = edition_2017.dropout_forward(x, TRAIN | {"p": 0.4})
    assert abs((out == 0).mean() - 0.4) < 0.05
    np.testing.assert_array_equal(np.unique(out), [0, 7 / 0.6])
    np.testing.assert_array_equal(layers.dropout_backward(x, cache), out)


@pytest.mark.parametrize("module", [layers, edition_2017])
def test_dropout_seeds_and_tests(module: ModuleType) -> None:
    x = np.ones((5, 6))
    param = TRAIN | {"p": 0.5, "seed": 3}
    first, _ = module.dropout_forward(x, param)
    again, _ = module.dropout_forward(x, param)
    np.testing.assert_array_equal(first, again)
    out, cache = module.dropout_forward(x, param | {"mode": "test"})
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(layers.dropout_backward(x, cache), x)


def test_dropout_backward_goes_by_the_forward_pass() -> None:
    """The dict is shared by all layers of a network, which changes its mode."""
    param = TRAIN | {"p": 0.5, "seed": 3}
    out, cache = layers.dropout_forward(np.ones((5, 6)), param)
    param["mode"] = "test"
    np.testing.assert_array_equal(layers.dropout_backward(np.ones((5, 6)), cache), out)


# Losses as they stand in notebooks that their authors published, of the network below.
PUBLISHED = [
    (FullyConnectedNet, {"dropout_keep_ratio": 1}, 2.30047908976849),
    (FullyConnectedNet, {"dropout_keep_ratio": 0.75}, 2.302371489704412),
    (FullyConnectedNet, {"dropout_keep_ratio": 0.5}, 2.3042759220785896),
    (edition_2018.FullyConnectedNet, {"dropout": 1}, 2.30047908976849),
    (edition_2018.FullyConnectedNet, {"dropout": 0.75}, 2.302371489704412),
    (edition_2018.FullyConnectedNet, {"dropout": 0.5}, 2.3042759220785896),
]
PUBLISHED_2017 = [(0, 2.30047908977), (0.25, 2.30486921512), (0.5, 2.31013690872)]


def check_losses(networks: list[tuple[Any, dict[str, Any], float]], **shared: Any) -> None:
    """The losses of networks that are made one after another, each from where the random numbers are by then."""
    np.random.seed(231)
    x = np.random.randn(2, 15)
    y = np.random.randint(10, size=2)
    for network, arguments, loss in networks:
        net = network(
            [20, 30], input_dim=15, num_classes=10, weight_scale=5e-2, dtype=np.float64, **shared, **arguments
        )
        assert net.loss(x, y)[0] == pytest.approx(loss, abs=1e-11)


@pytest.mark.parametrize("network", [FullyConnectedNet, edition_2018.FullyConnectedNet])
def test_published_losses_with_dropout(network: Any) -> None:
    check_losses([entry for entry in PUBLISHED if entry[0] is network], seed=123)


def test_published_losses_with_dropout_of_2017() -> None:
    check_losses([(edition_2017.FullyConnectedNet, {"dropout": p}, loss) for p, loss in PUBLISHED_2017], seed=123)


@pytest.mark.parametrize("network", [FullyConnectedNet, edition_2018.FullyConnectedNet, edition_2017.FullyConnectedNet])
def test_published_losses_with_a_penalty(network: Any) -> None:
    check_losses([(network, {"reg": 0}, 2.3004790897684924), (network, {"reg": 3.14}, 7.052114776533016)])


@pytest.mark.parametrize(
    ("network", "normalized"),
    [
        (FullyConnectedNet, {"normalization": "batchnorm"}),
        (edition_2018.FullyConnectedNet, {"normalization": "batchnorm"}),
        (edition_2017.FullyConnectedNet, {"use_batchnorm": True}),
    ],
)
def test_published_losses_with_batch_norm(network: Any, normalized: dict[str, Any]) -> None:
    losses = [(network, {"reg": 0}, 2.2611955101340957), (network, {"reg": 3.14}, 6.996533220108303)]
    check_losses(losses, **normalized)


# ---------------------------------------------------------------- networks


def test_published_losses_of_the_two_layer_network() -> None:
    net = TwoLayerNet(input_dim=5, hidden_dim=50, num_classes=7)
    for name, low, high in (("W1", -0.7, 0.3), ("b1", -0.1, 0.9), ("W2", -0.3, 0.4), ("b2", -0.9, 0.1)):
        shape = net.params[name].shape
        net.params[name] = np.linspace(low, high, net.params[name].size).reshape(shape)
    x = np.linspace(-5.5, 4.5, 15).reshape(5, 3).T
    y = np.array([0, 5, 1])
    assert net.loss(x, y)[0] == pytest.approx(3.4702243556, abs=5e-11)
    net.reg = 1.0
    assert net.loss(x, y)[0] == pytest.approx(26.5948426952, abs=5e-11)


@pytest.mark.parametrize("reg", [0.0, 0.7])
@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
@pytest.mark.parametrize("keep", [1, 0.75])
def test_gradients_of_the_network(normalization: str | None, reg: float, keep: float) -> None:
    x, y = random_array(1, 6, 3, 5), np.array([0, 1, 2, 3, 0, 1])
    net = FullyConnectedNet([7, 6], 15, 4, keep, normalization, reg, 0.3, np.float64, seed=1)
    loss, grads = net.loss(x, y)
    assert set(grads) == set(net.params)
    for name, grad in grads.items():
        assert grad.shape == net.params[name].shape
        # in place, as the notebooks do it
        numerical = gradient_check.eval_numerical_gradient(lambda _: net.loss(x, y)[0], net.params[name], verbose=False)
        if normalization == "batchnorm" and name in ("b1", "b2"):
            assert np.abs(grad - 2 * 0).max() < 1e-12  # what batch norm takes off again
        else:
            np.testing.assert_allclose(grad, numerical, rtol=1e-4, atol=1e-6, err_msg=name)
    assert net.loss(x, y)[0] == pytest.approx(loss, rel=1e-13)


def test_gradients_of_the_two_layer_network() -> None:
    x, y = random_array(1, 3, 5), np.array([0, 5, 1])
    net = TwoLayerNet(5, 8, 7, weight_scale=0.5, reg=0.3)
    _, grads = net.loss(x, y)
    for name, grad in grads.items():
        numerical = gradient_check.eval_numerical_gradient(lambda _: net.loss(x, y)[0], net.params[name], verbose=False)
        np.testing.assert_allclose(grad, numerical, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(net.loss(x).argmax(axis=1).shape, (3,))


def test_network_against_the_reference() -> None:
    x, y = random_array(1, 8, 12), np.arange(8) % 4
    np.random.seed(2)
    net = FullyConnectedNet([9, 7], 12, 4, normalization="batchnorm", weight_scale=0.5, dtype=np.float64)
    out = x
    for i in (1, 2):
        out = reference.affine_forward(out, net.params[f"W{i}"], net.params[f"b{i}"])
        out = reference.relu_forward(reference.batch_norm_forward(out, np.ones(out.shape[1]), np.zeros(out.shape[1])).y)
    exact = reference.softmax_cross_entropy(reference.affine_forward(out, net.params["W3"], net.params["b3"]), y)
    assert net.loss(x, y)[0] == pytest.approx(float(exact.loss), rel=1e-13)


def test_weights_are_drawn_layer_by_layer() -> None:
    np.random.seed(7)
    wanted = [0.1 * np.random.randn(*shape) for shape in ((6, 5), (5, 4), (4, 3))]
    for network in (FullyConnectedNet, edition_2018.FullyConnectedNet, edition_2017.FullyConnectedNet):
        np.random.seed(7)
        net = network([5, 4], input_dim=6, num_classes=3, weight_scale=0.1, dtype=np.float64)
        for i, w in enumerate(wanted, 1):
            np.testing.assert_array_equal(net.params[f"W{i}"], w)
            assert not net.params[f"b{i}"].any()
    np.random.seed(7)
    two = TwoLayerNet(6, 5, 4, weight_scale=0.1)
    np.testing.assert_array_equal(two.params["W1"], wanted[0])
    np.testing.assert_array_equal(two.params["W2"], wanted[1])


def test_params_may_be_changed_in_place_replaced_and_reassigned() -> None:
    x, y = random_array(1, 4, 6), np.array([0, 1, 2, 0])
    net = FullyConnectedNet([5], 6, 3, weight_scale=0.5, dtype=np.float64)
    assert type(net.params) is dict
    seen = [net.loss(x, y)[0]]
    net.params["W1"] += 1
    seen.append(net.loss(x, y)[0])
    net.params["W1"] = np.asfortranarray(net.params["W1"] * 2)
    seen.append(net.loss(x, y)[0])
    net.params = {name: w + 0.1 for name, w in net.params.items()}
    seen.append(net.loss(x, y)[0])
    assert len(set(seen)) == 4
    net.params = {name: (10 * w).astype(int) for name, w in net.params.items()}
    net.reg = 1.0
    assert np.isfinite(net.loss(x, y)[0])


def test_modes_and_statistics() -> None:
    x, y = random_array(1, 4, 6), np.array([0, 1, 2, 0])
    net = FullyConnectedNet([5, 5], 6, 3, 0.5, "batchnorm", dtype=np.float64)
    assert net.bn_params == [{"mode": "train"}, {"mode": "train"}]
    net.loss(x, y)
    mean = net.bn_params[0]["running_mean"].copy()
    assert mean.any()
    scores = net.loss(x)
    assert net.dropout_param["mode"] == net.bn_params[1]["mode"] == "test"
    np.testing.assert_array_equal(net.bn_params[0]["running_mean"], mean)
    np.testing.assert_array_equal(scores, net.loss(x))
    net.loss(x, y)
    assert net.dropout_param["mode"] == net.bn_params[1]["mode"] == "train"


def test_attributes_and_dtype() -> None:
    net = FullyConnectedNet([5, 4], 6, 3)
    assert (net.num_layers, net.normalization, net.use_dropout, net.dropout_param, net.bn_params) == (
        3,
        None,
        False,
        {},
        [],
    )
    assert net.dtype == np.float32
    assert {w.dtype for w in net.params.values()} == {np.dtype(np.float32)}
    assert net.loss(np.ones((2, 6))).dtype == np.float32
    net = FullyConnectedNet([5, 4], 6, 3, 0.5, "layernorm", seed=4)
    assert net.use_dropout
    assert net.dropout_param == {"mode": "train", "p": 0.5, "seed": 4}
    assert net.bn_params == [{}, {}]
    assert list(net.params) == ["W1", "b1", "gamma1", "beta1", "W2", "b2", "gamma2", "beta2", "W3", "b3"]
    old = edition_2017.FullyConnectedNet([5], 6, 3, 0.25, True)
    assert (old.use_dropout, old.use_batchnorm, old.normalization) == (True, True, "batchnorm")
    assert not edition_2017.FullyConnectedNet([5], 6, 3).use_dropout
    assert not edition_2018.FullyConnectedNet([5], 6, 3).use_dropout


def test_arguments_stand_where_the_editions_have_them() -> None:
    order = [
        "self",
        "hidden_dims",
        "input_dim",
        "num_classes",
        "DROPOUT",
        "NORM",
        "reg",
        "weight_scale",
        "dtype",
        "seed",
    ]
    for network, dropout, norm in (
        (edition_2017.FullyConnectedNet, "dropout", "use_batchnorm"),
        (edition_2018.FullyConnectedNet, "dropout", "normalization"),
        (FullyConnectedNet, "dropout_keep_ratio", "normalization"),
    ):
        wanted = [{"DROPOUT": dropout, "NORM": norm}.get(name, name) for name in order]
        assert list(inspect.signature(network.__init__).parameters)[:10] == wanted


@pytest.mark.parametrize(
    ("network", "arguments", "words"),
    [
        (FullyConnectedNet, {"use_batchnorm": True}, "use_batchnorm is an argument of edition 2017, and this is the"),
        (
            FullyConnectedNet,
            {"dropout": 0.5},
            "dropout is an argument of edition 2017 to 2020, .* of 2021 to 2026; normc",
        ),
        (edition_2018.FullyConnectedNet, {"dropout_keep_ratio": 0.5}, "of edition 2021 to 2026, .* of 2018 to 2020"),
        (edition_2017.FullyConnectedNet, {"normalization": None}, "of edition 2018 to 2026, .* of 2017"),
        (FullyConnectedNet, {"droput": 0.5}, "there is no argument droput"),
        (FullyConnectedNet, {"hidden_dims": 5}, r"hidden_dims is 5; it must be a list of sizes, \[100\] for one layer"),
        (FullyConnectedNet, {"hidden_dims": [2.5]}, "hidden_dims must be an integer"),
        (FullyConnectedNet, {"dtype": int}, "dtype is int64"),
        (
            edition_2017.FullyConnectedNet,
            {"use_batchnorm": "batchnorm"},
            "use_batchnorm is 'batchnorm'; it must be a bool",
        ),
    ],
)
def test_networks_refuse_what_other_editions_have(network: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=f"FullyConnectedNet: .*{words}"):
        network(**{"hidden_dims": [5], **arguments})


@pytest.mark.parametrize(
    ("network", "arguments", "words"),
    [
        (
            FullyConnectedNet,
            {"normalization": "batch"},
            "normalization is 'batch'; accepted are 'batchnorm', 'layernorm'",
        ),
        (FullyConnectedNet, {"dropout_keep_ratio": 0}, r"dropout_keep_ratio is 0.0; it must be in \(0, 1\]"),
        (edition_2018.FullyConnectedNet, {"dropout": 0}, r"dropout is 0.0; it must be in \(0, 1\]"),
        (edition_2017.FullyConnectedNet, {"dropout": 1}, r"dropout is 1.0; it must be in \[0, 1\)"),
        (FullyConnectedNet, {"input_dim": 0}, "input_dim"),
    ],
)
def test_networks_refuse_values(network: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"FullyConnectedNet: {words}"):
        network([5], **arguments)


def test_parameters_are_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (lambda: TwoLayerNet(6, 5, 3), lambda: FullyConnectedNet([5, 4], 6, 3, normalization="layernorm")):
        net, other = make(), make()
        net.save("best.npy")
        assert other.load("best.npy")
        assert type(other.params) is dict
        assert other.params.keys() == net.params.keys()
        np.testing.assert_array_equal(other.loss(np.ones((2, 6))), net.loss(np.ones((2, 6))))
        assert not other.load("nowhere.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["best.npy"]
    np.save("pickle.npy", {"W1": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        other.load("pickle.npy")


def test_a_network_of_ones_own_functions() -> None:
    mine = ModuleType("mine")
    vars(mine).update(vars(layers))
    calls: list[str] = []

    def batchnorm_forward(*arguments: Any) -> Any:
        calls.append("mine")
        return layers.batchnorm_forward(*arguments)

    mine.batchnorm_forward = batchnorm_forward  # type: ignore[attr-defined]

    class Mine(FullyConnectedNet):
        layers = mine

    Mine([5, 4], 6, 3, normalization="batchnorm").loss(np.ones((2, 6)), np.array([0, 1]))
    assert calls == ["mine", "mine"]


# ---------------------------------------------------------------- update rules

RULES = {
    "sgd": ("sgd", {}, ()),
    "sgd_momentum": ("momentum", {"momentum": 0.8}, ("velocity", None)),
    "rmsprop": ("rmsprop", {"decay_rate": 0.9, "epsilon": 1e-6}, (None, "cache")),
    "adam": ("adam", {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6}, ("m", "v")),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (2, 3, 4)])
def test_rules_against_the_reference(rule: str, shape: tuple[int, ...]) -> None:
    optimizer, numbers, slots = RULES[rule]
    w = random_array(1, *shape)
    config: Any = {"learning_rate": 0.05, **numbers}
    exact: Any = np.ravel(w)
    state: Any = [None if name is None else np.zeros(w.size) for name in slots] or [None, None]
    arguments = {("eps" if k == "epsilon" else k): v for k, v in numbers.items()}
    for step in range(1, 4):
        dw = random_array(10 + step, *shape)
        kept = w.copy(), dw.copy()
        w, returned = getattr(optim, rule)(apply_layout(w, "fortran") if len(shape) == 2 else w, dw, config)
        np.testing.assert_array_equal(dw, kept[1])
        assert returned is config
        assert w.shape == shape
        exact, *state = reference.optimizer_update(
            optimizer, exact, np.ravel(dw), *state, learning_rate=0.05, step=step, **arguments
        )
        close([w.ravel()], [exact])
        close([config[name].ravel() for name in slots if name], [s for s in state if s is not None])
    assert config.get("t", 3) == 3


def test_rules_change_nothing_in_place_and_fill_in_defaults() -> None:
    for rule, wanted in (
        (optim.sgd, {"learning_rate"}),
        (optim.sgd_momentum, {"learning_rate", "momentum", "velocity"}),
        (optim.rmsprop, {"learning_rate", "decay_rate", "epsilon", "cache"}),
        (optim.adam, {"learning_rate", "beta1", "beta2", "epsilon", "m", "v", "t"}),
    ):
        w, dw = np.ones((2, 3)), np.full((2, 3), 2.0)
        first, config = rule(w, dw)
        assert (w == 1).all()
        assert (dw == 2).all()
        assert set(config) == wanted
        state = copy.deepcopy(config)
        rule(first, dw, config)
        for name in {"velocity", "cache", "m", "v"} & wanted:
            # the arrays that were there have not been changed, but replaced
            given = state[name].copy()
            own = {**state}
            rule(first, dw, own)
            np.testing.assert_array_equal(state[name], given)
            assert own[name] is not state[name]


def test_defaults() -> None:
    _, config = optim.adam(np.ones(2), np.ones(2))
    assert {k: v for k, v in config.items() if k not in "mv"} == {
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "t": 1,
    }
    assert optim.sgd(np.ones(2), np.ones(2))[1] == {"learning_rate": 1e-2}


@pytest.mark.parametrize(
    ("rule", "arguments", "words"),
    [
        (optim.sgd, (np.ones(3), np.ones((3, 1))), r"sgd: dw is \(3, 1\); it must be \(3,\), as w"),
        (optim.adam, (np.ones(3), np.ones(3), {"m": np.ones(2)}), r"adam: config\['m'\] is \(2,\); it must be \(3,\)"),
        (optim.adam, (np.ones(3), np.ones(3), {"t": -1}), "adam: config"),
        (
            optim.sgd,
            (np.ones(3), np.ones(3), {"learning_rate": -1}),
            r"sgd: config\['learning_rate'\] is -1.0; it must be",
        ),
        (
            optim.rmsprop,
            (np.ones(3), np.ones(3), {"decay_rate": 1}),
            r"rmsprop: config\['decay_rate'\] is 1.0; .* \[0, 1\)",
        ),
        (optim.adam, (np.ones(3), np.ones(3), {"epsilon": -1}), r"adam: config\['epsilon'\]"),
    ],
)
def test_rules_refuse(rule: Any, arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rule(*arguments)


def test_a_refused_update_leaves_the_config() -> None:
    config = {"learning_rate": -1.0}
    with pytest.raises(ValueError, match="learning_rate"):
        optim.adam(np.ones(3), np.ones(3), config)
    assert config == {"learning_rate": -1.0}


# ---------------------------------------------------------------- solver


class Recording:
    """A model of one's own, whose scores say which rows it was shown."""

    def __init__(self) -> None:
        self.params = {"w": np.zeros(2)}
        self.batches: list[list[int]] = []

    def loss(self, X: Array, y: Array | None = None) -> Any:
        if y is None:
            right = float(self.params["w"][0])  # 1, 2, ...: how many rows of ten are right
            return np.where((X[:, :1] % 10 < right) == (np.arange(2) == 1), 1.0, 0.0)
        self.batches.append(X[:, 0].astype(int).tolist())
        assert (X[:, 0] == y).all()
        return 0.25, {"w": np.array([-1.0, 0.0])}


def toy_data(rows: int = 40) -> dict[str, Array]:
    x = np.arange(float(rows))[:, None]
    return {"X_train": x, "y_train": np.arange(rows), "X_val": x[:10], "y_val": np.ones(10, int)}


def test_batches_are_drawn_with_replacement_by_numpy() -> None:
    model = Recording()
    np.random.seed(3)
    Solver(model, toy_data(), batch_size=20, num_epochs=2, num_train_samples=None, verbose=False).train()
    np.random.seed(3)
    wanted = [np.random.choice(40, 20).tolist() for _ in range(4)]
    assert model.batches == wanted
    assert any(len(set(batch)) < 20 for batch in wanted)


def test_epochs_rates_and_best_parameters() -> None:
    model = Recording()
    solver = Solver(
        model,
        toy_data(),
        optim_config={"learning_rate": 1.0},
        lr_decay=0.5,
        batch_size=20,
        num_epochs=3,
        num_train_samples=5,
        verbose=False,
    )
    solver.train()
    assert solver.epoch == 3
    assert solver.loss_history == [0.25] * 6
    # w is 1, 2 after the first epoch, 2.5, 3 after the second, 3.25, 3.5 after the third
    assert solver.val_acc_history == [0.1, 0.2, 0.3, 0.4]
    assert len(solver.train_acc_history) == 4
    assert solver.best_val_acc == 0.4
    assert solver.optim_configs == {"w": {"learning_rate": 0.125}}
    assert solver.optim_config == {"learning_rate": 1.0}
    np.testing.assert_array_equal(model.params["w"], [3.5, 0])


def test_it_ends_with_the_best_parameters_and_their_copies() -> None:
    class Falling(Recording):
        def loss(self, X: Array, y: Array | None = None) -> Any:
            if y is not None:
                return 1.0, {"w": np.array([1.0, 1.0])}
            return super().loss(X)

    model = Falling()
    model.params["w"] = np.array([9.0, 5.0])
    solver = Solver(model, toy_data(), optim_config={"learning_rate": 1.0}, batch_size=40, num_epochs=4, verbose=False)
    solver.train()
    assert solver.val_acc_history[0] == solver.best_val_acc == 0.8
    np.testing.assert_array_equal(model.params["w"], [8.0, 4.0])
    assert model.params is solver.best_params


def test_a_batch_larger_than_the_data_is_one_iteration() -> None:
    solver = Solver(Recording(), toy_data(10), batch_size=64, num_epochs=2, verbose=False)
    solver.train()
    assert len(solver.loss_history) == 2
    assert len(solver.val_acc_history) == 2


def test_nothing_right_keeps_the_parameters_and_no_epoch_trains_nothing() -> None:
    model = Recording()
    solver = Solver(model, toy_data(), num_epochs=0)
    solver.train()
    assert solver.loss_history == []
    assert model.params["w"].tolist() == [0, 0]


def test_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    Solver(
        Recording(), toy_data(), optim_config={"learning_rate": 1.0}, batch_size=20, num_epochs=1, print_every=1
    ).train()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "(Iteration 1 / 2) loss: 0.250000"
    assert lines[1].startswith("(Epoch 0 / 1) train acc: 0.")
    assert lines[1].endswith("; val_acc: 0.100000")
    assert lines[2] == "(Iteration 2 / 2) loss: 0.250000"
    assert lines[3].startswith("(Epoch 1 / 1) train acc: ")
    assert len(lines) == 4


def test_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {
        "X_train": random_array(0, 20, 4),
        "y_train": np.arange(20) % 3,
        "X_val": np.ones((5, 4)),
        "y_val": np.zeros(5, int),
    }
    net = FullyConnectedNet([5], 4, 3, dtype=np.float64)
    Solver(net, data, num_epochs=2, batch_size=10, checkpoint_name="run", verbose=False, update_rule="adam").train()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"run_epoch_{i}.pkl" for i in range(3)]
    state = pickle.loads((tmp_path / "run_epoch_2.pkl").read_bytes())
    assert state["epoch"] == 2
    assert state["update_rule"] == "adam"
    assert len(state["loss_history"]) == 4
    assert state["model"].loss(np.ones((1, 4))).shape == (1, 3)


def test_accuracy_is_measured_on_drawn_rows() -> None:
    solver = Solver(Recording(), toy_data(), verbose=False)
    solver.model.params["w"][0] = 5.0
    x, y = np.arange(1000.0)[:, None], np.ones(1000, int)
    assert solver.check_accuracy(x, y) == 0.5
    np.random.seed(1)
    drawn = np.random.choice(1000, 30)
    np.random.seed(1)
    assert solver.check_accuracy(x, y, num_samples=30, batch_size=7) == pytest.approx((drawn % 10 < 5).mean())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"learning_rate": 1.0}, "there is no argument learning_rate"),
        ({"update_rule": "sdg"}, "update_rule is 'sdg'; normcore.cs231n.optim has adam, rmsprop, sgd, sgd_momentum"),
        ({"update_rule": "_update"}, "update_rule is '_update'"),
        ({"update_rule": "np"}, "update_rule is 'np'"),
        ({"update_rule": optim.sgd}, "update_rule is <function"),
        ({"batch_size": 0}, "batch_size"),
        ({"num_epochs": -1}, "num_epochs"),
        ({"num_val_samples": 0}, "num_val_samples"),
        ({"lr_decay": float("nan")}, "lr_decay"),
    ],
)
def test_the_solver_refuses(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"Solver: {words}"):
        Solver(Recording(), toy_data(), **arguments)


def test_the_solver_refuses_data() -> None:
    data = toy_data()
    with pytest.raises(ValueError, match="Solver: data lacks y_val"):
        Solver(Recording(), {name: rows for name, rows in data.items() if name != "y_val"})
    with pytest.raises(ValueError, match="Solver: X_train has 40 rows, but y_train has 39 labels"):
        Solver(Recording(), data | {"y_train": np.arange(39)})
    with pytest.raises(ValueError, match="Solver: X_val has no rows"):
        Solver(Recording(), data | {"X_val": np.ones((0, 1)), "y_val": np.ones(0)})


# ---------------------------------------------------------------- refusals of the layers

X23, ONES = np.ones((2, 3)), np.ones(3)
BAD_VALUES: dict[str, tuple[Any, str]] = {
    "w": (
        lambda: layers.affine_forward(np.ones((2, 3, 4)), X23, ONES),
        r"affine_forward: x is \(2, 3, 4\), 12 numbers an",
    ),
    "b": (
        lambda: layers.affine_forward(X23, np.ones((3, 4)), ONES),
        r"affine_forward: b is \(3,\); it must be \(4,\), as w",
    ),
    "w 1-D": (lambda: layers.affine_forward(X23, ONES, ONES), r"affine_forward: x is \(2, 3\) and w is \(3,\)"),
    "dout": (
        lambda: layers.affine_backward(X23, layers.affine_forward(X23, np.ones((3, 4)), np.ones(4))[1]),
        r"affine_backward: dout is \(2, 3\); it must be \(2, 4\), as the output",
    ),
    "relu": (lambda: layers.relu_backward(ONES, X23), r"relu_backward: dout is \(3,\); it must be \(2, 3\)"),
    "no mode": (
        lambda: layers.batchnorm_forward(X23, ONES, ONES, {}),
        "bn_param lacks 'mode'; it must be 'train' or 'test'",
    ),
    "mode": (
        lambda: layers.batchnorm_forward(X23, ONES, ONES, {"mode": "eval"}),
        r"batchnorm_forward: bn_param\['mode'\] is 'eval'; it must be 'train' or 'test'",
    ),
    "gamma": (lambda: layers.batchnorm_forward(X23, np.ones(2), ONES, TRAIN), r"batchnorm_forward: gamma is \(2,\)"),
    "x": (
        lambda: layers.batchnorm_forward(ONES, ONES, ONES, TRAIN),
        r"batchnorm_forward: x is \(3,\); it must be \(N, D\)",
    ),
    "eps": (lambda: layers.batchnorm_forward(X23, ONES, ONES, TRAIN | {"eps": -1}), r"bn_param\['eps'\] is -1.0"),
    "momentum": (
        lambda: layers.batchnorm_forward(X23, ONES, ONES, TRAIN | {"momentum": 2}),
        r"bn_param\['momentum'\] is 2.0",
    ),
    "running": (
        lambda: layers.batchnorm_forward(X23, ONES, ONES, TRAIN | {"running_mean": np.ones(2)}),
        r"bn_param\['running_mean'\] is \(2,\); it must be \(3,\)",
    ),
    "bn dout": (
        lambda: layers.batchnorm_backward_alt(ONES, layers.batchnorm_forward(X23, ONES, ONES, dict(TRAIN))[1]),
        r"batchnorm_backward_alt: dout is \(3,\)",
    ),
    "ln x": (lambda: layers.layernorm_forward(ONES, ONES, ONES, {}), r"layernorm_forward: x is \(3,\)"),
    "ln beta": (lambda: layers.layernorm_forward(X23, ONES, np.ones(2), {}), r"layernorm_forward: beta is \(2,\)"),
    "images": (
        lambda: layers.spatial_batchnorm_forward(X23, ONES, ONES, TRAIN),
        r"x is \(2, 3\); it must be \(N, C, H, W\)",
    ),
    "image dout": (
        lambda: layers.spatial_batchnorm_backward(
            np.ones((1, 3, 4, 1)),
            layers.spatial_batchnorm_forward(np.ones((1, 3, 2, 2)), ONES, ONES, dict(TRAIN))[1],
        ),
        r"spatial_batchnorm_backward: dout is \(1, 3, 4, 1\); it must be \(1, 3, 2, 2\), as the output",
    ),
    "groups": (
        lambda: layers.spatial_groupnorm_forward(np.ones((1, 3, 2, 2)), ONES, ONES, 2, {}),
        r"G is 2, but x is \(1, 3, 2, 2\); G must divide the 3 channels",
    ),
    "gn gamma": (
        lambda: layers.spatial_groupnorm_forward(np.ones((1, 3, 2, 2)), np.ones((1, 3)), ONES, 3, {}),
        r"gamma is \(1, 3\) but x is \(1, 3, 2, 2\); gamma must be \(3,\) or \(1, 3, 1, 1\)",
    ),
    "p": (
        lambda: layers.dropout_forward(X23, TRAIN | {"p": 0}),
        r"dropout_param\['p'\] is 0.0; it must be in \(0, 1\]",
    ),
    "p 2017": (
        lambda: edition_2017.dropout_forward(X23, TRAIN | {"p": 1}),
        r"dropout_param\['p'\] is 1.0; .* \[0, 1\)",
    ),
    "scores": (lambda: layers.softmax_loss(ONES, np.zeros(3, int)), r"softmax_loss: x is \(3,\); it must be \(N, C\)"),
    "labels": (
        lambda: layers.softmax_loss(X23, np.array([0, 3])),
        r"softmax_loss: y has 3 in row 1; labels must be in \[0, 3\)",
    ),
    "one score": (
        lambda: layers.softmax_loss(X23[:, :1], np.zeros(2, int)),
        r"softmax_loss: x is \(2, 1\); the softmax of one score is 1",
    ),
    "number of labels": (
        lambda: layers.svm_loss(X23, np.zeros((2, 1), int)),
        r"svm_loss: y is \(2, 1\); it must be \(2,\)",
    ),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_values(name: str) -> None:
    call, words = BAD_VALUES[name]
    with pytest.raises(ValueError, match=words):
        call()


BAD_TYPES: dict[str, tuple[Any, str]] = {
    "complex": (
        lambda: layers.relu_forward(np.ones(2, complex)),
        "relu_forward: x is an array of complex128; it must be of",
    ),
    "objects": (
        lambda: layers.affine_forward(X23, np.full((3, 1), None), np.ones(1)),
        "affine_forward: w is an array of obj",
    ),
    "masked": (lambda: layers.relu_forward(np.ma.ones(3)), "relu_forward: x is a masked array"),
    "params": (
        lambda: layers.batchnorm_forward(X23, ONES, ONES, None),
        "batchnorm_forward: bn_param is a NoneType; it must",
    ),  # type: ignore[arg-type]
    "ln_param": (lambda: layers.layernorm_forward(X23, ONES, ONES, 1e-5), "layernorm_forward: ln_param is a float"),  # type: ignore[arg-type]
    "no p": (lambda: layers.dropout_forward(X23, TRAIN), r"dropout_forward: dropout_param\['p'\] must be a number"),
    "float labels": (
        lambda: layers.softmax_loss(X23, np.zeros(2)),
        "softmax_loss: y is an array of float64; it must be of int",
    ),
    "no cache": (lambda: layers.affine_backward(X23, None), r"affine_backward: the cache is not one of affine_forward"),
    "no x": (lambda: layers.relu_backward(X23, None), "relu_backward: cache is an array of object"),
    "no mask": (lambda: layers.dropout_backward(X23, X23), "dropout_backward: the cache is not one of dropout_forward"),
    "list": (
        lambda: gradient_check.eval_numerical_gradient(np.sum, [1.0]),
        "x is a list; it must be a NumPy array of floats",
    ),  # type: ignore[arg-type]
    "integers": (
        lambda: gradient_check.eval_numerical_gradient_array(np.sum, np.ones(2, int), 1),
        "x is an array of int64",
    ),
}


@pytest.mark.parametrize("name", BAD_TYPES)
def test_bad_types(name: str) -> None:
    call, words = BAD_TYPES[name]
    with pytest.raises(TypeError, match=words):
        call()


@pytest.mark.parametrize("name", ["batchnorm", "layernorm", "spatial_batchnorm", "spatial_groupnorm"])
def test_caches_of_ones_own_functions_are_refused(name: str) -> None:
    backward = getattr(layers, f"{name}_backward")
    with pytest.raises(
        TypeError, match=f"{name}_backward: the cache is not one of normcore's {name}_forward; a forward"
    ):
        backward(np.ones((2, 3, 1, 1)) if "spatial" in name else X23, (X23, ONES, ONES))
    if name == "batchnorm":
        with pytest.raises(TypeError, match=r"batchnorm_backward_alt: the cache .* normcore's batchnorm_forward;"):
            layers.batchnorm_backward_alt(X23, None)


def test_a_refused_batch_leaves_the_statistics() -> None:
    bn_param = TRAIN | {"running_mean": np.zeros(3), "running_var": -np.ones(3)}
    before = copy.deepcopy(bn_param)
    with pytest.raises(ValueError, match="running_var"):
        layers.batchnorm_forward(X23, ONES, ONES, bn_param)
    np.testing.assert_equal(bn_param, before)


@pytest.mark.parametrize(
    "name",
    [name for name in layers.__all__ if name.startswith(("conv", "max_pool"))]
    + [name for name in layer_utils.__all__ if name.startswith("conv")]
    + fast_layers.__all__,
)
def test_convolutions_say_that_they_are_not_here(name: str) -> None:
    home = next(module for module in (layers, layer_utils, fast_layers) if name in module.__all__)
    function = getattr(home, name)
    assert function.__name__ == name
    with pytest.raises(NotImplementedError, match=f"^{name}: normcore has .* no convolutions"):
        function(np.ones((1, 3, 8, 8)), None, pool_param={})


def test_the_convolutional_network_is_not_here() -> None:
    with pytest.raises(NotImplementedError, match="ThreeLayerConvNet: normcore has"):
        cnn.ThreeLayerConvNet(weight_scale=1e-3)


# ---------------------------------------------------------------- numerical gradients


def test_numerical_gradients_set_x_back(capsys: pytest.CaptureFixture[str]) -> None:
    x = random_array(0, 2, 3)
    kept = x.copy()
    seen = []

    def f(a: Array) -> Any:
        seen.append(a is x)
        return (a**3).sum()

    grad = gradient_check.eval_numerical_gradient(f, x)
    np.testing.assert_allclose(grad, 3 * x**2, rtol=1e-6)
    assert all(seen)
    assert len(capsys.readouterr().out.splitlines()) == 6
    with pytest.raises(ZeroDivisionError):
        gradient_check.eval_numerical_gradient(lambda a: 1 / 0, x, verbose=False)
    np.testing.assert_array_equal(x, kept)


def test_a_function_may_return_its_argument() -> None:
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(gradient_check.eval_numerical_gradient_array(lambda a: a, x, np.ones(2)), 1)


def test_sparse_checks(capsys: pytest.CaptureFixture[str]) -> None:
    x = random_array(0, 2, 3)
    gradient_check.grad_check_sparse(lambda a: (a**2).sum(), x, 2 * x, num_checks=4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(float(line.rpartition(" ")[2]) < 1e-7 for line in lines)
    gradient_check.grad_check_sparse(lambda a: 0.0, x, 0 * x, num_checks=1)
    assert capsys.readouterr().out.endswith("relative error: 0.000000e+00\n")


def test_relative_errors_of_the_course_are_small() -> None:
    """The course's own measure, by which students judge: of the order that its notebooks print."""
    x, gamma, beta, dout = norm_arguments((4, 5, 0, 231))
    f = lambda a: layers.batchnorm_forward(a, gamma, beta, dict(TRAIN))[0]  # noqa: E731
    _, cache = layers.batchnorm_forward(x, gamma, beta, dict(TRAIN))
    numerical = gradient_check.eval_numerical_gradient_array(f, x.copy(), dout)
    assert relative_error(layers.batchnorm_backward(dout, cache)[0], numerical) < 1e-6
    assert (
        relative_error(layers.batchnorm_backward(dout, cache)[0], layers.batchnorm_backward_alt(dout, cache)[0]) < 1e-9
    )
    assert fc_net.FullyConnectedNet is FullyConnectedNet
