"""What E6 to E8 measure inside a network, from what the model makes public."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normcore.mlp import MLP

__all__ = ["Line", "along_gradient", "company_effect", "softmax_deviation", "weight_gradient_norms", "what_relus_see"]

_Array = NDArray[Any]


def what_relus_see(model: MLP, X: _Array) -> list[_Array]:
    """The input of each hidden activation in double, with the statistics of this batch; the model stays as it is."""
    inside = model.activations(X, training=True)
    kind = "affine" if model.norm is None else "norm"
    return [inside[f"{kind}{layer}"].astype(np.float64) for layer in range(1, model.layers)]


def weight_gradient_norms(model: MLP, X: _Array, y: _Array) -> tuple[float, list[float]]:
    """The loss of a minibatch and the Frobenius norms of its weight gradients, first layer first."""
    loss, gradients = model.loss_and_grads(X, y, update_statistics=False)
    return loss, [
        float(np.linalg.norm(gradients[f"w{layer}"].astype(np.float64))) for layer in range(1, model.layers + 1)
    ]


class Line(NamedTuple):
    """The loss on a line from the parameters along the negative gradient."""

    loss: float
    losses: list[float]
    turn: float
    """The largest |g' - g| / |g| on the line."""


def along_gradient(model: MLP, X: _Array, y: _Array, distances: Sequence[float]) -> Line:
    """Loss and gradient of a minibatch at these distances along the negative gradient; the model stays as it is."""
    start = model.parameters_flat.copy()
    loss, _ = model.loss_and_grads(X, y, update_statistics=False)
    gradient = model.gradients_flat.astype(np.float64)
    length = float(np.linalg.norm(gradient))
    direction = gradient / (length or 1.0)
    losses, turn = [], 0.0
    try:
        for distance in distances:
            model.parameters_flat[...] = start - distance * direction
            there, _ = model.loss_and_grads(X, y, update_statistics=False)
            losses.append(there)
            if length:
                turn = max(turn, float(np.linalg.norm(model.gradients_flat - gradient)) / length)
    finally:
        model.parameters_flat[...] = start
    return Line(loss, losses, turn)


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
