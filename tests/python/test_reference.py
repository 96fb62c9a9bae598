"""The reference itself: nothing public is without one, and its gradients are those of its functions."""

from __future__ import annotations

import inspect
from itertools import pairwise
from statistics import NormalDist
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import normcore as nc
from normcore import losses
from normcore.testing import assert_same_bits, check_gradients, plain, reference, strategies

# Public functions that compute nothing, or only with files and text.
NO_OPERATIONS = {
    "available_isas",
    "cpu_features",
    "encode_labels",
    "get_include",
    "get_isa",
    "get_library_dir",
    "get_num_threads",
    "load_model",
    "save_model",
    "selftest",
    "set_isa",
    "set_num_threads",
    "show_config",
}
PUBLIC = {name: getattr(nc, name) for name in nc.__all__ if inspect.isroutine(getattr(nc, name))}
OPERATIONS = sorted(PUBLIC.keys() - NO_OPERATIONS)


def test_the_operations_are_public() -> None:
    assert PUBLIC.keys() >= NO_OPERATIONS
    assert len(OPERATIONS) > 30


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_a_reference_of_the_same_arguments(name: str) -> None:
    assert name in reference.__all__
    own = inspect.signature(getattr(reference, name)).parameters
    public = {key: value for key, value in inspect.signature(PUBLIC[name]).parameters.items() if key != "out"}
    assert [(key, value.kind) for key, value in own.items()] == [(key, value.kind) for key, value in public.items()]
    for key, value in public.items():
        assert value.default in (own[key].default, inspect.Parameter.empty)


TARGETS: dict[str, Any] = {
    "cross_entropy": lambda random, n, d: random.integers(0, d, n),
    "logistic": lambda random, n, d: random.integers(0, 2, (n, d)),
    "poisson": lambda random, n, d: random.poisson(2.0, (n, d)),
}


