"""A batch norm of your own, tested in ten lines: shapes, layouts, means of up to a million, gamma, beta, eps."""

from hypothesis import given
from my_batch_norm import batch_norm, batch_norm_backward
from numpy.testing import assert_allclose

from normcore.testing import reference
from normcore.testing import strategies as nst


@given(nst.norm_problems("float64", eps=(1e-3, 0.5)))
def test_batch_norm(p):
    y, cache = batch_norm(p.x, p.gamma, p.beta, p.eps)
    exact = reference.batch_norm_forward(p.x, p.gamma, p.beta, eps=p.eps)
    assert_allclose(y, exact.y, rtol=1e-7, atol=1e-4)
    gradients = reference.batch_norm_backward(p.dy, p.x, p.gamma, exact.mean, exact.rstd)
    for found, right in zip(batch_norm_backward(p.dy, cache), gradients, strict=True):
        assert_allclose(found, right, rtol=1e-7, atol=1e-4)
