"""What is asked of every trained network beside its accuracy. `normcore.diagnostics` has what E6 to E8 measure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcore.mlp import MLP

__all__ = ["company_effect", "softmax_deviation"]

_Array = NDArray[Any]


def softmax_deviation(model: MLP, *inputs: _Array) -> float:
    """The largest deviation from 1 of the sum of a row's probabilities, summed in double."""
    return max(float(np.abs(model.predict_proba(X).sum(axis=-1, dtype=np.float64) - 1.0).max()) for X in inputs)


def company_effect(model: MLP, X: _Array) -> float:
    """The largest change of the outputs of the first row, relative to the largest of them, from a training pass with as
    few rows as possible (one; with batch norm two) to one with all rows."""
    last = f"affine{model.layers}"
    few = X[: 2 if model.norm == "batch" else 1]
    alone, together = (model.activations(rows, training=True)[last][0].astype(np.float64) for rows in (few, X))
    return float(np.abs(together - alone).max() / (np.abs(alone).max() or 1.0))
