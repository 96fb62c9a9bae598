"""Fully connected networks, under the names of ``cs231n.classifiers.fc_net``.

`params` is a plain dict of arrays whose entries may be changed in place, replaced, or reassigned as a whole: nothing is
remembered between two calls of `loss` but the running statistics of batch norm.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import normcore as nc
from normcore._atomic import write_atomically
from normcore._checks import check_dtype, check_integer, check_number
from normcore.cs231n import layers
from normcore.cs231n._arrays import Array, floating

__all__ = ["FullyConnectedNet", "TwoLayerNet"]

# The arguments that not all editions have, and where they are.
_EDITIONS_OF = {
    "use_batchnorm": "2017",
    "dropout": "2017 to 2020",
    "normalization": "2018 to 2026",
    "dropout_keep_ratio": "2021 to 2026",
}


class Saved:
    """Parameters to a file and back, as the networks of the newest editions have it."""

    params: dict[str, Array]

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write `params` to the file `fname`, in the current folder unless it says otherwise.

        In NumPy's format of several arrays (npz), whatever its name ends in: no pickle. Running statistics of batch
        norm are not part of it.
        """
        file, arrays = io.BytesIO(), dict[str, Any](self.params)
        np.savez(file, **arrays)
        write_atomically(fname, file.getvalue())

    def load(self, fname: str | os.PathLike[str]) -> bool:
        """Read `params` from a file of `save`; False where there is no such file."""
        try:
            with np.load(fname, allow_pickle=False) as arrays:
                self.params = dict(arrays)
        except FileNotFoundError:
            return False
        return True


