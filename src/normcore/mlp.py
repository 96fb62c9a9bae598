"""Multilayer perceptrons: {affine - [norm] - activation - [dropout]} x (layers - 1) - affine - softmax."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, get_args

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._checks import check_dtype, check_number, check_uint64
from normcore.random import Generator

__all__ = ["MLP"]

Norm = Literal["batch", "layer"] | None
Activation = Literal["relu", "leaky_relu", "tanh", "logistic", "silu"]
FloatArray = npt.NDArray[Any]
ClassWeight = npt.ArrayLike | Mapping[Any, float] | None

_NORMS = (None, "batch", "layer")
_ACTIVATIONS = get_args(Activation)
_MOST_DROPOUT = 1.0 - 2.0**-32  # units are kept by comparing 32-bit words
_BUFFER_NAMES = ("running_mean", "running_var")


def _check_sizes(sizes: Iterable[SupportsIndex]) -> tuple[int, ...]:
    try:
        result = tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise TypeError(f"MLP: sizes must be a sequence of integers, not {sizes!r}") from None
    if len(result) < 2:
        raise ValueError(f"MLP: sizes is {list(result)}; it needs at least two entries: features and outputs")
    if any(size < 1 for size in result):
        raise ValueError(f"MLP: sizes is {list(result)}; each entry must be at least 1")
    if result[-1] == 1:
        raise ValueError(
            f"MLP: sizes is {list(result)}; the softmax over one output is 1 whatever its logit: use two, one for each "
            "class"
        )
    return result


def _convert(array: npt.NDArray[Any], dtype: np.dtype[Any], operation: str, name: str) -> FloatArray:
    """Round `array` to `dtype`; ValueError if a finite value becomes infinite."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        converted = array.astype(dtype)
    if dtype.itemsize < array.dtype.itemsize:
        infinite = np.isinf(converted)
        if infinite.any() and (lost := np.argwhere(infinite & np.isfinite(array))).size:
            index = tuple(lost[0].tolist())
            raise ValueError(
                f"{operation}: {name}[{', '.join(map(str, index))}] is {float(array[index])!r}, which does not fit "
                f"{dtype.name}, the dtype of the model"
            )
    return converted


def _renamed(error: TypeError | ValueError, old: str, operation: str, **names: str) -> Exception:
    """An error of the core as one of `operation`, which has other names for some arguments."""
    text = str(error)
    if not text.startswith(old + ":"):
        return error
    text = text.removeprefix(old)
    for name, new in names.items():
        text = re.sub(rf"(?<=[: ]){name}(?=[ \[]|$)", new, text)
    return type(error)(operation + text)


def _floats(values: npt.ArrayLike, operation: str, name: str) -> FloatArray:
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{operation}: {name} is a masked array; fill or drop the masked elements first")
    array = np.asarray(values)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{operation}: {name} is {array.dtype.name}; accepted are float32 and float64")
    return array


def check_features(X: npt.ArrayLike, features: int, dtype: np.dtype[Any], operation: str) -> FloatArray:
    """Return `X` as an array of `dtype` with at least two axes, the last one `features` long; any layout is kept."""
    array = _floats(X, operation, "X")
    if array.ndim < 2:
        raise ValueError(f"{operation}: X is {array.shape}; it must be (rows, features) (one row is X[np.newaxis])")
    if array.shape[-1] != features:
        raise ValueError(f"{operation}: X is {array.shape} but the model takes {features} features on its last axis")
    return _convert(array, dtype, operation, "X")


def check_targets(
    y: npt.ArrayLike, shape: tuple[int, ...], outputs: int, dtype: np.dtype[Any], operation: str
) -> npt.NDArray[Any]:
    """Return `y` with its leading axes made one: integer labels (rows,) as they are, or soft targets of `dtype`."""
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError(f"{operation}: y is a masked array; fill or drop the masked elements first")
    array = np.asarray(y)
    if array.dtype.kind in "iub":
        if array.shape != shape:
            raise ValueError(f"{operation}: y is {array.shape} but X has the rows {shape}; labels must be one a row")
        return array.reshape(-1)
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        if array.shape != (*shape, outputs):
            raise ValueError(
                f"{operation}: y is {array.dtype.name} {array.shape}; soft targets must be {(*shape, outputs)}, "
                f"labels an integer array {shape}"
            )
        return _convert(array, dtype, operation, "y").reshape(-1, outputs)
    raise TypeError(
        f"{operation}: y is {array.dtype.name}; accepted are integers and bool (labels), float32 and float64 (soft "
        "targets); normcore.encode_labels numbers other labels"
    )


