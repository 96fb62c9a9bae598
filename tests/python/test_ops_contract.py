"""The kernels against the executable contract, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, contract, use_isa
from normcore.testing.strategies import (
    awkward_sizes,
    dtypes,
    matrices,
    norm_parameters,
    sprinkle_special,
)

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)

# float64 goes through rational numbers: few elements, but more rows than a chunk and more terms than a block
SHAPES = st.tuples(awkward_sizes(20), awkward_sizes(40)) | st.sampled_from([(300, 2), (1, 300), (530, 1), (2, 67)])
FILLS = ("normal", "offset", "scaled", "wide_range", "constant", "integers")
PLAIN = ("contiguous",)


def isas() -> Any:
    return st.sampled_from(nc.available_isas())


# ---------------------------------------------------------------- the contract's own arithmetic


def rounded(exact: Fraction, dtype: Any) -> Any:
    """`exact` rounded to nearest even, by integers alone."""
    kind = np.finfo(dtype)
    if exact == 0:
        return dtype.type(0)
    size, exponent = abs(exact), 0
    while size >= 2 ** (kind.nmant + 1):
        size, exponent = size / 2, exponent + 1
    while size < 2**kind.nmant and exponent > kind.minexp - kind.nmant:
        size, exponent = size * 2, exponent - 1
    whole = round(size)  # half to even
    value = np.ldexp(dtype.type(whole), exponent, dtype=dtype)
    return value if exact > 0 else -value


FINITE32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FINITE32, FINITE32, FINITE32)
@example(0.9474000930786133, 4.639900907932315e-07, -0.24325084686279297)
@example(-19369631416320.0, 2.1513551473617554e-07, -1.7354427155273866e-24)
@example(1 + 2.0**-23, 1 + 2.0**-23, 2.0**-80)
@example(1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-140))
def test_fma_of_float32_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    with np.errstate(over="ignore"):
        expected = rounded(exact, F32)
        actual = contract.fma(*(np.float32(x) for x in (a, b, c)))
    if exact == 0:
        assert actual == 0
    else:
        assert_same_bits(actual, np.asarray(expected))


def test_fma_of_the_triples_that_c_libraries_get_wrong() -> None:
    one = contract.fma(np.float32(0.9474001), np.float32(4.639901e-7), np.float32(-0.24325085))
    assert float(one) == float.fromhex("-0x1.f22d46p-3")
    two = contract.fma(np.float32(-1.9369631e13), np.float32(2.1513551e-7), np.float32(-1.7354427e-24))
    assert float(two) == -4167095.75


@pytest.mark.parametrize("dtype", [F32, F64])
def test_fma_of_special_values(dtype: Any) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], dtype)
    a, b, c = (x.ravel() for x in np.meshgrid(values, values, values))
    with np.errstate(invalid="ignore"):
        expected = a * b + c
        actual = contract.fma(a, b, c)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(np.signbit(actual[expected == 0]), np.signbit(expected[expected == 0]))


# ---------------------------------------------------------------- the kernels


@st.composite
def cases(draw: st.DrawFn, dtype: Any, shape: Any = SHAPES, fills: Any = FILLS) -> Any:
    """A matrix, special values included in half of the examples."""
    x = draw(matrices(dtype, shape, layout=PLAIN, fills=fills))
    return sprinkle_special(x, draw(st.integers(0, 999))) if draw(st.booleans()) else x


@given(st.data(), dtypes(), isas())
def test_affine(data: st.DataObject, dtype: Any, isa: str) -> None:
    small = awkward_sizes(9)
    n, k, m = data.draw(st.tuples(small, awkward_sizes(20), small) | st.sampled_from([(2, 530, 1), (1, 257, 2)]))
    x = data.draw(cases(dtype, st.just((n, k))))
    w = data.draw(cases(dtype, st.just((k, m)), ("normal",)))
    b = data.draw(cases(dtype, st.just((1, m)), ("normal",)))[0]
    relu = data.draw(st.booleans())
    with use_isa(isa):
        assert_same_bits(
            nc.affine_forward(x, w, b, relu=relu),
            contract.affine_forward(x, w, b, relu=relu),
        )
        assert_same_bits(nc.affine_forward(x, w), contract.affine_forward(x, w))


@given(st.data(), dtypes(), isas())
def test_affine_backward(data: st.DataObject, dtype: Any, isa: str) -> None:
    small = awkward_sizes(9)
    n, k, m = data.draw(st.tuples(awkward_sizes(20), small, small) | st.sampled_from([(530, 2, 1), (1030, 1, 1)]))
    x = data.draw(cases(dtype, st.just((n, k))))
    w = data.draw(cases(dtype, st.just((k, m)), ("normal",)))
    dy = data.draw(cases(dtype, st.just((n, m)), ("normal",)))
    with use_isa(isa):
        assert_same_bits(tuple(nc.affine_backward(dy, x, w)), contract.affine_backward(dy, x, w))


@given(st.data(), dtypes(), st.sampled_from([1e-5, 0.0, 1e-3]), isas())
def test_batch_norm(data: st.DataObject, dtype: Any, eps: float, isa: str) -> None:
    x = data.draw(cases(dtype))
    gamma, beta = data.draw(norm_parameters(dtype, x.shape[1]))
    with use_isa(isa):
        done = nc.batch_norm_forward(x, gamma, beta, eps=eps)
        assert_same_bits(tuple(done), contract.batch_norm_forward(x, gamma, beta, eps=eps))
        dy = data.draw(cases(dtype, st.just(x.shape), ("normal",)))
        assert_same_bits(
            tuple(nc.batch_norm_backward(dy, x, gamma, done[1], done[2])),
            contract.batch_norm_backward(dy, x, gamma, done[1], done[2]),
        )


@given(st.data(), dtypes(), st.sampled_from([1e-5, 0.0, 1e-3]), isas())
def test_layer_norm(data: st.DataObject, dtype: Any, eps: float, isa: str) -> None:
    x = data.draw(cases(dtype))
    gamma, beta = data.draw(norm_parameters(dtype, x.shape[1]))
    with use_isa(isa):
        done = nc.layer_norm_forward(x, gamma, beta, eps=eps)
        assert_same_bits(tuple(done), contract.layer_norm_forward(x, gamma, beta, eps=eps))
        dy = data.draw(cases(dtype, st.just(x.shape), ("normal",)))
        assert_same_bits(
            tuple(nc.layer_norm_backward(dy, x, gamma, done[1], done[2])),
            contract.layer_norm_backward(dy, x, gamma, done[1], done[2]),
        )


@given(st.data(), dtypes(), isas())
def test_sum_of_squares(data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(cases(dtype))
    with use_isa(isa):
        assert_same_bits(nc.sum_of_squares(x), contract.sum_of_squares(x))


SLOTS = {
    "sgd": (0, 0),
    "momentum": (1, 0),
    "nesterov": (1, 0),
    "rmsprop": (0, 1),
    "adam": (1, 1),
}


@pytest.mark.parametrize("optimizer", SLOTS)
@given(
    st.data(),
    dtypes(),
    st.fixed_dictionaries(
        {"learning_rate": st.sampled_from([1e-3, 0.1])},
        optional={
            "beta2": st.just(0.99),
            "l2": st.just(0.01),
            "weight_decay": st.just(0.05),
            "gradient_scale": st.just(0.3),
            "step": st.sampled_from([2, 7, 1000, 2**40]),
        },
    ),
    isas(),
)
def test_optimizers(optimizer: str, data: st.DataObject, dtype: Any, options: dict[str, Any], isa: str) -> None:
    n = data.draw(awkward_sizes(40))
    p, g, v, s = (data.draw(cases(dtype, st.just((1, n)), ("normal", "scaled")))[0] for _ in range(4))
    first, second = (slot if use else None for slot, use in zip((v, abs(s)), SLOTS[optimizer], strict=True))
    expected = contract.optimizer_update(optimizer, p, g, first, second, **options)
    with use_isa(isa):
        nc.optimizer_update(optimizer, p, g, first, second, **options)
    assert_same_bits((p, first, second), expected)
