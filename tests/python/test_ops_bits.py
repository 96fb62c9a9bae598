"""The same inputs give the same bits: on every instruction set, thread count, layout and cut of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import LAYOUTS, VECTOR_LAYOUTS, apply_layout, assert_same_bits, plain, use_isa, use_num_threads
from normcore.testing.contract.arithmetic import pair_join, pair_sum, pair_value
from normcore.testing.strategies import dtypes, layouts, shapes
from operations import OPERATIONS, ROW_WISE, Operation, arguments

THREADS = (1, 2, 3, 5, 16)
BIG = (1100, 67)


def ids(operation: Operation) -> str:
    return operation.name


@pytest.mark.parametrize("operation", OPERATIONS, ids=ids)
@given(st.data(), shapes(), dtypes())
def test_every_instruction_set_gives_the_bits_of_scalar(
    operation: Operation, data: st.DataObject, shape: tuple[int, int], dtype: Any
) -> None:
    given_arrays = data.draw(arguments(operation, shape, dtype))
    with use_isa("scalar"):
        expected = operation(given_arrays)
    for name in nc.available_isas():
        with use_isa(name):
            assert_same_bits(operation(given_arrays), expected, f"{operation.name} on {name}")


def test_there_is_a_scalar_instruction_set_and_it_is_the_last() -> None:
    assert nc.available_isas()[-1] == "scalar"
    assert nc.get_isa() in nc.available_isas()


@pytest.mark.parametrize("name", nc.available_isas())
@pytest.mark.parametrize(
    "make",
    [
        lambda n, dtype: nc.random_uniform(n, seed=1, offset=3, low=-2.0, high=1.5, dtype=dtype),
        lambda n, dtype: nc.random_normal(n, seed=2, offset=1, mean=0.5, scale=3.0, dtype=dtype),
        lambda n, dtype: nc.random_integers(n, 12345, seed=3),
        lambda n, dtype: nc.random_permutation(n, seed=4),
    ],
    ids=["uniform", "normal", "integers", "permutation"],
)
def test_random_numbers_are_the_same_on_every_instruction_set(name: str, make: Any) -> None:
    for n in (0, 1, 7, 16, 33, 2000):
        for dtype in ("float32", "float64"):
            with use_isa("scalar"):
                expected = make(n, dtype)
            with use_isa(name):
                assert_same_bits(make(n, dtype), expected)


@pytest.mark.parametrize("operation", OPERATIONS, ids=ids)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_number_of_threads_changes_nothing(operation: Operation, dtype: Any) -> None:
    # large enough for the pool to be used, with a last chunk that is not full
    given_arrays = operation.make(*BIG, dtype, np.random.default_rng(5))
    with use_num_threads(1):
        expected = operation(given_arrays)
    for count in THREADS:
        with use_num_threads(count):
            assert nc.get_num_threads() == count
            assert_same_bits(
                operation(given_arrays),
                expected,
                f"{operation.name} with {count} threads",
            )


@pytest.mark.parametrize("k", [64, 700])
def test_the_number_of_threads_changes_nothing_for_large_products(k: int) -> None:
    random = np.random.default_rng(6)
    x, w = (
        random.normal(size=(900, k)).astype(np.float32),
        random.normal(size=(k, 260)).astype(np.float32),
    )
    dy = random.normal(size=(900, 260)).astype(np.float32)
    with use_num_threads(1), use_isa("scalar"):
        expected = (nc.affine_forward(x, w), *nc.affine_backward(dy, x, w))
    for count in THREADS:
        with use_num_threads(count):
            assert_same_bits((nc.affine_forward(x, w), *nc.affine_backward(dy, x, w)), expected)


@pytest.mark.parametrize("operation", ROW_WISE, ids=ids)
@given(st.data(), shapes(min_rows=2), dtypes())
def test_rows_may_be_cut_anywhere(
    operation: Operation, data: st.DataObject, shape: tuple[int, int], dtype: Any
) -> None:
    given_arrays = data.draw(arguments(operation, shape, dtype))
    cut = data.draw(st.integers(1, shape[0] - 1))
    whole = operation(given_arrays)
    parts = []
    for rows in (slice(0, cut), slice(cut, None)):
        part = {k: v[rows] if k in operation.by_row else v for k, v in given_arrays.items()}
        if operation.needs_first_row:
            part["first_row"] = rows.start
        parts.append(operation(part))
    for index in operation.row_results:
        joined = np.concatenate([part[index] for part in parts])
        assert_same_bits(joined, whole[index], f"{operation.name}, result {index}, cut at {cut}")


def laid_out(draw: Any, array: Any) -> Any:
    """`array` in some layout, and the same values in plain memory."""
    other = apply_layout(array, draw(layouts(LAYOUTS if array.ndim == 2 else VECTOR_LAYOUTS)))
    return other, plain(other)


@pytest.mark.parametrize("operation", OPERATIONS, ids=ids)
@given(st.data(), shapes(max_rows=12, max_columns=40, large=True), dtypes())
def test_layouts_change_nothing(operation: Operation, data: st.DataObject, shape: tuple[int, int], dtype: Any) -> None:
    made = data.draw(arguments(operation, shape, dtype))
    # the running statistics are updated in place; their layouts have a test of their own
    fixed = {k: v for k, v in made.items() if k.startswith("running")}
    pairs = {k: laid_out(data.draw, v) for k, v in made.items() if k not in fixed}
    odd = operation({k: v[0] for k, v in pairs.items()} | fixed)
    even = operation({k: v[1] for k, v in pairs.items()} | fixed)
    assert_same_bits(odd, even, operation.name)


@given(
    st.integers(1, 40),
    dtypes(),
    st.sampled_from(["every_other_column", "reversed_columns", "misaligned", "byte_swapped"]),
)
def test_running_statistics_of_any_layout_are_updated_in_place(d: int, dtype: Any, layout: str) -> None:
    random = np.random.default_rng(d)
    x = random.normal(size=(5, d)).astype(dtype)
    gamma, beta = np.ones(d, dtype), np.zeros(d, dtype)
    running = [
        random.normal(size=d).astype(dtype),
        random.exponential(size=d).astype(dtype),
    ]
    odd = [apply_layout(r, layout) for r in running]
    nc.batch_norm_forward(x, gamma, beta, *running)
    nc.batch_norm_forward(x, gamma, beta, *odd)
    assert_same_bits(odd, running)


# But for affine maps, most of which have another number of outputs.
IN_PLACE = [o for o in OPERATIONS if o.rows and o.takes_out and not o.name.startswith("affine")]


@pytest.mark.parametrize("operation", IN_PLACE, ids=ids)
@given(
    st.integers(0, 2**32 - 1),
    shapes(max_rows=12, large=True),
    dtypes(),
    st.sampled_from(["contiguous", "padded_rows", "every_other_row"]),
)
@example(0, (3, 17), np.dtype(np.float32), "padded_rows")
def test_in_place_gives_the_bits_of_out_of_place(
    operation: Operation, seed: int, shape: tuple[int, int], dtype: Any, layout: str
) -> None:
    made = operation.make(*shape, dtype, np.random.default_rng(seed))
    expected = operation(made)[0]
    fresh = np.full_like(expected, np.nan)
    assert operation(made, out=fresh)[0] is fresh
    assert_same_bits(fresh, expected)
    for name in operation.rows:
        inside = apply_layout(made[name], layout)
        assert operation(made | {name: inside}, out=inside)[0] is inside
        assert_same_bits(inside, expected, f"{operation.name} over {name}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_of_256_rows_combine_by_the_tree(dtype: Any) -> None:
    """The tree splits a range of chunks at the largest power of two below its length: ((0 1) 2) for three of them."""
    random = np.random.default_rng(8)
    n, k, m = 700, 5, 9
    x, w = (
        random.normal(size=(n, k)).astype(dtype),
        random.normal(size=(k, m)).astype(dtype),
    )
    dy = random.normal(size=(n, m)).astype(dtype)
    chunks = [slice(0, 256), slice(256, 512), slice(512, 700)]
    _, dw, _ = nc.affine_backward(dy, x, w)
    a, b, c = (nc.affine_backward(dy[s], x[s], w)[1] for s in chunks)
    assert_same_bits(dw, (a + b) + c)
    labels = random.integers(0, m, n)
    loss, _, weight_sum = nc.softmax_cross_entropy(dy, labels, reduction="sum", class_weight=random.random(m))
    random = np.random.default_rng(8)
    for shape in ((n, k), (k, m), (n, m)):
        random.normal(size=shape)
    random.integers(0, m, n)
    scale = random.random(m)
    each, _, _ = nc.softmax_cross_entropy(dy, labels, reduction="none", class_weight=scale)
    for got, values in ((loss, each), (weight_sum, scale[labels])):
        parts = [pair_sum(values[s]) for s in chunks]
        left = pair_join(pair_join((0.0, 0.0), parts[0]), parts[1])
        assert got == pair_value(pair_join(left, parts[2]))


def test_long_sums_are_blocked_by_256() -> None:
    random = np.random.default_rng(9)
    x, w = (
        random.normal(size=(3, 600)).astype(np.float32),
        random.normal(size=(600, 4)).astype(np.float32),
    )
    blocks = [nc.affine_forward(x[:, s], w[s]) for s in (slice(0, 256), slice(256, 512), slice(512, 600))]
    assert_same_bits(nc.affine_forward(x, w), (blocks[0] + blocks[1]) + blocks[2])
