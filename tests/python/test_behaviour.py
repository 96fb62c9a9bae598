"""What each operation does at the edges, one test for each row of that table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.mlp import MLP
from normcore.testing import assert_same_bits, assert_ulp, plain, reference, use_isa
from normcore.testing.strategies import dtypes, matrices, norm_problems, shapes
from operations import OPERATIONS, ROW_WISE, Operation

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
FLOATS = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])


def some(*shape: int, dtype: Any = F32, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def ids(operation: Operation) -> str:
    return operation.name


def make(operation: Operation, n: int, d: int, dtype: Any = F32) -> dict[str, Any]:
    return operation.make(n, d, dtype, np.random.default_rng(3))


EVERY = pytest.mark.parametrize("operation", OPERATIONS, ids=ids)

# ---------------------------------------------------------------- all operations


@FLOATS
@EVERY
def test_no_rows_give_an_empty_result_and_zero_gradients(operation: Operation, dtype: Any) -> None:
    arrays = make(operation, 0, 5, dtype)
    results = operation(arrays)
    full = operation(make(operation, 3, 5, dtype))
    for index, (result, usual) in enumerate(zip(results, full, strict=True)):
        if result is None:
            assert usual is None
            continue
        empty, usual = np.asarray(result), np.asarray(usual)
        assert empty.dtype == usual.dtype
        if operation.name == "batch_norm_forward_training" and index >= 3:
            assert_same_bits(empty, arrays[("running_mean", "running_var")[index - 3]])
        elif operation.name == "batch_norm_forward_evaluation" and index >= 1:
            assert empty.shape == usual.shape
        elif empty.size:
            assert empty.shape == usual.shape
            assert not empty.any(), f"result {index} of {operation.name} with no rows is not 0"
        else:
            assert empty.shape[0] == 0


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize(
    "operation",
    [
        o
        for o in OPERATIONS
        if not o.name.startswith(("affine", "softmax_cross_entropy", "squared_error")) and "loss" not in o.name
    ],
    ids=ids,
)
def test_rows_without_columns_work(operation: Operation, n: int) -> None:
    for result in operation(make(operation, n, 0)):
        # all that is left are sums of nothing, and the statistics of empty rows
        assert result is None or np.ndim(result) == 0 or np.size(result) in (0, n)


def test_a_softmax_of_no_classes_is_empty_and_a_loss_refused() -> None:
    assert nc.softmax(np.zeros((3, 0), F32)).shape == (3, 0)
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: .*\(3, 0\)"):
        nc.softmax_cross_entropy(np.zeros((3, 0), F32), np.zeros(3, int))
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(np.zeros((0, 0), F32), np.zeros(0, int))
    assert (loss, dlogits.shape, weight_sum) == (0.0, (0, 0), 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operation", ROW_WISE, ids=ids)
@given(st.data(), shapes(min_rows=2, max_rows=20, max_columns=40, large=True), dtypes())
def test_a_bad_row_poisons_only_itself(
    operation: Operation,
    bad: float,
    data: st.DataObject,
    shape: tuple[int, int],
    dtype: Any,
) -> None:
    arrays = make(operation, *shape, dtype)
    row = data.draw(st.integers(0, shape[0] - 1))
    name = data.draw(st.sampled_from([k for k in operation.by_row if k in ("x", "dy", "y", "logits", "outputs")]))
    column = data.draw(st.integers(0, arrays[name].shape[1] - 1))
    clean = operation(arrays)
    spoilt = arrays[name].copy()
    spoilt[row, column] = bad
    dirty = operation(arrays | {name: spoilt})
    others = np.arange(shape[0]) != row
    for index in operation.row_results:
        assert_same_bits(
            dirty[index][others],
            clean[index][others],
            f"{operation.name}, result {index}",
        )
        if np.isnan(bad) and operation.name in (
            "softmax",
            "log_softmax",
            "softmax_cross_entropy_none",
            "layer_norm_forward",
        ):
            assert np.isnan(dirty[index][row]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", ["fused", "graph"])
@given(norm_problems(shape=shapes(max_rows=300, max_columns=20, large=True)), st.integers(0, 10**6))
def test_a_bad_column_of_batch_norm_poisons_only_itself(algorithm: str, bad: float, p: Any, place: int) -> None:
    row, column = place % p.x.shape[0], place // 7 % p.x.shape[1]
    x, dy = plain(p.x), plain(p.dy)
    y, mean, rstd = nc.batch_norm_forward(x, p.gamma, p.beta)
    clean = (
        y,
        *nc.batch_norm_backward(dy, x, p.gamma, mean, rstd, algorithm=algorithm),
        mean,
        rstd,
    )
    x[row, column] = bad
    y, mean, rstd = nc.batch_norm_forward(x, p.gamma, p.beta)
    dirty = (
        y,
        *nc.batch_norm_backward(dy, x, p.gamma, mean, rstd, algorithm=algorithm),
        mean,
        rstd,
    )
    others = np.arange(x.shape[1]) != column
    for before, after in zip(clean, dirty, strict=True):
        assert_same_bits(after[..., others], before[..., others])
    assert np.isnan(dirty[0][:, column]).all()


@FLOATS
@EVERY
def test_every_nan_is_canonical(operation: Operation, dtype: Any) -> None:
    unsigned = np.uint32 if dtype == F32 else np.uint64
    signalling = {F32: 0xFF812345, F64: 0xFFF4000000012345}[dtype]
    arrays = make(operation, 6, 21, dtype)
    for name, array in arrays.items():
        if array.dtype == dtype and name not in (
            "running_var",
            "labels",
            "class_weight",
            "sample_weight",
        ):
            arrays[name] = array.copy()
            arrays[name].reshape(-1).view(unsigned)[::5] = signalling
    found = 0
    for isa in nc.available_isas():
        with use_isa(isa):
            results = operation(arrays)
        for result in results:
            if result is not None:
                array = np.atleast_1d(np.asarray(result))
                width = np.uint32 if array.dtype == F32 else np.uint64
                wanted = 0x7FC00000 if array.dtype == F32 else 0x7FF8000000000000
                nans = np.isnan(array)
                found += int(nans.sum())
                assert (array[nans].view(width) == wanted).all()
    assert found


# ---------------------------------------------------------------- affine


@FLOATS
def test_affine_without_inputs_is_the_bias(dtype: Any) -> None:
    b = some(4, dtype=dtype)
    x, w = np.zeros((3, 0), dtype), np.zeros((0, 4), dtype)
    assert_same_bits(nc.affine_forward(x, w, b), np.tile(b, (3, 1)))
    assert_same_bits(nc.affine_forward(x, w), np.zeros((3, 4), dtype))
    assert_same_bits(nc.affine_forward(x, w, b, relu=True), np.tile(np.where(b > 0, b, 0), (3, 1)))
    dx, dw, db = nc.affine_backward(np.ones((3, 4), dtype), x, w)
    assert (dx.shape, dw.shape) == ((3, 0), (0, 4))
    assert_same_bits(db, np.full(4, 3, dtype))


@FLOATS
def test_affine_without_outputs(dtype: Any) -> None:
    x, w = some(3, 2, dtype=dtype), np.zeros((2, 0), dtype)
    assert nc.affine_forward(x, w, np.zeros(0, dtype)).shape == (3, 0)
    dx, dw, db = nc.affine_backward(np.zeros((3, 0), dtype), x, w)
    assert_same_bits(
        (dx, dw, db),
        (np.zeros((3, 2), dtype), np.zeros((2, 0), dtype), np.zeros(0, dtype)),
    )


# ---------------------------------------------------------------- normalisation


@given(
    norm_problems(
        shape=st.tuples(st.just(1), st.integers(1, 40)),
        fills=("normal", "offset", "scaled"),
    )
)
@example(None)
def test_batch_norm_of_one_row_is_beta(p: Any) -> None:
    if p is None:
        x, gamma, beta, dy, eps = (
            some(1, 4) * np.float32(1e10),
            some(4),
            some(4, seed=1),
            some(1, 4, seed=2),
            1e-5,
        )
    else:
        x, gamma, beta, dy, eps = p.x, p.gamma, p.beta, p.dy, p.eps
    y, mean, rstd = nc.batch_norm_forward(x, gamma, beta, eps=eps)
    np.testing.assert_array_equal(y, beta[None, :])
    np.testing.assert_array_equal(mean, x[0].astype(float))
    np.testing.assert_allclose(rstd, 1 / np.sqrt(eps), rtol=1e-15)
    for algorithm in ("fused", "graph"):
        dx, dgamma, dbeta = nc.batch_norm_backward(dy, x, gamma, mean, rstd, algorithm=algorithm)
        assert not dx.any()
        assert not dgamma.any()
        np.testing.assert_array_equal(dbeta, dy[0])


@FLOATS
def test_batch_norm_running_statistics(dtype: Any) -> None:
    x = np.array([[1, 2], [3, 6]], dtype)
    gamma, beta = np.ones(2, dtype), np.zeros(2, dtype)

    def after(**options: Any) -> tuple[Any, Any]:
        mean, var = np.zeros(2, dtype), np.ones(2, dtype)
        nc.batch_norm_forward(x, gamma, beta, mean, var, **options)
        return mean, var

    eps = float(np.finfo(dtype).eps)
    mean, var = after()
    np.testing.assert_allclose(mean, [0.2, 0.4], rtol=2 * eps)  # 0.9 of 0, 0.1 of 2 and 4
    np.testing.assert_allclose(var, [0.9 + 0.1 * 1, 0.9 + 0.1 * 4], rtol=2 * eps)  # biased variances 1 and 4
    _, var = after(unbiased_running_var=True)
    np.testing.assert_allclose(var, [0.9 + 0.1 * 2, 0.9 + 0.1 * 8], rtol=2 * eps)
    for momentum, expected in ((0.0, [2, 4]), (1.0, [0, 0]), (0.5, [1, 2])):
        np.testing.assert_array_equal(after(momentum=momentum)[0], expected)


@FLOATS
def test_unbiased_running_variance_of_one_row_is_the_biased_one(dtype: Any) -> None:
    mean, var = np.zeros(1, dtype), np.ones(1, dtype)
    options: dict[str, Any] = {"unbiased_running_var": True, "momentum": 0.5}
    nc.batch_norm_forward(
        np.full((1, 1), 3, dtype),
        np.ones(1, dtype),
        np.ones(1, dtype),
        mean,
        var,
        **options,
    )
    assert (mean[0], var[0]) == (1.5, 0.5)


def test_batch_norm_documents_the_momentum_of_pytorch() -> None:
    assert "PyTorch" in nc.batch_norm_forward.__doc__
    assert "1 minus" in nc.batch_norm_forward.__doc__


@FLOATS
@pytest.mark.parametrize("algorithm", ["fused", "graph"])
def test_batch_norm_evaluation_backward(dtype: Any, algorithm: str) -> None:
    x, dy, gamma = (
        some(7, 5, dtype=dtype),
        some(7, 5, dtype=dtype, seed=1),
        some(5, dtype=dtype, seed=2),
    )
    running_mean, running_var = (
        some(5, dtype=dtype, seed=3),
        some(5, dtype=dtype, seed=4) ** 2,
    )
    _, mean, rstd = nc.batch_norm_forward(x, gamma, gamma, running_mean, running_var, training=False, eps=1e-3)
    dx, _, _ = nc.batch_norm_backward(dy, x, gamma, mean, rstd, training=False, algorithm=algorithm)
    expected = dy.astype(np.longdouble) * gamma / np.sqrt(running_var.astype(np.longdouble) + np.longdouble(1e-3))
    assert_ulp(dx, expected, 2.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_least_eps_of_a_norm_is_right_on_constant_columns_and_rows(dtype: Any) -> None:
    least = float(np.finfo(dtype).tiny)
    for rows in (1, 2, 5, 300):
        x, gamma, beta = (
            np.full((rows, 40), 3, dtype),
            np.linspace(-2, 2, 40).astype(dtype),
            np.arange(40).astype(dtype),
        )
        mean, var, dy = np.full(40, 3, dtype), np.zeros(40, dtype), np.zeros((rows, 40), dtype)
        for function, backward in (
            (nc.batch_norm_forward, nc.batch_norm_backward),
            (nc.batch_norm_forward, partial(nc.batch_norm_backward, algorithm="graph")),
            (nc.layer_norm_forward, nc.layer_norm_backward),
        ):
            y, *statistics = function(x, gamma, beta, eps=least)
            np.testing.assert_array_equal(y, np.broadcast_to(beta, y.shape))
            for gradient in backward(dy, x, gamma, *statistics):
                np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
        y, _, _ = nc.batch_norm_forward(x, gamma, beta, mean, var, training=False, eps=least)
        np.testing.assert_array_equal(y, np.broadcast_to(beta, y.shape))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_refuse_an_eps_that_is_subnormal(dtype: Any) -> None:
    x, v = some(4, 5, dtype=dtype), some(5, dtype=dtype)
    least = float(np.finfo(dtype).tiny)
    limit = rf"it must be 0 or at least {least:.8g}, the least normal {dtype}$"
    for eps in (np.nextafter(least, 0), 5e-324):
        for function in (nc.batch_norm_forward, nc.layer_norm_forward):
            with pytest.raises(ValueError, match=rf"^{function.__name__}: eps is .*; {limit}"):
                function(x, v, v, eps=eps)
        for norm in (None, "batch", "layer"):
            with pytest.raises(ValueError, match=rf"^MLP: eps is .*; {limit}"):
                MLP([3, 4, 2], norm=norm, dtype=dtype, eps=eps)
    MLP([3, 4, 2], norm="batch", dtype=dtype, eps=least)


def test_norms_have_eps_inside_the_root_and_1e_5_by_default() -> None:
    x = np.array([[1.0], [-1.0]]) * 1e-3
    one, zero = np.ones(1), np.zeros(1)
    expected = 1 / np.sqrt(1e-6 + 1e-5)
    np.testing.assert_allclose(nc.batch_norm_forward(x, one, zero)[2], expected, rtol=1e-14)
    np.testing.assert_allclose(nc.layer_norm_forward(x.T, np.ones(2), np.zeros(2))[2], expected, rtol=1e-14)


# ---------------------------------------------------------------- softmax and cross-entropy


@pytest.mark.parametrize("size", [1e4, 3e38, 3.4028234e38])
@pytest.mark.parametrize("function", [nc.softmax, nc.log_softmax])
def test_softmax_of_huge_logits(function: Any, size: float) -> None:
    x = np.array(
        [
            [size, -size],
            [size, size],
            [-size, -size],
            [size, np.float32(size) * np.float32(0.5)],
        ],
        F32,
    )
    exact = {nc.softmax: reference.softmax, nc.log_softmax: reference.log_softmax}[function](x)
    y = function(x)
    assert not np.isnan(y).any()
    with np.errstate(over="ignore"):
        assert_ulp(y, exact, 1)


@FLOATS
@pytest.mark.parametrize(
    "bad",
    [[-np.inf] * 3, [np.inf, 0, 0], [0, np.nan, 0], [np.inf, -np.inf, 1], [np.inf] * 3],
)
def test_softmax_of_an_impossible_row_is_nan(bad: list[float], dtype: Any) -> None:
    x = np.array([[1, 2, 3], bad, [3, 2, 1]], dtype)
    for function in (nc.softmax, nc.log_softmax):
        y = function(x)
        assert np.isnan(y[1]).all()
        assert not np.isnan(y[[0, 2]]).any()
    loss, dlogits, _ = nc.softmax_cross_entropy(x, np.array([0, 1, 2]), reduction="none")
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
    np.testing.assert_array_equal(np.isnan(dlogits).all(axis=1), [False, True, False])


@FLOATS
def test_softmax_of_some_minus_infinities(dtype: Any) -> None:
    x = np.array([[-np.inf, 0, -np.inf, 0]], dtype)
    np.testing.assert_array_equal(nc.softmax(x), [[0, 0.5, 0, 0.5]])
    np.testing.assert_array_equal(nc.log_softmax(x)[0, [0, 2]], -np.inf)
    loss, dlogits, _ = nc.softmax_cross_entropy(x, np.array([0]))
    assert loss == np.inf
    np.testing.assert_array_equal(dlogits, [[-1, 0.5, 0, 0.5]])


@FLOATS
def test_cross_entropy_is_never_clipped(dtype: Any) -> None:
    """log(p) would give infinity, or the logarithm of a clipping constant, where the logits know better."""
    x = np.array([[0, 1e4], [0, 1e30], [1e30, 0], [0, -80]], dtype)
    loss, _, _ = nc.softmax_cross_entropy(x, np.zeros(4, int), reduction="none")
    np.testing.assert_allclose(loss, [1e4, float(x[1, 1]), 0, 1.8048513878454153e-35], rtol=3e-7)
    assert loss[2] == 0


# ---------------------------------------------------------------- dropout


@given(matrices(special=True))
def test_dropout_that_keeps_everything_copies(x: Any) -> None:
    y = nc.dropout_forward(x, 1.0, seed=0)
    expected = plain(x)
    expected[np.isnan(expected)] = np.nan
    assert_same_bits(y, expected)


def test_dropout_is_inverted() -> None:
    y = nc.dropout_forward(np.ones((50, 50), F32), 0.25, seed=4)
    assert set(np.unique(y)) == {0.0, 4.0}
