"""normcore.testing itself: what the other tests lean on."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normcore import testing
from normcore.testing import (
    assert_same_bits,
    assert_ulp,
    check_gradients,
    column_ulp_error,
    numerical_gradient,
    profiles,
    reference,
    row_ulp_error,
    same_bits,
    strategies,
    ulp_error,
)
from normcore.testing.ulp import ulp

# ---------------------------------------------------------------- the reference


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
    relu = reference.relu_backward(dy, reference.relu_forward(x))
    check_gradients(reference.relu_forward, {"x": x}, {"x": relu}, dy)
    for name in ("leaky_relu", "tanh", "logistic", "silu", "relu6"):
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
    logits = strategies.plain(p.logits)[:3]
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


# ---------------------------------------------------------------- ulp


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (1.0, -23),
        (1.9, -23),
        (2.0, -22),
        (0.999, -24),
        (0.0, -149),
        (1e-45, -149),
        (2.0**-126, -149),
        (2.0**-125, -148),
    ],
)
def test_ulp_of_float32(x: float, expected: int) -> None:
    assert ulp(x, np.float32) == 2.0**expected


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_ulp_is_the_spacing_of_numpy(x: float) -> None:
    # NumPy's spacing points away from zero, beyond the greatest number too
    if abs(x) == np.finfo(np.float32).max:
        return
    assert ulp(x, np.float32) == abs(float(np.spacing(np.float32(abs(x)))))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_ulp_of_float64(x: float) -> None:
    if abs(x) < 1e308:
        assert ulp(x, np.float64) == np.spacing(abs(x))


@given(st.floats(-(2.0**99), 2.0**99, width=32), st.integers(0, 9))
def test_ulp_error_counts_steps(x: float, steps: int) -> None:
    y = np.float32(x)
    for _ in range(steps):
        y = np.nextafter(y, np.float32(np.inf), dtype=np.float32)
    # a step across a power of two, or through zero, is counted in the unit of the expected side
    error = ulp_error(y, np.float64(x), np.float32)
    assert steps / 2 <= error <= 2 * steps
    assert (error == 0) == (steps == 0)


def test_ulp_error_of_special_values() -> None:
    actual = np.array([np.nan, np.inf, -np.inf, 1.0, np.nan, np.inf, np.inf, 0.0], np.float32)
    expected = np.array([np.nan, np.inf, np.inf, np.nan, 1.0, 1.0, 1e39, -0.0])
    np.testing.assert_array_equal(ulp_error(actual, expected), [0, 0, np.inf, np.inf, np.inf, np.inf, 0, 0])


def test_small_elements_count_in_the_unit_of_the_greatest() -> None:
    expected = np.array([[64.0, 1.0, 0.5], [0.5, 2.0, 1.0]])
    actual = expected + 2.0**-20
    np.testing.assert_array_equal(ulp_error(actual, expected, np.float32), [[1 / 8, 8, 16], [16, 4, 8]])
    np.testing.assert_array_equal(row_ulp_error(actual, expected, np.float32), [[1 / 8, 8, 1 / 8], [16, 4, 8]])
    np.testing.assert_array_equal(column_ulp_error(actual, expected, np.float32), [[1 / 8, 8, 16], [1 / 8, 4, 8]])
    assert row_ulp_error(np.zeros((3, 0)), np.zeros((3, 0))).shape == (3, 0)


def test_assert_ulp_names_the_worst() -> None:
    assert_ulp([0.5, 1.0], 1)
    assert_ulp([], 0)
    with pytest.raises(AssertionError, match=r"softmax: 3 units in the last place at \(1,\), limit 2"):
        assert_ulp([1, 3, 2.5], 2, "softmax")
    with pytest.raises(AssertionError):
        assert_ulp([0, np.nan], 1e9)


def test_same_bits() -> None:
    quiet = np.array([np.nan], np.float32)
    other = np.array([0x7FC00001], np.uint32).view(np.float32)
    assert same_bits(quiet, quiet.copy())
    assert not same_bits(quiet, other)
    assert not same_bits(np.zeros(1), -np.zeros(1))
    assert not same_bits(np.zeros(1), np.zeros(1, np.float32))
    assert not same_bits(np.zeros((1, 2)), np.zeros((2, 1)))
    assert same_bits(np.arange(3.0), np.arange(3.0).astype(">f8"))
    assert same_bits(np.arange(6.0).reshape(2, 3).T, np.arange(6.0).reshape(2, 3).T.copy())
    assert same_bits((1.5, None, {"a": [quiet]}), [1.5, None, {"a": (quiet,)}])
    assert not same_bits({"a": 1}, {"b": 1})
    assert not same_bits((1,), (1, 2))
    assert not same_bits(None, 0)
    with pytest.raises(
        AssertionError,
        match=r"dx\[0\]: 1 of 3 elements differ in bits, first at \(2,\)",
    ):
        assert_same_bits((np.array([1, 2, 3]),), (np.array([1, 2, 4]),), "dx")


# ---------------------------------------------------------------- gradients


def test_numerical_gradient_is_accurate() -> None:
    x = np.linspace(-2, 2, 7)
    np.testing.assert_allclose(numerical_gradient(lambda x: np.sin(x).sum(), x), np.cos(x), rtol=0, atol=1e-9)
    upstream = np.arange(7.0)
    np.testing.assert_allclose(numerical_gradient(np.sin, x, upstream), upstream * np.cos(x), rtol=0, atol=1e-8)
    np.testing.assert_allclose(numerical_gradient(lambda x: x**2, 1e9), 2e9, rtol=1e-9)


def test_numerical_gradient_leaves_x_alone() -> None:
    x = np.arange(3.0)
    x.flags.writeable = False
    assert numerical_gradient(lambda x: (x**2).sum(), x).shape == (3,)


def test_check_gradients_finds_errors() -> None:
    inputs = {"a": np.arange(3.0), "b": np.ones((3, 2))}
    right = {"a": np.full(3, 2.0)}

    def function(a: Any, b: Any) -> Any:
        return (a[:, None] * b).sum()

    check_gradients(function, inputs, right)
    with pytest.raises(AssertionError, match=r"gradient of a at \(1,\): 2.5"):
        check_gradients(function, inputs, {"a": np.array([2, 2.5, 2])})
    with pytest.raises(AssertionError, match="nan"):
        check_gradients(function, inputs, {"a": np.array([2, np.nan, 2])})
    with pytest.raises(AssertionError, match="shape"):
        check_gradients(function, inputs, {"b": np.ones(3)})
    with pytest.raises(KeyError, match="not among the inputs"):
        check_gradients(function, inputs, {"c": np.ones(3)})


# ---------------------------------------------------------------- strategies


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_layouts_keep_the_values(layout: str, dtype: Any) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    y = strategies.apply_layout(x, layout)
    assert_same_bits(strategies.plain(y), x if layout != "broadcast" else np.tile(x[0], (3, 1)))
    assert not np.shares_memory(x, y)
    expected = {
        "contiguous": y.flags.c_contiguous and y.flags.aligned and y.flags.writeable,
        "padded_rows": y.strides[0] > 4 * y.itemsize and y.strides[1] == y.itemsize,
        "every_other_row": y.strides[0] == 8 * y.itemsize,
        "every_other_column": y.strides[1] == 2 * y.itemsize,
        "fortran": y.flags.f_contiguous and not y.flags.c_contiguous,
        "transposed": y.flags.f_contiguous and not y.flags.c_contiguous,
        "reversed_rows": y.strides[0] < 0,
        "reversed_columns": y.strides[1] < 0,
        "broadcast": y.strides[0] == 0,
        "misaligned": not y.flags.aligned,
        "byte_swapped": not y.dtype.isnative,
        "read_only": not y.flags.writeable,
    }
    assert expected[layout]


def test_layouts_of_other_ranks() -> None:
    for layout in strategies.LAYOUTS:
        for shape in ((0, 3), (3, 0), (4,), (2, 3, 4)):
            assert strategies.apply_layout(np.ones(shape), layout).shape == shape
    with pytest.raises(ValueError, match="at least one axis"):
        strategies.apply_layout(np.float64(1), "contiguous")
    with pytest.raises(ValueError, match="no layout 'diagonal'"):
        strategies.apply_layout(np.ones(3), "diagonal")


def test_special_values_are_about_a_tenth() -> None:
    x = strategies.sprinkle_special(np.ones((200, 100), np.float32), 5)
    share = np.mean(x != 1)
    assert 0.08 < share < 0.12
    for value in strategies.special_values(np.float32):
        assert (x.view(np.uint32) == value.view(np.uint32)).any()


def test_matrices_reach_what_they_promise() -> None:
    seen: set[str] = set()

    @settings(max_examples=400, database=None, derandomize=True)
    @given(strategies.matrices(special=True))
    def collect(x: Any) -> None:
        assert x.ndim == 2
        seen.add(x.dtype.newbyteorder("=").name)
        found = {
            "swapped": not x.dtype.isnative,
            "read only": not x.flags.writeable,
            "nan": bool(np.isnan(x).any()),
            "inf": bool(np.isinf(x).any()),
            "many rows": len(x) > 256,
            "wide": x.shape[1] > 512,
            "single": x.shape == (1, 1),
        }
        seen.update(name for name, there in found.items() if there)

    collect()
    assert seen == {
        "float32",
        "float64",
        "swapped",
        "read only",
        "nan",
        "inf",
        "many rows",
        "wide",
        "single",
    }


@given(st.data(), st.integers(1, 30), st.integers(1, 300))
def test_labels_are_in_range(data: st.DataObject, rows: int, classes: int) -> None:
    labels = data.draw(strategies.labels(rows, classes, ignore_index=None))
    assert labels.shape == (rows,)
    assert labels.dtype.kind in "iub"
    assert ((labels >= 0) & (labels < classes)).all()
    some = data.draw(strategies.labels(rows, classes, ignore_index=-1))
    assert ((some >= -1) & (some < classes)).all()


@given(st.data(), st.integers(1, 9), st.integers(1, 9), strategies.dtypes())
def test_targets_and_weights(data: st.DataObject, rows: int, classes: int, dtype: Any) -> None:
    targets = data.draw(strategies.soft_targets(rows, classes, dtype))
    assert targets.shape == (rows, classes)
    assert targets.dtype.newbyteorder("=") == dtype
    assert ((targets >= 0) & (targets <= 1)).all()
    weights = data.draw(strategies.weights(rows))
    assert (np.isfinite(weights) & (weights >= 0)).all()


@given(
    strategies.norm_problems(),
    strategies.affine_problems(),
    strategies.cross_entropy_problems(),
)
def test_problems_fit_together(norm: Any, affine: Any, entropy: Any) -> None:
    assert norm.x.shape == norm.dy.shape
    assert norm.gamma.shape == norm.beta.shape == norm.x.shape[1:]
    assert (affine.x.shape[1], affine.w.shape[1]) == (
        affine.w.shape[0],
        affine.dy.shape[1],
    )
    assert len(affine.x) == len(affine.dy)
    assert len(entropy.labels) == len(entropy.logits)
    reference.softmax_cross_entropy(entropy.logits, entropy.labels, **entropy.options)


# ---------------------------------------------------------------- profiles and imports


def test_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings.get_current_profile_name()
    try:
        monkeypatch.setenv("NORMCORE_PROFILE", "ci")
        assert testing.register_profiles() == "ci"
        assert settings.default is not None
        assert (settings.default.max_examples, settings.default.derandomize) == (
            200,
            True,
        )
        monkeypatch.delenv("NORMCORE_PROFILE")
        assert testing.register_profiles() == "dev"
        assert testing.register_profiles("soak") == "soak"
        monkeypatch.setenv("NORMCORE_PROFILE", "fast")
        with pytest.raises(ValueError, match="no profile 'fast'; there are dev, ci, soak"):
            testing.register_profiles()
    finally:
        testing.register_profiles(before if before in profiles.PROFILES else None)


WITHOUT_HYPOTHESIS = """
import sys
sys.modules["hypothesis"] = None
import numpy as np
from normcore import testing
assert testing.reference.softmax(np.zeros((1, 4)))[0, 0] == 0.25
assert testing.same_bits(testing.numerical_gradient(lambda x: x * 3, 1.0), np.float64(3))
for statement in (
    "from normcore.testing import strategies",
    "from normcore.testing import profiles",
    "testing.register_profiles()",
):
    try:
        exec(statement)
    except ImportError as error:
        assert "needs hypothesis: pip install 'normcore[test]'" in str(error), error
    else:
        raise SystemExit(f"no error: {statement}")
"""


def test_only_strategies_and_profiles_need_hypothesis() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HYPOTHESIS],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_unknown_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'strategy'"):
        _ = testing.strategy
    for name in testing.__all__:
        assert getattr(testing, name) is not None
