"""Multilayer perceptrons with batch and layer normalisation on CPUs, the same bits everywhere.

Functions take and return NumPy arrays of float32 or float64, rows x features. `MLP` and `Trainer` build on them.
`normcore.testing` (reference implementation, hypothesis strategies) and `normcore.experiments` are imported on demand.
The examples take ``import numpy as np`` and ``import normcore as nc`` for granted.

(PYTEST_DONT_REWRITE: there is a plugin of pytest's in this distribution, which would complain of an earlier import.)
"""

from __future__ import annotations

from . import _interrupt

_interrupt.guard()  # before everything else: NumPy alone takes most of a short command's time

import sys
from typing import TYPE_CHECKING, Any

try:
    from ._config import get_include, get_library_dir, show_config
    from ._core import (
        CONTRACT,
        __version__,
        affine_backward,
        affine_forward,
        available_isas,
        batch_norm_backward,
        batch_norm_forward,
        cpu_features,
        dropout_backward,
        dropout_forward,
        get_isa,
        get_num_threads,
        huber_loss,
        layer_norm_backward,
        layer_norm_forward,
        leaky_relu_backward,
        leaky_relu_forward,
        log_softmax,
        log_softmax_backward,
        logistic_backward,
        logistic_forward,
        logistic_loss,
        optimizer_update,
        poisson_loss,
        quantile_loss,
        random_integers,
        random_normal,
        random_permutation,
        random_uniform,
        relu6_backward,
        relu6_forward,
        relu_backward,
        relu_forward,
        selftest,
        set_isa,
        set_num_threads,
        silu_backward,
        silu_forward,
        softmax,
        softmax_backward,
        softmax_cross_entropy,
        squared_error,
        sum_of_squares,
        tanh_backward,
        tanh_forward,
    )
except ValueError as _error:  # an environment variable that makes no sense
    # A command says so in one line, and this is the first of its code that runs.
    if _interrupt.is_command():
        from ._text import printable

        sys.stderr.write(f"normcore: error: {printable(str(_error)).removeprefix('normcore: ')}\n")
        raise SystemExit(2) from None
    raise

if TYPE_CHECKING:
    from .labels import encode_labels
    from .mlp import MLP, load_model, save_model
    from .random import Generator
    from .training.guard import NonFiniteError
    from .training.history import History
    from .training.monitor import Monitor
    from .training.schedules import (
        ConstantSchedule,
        CosineSchedule,
        ExponentialSchedule,
        OneCycleSchedule,
        PlateauSchedule,
        Schedule,
        StepSchedule,
    )
    from .training.trainer import Trainer

__all__ = [
    "CONTRACT",
    "MLP",
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "Generator",
    "History",
    "Monitor",
    "NonFiniteError",
    "OneCycleSchedule",
    "PlateauSchedule",
    "Schedule",
    "StepSchedule",
    "Trainer",
    "__version__",
    "affine_backward",
    "affine_forward",
    "available_isas",
    "batch_norm_backward",
    "batch_norm_forward",
    "cpu_features",
    "dropout_backward",
    "dropout_forward",
    "encode_labels",
    "get_include",
    "get_isa",
    "get_library_dir",
    "get_num_threads",
    "huber_loss",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "load_model",
    "log_softmax",
    "log_softmax_backward",
    "logistic_backward",
    "logistic_forward",
    "logistic_loss",
    "optimizer_update",
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
    "save_model",
    "selftest",
    "set_isa",
    "set_num_threads",
    "show_config",
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

# Imported at first use: training needs ten times as many modules as the operations.
_LAZY = {
    "MLP": "mlp",
    "ConstantSchedule": "training.schedules",
    "CosineSchedule": "training.schedules",
    "ExponentialSchedule": "training.schedules",
    "Generator": "random",
    "History": "training.history",
    "Monitor": "training.monitor",
    "NonFiniteError": "training.guard",
    "OneCycleSchedule": "training.schedules",
    "PlateauSchedule": "training.schedules",
    "Schedule": "training.schedules",
    "StepSchedule": "training.schedules",
    "Trainer": "training.trainer",
    "encode_labels": "labels",
    "load_model": "mlp",
    "save_model": "mlp",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
