"""The numeric contract NC1 as a program: the results of normcore, bit for bit, in NumPy.

Where `normcore.testing.reference` says what a result is, this says which of the neighbouring floating-point numbers it
is. It follows ``docs/numerics.md`` section by section, and the kernels are tested against it: two implementations of
one text. Slow, for small arrays.

Each function has the name, the arguments and the results of the one of `normcore` that it specifies, also where that
one moves its arguments in place. Arrays are native, float32 or float64, all of one dtype and two-dimensional where they
are matrices; nothing is checked.
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
from .affine import affine_backward, affine_forward
from .arithmetic import fma
from .cross_entropy import softmax_cross_entropy
from .functions import exp, log, log1p
from .losses import huber_loss, logistic_loss, poisson_loss, quantile_loss, squared_error
from .network import Network
from .norms import batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward
from .optimizers import optimizer_update, sum_of_squares
from .random import (
    dropout_backward,
    dropout_forward,
    normal_quantile,
    philox,
    random_integers,
    random_normal,
    random_permutation,
    random_uniform,
)
from .softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "Network",
    "affine_backward",
    "affine_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "dropout_backward",
    "dropout_forward",
    "exp",
    "fma",
    "huber_loss",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "log",
    "log1p",
    "log_softmax",
    "log_softmax_backward",
    "logistic_backward",
    "logistic_forward",
    "logistic_loss",
    "normal_quantile",
    "optimizer_update",
    "philox",
    "poisson_loss",
    "quantile_loss",
    "random_integers",
    "random_normal",
    "random_permutation",
    "random_uniform",
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
]
