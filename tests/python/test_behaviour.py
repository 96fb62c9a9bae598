"""What each operation does at the edges, one test for each row of that table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.mlp import MLP
from normcore.testing import assert_same_bits, assert_ulp, reference, ulp_error, use_isa
from normcore.testing.strategies import (
    LABEL_DTYPES,
    dtypes,
    matrices,
    norm_problems,
    plain,
    shapes,
)
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

# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("rank", [1, 3, 4])
@pytest.mark.parametrize(
    "name",
    ["relu_forward", "softmax", "log_softmax", "layer_norm", "dropout", "affine"],
)
def test_leading_axes_flatten_into_rows(name: str, rank: int) -> None:
    shape = (2, 3, 2, 5)[4 - rank :]
    x, gamma, beta = some(*shape), some(5, seed=1), some(5, seed=2)
    flat = x.reshape(-1, 5)
    calls: dict[str, Callable[[Any], tuple[Any, ...]]] = {
        "relu_forward": lambda x: (nc.relu_forward(x),),
        "softmax": lambda x: (nc.softmax(x),),
        "log_softmax": lambda x: (nc.log_softmax(x),),
        "layer_norm": lambda x: nc.layer_norm_forward(x, gamma, beta),
        "dropout": lambda x: (nc.dropout_forward(x, 0.5, seed=1),),
        "affine": lambda x: (nc.affine_forward(x, some(5, 4), some(4)),),
    }
    for high, low in zip(calls[name](x), calls[name](flat), strict=True):
        assert high.shape[: rank - 1] == shape[:-1]
        assert_same_bits(np.reshape(high, low.shape), low)


def test_leading_axes_flatten_into_rows_for_batch_statistics_and_losses() -> None:
    x, gamma, beta, dy = (
        some(2, 3, 5),
        some(5, seed=1),
        some(5, seed=2),
        some(2, 3, 5, seed=3),
    )
    y, mean, rstd = nc.batch_norm_forward(x, gamma, beta)
    flat = nc.batch_norm_forward(x.reshape(6, 5), gamma, beta)
    assert_same_bits((y.reshape(6, 5), mean, rstd), tuple(flat))
    dx, dgamma, dbeta = nc.batch_norm_backward(dy, x, gamma, mean, rstd)
    expected = nc.batch_norm_backward(dy.reshape(6, 5), x.reshape(6, 5), gamma, mean, rstd)
    assert_same_bits((dx.reshape(6, 5), dgamma, dbeta), tuple(expected))
    labels = np.arange(6) % 5
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(x, labels.reshape(2, 3), reduction="none")
    expected = nc.softmax_cross_entropy(x.reshape(6, 5), labels, reduction="none")
    assert_same_bits((loss.reshape(6), dlogits.reshape(6, 5), weight_sum), tuple(expected))


@EVERY
def test_inputs_are_not_changed(operation: Operation) -> None:
    arrays = make(operation, 7, 9)
    kept = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    operation(arrays)
    assert_same_bits(arrays, kept)


def _expecting_floats() -> list[Any]:
    cases = []
    for operation in OPERATIONS:
        if operation.name.startswith("optimizer"):
            continue
        names = [k for k, v in make(operation, 2, 3).items() if v.dtype == F32]
        cases += [pytest.param(operation, k, id=f"{operation.name}-{k}") for k in names if not k.startswith("running")]
    return cases


@pytest.mark.parametrize(("operation", "name"), _expecting_floats())
def test_other_dtypes_are_a_type_error_that_names_what_is_accepted(operation: Operation, name: str) -> None:
    soft = operation.name == "softmax_cross_entropy_none" and name == "labels"
    for other in (
        "float16",
        "int64",
        "int32",
        "uint8",
        "bool",
        "complex64",
        "longdouble",
        "object",
        "U3",
    ):
        arrays = make(operation, 2, 3)
        if soft and np.dtype(other).kind in "iub":
            continue  # these would be class indices
        arrays[name] = arrays[name].astype(other)
        with pytest.raises(TypeError, match=rf"{name}.*float32.*float64"):
            operation(arrays)


@pytest.mark.parametrize(("operation", "name"), _expecting_floats())
def test_lists_and_masked_arrays_are_refused(operation: Operation, name: str) -> None:
    arrays = make(operation, 2, 3)
    masked = np.ma.masked_array(arrays[name], mask=np.zeros(arrays[name].shape, bool))
    with pytest.raises(TypeError, match=rf"{name} is a masked array"):
        operation(arrays | {name: masked})
    if not (operation.name == "softmax_cross_entropy_none" and name == "labels"):
        with pytest.raises(TypeError, match=rf"{name} is a list"):
            operation(arrays | {name: arrays[name].tolist()})


@pytest.mark.parametrize(
    "operation",
    [o for o in OPERATIONS if not o.name.startswith(("optimizer", "sum_of", "dropout", "batch_norm_forward_training"))],
    ids=ids,
)
def test_mixed_precisions_promote(operation: Operation) -> None:
    arrays = make(operation, 5, 7)
    wide = {k: v.astype(F64) if v.dtype == F32 else v for k, v in arrays.items()}
    names = [k for k, v in arrays.items() if v.dtype == F32 and not k.startswith("running")]
    if operation.name == "batch_norm_forward_evaluation":
        arrays = arrays | {k: wide[k] for k in ("running_mean", "running_var")}
    expected = operation(wide)
    for name in names:
        if len(names) > 1:
            assert_same_bits(
                operation(arrays | {name: wide[name]}),
                expected,
                f"{operation.name} with float64 {name}",
            )


RESULTS: dict[str, Callable[..., Any]] = {
    "affine_forward": lambda x, out: nc.affine_forward(x, some(5, 5, dtype=x.dtype), out=out),
    "relu_forward": lambda x, out: nc.relu_forward(x, out=out),
    "relu_backward": lambda x, out: nc.relu_backward(x, some(4, 5, dtype=x.dtype, seed=1), out=out),
    "silu_forward": lambda x, out: nc.silu_forward(x, out=out),
    "silu_backward": lambda x, out: nc.silu_backward(x, some(4, 5, dtype=x.dtype, seed=1), out=out),
    "softmax": lambda x, out: nc.softmax(x, out=out),
    "log_softmax": lambda x, out: nc.log_softmax(x, out=out),
    "softmax_backward": lambda x, out: nc.softmax_backward(x, some(4, 5, dtype=x.dtype, seed=1), out=out),
    "log_softmax_backward": lambda x, out: nc.log_softmax_backward(x, some(4, 5, dtype=x.dtype, seed=1), out=out),
    "batch_norm_forward": lambda x, out: nc.batch_norm_forward(
        x, some(5).astype(x.dtype), some(5).astype(x.dtype), out=out
    ),
    "layer_norm_forward": lambda x, out: nc.layer_norm_forward(
        x, some(5).astype(x.dtype), some(5).astype(x.dtype), out=out
    ),
    "dropout_forward": lambda x, out: nc.dropout_forward(x, 0.5, seed=1, out=out),
    "dropout_backward": lambda x, out: nc.dropout_backward(x, 0.5, seed=1, out=out),
}
WITH_OUT = pytest.mark.parametrize("name", RESULTS)


@WITH_OUT
@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((4, 6), F32), r"out is \(4, 6\)"),
        (np.zeros((5, 5), F32), r"out is \(5, 5\)"),
        (np.zeros(20, F32), r"out is \(20,\)"),
        (np.zeros((1, 4, 5), F32), r"out is \(1, 4, 5\)"),
        (
            np.zeros((4, 5), F64),
            r"out is an array of float64 but the result is float32",
        ),
        (np.zeros((4, 5), ">f4"), r"out is an array of >f4"),
        (np.broadcast_to(np.zeros(5, F32), (4, 5)), r"out"),
    ],
    ids=["columns", "rows", "rank", "leading_axis", "dtype", "byte_order", "read_only"],
)
def test_out_must_fit_exactly(name: str, out: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        RESULTS[name](some(4, 5), out)
    assert not out.any()


@WITH_OUT
def test_out_must_be_writable(name: str) -> None:
    out = np.zeros((4, 5), F32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=rf"{name}: out is read-only"):
        RESULTS[name](some(4, 5), out)


@WITH_OUT
@pytest.mark.parametrize("shift", [1, 4, 5, 6, 19])
def test_out_must_not_overlap_the_input(name: str, shift: int) -> None:
    memory = some(1, 40).ravel()
    x, out = memory[:20].reshape(4, 5), memory[shift : shift + 20].reshape(4, 5)
    kept = memory.copy()
    with pytest.raises(ValueError, match=rf"{name}: out overlaps"):
        RESULTS[name](x, out)
    assert_same_bits(memory, kept)


@WITH_OUT
def test_out_may_be_the_input(name: str) -> None:
    x = some(4, 5)
    expected = RESULTS[name](x, None)
    result = RESULTS[name](x, x)
    first = result[0] if isinstance(result, tuple) else result
    assert first is x
    assert_same_bits(x, expected[0] if isinstance(expected, tuple) else expected)


@WITH_OUT
@pytest.mark.parametrize(
    "view",
    [
        lambda: np.zeros((4, 10), F32)[:, ::2],
        lambda: np.zeros((5, 4), F32).T,
        lambda: np.zeros((4, 5), F32)[::-1, ::-1],
        lambda: np.zeros((8, 9), F32)[1::2, 2:7],
        lambda: np.frombuffer(bytearray(81), np.uint8)[1:].view(F32).reshape(4, 5),
    ],
    ids=["every_other_column", "fortran", "reversed", "padded", "misaligned"],
)
def test_out_may_have_any_layout_and_nothing_else_is_written(name: str, view: Callable[[], Any]) -> None:
    x = some(4, 5)
    expected = RESULTS[name](x, None)
    out = view()
    base = out
    while isinstance(base.base, np.ndarray):
        base = base.base
    RESULTS[name](x, out)
    assert_same_bits(
        np.ascontiguousarray(out),
        expected[0] if isinstance(expected, tuple) else expected,
    )
    out[...] = 0
    assert not base.any()


def shape_errors() -> list[Any]:
    x, v = some(4, 5), some(5)
    cases = {
        "affine_forward w": (
            lambda: nc.affine_forward(x, some(6, 2)),
            r"affine_forward: .*\(4, 5\).*\(6, 2\)",
        ),
        "affine_forward b": (
            lambda: nc.affine_forward(x, some(5, 2), v),
            r"affine_forward: b is \(5,\).*\(5, 2\)",
        ),
        "affine_forward rank": (
            lambda: nc.affine_forward(x, v),
            r"affine_forward: w is \(5,\)",
        ),
        "affine_backward dy": (
            lambda: nc.affine_backward(x, x, some(5, 2)),
            r"affine_backward: .*\(4, 5\).*\(5, 2\)",
        ),
        "affine_backward rows": (
            lambda: nc.affine_backward(some(3, 2), x, some(5, 2)),
            r"affine_backward: .*\(3, 2\).*\(4, 5\)",
        ),
        "relu_backward": (
            lambda: nc.relu_backward(x, some(4, 6)),
            r"relu_backward: .*\(4, 5\).*\(4, 6\)",
        ),
        "softmax_backward": (
            lambda: nc.softmax_backward(x, some(5, 4)),
            r"softmax_backward: .*\(4, 5\).*\(5, 4\)",
        ),
        "log_softmax_backward": (
            lambda: nc.log_softmax_backward(x, v),
            r"log_softmax_backward: .*\(4, 5\).*\(5,\)",
        ),
        "batch_norm gamma": (
            lambda: nc.batch_norm_forward(x, some(4), v),
            r"batch_norm_forward: gamma is \(4,\).*\(4, 5\)",
        ),
        "batch_norm beta": (
            lambda: nc.batch_norm_forward(x, v, x),
            r"batch_norm_forward: beta is \(4, 5\).*\(4, 5\)",
        ),
        "batch_norm running": (
            lambda: nc.batch_norm_forward(x, v, v, some(4), some(4)),
            r"batch_norm_forward: running_mean is \(4,\).*\(4, 5\)",
        ),
        "batch_norm_backward mean": (
            lambda: nc.batch_norm_backward(x, x, v, some(4), some(5)),
            r"batch_norm_backward: mean is \(4,\).*\(4, 5\)",
        ),
        "batch_norm_backward dy": (
            lambda: nc.batch_norm_backward(some(5, 5), x, v, v, v),
            r"batch_norm_backward: dy is \(5, 5\).*\(4, 5\)",
        ),
        "layer_norm gamma": (
            lambda: nc.layer_norm_forward(x, some(6), v),
            r"layer_norm_forward: gamma is \(6,\).*\(4, 5\)",
        ),
        "layer_norm_backward rstd": (
            lambda: nc.layer_norm_backward(x, x, v, some(4), v),
            r"layer_norm_backward: rstd is \(5,\).*\(4, 5\)",
        ),
        "cross_entropy labels": (
            lambda: nc.softmax_cross_entropy(x, np.zeros(5, int)),
            r"softmax_cross_entropy: labels is \(5,\).*\(4, 5\)",
        ),
        "cross_entropy targets": (
            lambda: nc.softmax_cross_entropy(x, some(4, 4)),
            r"softmax_cross_entropy: labels is \(4, 4\).*\(4, 5\)",
        ),
        "cross_entropy class_weight": (
            lambda: nc.softmax_cross_entropy(x, np.zeros(4, int), class_weight=np.ones(4)),
            r"softmax_cross_entropy: class_weight is \(4,\).*\(4, 5\)",
        ),
        "cross_entropy sample_weight": (
            lambda: nc.softmax_cross_entropy(x, np.zeros(4, int), sample_weight=np.ones(5)),
            r"softmax_cross_entropy: sample_weight is \(5,\).*\(4, 5\)",
        ),
    }
    return [pytest.param(call, message, id=name) for name, (call, message) in cases.items()]


@pytest.mark.parametrize(("call", "message"), shape_errors())
def test_shape_errors_name_the_operation_and_the_shapes(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("call", [nc.relu_forward, nc.softmax, nc.log_softmax, nc.sum_of_squares])
def test_scalars_are_no_rows(call: Callable[..., Any]) -> None:
    if call is nc.sum_of_squares:
        assert call(np.array([3.0])) == 9.0
    else:
        with pytest.raises(ValueError, match=call.__name__):
            call(np.array(1.0, F32))


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
@given(st.data(), shapes(min_rows=2, max_rows=20, max_columns=40), dtypes())
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
@given(norm_problems(shape=shapes(max_rows=300, max_columns=20)), st.integers(0, 10**6))
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


@pytest.mark.parametrize("momentum", [-0.1, 1.1, np.nan, np.inf])
def test_batch_norm_momentum_outside_0_to_1_is_refused(momentum: float) -> None:
    mean, var = np.zeros(5, F32), np.ones(5, F32)
    with pytest.raises(ValueError, match=r"batch_norm_forward: momentum is .*\[0, 1\]"):
        nc.batch_norm_forward(some(4, 5), some(5), some(5), mean, var, momentum=momentum)
    assert not mean.any()
    assert (var == 1).all()


def test_batch_norm_documents_the_momentum_of_pytorch() -> None:
    assert "PyTorch" in nc.batch_norm_forward.__doc__
    assert "1 minus" in nc.batch_norm_forward.__doc__


def test_batch_norm_running_statistics_come_in_pairs() -> None:
    x, v = some(4, 5), some(5)
    with pytest.raises(ValueError, match="both or neither"):
        nc.batch_norm_forward(x, v, v, v.copy())
    with pytest.raises(ValueError, match="both or neither"):
        nc.batch_norm_forward(x, v, v, None, v.copy())
    with pytest.raises(ValueError, match="needs running_mean and running_var"):
        nc.batch_norm_forward(x, v, v, training=False)
    frozen = v.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="running_var is read-only"):
        nc.batch_norm_forward(x, v, v, v.copy(), frozen)
    nc.batch_norm_forward(x, v, v, frozen, np.ones(5, F32), training=False)


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
    assert_ulp(ulp_error(dx, expected), 2.5)


def test_batch_norm_has_two_backward_algorithms() -> None:
    x, v = some(4, 5), some(5)
    with pytest.raises(ValueError, match="algorithm is 'slow'; it must be 'fused' or 'graph'"):
        nc.batch_norm_backward(x, x, v, v, v, algorithm="slow")


@pytest.mark.parametrize("eps", [-1e-9, np.nan, np.inf, -np.inf])
def test_norms_refuse_a_bad_eps(eps: float) -> None:
    x, v = some(4, 5), some(5)
    for function in (nc.batch_norm_forward, nc.layer_norm_forward):
        with pytest.raises(ValueError, match=rf"{function.__name__}: eps is .*not negative"):
            function(x, v, v, eps=eps)


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
        assert_ulp(ulp_error(y, exact), 1)


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
    network = nc.Network((3, 4, 2), norm="batch")
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


@pytest.mark.parametrize("kind", [*LABEL_DTYPES, "bool"])
def test_cross_entropy_takes_every_integer_dtype_and_bool(kind: str) -> None:
    values = np.array([0, 1, 1, 0])
    expected = nc.softmax_cross_entropy(some(4, 5), values)
    assert_same_bits(
        tuple(nc.softmax_cross_entropy(some(4, 5), values.astype(kind))),
        tuple(expected),
    )


def test_cross_entropy_refuses_other_labels() -> None:
    x = some(2, 3)
    for labels in (
        np.array([0.0, 1.0]),
        np.array(["a", "b"]),
        np.array([0, 1], complex),
        np.array([0, 1], object),
    ):
        with pytest.raises(TypeError, match="softmax_cross_entropy: labels is an array of"):
            nc.softmax_cross_entropy(x, labels)
    with pytest.raises(ValueError, match=rf"labels has {2**64 - 1} in row 1"):
        nc.softmax_cross_entropy(x, np.array([0, 2**64 - 1], np.uint64), ignore_index=-1)
    with pytest.raises(ValueError, match="ignore_index is 0, but labels are soft targets"):
        nc.softmax_cross_entropy(x, some(2, 3), ignore_index=0)


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


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_cross_entropy_refuses_bad_weights(bad: float) -> None:
    x, labels = some(4, 5), np.zeros(4, int)
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: class_weight\[3\] is"):
        nc.softmax_cross_entropy(x, labels, class_weight=np.array([1, 1, 1, bad, 1]))
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: sample_weight\[2\] is"):
        nc.softmax_cross_entropy(x, labels, sample_weight=np.array([1, 1, bad, 1]))


@pytest.mark.parametrize(
    "options",
    [{"label_smoothing": -0.1}, {"label_smoothing": 1.1}, {"label_smoothing": np.nan}],
)
def test_cross_entropy_refuses_bad_smoothing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing is .*\[0, 1\]"):
        nc.softmax_cross_entropy(some(4, 5), np.zeros(4, int), **options)


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


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5, np.nan, 2.0**-32 * (1 - 2.0**-53)])
def test_dropout_refuses_a_bad_keep(keep: float) -> None:
    for function in (nc.dropout_forward, nc.dropout_backward):
        with pytest.raises(ValueError, match=rf"{function.__name__}: keep is .*\[2\*\*-32, 1\]"):
            function(some(2, 3), keep, seed=0)


@given(matrices(special=True))
def test_dropout_that_keeps_everything_copies(x: Any) -> None:
    y = nc.dropout_forward(x, 1.0, seed=0)
    expected = plain(x)
    expected[np.isnan(expected)] = np.nan
    assert_same_bits(y, expected)


def test_dropout_is_inverted() -> None:
    y = nc.dropout_forward(np.ones((50, 50), F32), 0.25, seed=4)
    assert set(np.unique(y)) == {0.0, 4.0}


# ---------------------------------------------------------------- environment


def test_calls_from_many_threads_at_once() -> None:
    """The context is busy in one of them: the others run serially, and all get the same bits."""
    x, w = some(600, 300), some(300, 100)
    expected = nc.affine_forward(x, w), *nc.affine_backward(some(600, 100), x, w)
    barrier = threading.Barrier(4)

    def work(_: int) -> Any:
        barrier.wait()
        return [(nc.affine_forward(x, w), *nc.affine_backward(some(600, 100), x, w)) for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, range(4)):
            for result in results:
                assert_same_bits(result, expected)


def test_instruction_sets_are_refused_by_name() -> None:
    before = nc.get_isa()
    for name in ("sse9", "", "scalar\0", "AVX2 "):
        with pytest.raises(ValueError, match=r"set_isa: name is .*scalar"):
            nc.set_isa(name)
    assert nc.get_isa() == before
    nc.set_isa(None)
    assert nc.get_isa() in nc.available_isas()


@pytest.mark.parametrize("count", [-1, 1025, 10**30])
def test_thread_counts_are_refused(count: int) -> None:
    before = nc.get_num_threads()
    with pytest.raises(ValueError, match=r"set_num_threads: n is .*\[0, 1024\]"):
        nc.set_num_threads(count)
    assert nc.get_num_threads() == before
    nc.set_num_threads(0)
    assert nc.get_num_threads() >= 1


def test_the_selftest_passes() -> None:
    nc.selftest()
    assert nc.CONTRACT == "NC1"