class TwoLayerNet(Saved):
    """affine – ReLU – affine – softmax in float64.

    Weights are ``weight_scale * numpy.random.randn``, W1 first; biases are zero.

    Attributes
    ----------
    params : dict
        ``W1`` (input_dim, hidden_dim), ``b1``, ``W2`` (hidden_dim, num_classes), ``b2``.
    reg : float
        `loss` adds ``0.5 * reg`` times the sum of the squares of W1 and W2.

    Examples
    --------
    >>> from normcore.cs231n.classifiers.fc_net import TwoLayerNet
    >>> np.random.seed(231)
    >>> net = TwoLayerNet(input_dim=5, hidden_dim=50, num_classes=7)
    >>> scores = net.loss(np.ones((3, 5)))
    >>> loss, grads = net.loss(np.ones((3, 5)), np.array([0, 5, 1]))
    >>> scores.shape, round(loss, 4), sorted(grads)
    ((3, 7), 1.9459, ['W1', 'W2', 'b1', 'b2'])
    """

    layers: ClassVar[Any] = layers
    """The module whose functions the network is made of."""

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
    ) -> None:
        sizes = [_size("TwoLayerNet", "input_dim", input_dim), _size("TwoLayerNet", "hidden_dim", hidden_dim)]
        sizes.append(_size("TwoLayerNet", "num_classes", num_classes))
        self.params: dict[str, Array] = _initial(sizes, weight_scale, np.float64)
        self.reg = reg

    def loss(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Scores (N, num_classes) of `X` (N, d1, ..., dk), or with labels `y` (N,) the loss and a dict of gradients."""
        params, functions = self.params, self.layers
        affine1, cache1 = functions.affine_forward(X, params["W1"], params["b1"])
        hidden, relu = functions.relu_forward(affine1)
        scores, cache2 = functions.affine_forward(hidden, params["W2"], params["b2"])
        if y is None:
            return scores
        loss, dscores = functions.softmax_loss(scores, y)
        grads = {}
        dhidden, grads["W2"], grads["b2"] = functions.affine_backward(dscores, cache2)
        _, grads["W1"], grads["b1"] = functions.affine_backward(functions.relu_backward(dhidden, relu), cache1)
        return _regularized(loss, grads, params, self.reg)


class Network(Saved):
    """What the fully connected networks of all editions share; their arguments differ."""

    layers: ClassVar[Any] = layers
    """The module whose functions the network is made of."""

    def _build(
        self,
        hidden_dims: Iterable[int],
        input_dim: int,
        num_classes: int,
        p: float | None,
        normalization: str | None,
        reg: float,
        weight_scale: float,
        dtype: DTypeLike,
        seed: int | None,
    ) -> None:
        name = "FullyConnectedNet"
        if normalization not in (None, "batchnorm", "layernorm"):
            raise ValueError(f"{name}: normalization is {normalization!r}; accepted are 'batchnorm', 'layernorm', None")
        if not isinstance(hidden_dims, Iterable):
            raise TypeError(f"{name}: hidden_dims is {hidden_dims!r}; it must be a list of sizes, [100] for one layer")
        hidden = [_size(name, "hidden_dims", size) for size in hidden_dims]
        sizes = [_size(name, "input_dim", input_dim), *hidden, _size(name, "num_classes", num_classes)]
        self.normalization = normalization
        self.use_dropout = p is not None
        self.reg = reg
        self.num_layers = 1 + len(hidden)
        self.dtype = check_dtype(dtype, name)
        self.params: dict[str, Array] = _initial(sizes, weight_scale, self.dtype, normalization is not None)
        self.dropout_param: dict[str, Any] = {}
        if p is not None:
            self.dropout_param = {"mode": "train", "p": p} | ({} if seed is None else {"seed": seed})
        self.bn_params: list[dict[str, Any]] = []
        if normalization is not None:
            mode = {"mode": "train"} if normalization == "batchnorm" else {}
            self.bn_params = [dict(mode) for _ in hidden]

    def loss(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Scores (N, num_classes) of `X` (N, d1, ..., dk), or with labels `y` (N,) the loss and a dict of gradients.

        Without labels batch norm and dropout are in the mode ``"test"``, with labels in ``"train"``. The loss is the
        mean softmax cross-entropy plus ``0.5 * reg`` times the sum of the squares of all W.
        """
        (x,) = floating("FullyConnectedNet", X=X)
        mode = "test" if y is None else "train"
        out, caches = self._forward(x.astype(self.dtype, copy=False), mode)
        if y is None:
            return out
        loss, dout = self.layers.softmax_loss(out, y)
        return _regularized(loss, self._backward(dout, caches), self.params, self.reg)

    def _forward(self, out: Array, mode: str) -> tuple[Array, list[list[Any]]]:
        """The scores, and for each layer the caches of what it is made of."""
        params, functions = self.params, self.layers
        if self.use_dropout:
            self.dropout_param["mode"] = mode
        if self.normalization == "batchnorm":
            for bn_param in self.bn_params:
                bn_param["mode"] = mode
        caches: list[list[Any]] = []
        for i in range(1, self.num_layers):
            out, cache = functions.affine_forward(out, params[f"W{i}"], params[f"b{i}"])
            caches.append([cache])
            if self.normalization is not None:
                forward = getattr(functions, f"{self.normalization}_forward")
                out, cache = forward(out, params[f"gamma{i}"], params[f"beta{i}"], self.bn_params[i - 1])
                caches[-1].append(cache)
            out, cache = functions.relu_forward(out)
            caches[-1].append(cache)
            if self.use_dropout:
                out, cache = functions.dropout_forward(out, self.dropout_param)
                caches[-1].append(cache)
        last = self.num_layers
        out, cache = functions.affine_forward(out, params[f"W{last}"], params[f"b{last}"])
        return out, [*caches, [cache]]

    def _backward(self, dout: Array, caches: list[list[Any]]) -> dict[str, Array]:
        functions = self.layers
        grads: dict[str, Array] = {}
        for i in range(self.num_layers, 0, -1):
            own = caches[i - 1]
            if i < self.num_layers:
                if self.use_dropout:
                    dout = functions.dropout_backward(dout, own.pop())
                dout = functions.relu_backward(dout, own.pop())
                if self.normalization is not None:
                    backward = getattr(functions, f"{self.normalization}_backward")
                    dout, grads[f"gamma{i}"], grads[f"beta{i}"] = backward(dout, own.pop())
            dout, grads[f"W{i}"], grads[f"b{i}"] = functions.affine_backward(dout, own.pop())
        return grads


class FullyConnectedNet(Network):
    """{affine – [batch | layer norm] – ReLU – [dropout]} × (L − 1) – affine – softmax.

    This is the network of the editions from 2021 on; `normcore.cs231n.edition_2018` and ``edition_2017`` have those of
    earlier ones, whose arguments have other names.

    Parameters
    ----------
    hidden_dims : sequence of int
        Sizes of the hidden layers.
    input_dim, num_classes : int
    dropout_keep_ratio : float in (0, 1]
        Probability to keep a number; 1 for no dropout.
    normalization : {None, "batchnorm", "layernorm"}
    reg : float
        Strength of the L2 penalty on the weights.
    weight_scale : float
        Weights are this times ``numpy.random.randn``, from the first layer to the last.
    dtype : float32 or float64
        `X` is converted to it in `loss`.
    seed : int, optional
        `numpy.random.seed` is called with it before every mask of dropout: all steps have the same masks.

    Attributes
    ----------
    params : dict
        ``W1``, ``b1``, ``gamma1``, ``beta1``, ``W2``, ...; the last layer has no gamma and beta.
    bn_params : list of dict
        ``"mode"`` and running statistics of each batch norm.
    dropout_param : dict
        ``"mode"``, ``"p"`` and ``"seed"``, or empty.
    num_layers, normalization, use_dropout, reg, dtype
        As given; the number of layers counts the last one.

    Raises
    ------
    TypeError
        An argument of another edition; the message names the edition.

    Examples
    --------
    >>> from normcore.cs231n.classifiers.fc_net import FullyConnectedNet
    >>> np.random.seed(231)
    >>> net = FullyConnectedNet([20, 30], input_dim=15, normalization="batchnorm", dtype=np.float64)
    >>> loss, grads = net.loss(np.ones((4, 15)), np.array([0, 1, 2, 3]))
    >>> sorted(grads)
    ['W1', 'W2', 'W3', 'b1', 'b2', 'b3', 'beta1', 'beta2', 'gamma1', 'gamma2']
    >>> FullyConnectedNet([20], use_batchnorm=True)
    Traceback (most recent call last):
    TypeError: FullyConnectedNet: use_batchnorm is an argument of edition 2017, and this is the network of ...
    """

    def __init__(
        self,
        hidden_dims: Iterable[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        **foreign: object,
    ) -> None:
        refuse_foreign(foreign, "2021 to 2026")
        p = check_number(dropout_keep_ratio, "FullyConnectedNet", "dropout_keep_ratio", 0.0, 1.0, open_low=True)
        self._build(
            hidden_dims,
            input_dim,
            num_classes,
            dropout_keep_ratio if p != 1 else None,
            normalization,
            reg,
            weight_scale,
            dtype,
            seed,
        )


def refuse_foreign(foreign: Mapping[str, object], edition: str) -> None:
    """Raise for arguments that the network of this edition does not have; another's may mean something else."""
    for name in foreign:
        if name in _EDITIONS_OF:
            raise TypeError(
                f"FullyConnectedNet: {name} is an argument of edition {_EDITIONS_OF[name]}, and this is the network of "
                f"{edition}; normcore.cs231n.install(edition=YEAR) or normcore cs231n init --edition YEAR chooses"
            )
        raise TypeError(f"FullyConnectedNet: there is no argument {name}")


def _size(operation: str, name: str, size: int) -> int:
    return check_integer(size, operation, name, 1)


def _initial(sizes: list[int], weight_scale: float, dtype: DTypeLike, normalized: bool = False) -> dict[str, Array]:
    params = {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        params[f"W{i}"] = (weight_scale * np.random.randn(inputs, outputs)).astype(dtype)
        params[f"b{i}"] = np.zeros(outputs, dtype)
        if normalized and i < len(sizes) - 1:
            params[f"gamma{i}"] = np.ones(outputs, dtype)
            params[f"beta{i}"] = np.zeros(outputs, dtype)
    return params


def _regularized(
    loss: float, grads: dict[str, Array], params: Mapping[str, Array], reg: float
) -> tuple[float, dict[str, Array]]:
    """The loss and the gradients with the penalty on the weights."""
    if reg:
        for name in (name for name in grads if name.startswith("W")):
            (w,) = floating("loss", **{name: params[name]})
            loss += 0.5 * reg * nc.sum_of_squares(w)
            grads[name] = grads[name] + reg * w
    return loss, grads
