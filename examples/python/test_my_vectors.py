"""Numerical code that has nothing to do with neural networks, tested by strategies, layouts and ULP."""

import math

import numpy as np
from hypothesis import given
from my_vectors import compensated_sum, log_sum_exp, unit_vectors

from normcore.testing import assert_ulp, check_layouts, fill, special_values, within_ulp
from normcore.testing import strategies as nst


@given(nst.vectors("float64", fills=("normal", "integers", "wide_range")))
def test_sum(x):
    assert compensated_sum(x) == within_ulp(math.fsum(x), 1)


@given(nst.matrices(fills=("normal", "integers", "scaled")))
def test_unit_vectors(x):
    wide = x.astype(np.longdouble)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    exact = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    limit = 8 + x.shape[1] / 16  # each term of a sum may add half an ULP; NumPy adds them in pairs
    assert unit_vectors(x) == within_ulp(exact, limit, axis=1)


@given(nst.matrices("float32", fills=("normal", "offset", "scaled")))
def test_log_sum_exp(x):
    exact = np.logaddexp.reduce(x.astype(np.longdouble), axis=1)
    far = np.abs(exact) > 0.1  # nearer to 0 the logarithm and the greatest element cancel
    assert log_sum_exp(x)[far] == within_ulp(exact[far], 200)


def test_log_sum_exp_in_any_layout():
    x = fill("normal", (5, 7), np.float32, seed=1)
    check_layouts(log_sum_exp, x, compare=lambda found, right: assert_ulp(found, right, 4))


def test_log_sum_exp_of_special_values():
    x = special_values(np.float32)
    np.testing.assert_array_equal(log_sum_exp(x[:, None]), x)  # of one element: itself