@pytest.mark.parametrize("loss", get_args(losses.LossName))
@pytest.mark.parametrize("activation", nc._core.ACTIVATIONS)
def test_every_loss_and_activation_has_one_in_a_network(loss: str, activation: str) -> None:
    random = np.random.default_rng(1)
    function = {"cross_entropy": "softmax_cross_entropy", "squared_error": "squared_error"}.get(loss, f"{loss}_loss")
    x = random.normal(size=(6, 4))
    targets = TARGETS.get(loss, lambda random, n, d: random.normal(size=(n, d)))(random, 6, 3)
    targets = targets if loss == "cross_entropy" else targets.astype(float)
    model = nc.MLP([4, 5, 3], norm="batch", activation=activation, dtype="float64", seed=0)
    layers = [
        {name: model.parameters()[f"{name}{layer}"].copy() for name in names}
        for layer, names in ((1, ("w", "b", "gamma", "beta")), (2, ("w", "b")))
    ]

    expected = reference.mlp_loss_and_grads(
        x, targets, layers, norm="batch", activation=activation, loss=getattr(reference, function)
    )
    value, doutputs, _ = getattr(nc, function)(model.forward_training(x), targets)
    model.backward(doutputs)
    assert value == pytest.approx(float(expected.loss), rel=1e-13)
    for i, layer in enumerate(expected.grads, start=1):
        for name, gradient in layer.items():
            found = model.gradients()[f"{name}{i}"]
            np.testing.assert_allclose(found, gradient.astype(float), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers(counter: list[int], key: list[int], words: str) -> None:
    """Known answers of Random123, the library of the paper's authors."""
    assert " ".join(f"{word:08x}" for word in reference.philox4x32(counter, key)) == words


def test_words_are_laid_out_as_the_contract_says() -> None:
    seed, stream, block = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x1_0000_0001
    words = reference.philox4x32(
        [block & 0xFFFFFFFF, block >> 32, 0x76543210, 0xFEDCBA98],
        [0x89ABCDEF, 0x01234567],
    )
    assert_same_bits(reference.random_words32(4, seed=seed, stream=stream, offset=4 * block), words)
    pairs = [int(words[1]) << 32 | int(words[0]), int(words[3]) << 32 | int(words[2])]
    assert reference.random_words64(2, seed=seed, stream=stream, offset=2 * block).tolist() == pairs


@given(st.floats(1e-300, 1, exclude_max=True))
def test_inverse_normal_cdf_agrees_with_the_standard_library(p: float) -> None:
    expected = NormalDist().inv_cdf(p)
    assert abs(float(reference.inverse_normal_cdf(p)) - expected) <= 1e-13 * max(abs(expected), 1e-3)


def test_inverse_normal_cdf_at_known_points() -> None:
    # Wichura's own checks: 0.25, 0.001 and 1e-20
    points = reference.inverse_normal_cdf([0.25, 0.001, 1e-20, 0.5]).astype(float)
    np.testing.assert_allclose(
        points,
        [-0.6744897501960817, -3.090232306167814, -9.262340089798408, 0],
        rtol=1e-15,
    )


@given(st.integers(0, 60), st.integers(0, 2**64 - 1))
def test_random_permutations_are_permutations(n: int, seed: int) -> None:
    assert sorted(reference.random_permutation(n, seed=seed).tolist()) == list(range(n))


def test_reference_works_in_wider_precision() -> None:
    assert reference.softmax(np.ones((1, 2), np.float32)).dtype == np.float64
    assert reference.softmax(np.ones((1, 2), np.float64)).dtype == np.longdouble
    assert reference.wide_dtype(np.float32, np.float64) == np.longdouble


def _norm(function: Any, **options: Any) -> Any:
    return lambda **arrays: function(arrays["x"], arrays["gamma"], arrays["beta"], **options).y


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 7), (5, 4)])
def test_reference_gradients_match_finite_differences(n: int, d: int) -> None:
    random = np.random.default_rng(n * 10 + d)
    x, dy, z = random.normal(size=(3, n, d))
    gamma, beta = random.normal(size=(2, d))
    w, b, dz = (
        random.normal(size=(d, 3)),
        random.normal(size=3),
        random.normal(size=(n, 3)),
    )
    inputs = {"x": x, "gamma": gamma, "beta": beta}

    found = reference.affine_backward(dz, x, w)
    check_gradients(
        reference.affine_forward,
        {"x": x, "w": w, "b": b},
        {"x": found.dx, "w": found.dw, "b": found.db},
        dz,
    )
    for name in nc._core.ACTIVATIONS:
        forward, backward = (getattr(reference, f"{name}_{way}") for way in ("forward", "backward"))
        check_gradients(forward, {"x": x}, {"x": backward(dy, x if name == "silu" else forward(x))}, dy)
    check_gradients(
        reference.softmax,
        {"x": z},
        {"x": reference.softmax_backward(dy, reference.softmax(z))},
        dy,
    )
    log = reference.log_softmax(z)
    check_gradients(
        reference.log_softmax,
        {"x": z},
        {"x": reference.log_softmax_backward(dy, log)},
        dy,
    )

    _, mean, rstd, _, _ = reference.batch_norm_forward(x, gamma, beta, eps=0.1)
    for algorithm in ("fused", "graph"):
        dx, dgamma, dbeta = reference.batch_norm_backward(dy, x, gamma, mean, rstd, algorithm=algorithm)
        found_norm = {"x": dx, "gamma": dgamma, "beta": dbeta}
        check_gradients(_norm(reference.batch_norm_forward, eps=0.1), inputs, found_norm, dy)
    _, mean, rstd = reference.layer_norm_forward(x, gamma, beta, eps=0.1)
    dx, dgamma, dbeta = reference.layer_norm_backward(dy, x, gamma, mean, rstd)
    check_gradients(
        _norm(reference.layer_norm_forward, eps=0.1),
        inputs,
        {"x": dx, "gamma": dgamma, "beta": dbeta},
        dy,
    )
    running = {"running_mean": beta, "running_var": gamma**2, "training": False}
    _, mean, rstd, _, _ = reference.batch_norm_forward(x, gamma, beta, **running)
    dx, dgamma, dbeta = reference.batch_norm_backward(dy, x, gamma, mean, rstd, training=False)
    check_gradients(
        _norm(reference.batch_norm_forward, **running),
        inputs,
        {"x": dx, "gamma": dgamma, "beta": dbeta},
        dy,
    )


