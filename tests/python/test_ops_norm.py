"""Batch and layer normalisation against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import (
    apply_layout,
    assert_same_bits,
    assert_ulp,
    check_gradients,
    plain,
    reference,
)
from normcore.testing.strategies import NormProblem, matrices, norm_problems, shapes

ANY_SCALE = ("normal", "offset", "integers", "constant", "scaled", "wide_range")


def layer(p: NormProblem) -> Any:
    return nc.layer_norm_forward(p.x, p.gamma, p.beta, eps=p.eps)


def batch(p: NormProblem) -> Any:
    return nc.batch_norm_forward(p.x, p.gamma, p.beta, eps=p.eps)


def ones(x: Any) -> tuple[Any, Any]:
    """gamma 1 and beta 0: the normalisation alone."""
    kind = x.dtype.newbyteorder("=")
    return np.ones(x.shape[1], kind), np.zeros(x.shape[1], kind)


# ---------------------------------------------------------------- forward


EDGES = [
    np.array([[1e6 + 0.25], [1e6], [1e6 - 0.5]], np.float32),
    np.array([[1e-30, 2e-30, 4e-30]], np.float32).T,
    np.array([[1e38, -1e38, 5e37, 1e20]], np.float32).T,
    np.array([[1.0, 1e20, -1e-20, 3.0, 0.0]], np.float32).T,
    np.array([[16777216.0, 16777217.0, 1.0]], np.float32).T,
    np.array([[1e-45, 3e-45, -1e-40]], np.float32).T,
]


@given(matrices(np.float32, fills=ANY_SCALE), st.sampled_from([1e-5, 1e-12, 1.0]))
@example(EDGES[0], 1e-5)
@example(EDGES[1], 1e-5)
@example(EDGES[2], 1e-5)
@example(EDGES[3], 1e-5)
@example(EDGES[4], 1e-5)
@example(EDGES[5], 1e-5)
def test_float32_is_within_2_5_ulp(x: Any, eps: float) -> None:
    y, _, _ = nc.batch_norm_forward(x, *ones(x), eps=eps)
    exact = reference.batch_norm_forward(x, *ones(x), eps=eps).y
    assert_ulp(y, exact, 2.5, axis=0)
    x = x.T
    y, _, _ = nc.layer_norm_forward(x, *ones(x), eps=eps)
    exact = reference.layer_norm_forward(x, *ones(x), eps=eps).y
    assert_ulp(y, exact, 2.5, axis=-1)


@pytest.mark.parametrize("x", EDGES[:-1], ids=["offset", "tiny", "huge", "mixed", "integers"])
def test_float32_is_within_2_5_ulp_without_eps(x: Any) -> None:
    y, _, _ = nc.batch_norm_forward(x, *ones(x), eps=0.0)
    assert_ulp(y, reference.batch_norm_forward(x, *ones(x), eps=0.0).y, 2.5, axis=0)
    x = x.T
    y, _, _ = nc.layer_norm_forward(x, *ones(x), eps=0.0)
    assert_ulp(y, reference.layer_norm_forward(x, *ones(x), eps=0.0).y, 2.5, axis=-1)


def assert_applied(y: Any, exact: Any, p: NormProblem, rstd: Any, axis: int) -> None:
    """The output with gamma and beta: the error of the normalisation scaled by gamma, and two more roundings."""
    gamma, beta = (
        np.abs(p.gamma.astype(exact.dtype)),
        np.abs(p.beta.astype(exact.dtype)),
    )
    xhat = np.abs(exact - p.beta) / np.where(gamma == 0, 1, gamma)
    top = xhat.max(axis=axis, keepdims=True)
    unit = float(np.finfo(y.dtype).eps)
    limit = gamma * (3 * unit * np.maximum(xhat, top / 64)) + unit * (gamma * xhat + beta)
    if y.dtype == np.float64:
        # float64 means are rounded to float64, which an offset makes visible: it is float32 that is promised more
        limit = limit + gamma * rstd * 4 * unit * np.abs(p.x).max(axis=axis, keepdims=True)
    assert (np.abs(y - exact) <= limit + 4 * float(np.finfo(y.dtype).smallest_subnormal)).all()


@given(norm_problems())
def test_layer_norm_matches_the_reference(p: NormProblem) -> None:
    y, mean, rstd = layer(p)
    exact = reference.layer_norm_forward(p.x, p.gamma, p.beta, eps=p.eps)
    assert y.dtype == p.x.dtype.newbyteorder("=")
    assert_applied(y, exact.y, p, rstd[:, None], 1)
    assert_statistics(mean, rstd, exact.mean, exact.rstd, p.x)


@given(norm_problems())
def test_batch_norm_matches_the_reference(p: NormProblem) -> None:
    y, mean, rstd = batch(p)
    exact = reference.batch_norm_forward(p.x, p.gamma, p.beta, eps=p.eps)
    assert y.dtype == p.x.dtype.newbyteorder("=")
    assert_applied(y, exact.y, p, rstd, 0)
    assert_statistics(mean, rstd, exact.mean, exact.rstd, p.x.T)


def assert_statistics(mean: Any, rstd: Any, exact_mean: Any, exact_rstd: Any, rows: Any) -> None:
    """Mean and rstd are doubles: good to a few roundings of the sums, whose condition the number of terms bounds."""
    assert mean.dtype == rstd.dtype == np.float64
    count = rows.shape[1]
    greatest = np.abs(rows.astype(float)).max(axis=1)
    assert (np.abs(mean - exact_mean) <= (count + 8) * 2.0**-53 * greatest).all()
    assert (np.abs(rstd - exact_rstd) <= (count + 8) ** 2 * 2.0**-52 * exact_rstd).all()


@given(norm_problems(), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.booleans())
def test_running_statistics_move(p: NormProblem, momentum: float, unbiased: bool) -> None:
    random = np.random.default_rng(1)
    kind = p.x.dtype.newbyteorder("=")
    d = p.x.shape[1]
    before = random.normal(size=d).astype(kind), random.exponential(size=d).astype(kind)
    mean, var = before[0].copy(), before[1].copy()
    options: dict[str, Any] = {
        "momentum": momentum,
        "unbiased_running_var": unbiased,
        "eps": p.eps,
    }
    done = nc.batch_norm_forward(p.x, p.gamma, p.beta, mean, var, **options)
    assert_same_bits(tuple(done), tuple(batch(p)))
    exact = reference.batch_norm_forward(p.x, p.gamma, p.beta, *before, **options)
    assert exact.running_mean is not None
    assert exact.running_var is not None
    eps = float(np.finfo(kind).eps)
    limit = 2 * eps * (momentum * np.abs(before[0]) + (1 - momentum) * np.abs(p.x.astype(float)).max(axis=0))
    assert (np.abs(mean - exact.running_mean) <= limit).all()
    slack = 2 * eps + (len(p.x) + 8) ** 2 * 2.0**-52
    assert (np.abs(var - exact.running_var) <= slack * np.abs(exact.running_var)).all()
    if momentum == 1.0:
        assert_same_bits((mean, var), before)


@given(norm_problems())
def test_evaluation_uses_the_running_statistics(p: NormProblem) -> None:
    random = np.random.default_rng(2)
    kind = p.x.dtype.newbyteorder("=")
    d = p.x.shape[1]
    running = (
        random.normal(size=d).astype(kind),
        random.exponential(size=d).astype(kind),
    )
    kept = running[0].copy(), running[1].copy()
    y, mean, rstd = nc.batch_norm_forward(p.x, p.gamma, p.beta, *running, training=False, eps=p.eps)
    exact = reference.batch_norm_forward(p.x, p.gamma, p.beta, *running, training=False, eps=p.eps)
    assert_same_bits(running, kept)
    assert_same_bits(mean, kept[0].astype(np.float64))
    np.testing.assert_allclose(rstd, exact.rstd.astype(float), rtol=1e-15)
    eps = float(np.finfo(kind).eps)
    size = np.abs(p.gamma * rstd) * (np.abs(p.x) + np.abs(mean)) + np.abs(p.beta)
    assert (np.abs(y - exact.y) <= 3 * eps * size).all()


# ---------------------------------------------------------------- backward


def assert_dx(dx: Any, exact: Any, p: NormProblem, rstd: Any, axis: int, limit: float) -> None:
    """Dx in ULP of rstd max|dy gamma|, the scale of the gradient along the axis that is normalised.

    Of float64, whose sums are no wider, in ULP of eight times as much at least, and a sixteenth more for each term that
    is added one after the other: half an ULP in the worst case.
    """
    scale = np.expand_dims(rstd * np.abs(p.dy * p.gamma).astype(np.float64).max(axis=axis), axis)
    if dx.dtype == np.float64:
        scale = scale * (2 + np.expand_dims(rstd * np.abs(p.x).max(axis=axis), axis)) * 4
        limit += (min(len(dx), 256) if axis == 0 else dx.shape[1] / 16) / 16
    kind = np.finfo(dx.dtype)
    unit = np.spacing(np.minimum(scale, kind.max).astype(dx.dtype)).astype(np.float64)
    assert float((np.abs(dx - exact) / unit).max(initial=0.0)) <= limit


def assert_parameter_gradients(dgamma: Any, dbeta: Any, exact: Any, p: NormProblem, xhat: Any, offset: float) -> None:
    """Sums over the rows, in double: for float32 data the last rounding of dbeta is all that is left."""
    eps = float(np.finfo(dgamma.dtype).eps)
    least = float(np.finfo(dgamma.dtype).smallest_subnormal)
    size = np.abs(p.dy * xhat).sum(axis=0)
    spread = np.abs(p.dy).astype(float).sum(axis=0)
    sums = len(p.x) * 2.0**-53
    assert (np.abs(dgamma - exact.dgamma) <= (3 * eps + sums) * size + offset * spread + least).all()
    assert (np.abs(dbeta - exact.dbeta) <= (eps + sums) * spread + least).all()


@given(norm_problems())
def test_layer_norm_backward_matches_the_reference(p: NormProblem) -> None:
    _, mean, rstd = layer(p)
    exact_forward = reference.layer_norm_forward(p.x, np.ones_like(p.gamma), np.zeros_like(p.beta), eps=p.eps)
    exact = reference.layer_norm_backward(p.dy, p.x, p.gamma, exact_forward.mean, exact_forward.rstd)
    dx, dgamma, dbeta = nc.layer_norm_backward(p.dy, p.x, p.gamma, mean, rstd)
    assert_dx(dx, exact.dx, p, rstd, 1, 3)
    offset = 0.0 if dx.dtype == np.float32 else float((rstd * np.abs(p.x).max(axis=1)).max()) * 2.0**-50
    assert_parameter_gradients(dgamma, dbeta, exact, p, exact_forward.y, offset)


@given(norm_problems(), st.sampled_from(["fused", "graph"]))
def test_batch_norm_backward_matches_the_reference(p: NormProblem, algorithm: str) -> None:
    _, mean, rstd = batch(p)
    exact_forward = reference.batch_norm_forward(p.x, np.ones_like(p.gamma), np.zeros_like(p.beta), eps=p.eps)
    exact = reference.batch_norm_backward(p.dy, p.x, p.gamma, exact_forward.mean, exact_forward.rstd)
    dx, dgamma, dbeta = nc.batch_norm_backward(p.dy, p.x, p.gamma, mean, rstd, algorithm=algorithm)
    # step by step, intermediates are rounded to the data's precision a few times more
    assert_dx(dx, exact.dx, p, rstd, 0, 3 if algorithm == "fused" else 8)
    offset = 0.0 if dx.dtype == np.float32 else float((rstd * np.abs(p.x).max(axis=0)).max()) * 2.0**-50
    assert_parameter_gradients(dgamma, dbeta, exact, p, exact_forward.y, offset)


@given(norm_problems())
def test_graph_and_fused_agree(p: NormProblem) -> None:
    _, mean, rstd = batch(p)
    fused = nc.batch_norm_backward(p.dy, p.x, p.gamma, mean, rstd, algorithm="fused")
    graph = nc.batch_norm_backward(p.dy, p.x, p.gamma, mean, rstd, algorithm="graph")
    assert_dx(fused[0], graph[0].astype(np.longdouble), p, rstd, 0, 10)
    eps = float(np.finfo(fused[0].dtype).eps)
    for a, b in zip(fused[1:], graph[1:], strict=True):
        size = np.abs(p.dy).astype(float).sum(axis=0) * np.sqrt(len(p.x))
        assert (np.abs(a - b) <= 4 * eps * size).all()


def check_norm_gradients(n: int, d: int, forward: Any, backward: Any, **options: Any) -> None:
    random = np.random.default_rng(n * 100 + d)
    x, dy = random.normal(size=(2, n, d))
    inputs = {"x": x, "gamma": random.normal(size=d), "beta": random.normal(size=d)}
    _, mean, rstd = forward(**inputs, eps=0.1)
    found = backward(dy, x, inputs["gamma"], mean, rstd, **options)
    check_gradients(lambda **a: forward(**a, eps=0.1)[0], inputs, dict(zip(inputs, found, strict=True)), dy)


@pytest.mark.parametrize("algorithm", ["fused", "graph"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 5), (13, 2), (5, 67), (263, 2)])
def test_batch_norm_gradients_match_finite_differences(n: int, d: int, algorithm: str) -> None:
    check_norm_gradients(n, d, nc.batch_norm_forward, nc.batch_norm_backward, algorithm=algorithm)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 1), (1, 2), (2, 3), (3, 13), (2, 257), (258, 2)])
def test_layer_norm_gradients_match_finite_differences(n: int, d: int) -> None:
    check_norm_gradients(n, d, nc.layer_norm_forward, nc.layer_norm_backward)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (7, 13)])
def test_evaluation_gradients_match_finite_differences(n: int, d: int) -> None:
    random = np.random.default_rng(d)
    x, dy = random.normal(size=(n, d)), random.normal(size=(n, d))
    gamma, beta, running_mean = random.normal(size=(3, d))
    running_var = random.exponential(size=d)
    _, mean, rstd = nc.batch_norm_forward(x, gamma, beta, running_mean, running_var, training=False)
    dx, dgamma, dbeta = nc.batch_norm_backward(dy, x, gamma, mean, rstd, training=False)
    check_gradients(
        lambda **a: nc.batch_norm_forward(a["x"], a["gamma"], a["beta"], running_mean, running_var, training=False)[0],
        {"x": x, "gamma": gamma, "beta": beta},
        {"x": dx, "gamma": dgamma, "beta": dbeta},
        dy,
    )


# ---------------------------------------------------------------- properties


@given(norm_problems(shape=shapes(min_rows=2)))
def test_batch_norm_output_has_mean_0_and_variance_1(p: NormProblem) -> None:
    y, _, rstd = nc.batch_norm_forward(p.x, *ones(p.x), eps=p.eps)
    n, top = len(p.x), np.abs(y).max(axis=0)
    tolerance = 8 * float(np.finfo(y.dtype).eps) * (top + rstd * np.abs(p.x).max(axis=0) * (y.dtype == np.float64))
    assert (np.abs(y.astype(np.longdouble).mean(axis=0)) <= tolerance).all()
    # var / (var + eps) = 1 - eps rstd^2
    expected = 1 - p.eps * rstd**2
    actual = np.square(y.astype(np.longdouble)).sum(axis=0) / n
    assert (np.abs(actual - expected) <= 4 * tolerance * top + 1e-12).all()


@given(
    matrices(None, shapes(max_rows=10, large=True), fills=("integers",)),
    st.sampled_from([-65536.0, -3.0, 512.0, 1048576.0]),
)
def test_layer_norm_ignores_a_shift(x: Any, shift: float) -> None:
    moved = x + x.dtype.type(shift)  # exact: small integers
    y, _, rstd = nc.layer_norm_forward(x, *ones(x))
    again, _, rstd_again = nc.layer_norm_forward(moved, *ones(x))
    if y.dtype == np.float32:  # sums are taken about the row's first element
        assert_same_bits(rstd_again, rstd)
        assert_ulp(again, y, 5, axis=-1)
    else:
        # float64 means are rounded to float64, in proportion to the shift
        slack = 4 * float(np.finfo(y.dtype).eps) * (8 + abs(shift)) * rstd[:, None]
        assert (np.abs(again - y) <= slack).all()
        np.testing.assert_allclose(rstd_again, rstd, rtol=1e-13)


@given(
    matrices(None, shapes(max_rows=10, large=True), fills=("normal", "offset")),
    st.integers(-20, 20),
    st.booleans(),
)
def test_scaling_by_a_power_of_two_changes_nothing_without_eps(x: Any, power: int, columns: bool) -> None:
    x = plain(x)
    assume(x.shape[1 - columns] > 1)
    function = nc.batch_norm_forward if columns else nc.layer_norm_forward
    y, mean, rstd = function(x, *ones(x), eps=0.0)
    scaled, scaled_mean, scaled_rstd = function(x * x.dtype.type(2.0**power), *ones(x), eps=0.0)
    assert_same_bits(scaled, y)
    assert_same_bits(scaled_mean, mean * 2.0**power)
    assert_same_bits(scaled_rstd, rstd * 2.0**-power)


@given(norm_problems(shape=shapes(max_rows=10, large=True)))
def test_gradient_of_the_sum_of_a_layer_norm_is_0(p: NormProblem) -> None:
    gamma, _ = ones(p.x)
    _, mean, rstd = nc.layer_norm_forward(p.x, *ones(p.x), eps=p.eps)
    dx, _, _ = nc.layer_norm_backward(np.ones_like(plain(p.x)), p.x, gamma, mean, rstd)
    unit = float(np.finfo(dx.dtype).eps) * rstd[:, None]
    if dx.dtype == np.float64:
        unit = unit * (1 + (rstd * np.abs(p.x).max(axis=1))[:, None])
    assert (np.abs(dx) <= 3 * unit).all()


@given(norm_problems(fills=("constant",), shape=shapes(min_rows=2, max_rows=300, large=True)))
@example(
    NormProblem(
        np.full((3, 2), 1e10, np.float32),
        np.ones(2, np.float32),
        np.ones(2, np.float32),
        np.eye(3, 2, dtype=np.float32),
        1e-5,
    )
)
@example(
    NormProblem(
        np.full((700, 1), 0.1, np.float32),
        np.ones(1, np.float32),
        np.ones(1, np.float32),
        np.ones((700, 1), np.float32),
        1e-5,
    )
)
@example(  # a float64 sum of 255 terms one after the other
    NormProblem(
        np.full((255, 3), -7.01713076e-05),
        np.ones(3),
        np.zeros(3),
        np.tile(np.random.default_rng(0).standard_normal(3), (255, 1)),
        1e-5,
    )
)
def test_constant_data_give_exactly_beta(p: NormProblem) -> None:
    expected = np.broadcast_to(p.beta, p.x.shape)
    y, mean, rstd = batch(p)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(mean, p.x[0].astype(float))
    for algorithm in ("fused", "graph"):
        dx, dgamma, _ = nc.batch_norm_backward(p.dy, p.x, p.gamma, mean, rstd, algorithm=algorithm)
        np.testing.assert_array_equal(dgamma, 0)
        exact = reference.batch_norm_backward(p.dy, p.x, p.gamma, mean, rstd)
        assert_dx(dx, exact.dx, p, rstd, 0, 3 if algorithm == "fused" else 8)
    y, mean, rstd = layer(p)
    np.testing.assert_array_equal(y, expected)
    _, dgamma, _ = nc.layer_norm_backward(p.dy, p.x, p.gamma, mean, rstd)
    np.testing.assert_array_equal(dgamma, 0)


@given(norm_problems(fills=ANY_SCALE, shape=shapes(max_columns=1, large=True)))
def test_layer_norm_of_one_column_is_beta(p: NormProblem) -> None:
    if p.x.shape[1] != 1:
        return
    y, mean, rstd = layer(p)
    np.testing.assert_array_equal(y, np.broadcast_to(p.beta, p.x.shape))
    dx, dgamma, dbeta = nc.layer_norm_backward(p.dy, p.x, p.gamma, mean, rstd)
    assert not dx.any()
    assert not dgamma.any()
    exact = plain(p.dy).astype(np.longdouble).sum(axis=0)
    assert_ulp(dbeta, exact, 1 + len(p.x) * np.abs(p.dy).sum() / max(float(abs(exact[0])), 1e-30))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_variance_and_no_eps_is_nan(dtype: Any) -> None:
    x = np.full((3, 2), 2, dtype)
    for function in (nc.batch_norm_forward, nc.layer_norm_forward):
        y, _, rstd = function(x, *ones(x), eps=0.0)
        assert np.isnan(y).all()
        assert (rstd == np.inf).all()


@given(
    norm_problems(),
    st.sampled_from(["broadcast", "reversed_rows", "every_other_column"]),
)
def test_parameters_may_have_any_layout(p: NormProblem, layout: str) -> None:
    gamma = apply_layout(p.gamma[None, :], layout)[0]
    beta = apply_layout(p.beta[None, :], layout)[0]
    assert_same_bits(
        tuple(nc.layer_norm_forward(p.x, gamma, beta)),
        tuple(nc.layer_norm_forward(p.x, p.gamma, p.beta)),
    )
    assert_same_bits(
        tuple(nc.batch_norm_forward(p.x, gamma, beta)),
        tuple(nc.batch_norm_forward(p.x, p.gamma, p.beta)),
    )
