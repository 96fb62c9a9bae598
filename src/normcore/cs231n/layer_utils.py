"""Layers in a row, under the names of ``cs231n.layer_utils``."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from normcore.cs231n._arrays import Array
from normcore.cs231n._missing import missing
from normcore.cs231n.layers import affine_backward, affine_forward, relu_backward, relu_forward

__all__ = [
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]


def affine_relu_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[Array, Any]:
    """`affine_forward`, then `relu_forward`: the output (N, M), and a cache for `affine_relu_backward`.

    Examples
    --------
    >>> from normcore.cs231n.layer_utils import affine_relu_forward
    >>> affine_relu_forward(np.ones((1, 2)), np.array([[1.0, -1.0], [1.0, -1.0]]), np.ones(2))[0]
    array([[3., 0.]])
    """
    affine, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(affine)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: ArrayLike, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `affine_relu_forward`: ``dx`` of the shape of x, ``dw`` (D, M), ``db`` (M,).

    Examples
    --------
    >>> from normcore.cs231n.layer_utils import affine_relu_backward, affine_relu_forward
    >>> out, cache = affine_relu_forward(np.ones((1, 2)), np.array([[1.0, -1.0], [1.0, -1.0]]), np.ones(2))
    >>> affine_relu_backward(np.ones((1, 2)), cache)[2]
    array([1., 0.])
    """
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)


conv_relu_forward = missing("conv_relu_forward")
conv_relu_backward = missing("conv_relu_backward")
conv_bn_relu_forward = missing("conv_bn_relu_forward")
conv_bn_relu_backward = missing("conv_bn_relu_backward")
conv_relu_pool_forward = missing("conv_relu_pool_forward")
conv_relu_pool_backward = missing("conv_relu_pool_backward")
