"""normcore.testing itself: what the other tests lean on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import normcore as nc
from normcore import testing
from normcore.testing import (
    assert_same_bits,
    assert_ulp,
    check_gradients,
    numerical_gradient,
    reference,
    same_bits,
    strategies,
    ulp,
    ulp_error,
    within_ulp,
)


def test_dir_has_what_is_imported_on_demand() -> None:
    assert {*testing.__all__, "__doc__"} <= set(dir(testing))


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


def test_ulp_error_of_a_finite_value_may_be_infinite() -> None:
    assert ulp_error(1.0, 0.0, np.float64) == np.inf  # 2**1074 ULP, more than a float64 holds


def test_small_elements_count_in_the_unit_of_the_greatest() -> None:
    expected = np.array([[64.0, 1.0, 0.5], [0.5, 2.0, 1.0]])
    actual = expected + 2.0**-20
    np.testing.assert_array_equal(ulp_error(actual, expected, np.float32), [[1 / 8, 8, 16], [16, 4, 8]])
    np.testing.assert_array_equal(ulp_error(actual, expected, np.float32, axis=-1), [[1 / 8, 8, 1 / 8], [16, 4, 8]])
    np.testing.assert_array_equal(ulp_error(actual, expected, np.float32, axis=0), [[1 / 8, 8, 16], [1 / 8, 4, 8]])
    assert ulp_error(np.zeros((3, 0)), np.zeros((3, 0)), axis=-1).shape == (3, 0)


def test_assert_ulp_names_the_worst() -> None:
    exact = np.float32([1, 1, 1, 1, 1, 1, 1, 1, 1])
    actual = exact + np.float32(2.0**-23) * np.arange(9, dtype=np.float32)
    assert_ulp(actual, exact, 8)
    assert_ulp(np.zeros(0), np.zeros(0), 0)
    with pytest.raises(AssertionError) as failed:
        assert_ulp(actual, exact, 2, what="softmax")
    lines = str(failed.value).splitlines()
    assert lines[:2] == [
        "softmax: 6 of 9 elements are more than 2 ULP of float32 away",
        "softmax at (8,): 1.000001, expected 1.0, 8 ULP",
    ]
    assert len(lines) == 6
    with pytest.raises(AssertionError, match=r"result: nan, expected 1.0, inf ULP"):
        assert_ulp(np.nan, 1.0, 1e9)


def test_results_of_parts_are_compared_part_by_part() -> None:
    x = np.ones((2, 3))
    exact = reference.layer_norm_forward(x, x[0], x[0])
    assert_ulp(nc.layer_norm_forward(x, x[0], x[0]), exact, 1)
    assert_ulp({"a": [1.0, None]}, {"a": (1.0, None)}, 0)
    with pytest.raises(
        AssertionError, match=r"^result.mean: 1 of 2 elements .* ULP of float64 away\nresult.mean at \(1,\)"
    ):
        assert_ulp((exact.y.astype(float), np.array([1.0, 2.0]), exact.rstd.astype(float)), exact, 1)
    for other, said in (
        ((1.0,), "result: lengths 1 and 3"),
        ((x, None, x), "result.mean: None and array"),
        ((x, x, x[:, 0]), r"result.mean: shape \(2, 3\), expected \(2,\)"),
    ):
        with pytest.raises(AssertionError, match=said):
            assert_ulp(other, exact, 4)
    with pytest.raises(TypeError, match="int64 has no ULP here; pass dtype= float16, float32 or float64"):
        assert_ulp(np.array([1]), np.array([1]), 1)
    assert_ulp(np.array([1]), np.array([1]), 1, dtype=np.float32)


def test_within_ulp() -> None:
    y, exact = np.float32([0.1, np.nan]), [0.1, np.nan]
    assert y == within_ulp(exact, 1)
    assert within_ulp(exact, 1) == y
    assert not y != within_ulp(exact, 1)  # noqa: SIM202 (the operator is the point)
    assert y != within_ulp(exact, 0)
    assert y[0] == within_ulp(0.1, 1)
    assert float(y[0]) == within_ulp(0.1, 1, dtype=np.float32)
    assert nc.layer_norm_forward(y[None], y, y) == within_ulp(reference.layer_norm_forward(y[None], y, y), 1)
    assert repr(within_ulp(0.1, 2, axis=-1)) == "within_ulp(0.1, 2, axis=-1)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(within_ulp(0.1, 2))


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
    with pytest.raises(ValueError, match=r"upstream is \(2,\), but the function gives \(\)"):
        check_gradients(function, inputs, right, np.ones(2))
    with pytest.raises(KeyError, match="not among the inputs"):
        check_gradients(function, inputs, {"c": np.ones(3)})


# ---------------------------------------------------------------- strategies


@pytest.mark.parametrize("layout", testing.LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_layouts_keep_the_values(layout: str, dtype: Any) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    y = testing.apply_layout(x, layout)
    assert_same_bits(testing.plain(y), x if layout != "broadcast" else np.tile(x[0], (3, 1)))
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
    for layout in testing.LAYOUTS:
        for shape in ((0, 3), (3, 0), (4,), (2, 3, 4)):
            assert testing.apply_layout(np.ones(shape), layout).shape == shape
    with pytest.raises(ValueError, match="at least one axis"):
        testing.apply_layout(np.float64(1), "contiguous")
    with pytest.raises(ValueError, match="no layout 'diagonal'"):
        testing.apply_layout(np.ones(3), "diagonal")


class TestCheckLayouts:
    X = np.random.default_rng(0).normal(size=(5, 4))

    def test_passes_what_takes_any_layout(self) -> None:
        calls = []

        def function(x: Any, gamma: Any, eps: Any) -> Any:
            calls.append(x.strides)
            return nc.layer_norm_forward(x, gamma, gamma, eps=float(eps))

        testing.check_layouts(function, self.X, self.X[0], 1e-5)
        assert len(calls) == 2 * 3 * len(testing.LAYOUTS)  # twice each: x, gamma, and both

    def test_finds_neighbours_that_are_read(self) -> None:
        def function(x: Any) -> Any:  # as C that was told the rows' stride and not the columns'
            return np.lib.stride_tricks.as_strided(x, x.shape, (x.strides[0], x.itemsize)).sum(axis=1)

        testing.check_layouts(function, self.X, layouts=("contiguous", "padded_rows", "every_other_row", "broadcast"))
        with pytest.raises(AssertionError) as failed:
            testing.check_layouts(function, self.X, layouts=("every_other_column",))
        assert "nan" in str(failed.value)
        assert failed.value.__notes__ == ["argument 0 was laid out as every_other_column"]

    def test_finds_arrays_that_are_written(self) -> None:
        def function(x: Any, y: Any) -> Any:
            y += 1
            return x.sum()

        with pytest.raises(AssertionError, match="argument 1 was written to"):
            testing.check_layouts(function, self.X, self.X)
        with pytest.raises(ValueError, match="read-only") as failed:
            testing.check_layouts(lambda x: x.sort(), self.X, layouts=("read_only",))
        assert failed.value.__notes__ == ["argument 0 was laid out as read_only"]

    def test_takes_a_tolerance(self) -> None:
        def function(x: Any) -> Any:
            return x.sum() + (0 if x.flags.c_contiguous else 1e-15)

        with pytest.raises(AssertionError, match="differ in bits"):
            testing.check_layouts(function, self.X)
        testing.check_layouts(function, self.X, compare=lambda a, e: assert_ulp(a, e, 10))


def test_fills() -> None:
    for name in testing.FILLS:
        x = testing.fill(name, (3, 4), np.float32, seed=1)
        assert x.shape == (3, 4)
        assert x.dtype == np.float32
        assert_same_bits(x, testing.fill(name, (3, 4), np.float32, seed=1))
    with pytest.raises(ValueError, match="no fill 'gaussian'; there are integers, normal"):
        testing.fill("gaussian", 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layout": "diagonal"}, "no layout 'diagonal'; there are contiguous, padded_rows"),
        ({"layout": ()}, "no layout is given"),
        ({"fills": ("normal", "gaussian")}, "no fill 'gaussian'; there are integers, normal"),
    ],
)
def test_unknown_names_are_refused_at_once(options: Any, said: str) -> None:
    for strategy in (strategies.arrays, strategies.matrices, strategies.vectors):
        with pytest.raises(ValueError, match=said):
            strategy(**options)


@settings(max_examples=5)
@given(st.data())
def test_arrays_are_of_floats(data: st.DataObject) -> None:
    assert data.draw(strategies.arrays("float32", 3)).shape == (3,)
    assert data.draw(strategies.arrays(strategies.dtypes(), st.just((2, 1, 3)), layout="fortran")).shape == (2, 1, 3)
    assert data.draw(strategies.vectors()).ndim == 1
    for strategy in (strategies.arrays, strategies.norm_problems, strategies.affine_problems):
        with pytest.raises(TypeError, match="dtype is int32; there are float32 and float64"):
            data.draw(strategy("int32"))
    assert data.draw(strategies.norm_problems(strategies.dtypes(), shape=(3, 2))).dy.shape == (3, 2)
    with pytest.raises(ValueError, match="no loss 'mse'; there are logistic_loss, squared_error,"):
        data.draw(strategies.loss_problems("mse"))


@given(strategies.shapes(max_rows=6, max_columns=4), strategies.shapes(min_rows=30), strategies.arrays())
def test_shapes_keep_their_bounds(small: Any, tall: Any, x: Any) -> None:
    assert small <= (6, 4)
    assert small[1] <= 4
    assert tall[0] >= 30
    assert 1 <= x.ndim <= 3
    assert x.size


def test_special_values_are_about_a_tenth() -> None:
    x = testing.sprinkle_special(np.ones((200, 100), np.float32), 5)
    share = np.mean(x != 1)
    assert 0.08 < share < 0.12
    for value in testing.special_values(np.float32):
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
        settings.load_profile(before)


WITHOUT_HYPOTHESIS = """
import sys
sys.modules["hypothesis"] = None
import numpy as np
import normcore as nc
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
        assert "needs hypothesis: pip install 'normcore[testing]'" in str(error), error
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
