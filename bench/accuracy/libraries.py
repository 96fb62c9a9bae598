"""The same operations by each library: normcore, NumPy by the plain formulas, and PyTorch if it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import normcore

Array = NDArray[Any]


class Library(Protocol):
    """Layer norm normalises rows, batch norm columns; gamma is 1. Backward passes return dx and dgamma."""

    name: str

    def layer_norm(self, x: Array, beta: Array, eps: float) -> Array: ...
    def layer_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]: ...
    def batch_norm(self, x: Array, beta: Array, eps: float) -> Array: ...
    def batch_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]: ...
    def exp(self, x: Array) -> Array: ...
    def activation(self, name: str, x: Array) -> Array: ...
    def silu_derivative(self, x: Array) -> Array: ...
    def softmax(self, x: Array) -> Array: ...
    def log_softmax(self, x: Array) -> Array: ...
    def cross_entropy(self, x: Array, labels: NDArray[np.int64]) -> Array: ...
    def logistic_loss(self, y: Array, t: Array) -> tuple[Array, Array]: ...
    def squared_error(self, y: Array, t: Array) -> Array: ...
    def row_losses(self, name: str, y: Array, t: Array) -> tuple[Array, Array]: ...
    def affine(self, x: Array, w: Array) -> Array: ...


class NormCore:
    """The library."""

    name = "normcore"

    def layer_norm(self, x: Array, beta: Array, eps: float) -> Array:
        return normcore.layer_norm_forward(x, np.ones_like(beta), beta, eps=eps)[0]

    def layer_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]:
        one = np.ones(x.shape[1], x.dtype)
        _, mean, rstd = normcore.layer_norm_forward(x, one, 0 * one, eps=eps)
        return normcore.layer_norm_backward(dy, x, one, mean, rstd)[:2]

    def batch_norm(self, x: Array, beta: Array, eps: float) -> Array:
        return normcore.batch_norm_forward(x, np.ones_like(beta), beta, eps=eps)[0]

    def batch_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]:
        one = np.ones(x.shape[1], x.dtype)
        _, mean, rstd = normcore.batch_norm_forward(x, one, 0 * one, eps=eps)
        return normcore.batch_norm_backward(dy, x, one, mean, rstd)[:2]

    def exp(self, x: Array) -> Array:
        # The gradient of log-softmax is dy - exp(y) sum(dy): exp itself where dy is 0 and the sum -1.
        y = np.append(x, x.dtype.type(0))[None]
        dy = np.zeros_like(y)
        dy[0, -1] = -1
        return normcore.log_softmax_backward(dy, y)[0, :-1]

    def activation(self, name: str, x: Array) -> Array:
        return np.asarray(getattr(normcore, f"{name}_forward")(x))

    def silu_derivative(self, x: Array) -> Array:
        return normcore.silu_backward(np.ones_like(x), x)

    def softmax(self, x: Array) -> Array:
        return normcore.softmax(x)

    def log_softmax(self, x: Array) -> Array:
        return normcore.log_softmax(x)

    def cross_entropy(self, x: Array, labels: NDArray[np.int64]) -> Array:
        return normcore.softmax_cross_entropy(x, labels, reduction="none")[0]

    def logistic_loss(self, y: Array, t: Array) -> tuple[Array, Array]:
        loss, gradient, _ = normcore.logistic_loss(y[:, None], t, reduction="none")
        return loss, gradient[:, 0]

    def squared_error(self, y: Array, t: Array) -> Array:
        return np.asarray([normcore.squared_error(y[:, None], t)[0]])

    def row_losses(self, name: str, y: Array, t: Array) -> tuple[Array, Array]:
        options = {"tau": 0.9} if name == "quantile" else {}
        losses: tuple[Array, Array, float] = getattr(normcore, f"{name}_loss")(y, t, reduction="none", **options)
        return losses[:2]

    def affine(self, x: Array, w: Array) -> Array:
        return normcore.affine_forward(x, w)


class NumPy:
    """The textbook's formulas in the type of the data."""

    name = "NumPy"

    def _norm(self, x: Array, eps: float, axis: int) -> tuple[Array, Array]:
        deviation = x - x.mean(axis=axis, keepdims=True)
        std = np.sqrt((deviation * deviation).mean(axis=axis, keepdims=True) + x.dtype.type(eps))
        return deviation / std, std

    def _norm_backward(self, dy: Array, x: Array, eps: float, axis: int) -> tuple[Array, Array]:
        xhat, std = self._norm(x, eps, axis)
        mean_dy, mean_product = (v.mean(axis=axis, keepdims=True) for v in (dy, dy * xhat))
        return (dy - mean_dy - xhat * mean_product) / std, (dy * xhat).sum(axis=0)

    def layer_norm(self, x: Array, beta: Array, eps: float) -> Array:
        return self._norm(x, eps, 1)[0] + beta

    def layer_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]:
        return self._norm_backward(dy, x, eps, 1)

    def batch_norm(self, x: Array, beta: Array, eps: float) -> Array:
        return self._norm(x, eps, 0)[0] + beta

    def batch_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]:
        return self._norm_backward(dy, x, eps, 0)

    def exp(self, x: Array) -> Array:
        return np.asarray(np.exp(x))

    def activation(self, name: str, x: Array) -> Array:
        if name == "tanh":
            return np.asarray(np.tanh(x))
        s = 1 / (1 + np.exp(-x))
        return np.asarray(x * s if name == "silu" else s)

    def silu_derivative(self, x: Array) -> Array:
        s = self.activation("logistic", x)
        return np.asarray(s * (1 + x * (1 - s)))

    def softmax(self, x: Array) -> Array:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    def log_softmax(self, x: Array) -> Array:
        t = x - x.max(axis=1, keepdims=True)
        return np.asarray(t - np.log(np.exp(t).sum(axis=1, keepdims=True)))

    def cross_entropy(self, x: Array, labels: NDArray[np.int64]) -> Array:
        return np.asarray(-self.log_softmax(x)[np.arange(len(x)), labels])

    def logistic_loss(self, y: Array, t: Array) -> tuple[Array, Array]:
        return np.logaddexp(np.zeros_like(y), y) - t * y, self.activation("logistic", y) - t

    def squared_error(self, y: Array, t: Array) -> Array:
        return np.asarray([((y - t) ** 2).mean()])

    def row_losses(self, name: str, y: Array, t: Array) -> tuple[Array, Array]:
        r, one, tau = y - t, y.dtype.type(1), y.dtype.type(0.9)
        if name == "huber":
            each, slope = np.where(abs(r) <= 1, r * r / 2, abs(r) - one / 2), np.clip(r, -1, 1)
        elif name == "quantile":
            each, slope = np.maximum(-tau * r, (1 - tau) * r), np.where(r > 0, 1 - tau, np.where(r < 0, -tau, 0))
        else:
            each, slope = np.exp(y) - t * y, np.exp(y) - t
        return each.mean(axis=1), slope / y.dtype.type(y.shape[1])

    def affine(self, x: Array, w: Array) -> Array:
        return np.asarray(x @ w)


