"""Leaky ReLU, tanh, the logistic function and SiLU against the reference. (ReLU: test_ops_affine.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, assert_ulp, check_gradients, reference, ulp
from normcore.testing.strategies import matrices

NAMES = tuple(name for name in nc.ACTIVATIONS if name != "relu")
# rounding of the product with the slope; the goals of docs/accuracy.md
LIMIT = {"leaky_relu": 0.5, "tanh": 2.0, "logistic": 2.0, "silu": 2.0, "relu6": 0.0}
EACH = pytest.mark.parametrize("name", NAMES)


def slack(dtype: Any) -> float:
    """ULP of float64 that the reference may be off where long double is no wider than that."""
    wider = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
    return 0.0 if wider or np.dtype(dtype).itemsize == 4 else 3.0


def forward(name: str, x: Any, **options: Any) -> Any:
    return getattr(nc, f"{name}_forward")(x, **options)


def saved(name: str, x: Any) -> Any:
    """What the backward pass takes: the input of silu, the output of the others."""
    return x if name == "silu" else forward(name, x)


def backward(name: str, dy: Any, given: Any, **options: Any) -> Any:
    return getattr(nc, f"{name}_backward")(dy, given, **options)


@st.composite
def inputs(draw: st.DrawFn) -> Any:
    """From mild to where the functions have reached their limits; in half of the cases with special values."""
    x = draw(matrices(special=draw(st.booleans()), fills=("normal", "wide_range")))
    with np.errstate(over="ignore"):
        return x * x.dtype.type(draw(st.sampled_from([1e-3, 1.0, 10.0, 60.0, 300.0])))


@EACH
@given(inputs())
@example(np.array([[-0.0, 0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3e38, -3e38]], np.float32))
@example(np.array([[-87.5, -103.9, -104.0, -106.0, -108.7, -108.8, -110.0, -111.0]], np.float32))
@example(np.array([[-708.5, -745.1, -745.2, -751.7, -751.8, -755.0, -756.0]]))
def test_forward_is_within_the_goal(name: str, x: Any) -> None:
    y = forward(name, x)
    exact = getattr(reference, f"{name}_forward")(x)
    assert y.dtype == x.dtype.newbyteorder("=")
    assert_ulp(y, exact, LIMIT[name] + slack(y.dtype), what=name)
    # the signs of zeros too
    zero = (y == 0) & (exact == 0)
    assert_same_bits(np.signbit(y[zero]), np.signbit(exact[zero]))


@EACH
@given(inputs(), st.integers(0, 2**32 - 1))
def test_backward_is_within_the_goal(name: str, x: Any, seed: int) -> None:
    given = saved(name, x)
    dy = np.random.default_rng(seed).normal(size=x.shape).astype(given.dtype)
    exact = getattr(reference, f"{name}_backward")(np.ones_like(given), given)
    dx = backward(name, dy, given)
    size = np.maximum(abs(exact), reference.logistic_forward(x)) if name == "silu" else exact
    derivative = {"leaky_relu": 0.0, "silu": 4.0, "relu6": 0.0}.get(name, 0.5) + slack(given.dtype)
    with np.errstate(all="ignore"):
        # long double: half the least subnormal of float64 is 0 in it
        limit = 1.001 * abs(dy) * derivative * ulp(size, dx.dtype).astype(np.longdouble)
        limit += ulp(abs(dy * exact) + limit, dx.dtype).astype(np.longdouble) / 2
        error = abs(dx - dy * exact)
    assert ((error <= limit) | np.isnan(exact)).all()
    assert_same_bits(np.isnan(dx), np.isnan(exact))


@EACH
def test_gradient_is_that_of_the_forward_pass(name: str) -> None:
    random = np.random.default_rng(4)
    x, dy = random.normal(size=(5, 9)) * 3, random.normal(size=(5, 9))
    check_gradients(lambda x: forward(name, x), {"x": x}, {"x": backward(name, dy, saved(name, x))}, dy)
    if name == "leaky_relu":
        options = {"slope": 0.3}
        dx = backward(name, dy, x, **options)
        check_gradients(lambda x: forward(name, x, **options), {"x": x}, {"x": dx}, dy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_all_know(dtype: Any) -> None:
    x = np.array([0.0, 1.0, -1.0, 2.0], dtype)
    np.testing.assert_allclose(nc.tanh_forward(x), [0, 0.7615941559557649, -0.7615941559557649, 0.9640275800758169])
    np.testing.assert_allclose(
        nc.logistic_forward(x), [0.5, 0.7310585786300049, 0.2689414213699951, 0.8807970779778823], rtol=1e-7
    )
    np.testing.assert_allclose(
        nc.silu_forward(x), [0, 0.7310585786300049, -0.2689414213699951, 1.7615941559557646], rtol=1e-7
    )
    np.testing.assert_allclose(nc.leaky_relu_forward(x), [0, 1, -0.01, 2], rtol=1e-7)
    np.testing.assert_allclose(nc.leaky_relu_forward(x, slope=0.25), [0, 1, -0.25, 2], rtol=1e-7)


@given(inputs())
def test_symmetry_and_bounds(x: Any) -> None:
    y = nc.tanh_forward(x)
    real = ~np.isnan(x)
    assert_same_bits(nc.tanh_forward(-x)[real], -y[real])
    assert (abs(y[real]) <= 1).all()
    assert ((y[real] == 0) == (x[real] == 0)).all()
    s, t = nc.logistic_forward(x), nc.logistic_forward(-x)
    assert ((s[real] >= 0) & (s[real] <= 1)).all()
    assert (abs(s[real] + t[real] - 1) <= np.finfo(x.dtype).eps).all()


@given(matrices(special=True))
def test_no_slope_is_relu(x: Any) -> None:
    for slope in (0, 0.0, 1e-46 if x.dtype == np.float32 else 0.0):
        assert_same_bits(nc.leaky_relu_forward(x, slope=slope), nc.relu_forward(x))
        assert_same_bits(nc.leaky_relu_backward(x, x, slope=slope), nc.relu_backward(x, x))
    # the slope's gradient passes below and at 0, and both what is saved tells it alike
    ones = np.ones_like(x)
    assert_same_bits(
        nc.leaky_relu_backward(ones, x), nc.leaky_relu_backward(ones, nc.leaky_relu_forward(x)), "input or output"
    )