def check_class_weight(weights: ClassWeight, outputs: int, operation: str) -> FloatArray | None:
    """Return class weights as a float64 array (outputs,), from one or from a mapping {class: weight}; None stays None.

    Classes that a mapping does not name weigh 1, as in scikit-learn.
    """
    if isinstance(weights, str):
        raise TypeError(
            f"{operation}: class_weight is {weights!r}; it must be numbers, one for each class, or a mapping of class "
            "to weight"
        )
    if isinstance(weights, Mapping):
        weights = _core.class_weights(operation, weights, outputs)
    return check_weights(weights, (outputs,), operation, "class_weight")


def check_weights(
    weights: npt.ArrayLike | None, shape: tuple[int, ...], operation: str, name: str
) -> FloatArray | None:
    """Return class or sample weights as a flat float64 array of the given shape; None stays None."""
    if weights is None:
        return None
    if isinstance(weights, np.ma.MaskedArray):
        raise TypeError(f"{operation}: {name} is a masked array")
    array = np.asarray(weights)
    if array.dtype.kind not in "iubf":
        raise TypeError(f"{operation}: {name} is {array.dtype.name}; it must be numbers")
    if array.shape != shape:
        raise ValueError(f"{operation}: {name} is {array.shape}; it must be {shape}")
    flat = np.ascontiguousarray(array, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~((flat >= 0.0) & (flat < np.inf)))
    if bad.size:
        index = int(bad[0])
        raise ValueError(f"{operation}: {name}[{index}] is {flat[index]}; it must be finite and not negative")
    return flat


