"""Section 11 of NC1: the multilayer perceptron as a composition of the operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import activations
from .affine import affine_backward, affine_forward
from .arithmetic import Array, stored
from .cross_entropy import softmax_cross_entropy
from .norms import batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward
from .random import dropout_backward, dropout_forward, random_normal

_MASK64 = 0xFFFFFFFFFFFFFFFF
_GLOROT = ("tanh", "logistic")  # what initial weights are scaled by; He et al. for the others
_FROM_INPUT = ("silu",)  # what the backward pass starts from; from the output for the others


class Network:
    """The shape of a perceptron; parameters, gradients and buffers are flat arrays of the caller."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        norm: str | None = None,
        activation: str = "relu",
        keep: float = 1.0,
        eps: float = 1e-5,
        momentum: float = 0.9,
        unbiased_running_var: bool = False,
        dtype: Any = "float32",
    ) -> None:
        self.sizes, self.norm, self.keep, self.dtype = tuple(sizes), norm, keep, np.dtype(dtype)
        self.activation = activation
        self._activate = getattr(activations, f"{activation}_forward")
        self._activate_backward = getattr(activations, f"{activation}_backward")
        self.eps, self.momentum, self.unbiased_running_var = eps, momentum, unbiased_running_var
        self.layers = len(self.sizes) - 1

    def segments(self) -> list[tuple[str, int, int, int, int]]:
        """(name, layer, offset, rows, cols) of each array, parameters and then buffers."""
        found: list[tuple[str, int, int, int, int]] = []
        for kinds, condition in (
            (("w", "b", "gamma", "beta"), self.norm is not None),
            (("running_mean", "running_var"), self.norm == "batch"),
        ):
            end = 0
            for layer, (rows, cols) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
                has_norm = condition and layer < self.layers - 1
                for kind in kinds:
                    if kind in ("w", "b") or has_norm:
                        height = rows if kind == "w" else 1
                        found.append((kind, layer, end, height, cols))
                        end += height * cols
        return found

    @property
    def parameter_count(self) -> int:
        """Elements of the parameters."""
        return sum(rows * cols for name, _, _, rows, cols in self.segments() if not name.startswith("running"))

    @property
    def buffer_count(self) -> int:
        """Elements of the buffers."""
        return sum(rows * cols for name, _, _, rows, cols in self.segments() if name.startswith("running"))

    def _views(self, params: Array, buffers: Array | None) -> list[dict[str, Array]]:
        """Views of each layer's arrays."""
        views: list[dict[str, Array]] = [{} for _ in range(self.layers)]
        for name, layer, offset, rows, cols in self.segments():
            flat = buffers if name.startswith("running") else params
            if flat is not None:
                part = flat[offset : offset + rows * cols]
                views[layer][name] = part.reshape(rows, cols) if name == "w" else part
        return views

    def initialize(
        self, params: Array, buffers: Array | None, *, seed: int, stream: int = 0, weight_scale: float | None = None
    ) -> None:
        """Initial values of parameters and buffers."""
        for layer, a in enumerate(self._views(params, buffers)):
            fan = self.sizes[layer] + (self.sizes[layer + 1] if self.activation in _GLOROT else 0)
            scale = math.sqrt(2.0 / fan) if weight_scale is None else weight_scale
            w = random_normal(a["w"].size, seed=seed, stream=(stream + layer) & _MASK64, scale=scale, dtype=self.dtype)
            a["w"][...] = w.reshape(a["w"].shape)
            for name, value in (("b", 0), ("gamma", 1), ("beta", 0), ("running_mean", 0), ("running_var", 1)):
                if name in a:
                    a[name][...] = value

    def _normalise(self, x: Array, a: dict[str, Array], training: bool) -> tuple[Array, Array, Array]:
        if self.norm == "layer":
            return layer_norm_forward(x, a["gamma"], a["beta"], eps=self.eps)
        return batch_norm_forward(
            x,
            a["gamma"],
            a["beta"],
            a["running_mean"],
            a["running_var"],
            training=training,
            momentum=self.momentum,
            eps=self.eps,
            unbiased_running_var=self.unbiased_running_var,
        )

    def forward(self, x: Array, params: Array, buffers: Array | None, out: Array) -> None:
        """Logits in evaluation mode."""
        h = stored(x, self.dtype)
        views = self._views(params, buffers)
        for a in views[:-1]:
            h = affine_forward(h, a["w"], a["b"])
            if self.norm is not None:
                h, _, _ = self._normalise(h, a, training=False)
            h = self._activate(h)
        out[...] = affine_forward(h, views[-1]["w"], views[-1]["b"])

    def loss_and_grads(
        self,
        x: Array,
        labels: Any,
        params: Array,
        buffers: Array | None,
        grads: Array,
        *,
        seed: int = 0,
        stream: int = 0,
        **options: Any,
    ) -> tuple[float, float]:
        """One training pass; `options` are those of `softmax_cross_entropy`."""
        views, gradients = self._views(params, buffers), self._views(grads, None)
        words = [{"seed": seed, "stream": (stream + layer) & _MASK64} for layer in range(self.layers)]
        inputs, statistics = [stored(x, self.dtype)], []
        for layer, a in enumerate(views[:-1]):
            affine = affine_forward(inputs[-1], a["w"], a["b"])
            h, mean, rstd = affine, None, None
            if self.norm is not None:
                h, mean, rstd = self._normalise(affine, a, training=True)
            y = self._activate(h)
            saved = h if self.activation in _FROM_INPUT else y
            inputs.append(dropout_forward(y, self.keep, **words[layer]) if self.keep < 1.0 else y)
            statistics.append((affine, mean, rstd, saved))
        logits = affine_forward(inputs[-1], views[-1]["w"], views[-1]["b"])
        loss, dy, weight_sum = softmax_cross_entropy(logits, labels, **options)

        for layer in reversed(range(self.layers)):
            a, da = views[layer], gradients[layer]
            if layer < self.layers - 1:
                affine, mean, rstd, saved = statistics[layer]
                if self.keep < 1.0:
                    dy = dropout_backward(dy, self.keep, **words[layer])
                dy = self._activate_backward(dy, saved)
                if mean is not None and rstd is not None:
                    backward = layer_norm_backward if self.norm == "layer" else batch_norm_backward
                    dy, da["gamma"][...], da["beta"][...] = backward(dy, affine, a["gamma"], mean, rstd)
            dy, da["w"][...], da["b"][...] = affine_backward(dy, inputs[layer], a["w"])
        assert isinstance(loss, float)
        return loss, weight_sum
