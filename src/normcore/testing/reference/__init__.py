"""Naive NumPy reference of every operation.

Each function is the textbook formula, written for reading and computed one precision wider than its data: float64 for
float32 arrays, ``numpy.longdouble`` for float64 ones. Results keep the wide type and are what a correctly rounded
library would round. Nothing here shares code, order of summation or constants with the kernels.

The names and arguments are those of `normcore` itself; functions are pure, so that what `normcore` updates in place
(running statistics, optimiser slots) is returned instead. Only NumPy is needed. How a norm's backward pass comes about
is derived at the top of ``norms.py``.

>>> from normcore.testing import reference
>>> reference.softmax(np.float32([0, 1])).dtype  # one precision wider
dtype('float64')
>>> reference.relu_backward(np.float32([1, 1]), np.float32([0, 3]))
array([0., 1.])

Not promised: bits. ``numpy.longdouble`` is 80 bits wide on x86, 128 on some other machines, and plain double on others,
where float64 data are then checked only to a few units in the last place.
"""

from __future__ import annotations

from .activations import (
    leaky_relu_backward,
    leaky_relu_forward,
    logistic_backward,
    logistic_forward,
    relu6_backward,
    relu6_forward,
    relu_backward,
    relu_forward,
    silu_backward,
    silu_forward,
    tanh_backward,
    tanh_forward,
)
from .affine import AffineGradients, affine_backward, affine_forward
from .cross_entropy import CrossEntropyResult, softmax_cross_entropy
from .losses import LossResult, huber_loss, logistic_loss, poisson_loss, quantile_loss, squared_error
from .network import MLPResult, mlp_forward, mlp_loss_and_grads
from .norms import (
    BatchNormResult,
    NormGradients,
    NormResult,
    batch_norm_backward,
    batch_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
)
from .optimizers import optimizer_update, sum_of_squares
from .precision import wide, wide_dtype
from .random import (
    dropout_backward,
    dropout_forward,
    dropout_mask,
    inverse_normal_cdf,
    philox4x32,
    random_integers,
    random_normal,
    random_permutation,
    random_uniform,
    random_words32,
    random_words64,
)
from .softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "AffineGradients",
    "BatchNormResult",
    "CrossEntropyResult",
    "LossResult",
    "MLPResult",
    "NormGradients",
    "NormResult",
    "affine_backward",
    "affine_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "huber_loss",
    "inverse_normal_cdf",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "log_softmax",
    "log_softmax_backward",
    "logistic_backward",
    "logistic_forward",
    "logistic_loss",
    "mlp_forward",
    "mlp_loss_and_grads",
    "optimizer_update",
    "philox4x32",
    "poisson_loss",
    "quantile_loss",
    "random_integers",
    "random_normal",
    "random_permutation",
    "random_uniform",
    "random_words32",
    "random_words64",
    "relu6_backward",
    "relu6_forward",
    "relu_backward",
    "relu_forward",
    "silu_backward",
    "silu_forward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "squared_error",
    "sum_of_squares",
    "tanh_backward",
    "tanh_forward",
    "wide",
    "wide_dtype",
]
