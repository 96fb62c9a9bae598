"""Affine maps and ReLU against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, check_gradients, plain, reference
from normcore.testing.strategies import AffineProblem, affine_problems, dtypes, matrices


def unit(dtype: Any) -> float:
    """Unit roundoff."""
    return float(np.finfo(dtype).eps) / 2


def assert_within(actual: Any, exact: Any, size: Any, rounds: int, dtype: Any) -> None:
    """|actual - exact| <= rounds u size: each of `rounds` roundings of a sum whose terms' magnitudes sum to `size`."""
    kind = np.finfo(dtype)
    # the second term is what the roundings of underflowing products add; the factor, what is left out of first order
    limit = 1.001 * rounds * unit(dtype) * size + rounds * float(kind.smallest_subnormal)
    error = np.abs(actual.astype(exact.dtype) - exact)
    assert (error <= limit).all(), f"{float((error / limit).max())} of the bound for {rounds} roundings"


def terms(count: int) -> int:
    """Roundings of a sum of `count` products by the contract, the addition of a bias included."""
    return min(count, 256) + -(-count // 256) + 1


@given(affine_problems())
@example(
    AffineProblem(
        np.ones((1, 257), np.float32),
        np.full((257, 1), 2.0**-24, np.float32),
        None,
        np.ones((1, 1), np.float32),
        False,
    )
)
def test_forward_is_within_the_bound(p: AffineProblem) -> None:
    y = nc.affine_forward(p.x, p.w, p.b, relu=p.relu)
    exact = reference.affine_forward(p.x, p.w, p.b, relu=p.relu)
    size = reference.affine_forward(abs(p.x), abs(p.w), None if p.b is None else abs(p.b))
    assert y.dtype == p.x.dtype.newbyteorder("=")
    assert y.shape == (p.x.shape[0], p.w.shape[1])
    assert_within(y, exact, size, terms(p.x.shape[1]), y.dtype)


@given(affine_problems())
def test_backward_is_within_the_bound(p: AffineProblem) -> None:
    n, _ = p.x.shape
    dx, dw, db = nc.affine_backward(p.dy, p.x, p.w)
    exact = reference.affine_backward(p.dy, p.x, p.w)
    size = reference.affine_backward(abs(p.dy), abs(p.x), abs(p.w))
    assert (dx.shape, dw.shape, db.shape) == (p.x.shape, p.w.shape, (p.w.shape[1],))
    assert dx.dtype == dw.dtype == db.dtype == p.x.dtype.newbyteorder("=")
    assert_within(dx, exact.dx, size.dx, terms(p.w.shape[1]), dx.dtype)
    assert_within(dw, exact.dw, size.dw, terms(n), dx.dtype)
    # db is summed in double: for float32 data only the last rounding is left
    assert_within(db, exact.db, size.db, 1 if dx.dtype == np.float32 else terms(n), dx.dtype)


@given(affine_problems(fills=("integers",)))
def test_integers_are_exact(p: AffineProblem) -> None:
    kind = p.x.dtype.newbyteorder("=")
    y = nc.affine_forward(p.x, p.w, p.b, relu=p.relu)
    np.testing.assert_array_equal(y, reference.affine_forward(p.x, p.w, p.b, relu=p.relu).astype(kind))
    for actual, exact in zip(
        nc.affine_backward(p.dy, p.x, p.w),
        reference.affine_backward(p.dy, p.x, p.w),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, exact.astype(kind))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_edge_of_the_tiles_is_exact(isa: str, dtype: Any) -> None:
    """Heights and widths around every tile and vector, by arithmetic that does not round."""
    for n in range(1, 34):
        for k in (1, 2, 3, 17):
            for m in (1, 2, 3, 5, 8, 9, 17, 33):
                x = (np.arange(n * k) % 7 - 3).reshape(n, k)
                w = (np.arange(k * m) % 5 - 2).reshape(k, m)
                dy = (np.arange(n * m) % 11 - 5).reshape(n, m)
                real = [array.astype(dtype) for array in (dy, x, w)]
                actual = (nc.affine_forward(*real[1:]), *nc.affine_backward(*real))
                for found, wanted in zip(actual, (x @ w, dy @ w.T, x.T @ dy, dy.sum(axis=0)), strict=True):
                    np.testing.assert_array_equal(found, wanted, err_msg=f"{isa}: {n}, {k}, {m}")


@given(affine_problems(special=True))
def test_fused_relu_is_relu_after_the_map(p: AffineProblem) -> None:
    assert_same_bits(
        nc.affine_forward(p.x, p.w, p.b, relu=True),
        nc.relu_forward(nc.affine_forward(p.x, p.w, p.b)),
    )


@pytest.mark.parametrize(
    ("n", "k", "m"),
    [(1, 1, 1), (2, 1, 3), (1, 3, 2), (3, 2, 1), (2, 257, 2), (258, 1, 2)],
)
def test_gradients_match_finite_differences(n: int, k: int, m: int) -> None:
    random = np.random.default_rng(n * 1000 + k)
    inputs = {
        "x": random.normal(size=(n, k)),
        "w": random.normal(size=(k, m)),
        "b": random.normal(size=m),
    }
    dy = random.normal(size=(n, m))
    dx, dw, db = nc.affine_backward(dy, inputs["x"], inputs["w"])
    check_gradients(nc.affine_forward, inputs, {"x": dx, "w": dw, "b": db}, dy)


@given(affine_problems(), st.sampled_from([(2, 3), (1, 1, 4), (2, 2, 2)]))
def test_leading_axes_are_rows(p: AffineProblem, lead: tuple[int, ...]) -> None:
    rows = int(np.prod(lead))
    x = np.resize(plain(p.x), (rows, p.x.shape[1]))
    dy = np.resize(plain(p.dy), (rows, p.w.shape[1]))
    y = nc.affine_forward(x.reshape(*lead, -1), p.w, p.b)
    assert_same_bits(y, nc.affine_forward(x, p.w, p.b).reshape(*lead, p.w.shape[1]))
    dx, dw, db = nc.affine_backward(dy.reshape(*lead, -1), x.reshape(*lead, -1), p.w)
    flat = nc.affine_backward(dy, x, p.w)
    assert_same_bits((dx, dw, db), (flat[0].reshape(*lead, -1), flat[1], flat[2]))


@given(matrices(special=True, fills=("normal", "wide_range")))
@example(np.array([[-0.0, 0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45]], np.float32))
def test_relu_is_exact(x: Any) -> None:
    kind = x.dtype.newbyteorder("=")
    assert_same_bits(nc.relu_forward(x), canonical(reference.relu_forward(x).astype(kind)))


@given(st.data(), dtypes())
def test_relu_backward_is_exact(data: st.DataObject, dtype: Any) -> None:
    y = data.draw(matrices(dtype, special=True))
    dy = data.draw(matrices(dtype, y.shape, special=True))
    assert_same_bits(nc.relu_backward(dy, y), canonical(reference.relu_backward(dy, y).astype(dtype)))


@given(matrices(np.float64))
def test_relu_gradient_passes_where_positive(x: Any) -> None:
    ones = np.ones(x.shape)
    np.testing.assert_array_equal(nc.relu_backward(ones, nc.relu_forward(x)), (x > 0).astype(float))
    # the input tells as much as the output does
    assert_same_bits(nc.relu_backward(ones, x), nc.relu_backward(ones, nc.relu_forward(x)))


def canonical(x: Any) -> Any:
    """`x` with every NaN the canonical quiet one."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x)


def test_numpy_nan_is_the_canonical_one() -> None:
    assert np.float32(np.nan).view(np.uint32) == 0x7FC00000
    assert np.float64(np.nan).view(np.uint64) == 0x7FF8000000000000