@given(strategies.cross_entropy_problems(np.float64, spread=(1.0,)))
@settings(max_examples=15)
def test_reference_cross_entropy_gradient_matches_finite_differences(
    p: strategies.CrossEntropyProblem,
) -> None:
    logits = plain(p.logits)[:3]
    options = p.options | {"reduction": "mean"}
    if "sample_weight" in options:
        options["sample_weight"] = options["sample_weight"][:3]

    def loss(logits: Any) -> Any:
        return reference.softmax_cross_entropy(logits, p.labels[:3], **options).loss

    found = reference.softmax_cross_entropy(logits, p.labels[:3], **options).dlogits
    check_gradients(loss, {"logits": logits}, {"logits": found}, rtol=1e-6)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_reference_network_gradient_matches_finite_differences(
    norm: str | None,
) -> None:
    random = np.random.default_rng(1)
    sizes = (3, 4, 3, 2)
    layers = []
    for inputs, outputs in pairwise(sizes):
        layer = {
            "w": random.normal(size=(inputs, outputs)),
            "b": random.normal(size=outputs),
        }
        if norm and outputs != sizes[-1]:
            layer |= {
                "gamma": random.normal(size=outputs),
                "beta": random.normal(size=outputs),
            }
        layers.append(layer)
    x, labels = random.normal(size=(5, 3)), random.integers(0, 2, 5)
    options: dict[str, Any] = {
        "norm": norm,
        "keep": 0.8,
        "eps": 0.1,
        "seed": 3,
        "label_smoothing": 0.1,
    }
    found = reference.mlp_loss_and_grads(x, labels, layers, **options).grads
    for index, layer in enumerate(layers):
        assert set(found[index]) == set(layer)
        for name in layer:

            def loss(value: Any, index: int = index, name: str = name) -> Any:
                changed = [dict(one) for one in layers]
                changed[index][name] = value
                return reference.mlp_loss_and_grads(x, labels, changed, **options).loss

            check_gradients(
                lambda value, loss=loss: loss(value),
                {"value": layer[name]},
                {"value": found[index][name]},
            )


def test_reference_special_rows() -> None:
    z = np.array(
        [[-np.inf, -np.inf], [np.inf, 0], [np.nan, 0], [-np.inf, 3], [3e38, -3e38]],
        np.float32,
    )
    p = reference.softmax(z)
    assert np.isnan(p[:3]).all()
    np.testing.assert_array_equal(p[3:], [[0, 1], [1, 0]])
    result = reference.softmax_cross_entropy(z, [0, 0, 0, 1, 1], reduction="none")
    assert np.isnan(result.loss[:3]).all()
    np.testing.assert_array_equal(result.loss[3:], [0, 2 * float(np.float32(3e38))])
    nothing = reference.softmax_cross_entropy(z, [7] * 5, ignore_index=7)
    assert (nothing.loss, nothing.weight_sum) == (0, 0)
    assert not nothing.dlogits.any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: reference.softmax_cross_entropy([[0.0]], [0], reduction="median"),
        lambda: reference.batch_norm_backward([[0.0]], [[0.0]], [1.0], [0.0], [1.0], algorithm="slow"),
        lambda: reference.batch_norm_forward([[0.0]], [1.0], [0.0], training=False),
        lambda: reference.optimizer_update("newton", [0.0], [0.0], learning_rate=1.0),
    ],
    ids=["reduction", "algorithm", "statistics", "optimizer"],
)
def test_reference_refuses_what_it_does_not_know(call: Any) -> None:
    with pytest.raises(ValueError, match=r"reduction|algorithm|running statistics|optimizer"):
        call()
