"""Losses of numbers against the contract, the reference, finite differences and the values that others publish."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, check_gradients, contract, plain, reference, use_isa
from normcore.testing.strategies import LOSSES, dtypes, loss_problems

NAMES = list(LOSSES)
REDUCTIONS = ["mean", "sum", "none"]
CONTIGUOUS = ("contiguous",)

names = st.sampled_from(NAMES)
every_loss = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def agree(name: str, y: Any, t: Any, isas: Any = None, **options: Any) -> Any:
    """The bits of the contract on the instruction sets named, or on all. Returns the results."""
    expected = getattr(contract, name)(y, t, **options)
    for isa in nc.available_isas() if isas is None else isas:
        with use_isa(isa):
            assert_same_bits(getattr(nc, name)(y, t, **options), expected, f"{name} on {isa}")
    return expected


# ---------------------------------------------------------------- bits


@given(st.data(), names, dtypes(), st.sampled_from(nc.available_isas()))
def test_losses_have_the_bits_of_the_contract(data: st.DataObject, name: str, dtype: Any, isa: str) -> None:
    p = data.draw(loss_problems(name, dtype, layout=CONTIGUOUS, spread=(1.0, 10.0, 1e30), special=True))
    agree(name, p.outputs, p.targets, [isa], **p.options)


@every_dtype
@every_loss
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 15), (2, 16), (3, 17), (2, 33), (300, 1), (1100, 2)])
def test_shapes(name: str, dtype: Any, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[0])
    y = random.normal(size=shape).astype(dtype)
    t = random.integers(0, 2, shape).astype(dtype)
    for reduction in REDUCTIONS:
        agree(name, y, t, reduction=reduction, sample_weight=random.exponential(size=shape[0]))


@every_dtype
@every_loss
def test_every_special_output_and_target(name: str, dtype: Any) -> None:
    big = float(np.finfo(dtype).max)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    values = np.array([0.0, -0.0, 1.0, -1.0, 0.5, tiny, -tiny, big, -big, 90.0, -110.0, 800.0, np.inf, -np.inf, np.nan])
    t = np.array([0.0, -0.0, 1.0, 0.5, tiny, np.nan])
    if name == "poisson_loss":
        t = np.append(t, [7.0, big, np.inf])
    elif name != "logistic_loss":
        t = np.append(t, values)
    y, t = (a.reshape(-1, 1).astype(dtype) for a in np.meshgrid(values, t))
    for weight in (None, np.arange(len(y)) % 3.0):
        agree(name, y, t, reduction="none", sample_weight=weight)
    agree(name, y.reshape(-1, len(values)), t.reshape(-1, len(values)), reduction="sum")


@every_loss
def test_rows_may_be_cut_anywhere_and_threads_change_nothing(name: str) -> None:
    random = np.random.default_rng(7)
    y, t = random.normal(size=(3000, 40)).astype(np.float32), random.integers(0, 2, (3000, 40)).astype(np.float32)
    function = getattr(nc, name)
    whole = function(y, t, reduction="none")
    parts = [function(y[i : i + 41], t[i : i + 41], reduction="none") for i in range(0, 3000, 41)]
    for k in range(2):
        assert_same_bits(whole[k], np.concatenate([part[k] for part in parts]), name)
    threads = nc.get_num_threads()
    try:
        results = []
        for number in (1, 2, 5):
            nc.set_num_threads(number)
            results.append(function(y, t))
    finally:
        nc.set_num_threads(threads)
    assert_same_bits(results[1], results[0], name)
    assert_same_bits(results[2], results[0], name)


# ---------------------------------------------------------------- accuracy


def magnitudes(name: str, p: Any) -> Any:
    """Of the terms that a loss is the difference of, for each row times its weight, and those of its derivative."""
    y, t = reference.wide(p.outputs), np.asarray(p.targets).astype(np.longdouble)
    if name == "poisson_loss":
        return np.exp(y) + abs(t * y), np.exp(y) + t
    return None, None


@given(st.data(), names, dtypes())
@settings(max_examples=300)
def test_losses_are_those_of_the_reference(data: st.DataObject, name: str, dtype: Any) -> None:
    p = data.draw(loss_problems(name, dtype))
    loss, gradient, weight_sum = getattr(nc, name)(p.outputs, p.targets, **p.options)
    exact = getattr(reference, name)(p.outputs, p.targets, **p.options)
    kind = np.dtype(dtype)
    eps, tiny = float(np.finfo(kind).eps), float(np.finfo(kind).tiny)
    n, d = p.outputs.shape
    rows = 4 * eps if kind == np.float32 else (4 + d / 16) * eps
    size, slope = abs(exact.loss), abs(exact.doutputs)
    if name == "poisson_loss":
        terms, derivatives = magnitudes(name, p)
        weight = np.asarray(p.options.get("sample_weight", np.ones(n)), np.longdouble)
        share = weight / (weight.sum() or 1) if p.options["reduction"] == "mean" else weight
        size = share * terms.mean(axis=1)
        size = size if p.options["reduction"] == "none" else size.sum()
        slope = share[:, None] * derivatives / d
    if name == "logistic_loss":  # a soft target may be what the output gives: p - t is off by what 1 - p is
        weight = np.asarray(p.options.get("sample_weight", np.ones(n)), np.longdouble)
        share = weight / (weight.sum() or 1) if p.options["reduction"] == "mean" else weight
        slope = np.maximum(slope, np.where((p.targets == 0) | (p.targets == 1), 0, share[:, None] / d / 2))
    assert (abs(loss - exact.loss) <= rows * size + 1e-42).all()
    assert (abs(gradient - exact.doutputs) <= 4 * eps * slope + tiny).all()
    assert abs(weight_sum - exact.weight_sum) <= 2**-51 * exact.weight_sum
    assert gradient.dtype == kind
    assert gradient.shape == p.outputs.shape
    assert isinstance(loss, float) or loss.dtype == np.float64


@every_loss
def test_a_mean_of_many_doubles_is_within_4_ulp(name: str) -> None:
    random = np.random.default_rng(3)
    y, t = random.normal(size=(20_000, 3)), random.integers(0, 2, (20_000, 3)).astype(float)
    weight = random.exponential(size=20_000)
    loss = getattr(nc, name)(y, t, sample_weight=weight)[0]
    exact = getattr(reference, name)(y, t, sample_weight=weight).loss
    assert abs(loss - exact) <= 4 * np.spacing(loss)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [1.0, 15.0, 18.0, 40.0, 85.0])
def test_small_logistic_losses_keep_their_accuracy(gap: float, dtype: Any) -> None:
    y = np.array([[gap], [-gap]], dtype)
    loss, gradient, _ = nc.logistic_loss(y, [1, 0], reduction="none")
    exact = np.log1p(np.exp(-np.longdouble(dtype(gap))))
    eps = float(np.finfo(dtype).eps)
    assert (abs(loss - exact) <= 4 * eps * exact).all()
    side = 1 / (1 + np.exp(np.longdouble(dtype(gap))))
    assert (abs(gradient[:, 0] - [-side, side]) <= 4 * eps * side).all()


# ---------------------------------------------------------------- gradients


@every_loss
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 17)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_match_finite_differences(name: str, shape: tuple[int, int], reduction: str) -> None:
    random = np.random.default_rng(shape[1])
    y, t = random.normal(size=shape), random.integers(0, 2, shape).astype(float)
    options: dict[str, Any] = {"reduction": reduction, "sample_weight": random.exponential(size=shape[0])}
    options |= {"huber_loss": {"delta": 0.7}, "quantile_loss": {"tau": 0.3}}.get(name, {})
    function = getattr(nc, name)
    check_gradients(lambda y: function(y, t, **options)[0], {"y": y}, {"y": function(y, t, **options)[1]})


def test_the_derivative_of_the_quantile_loss_where_it_has_none() -> None:
    _, gradient, _ = nc.quantile_loss(np.array([[1.0, 2.0, 0.0]]), [[1.0, 1.0, 1.0]], tau=0.25, reduction="sum")
    np.testing.assert_array_equal(gradient * 3, [[0.0, 0.75, -0.25]])
    assert not np.signbit(gradient[0, 0])


def test_the_huber_loss_is_smooth_at_delta() -> None:
    below, at, above = np.nextafter(0.3, 0), 0.3, np.nextafter(0.3, 1)
    loss, gradient, _ = nc.huber_loss(np.array([[below], [at], [above]]), [0, 0, 0], delta=0.3, reduction="none")
    np.testing.assert_allclose(loss, 0.045, rtol=1e-15)
    np.testing.assert_array_equal(gradient[:, 0], [below, at, at])


# ---------------------------------------------------------------- values of others


@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learn_agrees(weighted: bool) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(11)
    y, t, counts = random.normal(size=(50, 3)), random.normal(size=(50, 3)), random.poisson(2.0, 50).astype(float)
    weight = random.exponential(size=50) if weighted else None
    assert nc.squared_error(y, t, sample_weight=weight)[0] == pytest.approx(
        metrics.mean_squared_error(t, y, sample_weight=weight)
    )
    for tau in (0.1, 0.5, 0.9):
        assert nc.quantile_loss(y, t, tau=tau, sample_weight=weight)[0] == pytest.approx(
            metrics.mean_pinball_loss(t, y, alpha=tau, sample_weight=weight)
        )
    # The deviance is twice the difference to the loss of a model that knows the counts.
    logs = np.log(np.where(counts > 0, counts, 1.0))
    best = np.average(np.where(counts > 0, counts - counts * logs, 0.0), weights=weight)
    loss = nc.poisson_loss(y[:, :1], counts, sample_weight=weight)[0]
    assert 2 * (loss - best) == pytest.approx(
        metrics.mean_poisson_deviance(counts, np.exp(y[:, 0]), sample_weight=weight)
    )
    labels = (counts > 1).astype(float)
    probability = 1 / (1 + np.exp(-y[:, 0]))
    assert nc.logistic_loss(y[:, :1], labels, sample_weight=weight)[0] == pytest.approx(
        metrics.log_loss(labels, probability, sample_weight=weight)
    )


@pytest.mark.parametrize(
    ("name", "options", "expected", "gradient"),
    [
        # By PyTorch's formulas, reduction "none": mse_loss; huber_loss; poisson_nll_loss(log_input=True);
        # binary_cross_entropy_with_logits. y = [0.5, -1, 3], t = [1, 0, 1].
        ("squared_error", {}, [0.25, 1.0, 4.0], [-1.0, -2.0, 4.0]),
        ("huber_loss", {"delta": 0.75}, [0.125, 0.46875, 1.21875], [-0.5, -0.75, 0.75]),
        ("poisson_loss", {}, [1.1487212707001282, 0.36787944117144233, 17.085536923187668],
         [0.6487212707001282, 0.36787944117144233, 19.085536923187668]),
        ("logistic_loss", {}, [0.4740769841801067, 0.31326168751822286, 0.04858735157374196],
         [-0.3775406687981454, 0.2689414213699951, -0.04742587317756678]),
        ("quantile_loss", {"tau": 0.25}, [0.125, 0.25, 1.5], [-0.25, -0.25, 0.75]),
    ],
)  # fmt: skip
def test_published_formulas(name: str, options: Any, expected: list[float], gradient: list[float]) -> None:
    y, t = np.array([[0.5], [-1.0], [3.0]]), [1, 0, 1]
    loss, found, weight_sum = getattr(nc, name)(y, t, reduction="none", **options)
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(found[:, 0], gradient, rtol=1e-14)
    assert weight_sum == 3.0


# ---------------------------------------------------------------- edges


@every_loss
@every_dtype
def test_a_mean_over_no_weight_is_zero(name: str, dtype: Any) -> None:
    y = np.array([[0.5, -2.0], [1.0, 3.0]], dtype)
    t, weights = np.ones((2, 2), dtype), np.zeros(2)
    loss, gradient, weight_sum = agree(name, y, t, sample_weight=weights)
    assert (loss, weight_sum) == (0.0, 0.0)
    assert not gradient.any()
    found = getattr(reference, name)(y, t, sample_weight=weights)
    assert (found[0], found[2]) == (0.0, 0.0)
    assert not found[1].any()
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', not 'max'"):
        getattr(reference, name)(y, t, reduction="max")


@every_loss
@every_dtype
def test_nan_reaches_its_row_and_its_gradient_alone(name: str, dtype: Any) -> None:
    y, t = np.full((3, 2), 0.5, dtype), np.ones((3, 2), dtype)
    y[0, 1] = t[1, 0] = np.nan
    loss, gradient, _ = getattr(nc, name)(y, t, reduction="none", sample_weight=[1.0, 0.0, 1.0])
    np.testing.assert_array_equal(np.isnan(loss), [True, True, False])
    np.testing.assert_array_equal(np.isnan(gradient), [[False, True], [True, False], [False, False]])
    assert np.isnan(getattr(nc, name)(y, t)[0])


@every_loss
def test_a_row_that_weighs_nothing_counts_nothing(name: str) -> None:
    y, t = np.array([[1.0], [np.inf], [-np.inf]]), np.array([0.0, 0.0, 1.0])
    loss, gradient, weight_sum = getattr(nc, name)(y, t, sample_weight=[2.0, 0.0, 0.0])
    alone = getattr(nc, name)(y[:1], t[:1], sample_weight=[2.0])
    assert (loss, weight_sum) == (alone[0], alone[2])
    np.testing.assert_array_equal(gradient, [alone[1][0], [0.0], [0.0]])
    nothing = getattr(nc, name)(y, t, sample_weight=[0.0, 0.0, 0.0])
    assert (nothing[0], nothing[2]) == (0.0, 0.0)
    assert not nothing[1].any()


@every_loss
def test_no_rows(name: str) -> None:
    loss, gradient, weight_sum = getattr(nc, name)(np.zeros((0, 3)), np.zeros((0, 3)))
    assert (loss, weight_sum, gradient.shape) == (0.0, 0.0, (0, 3))
    assert getattr(nc, name)(np.zeros((0, 1)), [], reduction="none")[0].shape == (0,)
    with pytest.raises(ValueError, match=rf"{name}: outputs is \(3, 0\); there must be at least one output"):
        getattr(nc, name)(np.zeros((3, 0)), np.zeros((3, 0)))


def test_infinite_outputs() -> None:
    y = np.array([[np.inf], [-np.inf]])
    np.testing.assert_array_equal(nc.logistic_loss(y, [1, 0], reduction="none")[0], [0.0, 0.0])
    np.testing.assert_array_equal(nc.logistic_loss(y, [0, 1], reduction="none")[0], [np.inf, np.inf])
    loss, gradient, _ = nc.huber_loss(y, [1, 0], reduction="none")
    np.testing.assert_array_equal(loss, [np.inf, np.inf])
    np.testing.assert_array_equal(gradient[:, 0], [1.0, -1.0])
    loss, gradient, _ = nc.poisson_loss(np.array([[89.0], [-np.inf]], np.float32), [3, 0], reduction="none")
    np.testing.assert_array_equal(loss, [np.inf, 0.0])
    np.testing.assert_array_equal(gradient[:, 0], [np.inf, 0.0])


def test_huge_differences_of_floats_have_a_loss_in_double() -> None:
    big = float(np.finfo(np.float32).max)
    y, t = np.array([[big]], np.float32), np.array([[-big]], np.float32)
    assert nc.squared_error(y, t)[0] == (2 * big) ** 2
    assert nc.quantile_loss(y, t)[0] == big
    assert nc.huber_loss(y, t, delta=2.0)[0] == 2 * (2 * big - 1)


@every_loss
def test_layouts_and_leading_axes(name: str) -> None:
    random = np.random.default_rng(4)
    y, t = random.normal(size=(6, 5)), random.integers(0, 2, (6, 5)).astype(float)
    function = getattr(nc, name)
    expected = function(y, t, reduction="none")
    for ours, theirs in ((y[:, ::-1][:, ::-1], np.asfortranarray(t)), (y.astype(">f8"), t.astype(np.int8))):
        assert_same_bits(function(ours, theirs, reduction="none"), expected)
    loss, gradient, _ = function(y.reshape(2, 3, 5), t.reshape(2, 3, 5), reduction="none")
    assert loss.shape == (2, 3)
    assert gradient.shape == (2, 3, 5)
    assert_same_bits(gradient.reshape(6, 5), expected[1])
    one = function(y[:, :1], t[:, 0])
    for same in (t[:, :1], t[:, 0].tolist(), t[:, 0].astype(bool)):
        assert_same_bits(function(y[:, :1], same), one)


def test_types_promote_as_everywhere() -> None:
    y = np.zeros((2, 1), np.float32)
    assert nc.squared_error(y, [1.0, 2.0])[1].dtype == np.float32
    assert nc.squared_error(y, np.array([1, 2]))[1].dtype == np.float32
    assert nc.squared_error(y, np.array([1.0, 2.0]))[1].dtype == np.float64


Y = np.zeros((3, 2), np.float32)


@every_loss
@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (
            (Y, np.zeros((2, 3))),
            {},
            ValueError,
            r"targets is \(2, 3\) but outputs is \(3, 2\); targets must be \(3, 2\)",
        ),
        ((Y, np.zeros(3)), {}, ValueError, r"targets is \(3,\) but outputs is \(3, 2\)"),
        ((Y[:, :1], np.zeros(2)), {}, ValueError, r"targets must be \(3,\) or \(3, 1\)"),
        ((np.zeros(3), np.zeros(3)), {}, ValueError, "outputs is 1-D"),
        ((Y.tolist(), Y), {}, TypeError, "outputs is a list"),
        ((Y, Y.astype(np.float16)), {}, TypeError, "targets is an array of float16"),
        ((Y, Y.astype(str)), {}, TypeError, "targets is an array of <U"),
        ((Y, np.ma.masked_array(Y)), {}, TypeError, "targets is a masked array"),
        ((Y, Y), {"reduction": "median"}, ValueError, "reduction is 'median'"),
        ((Y, Y), {"sample_weight": np.ones(2)}, ValueError, r"sample_weight is \(2,\) but outputs is \(3, 2\)"),
        ((Y, Y), {"sample_weight": [1, -1, 1]}, ValueError, r"sample_weight\[1\] is -1.0; weights must be"),
        ((Y, Y), {"sample_weight": [1, np.nan, 1]}, ValueError, r"sample_weight\[1\] is nan"),
        ((Y, Y), {"sample_weight": [1, 1, 1e39]}, ValueError, "finite in float32"),
        ((Y, Y), {"sample_weight": [0, 5e-324, 0]}, ValueError, "the first that counts is row 1, sum to less than"),
    ],
)
def test_what_is_refused(name: str, arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{name}: {text}|^{name}: .*{text}"):
        getattr(nc, name)(*arguments, **options)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("logistic_loss", -0.25, r"in \[0, 1\]"),
        ("logistic_loss", 1.5, r"in \[0, 1\]"),
        ("poisson_loss", -2.0, "at least 0"),
    ],
)
def test_a_target_out_of_range_is_named(name: str, value: float, accepted: str) -> None:
    t = np.ones((4, 3))
    t[2, 1] = value
    with pytest.raises(ValueError, match=rf"^{name}: targets has {value} in row 2; targets must be {accepted}$"):
        getattr(nc, name)(np.zeros((4, 3)), t)


@pytest.mark.parametrize(
    ("dtype", "delta", "text"),
    [
        ("float64", 0.0, "delta is 0.0; it must be finite and greater than 0"),
        ("float64", -1.0, "greater than 0"),
        ("float64", np.inf, "finite"),
        ("float64", np.nan, "finite"),
        ("float32", 1e39, "finite in float32"),
        ("float32", 1e-46, "which is 0 in float32"),
    ],
)
def test_delta_out_of_range(dtype: str, delta: float, text: str) -> None:
    with pytest.raises(ValueError, match=f"^huber_loss: .*{text}"):
        nc.huber_loss(np.zeros((1, 1), dtype), [0], delta=delta)


@pytest.mark.parametrize(
    ("dtype", "tau", "text"),
    [
        ("float64", 0.0, r"tau is 0.0; it must be in \(0, 1\)"),
        ("float64", 1.0, r"in \(0, 1\)"),
        ("float64", np.nan, r"in \(0, 1\)"),
        ("float32", 1 - 1e-9, "which is 1 in float32"),
        ("float32", 1e-46, "which is 0 in float32"),
    ],
)
def test_tau_out_of_range(dtype: str, tau: float, text: str) -> None:
    with pytest.raises(ValueError, match=f"^quantile_loss: .*{text}"):
        nc.quantile_loss(np.zeros((1, 1), dtype), [0], tau=tau)
    if dtype == "float32":
        nc.quantile_loss(np.zeros((1, 1)), [0], tau=tau)


@given(st.data(), names)
def test_arguments_are_left_alone(data: st.DataObject, name: str) -> None:
    p = data.draw(loss_problems(name))
    before = plain(p.outputs), plain(p.targets)
    getattr(nc, name)(p.outputs, p.targets, **p.options)
    assert_same_bits((plain(p.outputs), plain(p.targets)), before)