class PyTorch:
    """PyTorch's functions and autograd, on one thread."""

    def __init__(self) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._torch.set_num_threads(1)
        self.name = f"PyTorch {self._torch.__version__.split('+')[0]}"

    def _tensors(self, *arrays: Array) -> Any:
        return (self._torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)

    def _layer_norm(self, x: Any, gamma: Any, beta: Any, eps: float) -> Any:
        return self._torch.nn.functional.layer_norm(x, x.shape[1:], gamma, beta, eps)

    def _batch_norm(self, x: Any, gamma: Any, beta: Any, eps: float) -> Any:
        return self._torch.nn.functional.batch_norm(x, None, None, gamma, beta, True, 0.1, eps)

    def _backward(self, norm: Callable[..., Any], dy: Array, x: Array, eps: float) -> tuple[Array, Array]:
        gradient, a, gamma = self._tensors(dy, x, np.ones(x.shape[1], x.dtype))
        a.requires_grad_()
        gamma.requires_grad_()
        norm(a, gamma, self._torch.zeros_like(gamma), eps).backward(gradient)
        return a.grad.numpy(), gamma.grad.numpy()

    def layer_norm(self, x: Array, beta: Array, eps: float) -> Array:
        a, gamma, b = self._tensors(x, np.ones_like(beta), beta)
        return np.asarray(self._layer_norm(a, gamma, b, eps))

    def layer_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]:
        return self._backward(self._layer_norm, dy, x, eps)

    def batch_norm(self, x: Array, beta: Array, eps: float) -> Array:
        a, gamma, b = self._tensors(x, np.ones_like(beta), beta)
        return np.asarray(self._batch_norm(a, gamma, b, eps))

    def batch_norm_backward(self, dy: Array, x: Array, eps: float) -> tuple[Array, Array]:
        return self._backward(self._batch_norm, dy, x, eps)

    def _of(self, function: str, *arrays: Array, **arguments: Any) -> Array:
        found = getattr(self._torch, function, None) or getattr(self._torch.nn.functional, function)
        return np.asarray(found(*self._tensors(*arrays), **arguments))

    def exp(self, x: Array) -> Array:
        return self._of("exp", x)

    def activation(self, name: str, x: Array) -> Array:
        return self._of({"logistic": "sigmoid"}.get(name, name), x)

    def silu_derivative(self, x: Array) -> Array:
        (a,) = self._tensors(x)
        a.requires_grad_()
        self._torch.nn.functional.silu(a).sum().backward()
        return np.asarray(a.grad.numpy())

    def softmax(self, x: Array) -> Array:
        return self._of("softmax", x, dim=1)

    def log_softmax(self, x: Array) -> Array:
        return self._of("log_softmax", x, dim=1)

    def cross_entropy(self, x: Array, labels: NDArray[np.int64]) -> Array:
        return self._of("cross_entropy", x, labels, reduction="none")

    def logistic_loss(self, y: Array, t: Array) -> tuple[Array, Array]:
        a, b = self._tensors(y, t)
        a.requires_grad_()
        loss = self._torch.nn.functional.binary_cross_entropy_with_logits(a, b, reduction="none")
        loss.sum().backward()
        return loss.detach().numpy(), a.grad.numpy()

    def squared_error(self, y: Array, t: Array) -> Array:
        return self._of("mse_loss", y, t)[None]

    def row_losses(self, name: str, y: Array, t: Array) -> tuple[Array, Array]:
        if name == "quantile":
            raise ValueError("PyTorch has no quantile loss")
        a, b = self._tensors(y, t)
        a.requires_grad_()
        function = {"huber": "huber_loss", "poisson": "poisson_nll_loss"}[name]
        losses = getattr(self._torch.nn.functional, function)(a, b, reduction="none").mean(dim=1)
        losses.sum().backward()
        return losses.detach().numpy(), a.grad.numpy()

    def affine(self, x: Array, w: Array) -> Array:
        return self._of("matmul", x, w)


def installed() -> list[Library]:
    """normcore first, then the others there are."""
    found: list[Library] = [NormCore(), NumPy()]
    if importlib.util.find_spec("torch"):
        found.append(PyTorch())
    return found
