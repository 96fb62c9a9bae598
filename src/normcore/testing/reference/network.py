"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from . import activations
from .affine import affine_backward, affine_forward
from .cross_entropy import softmax_cross_entropy
from .norms import batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward
from .precision import Array, wide
from .random import dropout_backward, dropout_forward

__all__ = ["MLPResult", "mlp_forward", "mlp_loss_and_grads"]

Layers = Sequence[Mapping[str, ArrayLike]]

_FROM_INPUT = ("silu",)  # whose backward pass takes the input, not the output


def mlp_forward(
    x: ArrayLike,
    parameters: Layers,
    *,
    norm: str | None = None,
    activation: str = "relu",
    buffers: Layers = (),
    eps: float = 1e-5,
) -> Array:
    """Outputs in evaluation mode of {affine - [norm] - activation} x (layers - 1) - affine.

    `parameters` has one mapping a layer with ``w``, ``b`` and, for hidden layers of a normalised network, ``gamma`` and
    ``beta``; `buffers` one with ``running_mean`` and ``running_var`` for each hidden layer of a batch-normalised one.
    """
    activate = getattr(activations, f"{activation}_forward")
    a = wide(x)
    for index, layer in enumerate(parameters):
        a = affine_forward(a, layer["w"], layer["b"])
        if index == len(parameters) - 1:
            break
        if norm == "batch":
            old = buffers[index]["running_mean"], buffers[index]["running_var"]
            a = batch_norm_forward(a, layer["gamma"], layer["beta"], *old, training=False, eps=eps).y
        elif norm == "layer":
            a = layer_norm_forward(a, layer["gamma"], layer["beta"], eps=eps).y
        a = activate(a)
    return a


class MLPResult(NamedTuple):
    """Loss, weight sum, gradients (one dict a layer) and the buffers after the step (one dict a hidden layer)."""

    loss: Any
    weight_sum: Any
    grads: list[dict[str, Array]]
    buffers: list[dict[str, Array]]


def mlp_loss_and_grads(
    x: ArrayLike,
    targets: ArrayLike,
    parameters: Layers,
    *,
    norm: str | None = None,
    activation: str = "relu",
    loss: Callable[..., tuple[Any, Array, Any]] = softmax_cross_entropy,
    buffers: Layers = (),
    keep: float = 1.0,
    eps: float = 1e-5,
    momentum: float = 0.9,
    unbiased_running_var: bool = False,
    seed: int = 0,
    stream: int = 0,
    **loss_options: Any,
) -> MLPResult:
    """One training pass: forward, loss, backward. Layer l drops by stream ``stream + l``.

    `loss` is one of this package's, as :func:`huber_loss`, and takes `loss_options`.
    """
    activate, activate_backward = (getattr(activations, f"{activation}_{way}") for way in ("forward", "backward"))
    a = wide(x)
    inputs: list[Array] = []
    tapes: list[dict[str, Array]] = []
    new_buffers: list[dict[str, Array]] = []
    last = len(parameters) - 1
    for index, layer in enumerate(parameters):
        inputs.append(a)
        a = affine_forward(a, layer["w"], layer["b"])
        if index == last:
            break
        tape = {"x": a}
        if norm == "batch":
            old = buffers[index] if buffers else {"running_mean": None, "running_var": None}
            done = batch_norm_forward(
                a,
                layer["gamma"],
                layer["beta"],
                old["running_mean"],
                old["running_var"],
                momentum=momentum,
                eps=eps,
                unbiased_running_var=unbiased_running_var,
            )
            a = done.y
            tape |= {"mean": done.mean, "rstd": done.rstd}
            if done.running_mean is not None and done.running_var is not None:
                new_buffers.append({"running_mean": done.running_mean, "running_var": done.running_var})
        elif norm == "layer":
            a, tape["mean"], tape["rstd"] = layer_norm_forward(a, layer["gamma"], layer["beta"], eps=eps)
        y = activate(a)
        tape["saved"] = a if activation in _FROM_INPUT else y
        tapes.append(tape)
        a = y
        if keep < 1:
            a = dropout_forward(a, keep, seed=seed, stream=stream + index)
    value, g, weight_sum = loss(a, targets, **loss_options)

    grads: list[dict[str, Array]] = []
    for index in range(last, -1, -1):
        layer = parameters[index]
        found: dict[str, Array] = {}
        if index < last:
            tape = tapes[index]
            if keep < 1:
                g = dropout_backward(g, keep, seed=seed, stream=stream + index)
            g = activate_backward(g, tape["saved"])
            if norm == "batch":
                g, found["gamma"], found["beta"] = batch_norm_backward(
                    g, tape["x"], layer["gamma"], tape["mean"], tape["rstd"]
                )
            elif norm == "layer":
                g, found["gamma"], found["beta"] = layer_norm_backward(
                    g, tape["x"], layer["gamma"], tape["mean"], tape["rstd"]
                )
        g, found["w"], found["b"] = affine_backward(g, inputs[index], layer["w"])
        grads.insert(0, found)
    return MLPResult(value, weight_sum, grads, new_buffers)