class MLP:
    """A multilayer perceptron classifier with optional batch or layer normalisation and dropout.

    Parameters
    ----------
    sizes : sequence of int
        Features, hidden widths ..., outputs (classes); at least two, each at least 1, outputs at least 2.
    norm : None, "batch" or "layer"
        Normalisation after each hidden affine map.
    activation : "relu", "leaky_relu", "tanh", "logistic" or "silu"
        Of the hidden layers, after the norm; see `leaky_relu_forward` (slope 0.01) and its neighbours.
    dropout : float in [0, 1 - 2**-32]
        Probability to drop a hidden unit, after each activation, in training.
    weight_scale : float or None
        Standard deviation of the initial weights, 9 times which is finite in `dtype`; None: by the activation,
        sqrt(2 / in) of each layer for relu, leaky_relu and silu (He et al., arXiv 1502.01852), and
        sqrt(2 / (in + out)) for tanh and logistic (Glorot and Bengio, AISTATS 2010).
    dtype : "float32" or "float64"
        Of parameters, activations and logits.
    rng : int or Generator
        Seed of the initial weights; layer l (from 0) draws from stream l. A Generator gives one integer below 2**63,
        which is the seed, so that two models made from one generator differ.
    eps, momentum, unbiased_running_var
        Of the normalisation, as in `batch_norm_forward`: running = momentum * running + (1 - momentum) * batch.

    Notes
    -----
    Parameters are one flat array, `theta`, of which ``parameters()`` gives views: write into them, do not replace them.
    The same holds for ``gradients()`` and for the running statistics, ``buffers()``. A model is for one thread at a
    time. The same seed gives the same weights on every machine.
    """

    def __init__(
        self,
        sizes: Sequence[SupportsIndex],
        *,
        norm: Norm = None,
        activation: Activation = "relu",
        dropout: float = 0.0,
        weight_scale: float | None = None,
        dtype: npt.DTypeLike = "float32",
        rng: SupportsIndex | Generator = 0,
        eps: float = 1e-5,
        momentum: float = 0.9,
        unbiased_running_var: bool = False,
    ) -> None:
        self._build(sizes, norm, dropout, weight_scale, dtype, eps, momentum, unbiased_running_var, activation)
        seed = int(rng.integers(1 << 63, 1)[0]) if isinstance(rng, Generator) else check_uint64(rng, "MLP", "rng")
        try:
            self._network.initialize(self._theta, self._buffers, seed=seed, weight_scale=self._weight_scale)
        except ValueError as error:
            raise _renamed(error, "Network.initialize", "MLP") from None

    def _build(
        self,
        sizes: Iterable[SupportsIndex],
        norm: Norm,
        dropout: float,
        weight_scale: float | None,
        dtype: npt.DTypeLike,
        eps: float,
        momentum: float,
        unbiased_running_var: bool,
        activation: Activation = "relu",
    ) -> None:
        """Check the configuration and make all arrays, zero."""
        self._sizes = _check_sizes(sizes)
        if not (norm is None or isinstance(norm, str)) or norm not in _NORMS:
            raise ValueError(f"MLP: norm is {norm!r}; accepted are None, 'batch' and 'layer'")
        self._norm: Norm = norm
        if not isinstance(activation, str) or activation not in _ACTIVATIONS:
            *others, last = map(repr, _ACTIVATIONS)
            raise ValueError(f"MLP: activation is {activation!r}; accepted are {', '.join(others)} and {last}")
        self._activation: Activation = activation
        self._dropout = check_number(dropout, "MLP", "dropout", 0.0, 1.0, open_high=True)
        if self._dropout > _MOST_DROPOUT:
            raise ValueError(f"MLP: dropout is {self._dropout!r}; it must be at most 1 - 2**-32, or nothing is kept")
        self._weight_scale = None if weight_scale is None else check_number(weight_scale, "MLP", "weight_scale")
        self._dtype = check_dtype(dtype, "MLP")
        self._eps = check_number(eps, "MLP", "eps")
        self._momentum = check_number(momentum, "MLP", "momentum", 0.0, 1.0)
        if not isinstance(unbiased_running_var, (bool, np.bool_)):
            raise TypeError(f"MLP: unbiased_running_var is {unbiased_running_var!r}; it must be a bool")
        self._unbiased_running_var = bool(unbiased_running_var)
        try:
            self._network = _core.Network(
                self._sizes,
                norm=self._norm,
                activation=self._activation,
                keep=1.0 - self._dropout,
                eps=self._eps,
                momentum=self._momentum,
                unbiased_running_var=self._unbiased_running_var,
                dtype=self._dtype.name,
            )
        except (
            ValueError
        ) as error:  # of eps for this dtype, or of the product of the sizes; all else has been looked at
            detail = str(error).removeprefix("Network: ")
            where = "" if detail.startswith("eps ") else f"sizes is {list(self._sizes)}: "
            raise ValueError(f"MLP: {where}{detail}") from None
        count = self._network.parameter_count
        try:
            self._theta: FloatArray = np.zeros(count, dtype=self._dtype)
            # Not zeros_like, which writes: memory that is never used is never taken.
            self._gradients: FloatArray = np.zeros(count, dtype=self._dtype)
        except (MemoryError, ValueError):  # ValueError: more bytes than can be addressed
            raise MemoryError(f"MLP: sizes is {list(self._sizes)}: no memory for {count} parameters") from None
        self._buffers: FloatArray = np.zeros(self._network.buffer_count, dtype=self._dtype)
        self._pass: _core.Pass | None = None
        self._pass_input: FloatArray | None = None
        self._pass_shape: tuple[int, ...] = ()  # of the outputs: the input may be reshaped by who owns it
        self._parameter_views: dict[str, FloatArray] = {}
        self._gradient_views: dict[str, FloatArray] = {}
        self._buffer_views: dict[str, FloatArray] = {}
        self._weight_slices: list[slice] = []
        for kind, layer, offset, rows, cols in self._network.segments():
            name = f"{kind}{layer + 1}"
            part = slice(offset, offset + rows * cols)
            shape = (rows, cols) if kind == "w" else (cols,)
            if kind in _BUFFER_NAMES:
                self._buffer_views[name] = self._buffers[part].reshape(shape)
                continue
            self._parameter_views[name] = self._theta[part].reshape(shape)
            self._gradient_views[name] = self._gradients[part].reshape(shape)
            if kind == "w":
                self._weight_slices.append(part)

    # ------------------------------------------------------------------ configuration

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features, hidden widths ..., outputs."""
        return self._sizes

    @property
    def features(self) -> int:
        """Number of features a row has."""
        return self._sizes[0]

    @property
    def outputs(self) -> int:
        """Number of logits, that is of classes."""
        return self._sizes[-1]

    @property
    def layers(self) -> int:
        """Number of affine maps; also the number of random streams one training pass uses."""
        return len(self._sizes) - 1

    @property
    def norm(self) -> Norm:
        """None, "batch" or "layer"."""
        return self._norm

    @property
    def activation(self) -> Activation:
        """Of the hidden layers: "relu", "leaky_relu", "tanh", "logistic" or "silu"."""
        return self._activation

    @property
    def dropout(self) -> float:
        """Probability to drop a hidden unit in training."""
        return self._dropout

    @property
    def weight_scale(self) -> float | None:
        """Standard deviation of the initial weights; None: by the activation."""
        return self._weight_scale

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._dtype

    def config(self) -> dict[str, Any]:
        """Return what the model was made with, as a dict fit for JSON."""
        return {
            "sizes": list(self._sizes),
            "norm": self._norm,
            "activation": self._activation,
            "dropout": self._dropout,
            "weight_scale": self._weight_scale,
            "dtype": self._dtype.name,
            "eps": self._eps,
            "momentum": self._momentum,
            "unbiased_running_var": self._unbiased_running_var,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MLP:
        """Return a model with that `config()` and all parameters and running statistics 0."""
        model = cls.__new__(cls)
        model._build(**config)
        return model

    def __repr__(self) -> str:
        options = [f"{self._sizes}"]
        if self._norm is not None:
            options.append(f"norm={self._norm!r}")
        if self._activation != "relu":
            options.append(f"activation={self._activation!r}")
        if self._dropout:
            options.append(f"dropout={self._dropout!r}")
        options.append(f"dtype={self._dtype.name!r}")
        return f"MLP({', '.join(options)})"

    # ------------------------------------------------------------------ arrays

    @property
    def theta(self) -> FloatArray:
        """All parameters as one flat array, in the order of ``parameters()``."""
        return self._theta

    @property
    def gradients_flat(self) -> FloatArray:
        """All gradients as one flat array, laid out as `theta`."""
        return self._gradients

    @property
    def buffers_flat(self) -> FloatArray:
        """All running statistics as one flat array, in the order of ``buffers()``; empty without batch norm."""
        return self._buffers

    def parameters(self) -> dict[str, FloatArray]:
        """Views of `theta`: w1 (in, out), b1, gamma1, beta1, w2, ... (gamma and beta only with a norm)."""
        return dict(self._parameter_views)

    def gradients(self) -> dict[str, FloatArray]:
        """Views of the gradients of the last `loss_and_grads`, named as the parameters; 0 before the first."""
        return dict(self._gradient_views)

    def buffers(self) -> dict[str, FloatArray]:
        """Views of the running statistics of batch norm: running_mean1, running_var1, running_mean2, ..."""
        return dict(self._buffer_views)

    def weight_slices(self) -> list[slice]:
        """Where the weight matrices lie in `theta`, in order."""
        return list(self._weight_slices)

    # ------------------------------------------------------------------ evaluation

    def forward(self, X: npt.ArrayLike, *, out: FloatArray | None = None) -> FloatArray:
        """Logits in evaluation mode: running statistics for batch norm, no dropout.

        Parameters
        ----------
        X : (..., features) float32 or float64, of any layout
            The leading axes are the rows. Converted to the model's dtype if it has the other one.
        out : (..., outputs) of the model's dtype, optional
            Where to put the result; it overlaps neither X nor the model.

        Returns
        -------
        (..., outputs) of the model's dtype. Each row depends on nothing but that row: any split gives the same bits.
        """
        return self._forward(X, out, "MLP.forward")

    def _forward(self, X: npt.ArrayLike, out: FloatArray | None, operation: str) -> FloatArray:
        array = check_features(X, self.features, self._dtype, operation)
        if out is None:
            out = np.empty((*array.shape[:-1], self.outputs), dtype=self._dtype)
        else:
            self._check_apart(out, operation, "out")
        try:
            self._network.forward(array, self._theta, self._buffers, out)
        except (TypeError, ValueError) as error:
            raise _renamed(error, "Network.forward", operation) from None
        return out

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Class of each row, int64 (...,): the index of the first greatest logit (a NaN counts as greatest)."""
        classes: npt.NDArray[np.int64] = self._forward(X, None, "MLP.predict").argmax(axis=-1)
        return classes.astype(np.int64, copy=False)

    def predict_proba(self, X: npt.ArrayLike) -> FloatArray:
        """Class probabilities (..., outputs) of the model's dtype: the softmax of ``forward(X)``."""
        logits = self._forward(X, None, "MLP.predict_proba")
        flat = logits.reshape(-1, self.outputs)
        _core.softmax(flat, out=flat)
        return logits

    def score(self, X: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Accuracy: the share of rows whose class is that of `y` (labels, or soft targets, whose greatest counts)."""
        logits = self._forward(X, None, "MLP.score")
        targets = check_targets(y, logits.shape[:-1], self.outputs, self._dtype, "MLP.score")
        labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
        if not labels.size:
            raise ValueError("MLP.score: X has no rows")
        predicted = logits.reshape(-1, self.outputs).argmax(axis=1)
        return int(np.count_nonzero(predicted == labels)) / labels.size

    # ------------------------------------------------------------------ seeing inside

    def activations(
        self,
        X: npt.ArrayLike,
        *,
        training: bool = False,
        seed: SupportsIndex = 0,
        stream: SupportsIndex = 0,
    ) -> dict[str, FloatArray]:
        """What every layer makes of `X`, by the operations one after another; the model stays as it is.

        Parameters
        ----------
        X : (..., features) float32 or float64, of any layout
            As in `forward`; in training as in `forward_training`: at least one row, with batch norm two.
        training : bool
            Batch statistics and dropout, as in `forward_training`. The running statistics do not move.
        seed, stream : int in [0, 2**64)
            Of dropout in training, as in `loss_and_grads`.

        Returns
        -------
        dict
            New arrays (..., width) of the model's dtype, in the order in which they are computed, with the bits they
            have inside `forward` or `forward_training`. For each hidden layer, numbered from 1 as in ``parameters()``:
            ``affine1``; ``norm1``, where there is a norm; ``activation1``; ``dropout1``, in training with dropout. The
            last one is the affine map of the last layer, which gives the outputs.

        Raises
        ------
        TypeError, ValueError
            As `forward` or `forward_training`.

        Examples
        --------
        >>> import numpy as np
        >>> import normcore as nc
        >>> model = nc.MLP([3, 8, 2], norm="layer", activation="tanh", rng=1)
        >>> X = np.eye(3, dtype=np.float32)
        >>> inside = model.activations(X)
        >>> {name: array.shape for name, array in inside.items()}
        {'affine1': (3, 8), 'norm1': (3, 8), 'activation1': (3, 8), 'affine2': (3, 2)}
        >>> bool((inside["affine2"] == model.forward(X)).all())
        True
        """
        operation = "MLP.activations"
        array = check_features(X, self.features, self._dtype, operation)
        if training:
            self._check_rows(math.prod(array.shape[:-1]), array, operation)
        seed, stream = check_uint64(seed, operation, "seed"), check_uint64(stream, operation, "stream")
        parameters, found = self._parameter_views, {}
        activate = getattr(_core, f"{self._activation}_forward")
        for layer in range(1, self.layers + 1):
            array = found[f"affine{layer}"] = _core.affine_forward(
                array, parameters[f"w{layer}"], parameters[f"b{layer}"]
            )
            if layer == self.layers:
                break
            if self._norm is not None:
                array = found[f"norm{layer}"] = self._normalise(array, layer, training, operation)
            array = found[f"activation{layer}"] = activate(array)
            if training and self._dropout:
                array = found[f"dropout{layer}"] = _core.dropout_forward(
                    array, 1.0 - self._dropout, seed=seed, stream=(stream + layer - 1) % 2**64
                )
        return found

    def _normalise(self, array: FloatArray, layer: int, training: bool, operation: str) -> FloatArray:
        """The norm of a hidden layer, without moving its running statistics."""
        gamma, beta = self._parameter_views[f"gamma{layer}"], self._parameter_views[f"beta{layer}"]
        if self._norm == "layer":
            return _core.layer_norm_forward(array, gamma, beta, eps=self._eps)[0]
        if training:
            return _core.batch_norm_forward(array, gamma, beta, eps=self._eps)[0]
        running = (self._buffer_views[f"{name}{layer}"] for name in _BUFFER_NAMES)
        try:
            return _core.batch_norm_forward(array, gamma, beta, *running, training=False, eps=self._eps)[0]
        except ValueError as error:  # of a negative variance
            raise _renamed(error, "batch_norm_forward", operation, running_var=f"running_var{layer}") from None

    # ------------------------------------------------------------------ training

    def forward_training(
        self,
        X: npt.ArrayLike,
        *,
        seed: SupportsIndex = 0,
        stream: SupportsIndex = 0,
        update_statistics: bool = True,
    ) -> FloatArray:
        """Outputs in training mode (batch statistics, dropout), and in the model what `backward` needs of the way.

        The first of the four words of a training step: outputs, a loss of them, `backward`, an update of `theta`.

        Parameters
        ----------
        X : (..., features) float32 or float64
            At least one row, with batch norm two. Not copied where it has the model's dtype: leave it, and `theta`, as
            they are until after `backward`. The model keeps it, and memory for the activations, until the next call.
        seed, stream : int in [0, 2**64)
            Of dropout, as in `loss_and_grads`.
        update_statistics : bool
            Whether the running statistics of batch norm move.

        Returns
        -------
        (..., outputs) of the model's dtype

        Examples
        --------
        A step down the squared error, which no function here knows:

        >>> import numpy as np
        >>> import normcore as nc
        >>> model = nc.MLP([3, 8, 2], rng=1)
        >>> X, T = np.eye(3, dtype=np.float32), np.ones((3, 2), dtype=np.float32)
        >>> Y = model.forward_training(X)
        >>> gradients = model.backward(2 * (Y - T) / Y.size)
        >>> model.theta[...] -= 0.1 * model.gradients_flat
        >>> bool(((model.forward(X) - T) ** 2).mean() < ((Y - T) ** 2).mean())
        True
        """
        operation = "MLP.forward_training"
        array = check_features(X, self.features, self._dtype, operation)
        rows = math.prod(array.shape[:-1])
        self._check_rows(rows, array, operation)
        seed, stream = check_uint64(seed, operation, "seed"), check_uint64(stream, operation, "stream")
        self._pass_input = None
        if self._pass is None or self._pass.rows < rows:
            self._pass = _core.Pass(self._network, rows)
        out = np.empty((*array.shape[:-1], self.outputs), dtype=self._dtype)
        try:
            self._network.forward_training(
                array,
                self._theta,
                self._buffers if update_statistics else None,
                self._pass,
                out,
                seed=seed,
                stream=stream,
            )
        except (TypeError, ValueError) as error:
            raise _renamed(error, "Network.forward_training", operation) from None
        self._pass_input, self._pass_shape = array, out.shape
        return out

    def backward(self, doutputs: npt.ArrayLike, *, dx: FloatArray | None = None) -> dict[str, FloatArray]:
        """Gradients of the parameters from those of the outputs of the last `forward_training`.

        Parameters
        ----------
        doutputs : (..., outputs) float32 or float64
            Gradient of any loss with respect to what `forward_training` returned.
        dx : (..., features) of the model's dtype, optional
            Where to put the gradient with respect to X. It overlaps neither X nor the model.

        Returns
        -------
        dict
            ``gradients()``: views, overwritten by the next call. `backward` may be called again, with other doutputs.
        """
        operation = "MLP.backward"
        array = self._pass_input
        if array is None or self._pass is None:
            raise ValueError(f"{operation}: there has been no forward_training to go back from")
        gradient = _floats(doutputs, operation, "doutputs")
        if gradient.shape != self._pass_shape:
            raise ValueError(
                f"{operation}: doutputs is {gradient.shape}; the outputs of forward_training were {self._pass_shape}"
            )
        self._check_apart(dx, operation, "dx")
        gradient = _convert(gradient, self._dtype, operation, "doutputs")
        try:
            self._network.backward(array, self._theta, self._pass, gradient, self._gradients, dx)
        except (TypeError, ValueError) as error:
            raise _renamed(error, "Network.backward", operation, dy="doutputs", grads="gradients_flat") from None
        return self.gradients()

    def _check_apart(self, out: Any, operation: str, name: str) -> None:
        """ValueError where an output lies in arrays of the model that the core does not look at."""
        if not isinstance(out, np.ndarray):
            return  # which the core refuses
        for attribute, array in (("gradients_flat", self._gradients), ("buffers_flat", self._buffers)):
            if np.may_share_memory(out, array) and np.shares_memory(out, array):
                raise ValueError(f"{operation}: {name} overlaps {attribute} of the model")

    def _check_rows(self, rows: int, array: FloatArray, operation: str) -> None:
        if not rows:
            raise ValueError(f"{operation}: X is {array.shape}; it must have at least one row")
        if self._norm == "batch" and rows == 1:
            raise ValueError(f"{operation}: X has one row; batch norm needs at least two to train")

    def loss_and_grads(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        class_weight: ClassWeight = None,
        sample_weight: npt.ArrayLike | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        seed: SupportsIndex = 0,
        stream: SupportsIndex = 0,
        update_statistics: bool = True,
    ) -> tuple[float, dict[str, FloatArray]]:
        """Mean softmax cross-entropy of one batch in training mode, and its gradients.

        `forward_training`, `softmax_cross_entropy` and `backward` in one call, which needs no memory of the model's.

        Parameters
        ----------
        X : (..., features) float32 or float64
            At least one row, with batch norm two: one is its own mean, and would teach the layers below nothing.
        y : (...,) integers or bool in [0, outputs), or (..., outputs) float soft targets
        class_weight : (outputs,), or mapping of class to weight, optional
            Finite, not negative; see `softmax_cross_entropy`. A mapping may leave classes out: they weigh 1.
        sample_weight : (...,), optional
            Finite, not negative. With batch norm the rows of weight 0 count in the statistics all the same: leave
            padding out rather than weigh it 0.
        label_smoothing : float in [0, 1]
        ignore_index : int, optional
            Rows with this label count for nothing (but in batch norm's statistics).
        seed, stream : int in [0, 2**64)
            Layer l draws its dropout from stream ``stream + l`` of `seed`: the same pair drops the same units. In a
            training loop of your own give each step new streams, for example ``stream=step * model.layers``.
        update_statistics : bool
            Whether the running statistics of batch norm move.

        Returns
        -------
        loss : float
        gradients : dict
            ``gradients()``: views, overwritten by the next call.
        """
        loss, _ = self._training_pass(
            X,
            y,
            class_weight,
            sample_weight,
            label_smoothing,
            ignore_index,
            seed,
            stream,
            "MLP.loss_and_grads",
            update_statistics,
        )
        return loss, self.gradients()

    def _training_pass(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        class_weight: ClassWeight,
        sample_weight: npt.ArrayLike | None,
        label_smoothing: float,
        ignore_index: int | None,
        seed: SupportsIndex,
        stream: SupportsIndex,
        operation: str,
        update_statistics: bool = True,
    ) -> tuple[float, float]:
        """Check everything, run one training pass, return (loss, sum of weights); the gradients are in place."""
        array = check_features(X, self.features, self._dtype, operation)
        shape = array.shape[:-1]
        targets = check_targets(y, shape, self.outputs, self._dtype, operation)
        self._check_rows(targets.shape[0], array, operation)
        class_weight = check_class_weight(class_weight, self.outputs, operation)
        sample_weight = check_weights(sample_weight, shape, operation, "sample_weight")
        seed, stream = check_uint64(seed, operation, "seed"), check_uint64(stream, operation, "stream")
        try:
            return self._network.loss_and_grads(
                array.reshape(-1, self.features),
                targets,
                self._theta,
                self._buffers,
                self._gradients,
                class_weight=class_weight,
                sample_weight=sample_weight,
                label_smoothing=label_smoothing,
                ignore_index=ignore_index,
                seed=seed,
                stream=stream,
                update_statistics=update_statistics,
            )
        except (TypeError, ValueError) as error:
            raise _renamed(error, "Network.loss_and_grads", operation, labels="y") from None

    # ------------------------------------------------------------------ copies and files

    def copy(self) -> MLP:
        """Return a model of its own with the same parameters and running statistics; its gradients are 0."""
        model = type(self).from_config(self.config())
        model._theta[...] = self._theta
        model._buffers[...] = self._buffers
        return model

    def __copy__(self) -> MLP:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> MLP:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config(), "theta": self._theta, "buffers": self._buffers}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._build(**state["config"])
        self._theta[...] = state["theta"]
        self._buffers[...] = state["buffers"]

    def save(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write the model to a safetensors file, whole or not at all; see `normcore.serialization.save_model`."""
        from normcore.serialization import save_model

        save_model(path, self, extra)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MLP:
        """Return the model in the file; ValueError, naming the file, if it is not sound."""
        from normcore.serialization import load_model

        return load_model(path)[0]
