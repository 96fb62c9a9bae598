"""The names of ``cs231n.fast_layers``, all of them convolutions and pooling, which are not here."""

from __future__ import annotations

from normcore.cs231n._missing import missing

__all__ = [
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]

conv_forward_im2col = missing("conv_forward_im2col")
conv_forward_strides = missing("conv_forward_strides")
conv_forward_fast = missing("conv_forward_fast")
conv_backward_strides = missing("conv_backward_strides")
conv_backward_im2col = missing("conv_backward_im2col")
conv_backward_fast = missing("conv_backward_fast")
max_pool_forward_reshape = missing("max_pool_forward_reshape")
max_pool_forward_im2col = missing("max_pool_forward_im2col")
max_pool_forward_fast = missing("max_pool_forward_fast")
max_pool_backward_reshape = missing("max_pool_backward_reshape")
max_pool_backward_im2col = missing("max_pool_backward_im2col")
max_pool_backward_fast = missing("max_pool_backward_fast")
