"""Multilayer perceptrons: {affine - [norm] - activation - [dropout]} x (layers - 1) - affine - softmax."""

from __future__ import annotations

import hashlib
import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore import _core, losses
from normcore._checks import check_dtype, check_integer, check_number, check_uint64, with_hints
from normcore._description import SCALE_NAMES, check_feature_scale, check_names, judge_feature_scale, scaled
from normcore._fields import Fields
from normcore._inputs import ClassWeight, check_class_weight, check_features, check_floats, check_weights, convert
from normcore._text import printable
from normcore.archive import Archive, Spec, open_archive, unsigned_header, write_archive
from normcore.losses import Loss
from normcore.model_file import config_of, metadata_of

if TYPE_CHECKING:
    from normcore._core import _Activation as Activation

__all__ = ["MLP", "load_model", "save_model"]

Norm = Literal["batch", "layer"] | None
FloatArray = npt.NDArray[Any]

_NORMS = (None, "batch", "layer")
_MOST_DROPOUT = 1.0 - 2.0**-32  # units are kept by comparing 32-bit words
_BUFFER_NAMES = ("running_mean", "running_var")
_MODEL = "model"


def _check_sizes(sizes: Iterable[SupportsIndex]) -> tuple[int, ...]:
    try:
        result = tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise TypeError(f"MLP: sizes must be a sequence of integers, not {sizes!r}") from None
    if len(result) < 2:
        raise ValueError(f"MLP: sizes is {list(result)}; it needs at least two entries: features and outputs")
    if any(size < 1 for size in result):
        raise ValueError(f"MLP: sizes is {list(result)}; each entry must be at least 1")
    return result


def _renamed(error: TypeError | ValueError, old: str, operation: str, **names: str) -> Exception:
    """An error of the core as one of `operation`, which has other names for some arguments."""
    text = str(error)
    if not text.startswith(old + ":"):
        return error
    text = text.removeprefix(old)
    for name, new in names.items():
        text = re.sub(rf"(?<=[: ]){name}(?=[ \[]|$)", new, text)
    return type(error)(operation + text)


class _Place(NamedTuple):
    """One array of a network: its name everywhere, and where it lies in the flat array of its kind."""

    name: str
    kind: str
    part: slice
    shape: tuple[int, ...]


def _places(network: _core.Network) -> tuple[list[_Place], list[_Place]]:
    """Parameters and running statistics: the one place that names arrays."""
    parameters: list[_Place] = []
    buffers: list[_Place] = []
    for kind, layer, offset, rows, cols in network.segments():
        place = _Place(
            f"{kind}{layer + 1}", kind, slice(offset, offset + rows * cols), (rows, cols) if kind == "w" else (cols,)
        )
        (buffers if kind in _BUFFER_NAMES else parameters).append(place)
    return parameters, buffers


# The words of other libraries, and what is meant by them here.
_ARGUMENTS = {
    "batch_norm": 'norm="batch" or "layer"',
    "dropout_rate": "dropout",
    "hidden_layer_sizes": "sizes, which begin with the features and end with the outputs",
    "hidden_sizes": "sizes, which begin with the features and end with the outputs",
    "layers": "sizes, which begin with the features and end with the outputs",
    "random_state": "seed",
    "rng": "seed",
}
_METHODS = {
    "compile": "give loss and optimizer to normcore.Trainer(model, ...)",
    "evaluate": "MLP.score(X, y)",
    "fit": "normcore.Trainer(model, ...).fit(X, y) trains it",
    "partial_fit": "normcore.Trainer(model, ...).step(X, y) does one step",
    "state_dict": "MLP.parameters() and MLP.buffers()",
    "train": "normcore.Trainer(model, ...).fit(X, y) trains it",
}


class _Elsewhere:
    """A method of other libraries: an attribute that is not there, and says what is meant by it here.

    Not ``__getattr__``, with which Python would take several times as long for every attribute that is there.
    """

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint

    def __get__(self, model: object, owner: type) -> Any:
        message = f"{owner.__name__!r} object has no attribute {self.name!r}; {self.hint}"
        raise AttributeError(message, name=self.name, obj=model)

    def __repr__(self) -> str:
        return f"<{self.hint}>"


class MLP:
    """A multilayer perceptron with optional batch or layer normalisation and dropout, and what its data mean.

    Parameters
    ----------
    sizes : sequence of int
        Features, hidden widths ..., outputs; at least two, each at least 1.
    norm : None, "batch" or "layer"
        Normalisation after each hidden affine map.
    activation : "relu", "leaky_relu" (slope 0.01), "tanh", ...
        Of the hidden layers, after the norm: X of any pair of functions `X_forward` and `X_backward` of one array.
    dropout : float in [0, 1 - 2**-32]
        Probability to drop a hidden unit, after each activation, in training.
    weight_scale : float or None
        Standard deviation of the initial weights, 9 times which is finite in `dtype`; None: by the activation,
        sqrt(2 / (in + out)) of each layer for tanh and logistic (Glorot and Bengio, AISTATS 2010), and sqrt(2 / in)
        for the others (He et al., arXiv 1502.01852).
    dtype : "float32" or "float64"
        Of parameters, activations and logits.
    seed : int in [0, 2**64)
        Of the initial weights: layer l (from 0) draws from stream l of it.
    eps, momentum, unbiased_running_var
        Of the normalisation, as in `batch_norm_forward`: running = momentum * running + (1 - momentum) * batch.
    loss : str or `normcore.losses.Loss`
        What the outputs mean: `predict`, `predict_proba` and `score` follow it. "cross_entropy" (one output or more for
        each class, of which there are at least two) unless another is named.
    feature_names, class_names : sequence of str, optional
        Of the features, and of the outputs (the classes): different ones. They are kept, saved and shown, and change no
        number.
    feature_mean, feature_scale : (features,), optional, both or neither
        Mean and standard deviation of the raw features, or whatever else they are to be scaled by: see Notes. Finite;
        the scale is greater than 0.

    Notes
    -----
    **A model with a scale takes raw rows, in every method that takes X**, and so does a `Trainer` of it: what the
    network sees is ``(X - feature_mean) / feature_scale``, computed in double and rounded once. Without one it sees X
    itself. The scale is part of the model and of its file, so that nobody who loads it need know how it was trained;
    it cannot be changed afterwards, for the parameters belong to it.

    Parameters are one flat array, `parameters_flat`, of which ``parameters()`` gives views: write into them, do not
    replace them. The same holds for ``gradients()`` and for the running statistics, ``buffers()``. A model is for
    one thread at a time. The same seed gives the same weights on every machine.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> X, y = np.array([[1.0, 3000.0], [3.0, 1000.0], [2.0, 5000.0]]), np.array([0, 1, 0])
    >>> model = nc.MLP([2, 8, 2], feature_mean=X.mean(axis=0), feature_scale=X.std(axis=0), class_names=["no", "yes"])
    >>> history = nc.Trainer(model, epochs=60, learning_rate=0.01).fit(X, y)
    >>> [model.class_names[k] for k in model.predict(X)]
    ['no', 'yes', 'no']
    """

    @with_hints("MLP", _ARGUMENTS)
    def __init__(
        self,
        sizes: Sequence[SupportsIndex],
        *,
        norm: Norm = None,
        activation: Activation = "relu",
        dropout: float = 0.0,
        weight_scale: float | None = None,
        dtype: npt.DTypeLike = "float32",
        seed: SupportsIndex = 0,
        eps: float = 1e-5,
        momentum: float = 0.9,
        unbiased_running_var: bool = False,
        loss: str | Loss = "cross_entropy",
        feature_names: Iterable[str] | None = None,
        class_names: Iterable[str] | None = None,
        feature_mean: npt.ArrayLike | None = None,
        feature_scale: npt.ArrayLike | None = None,
    ) -> None:
        self._configure(
            sizes,
            norm=norm,
            activation=activation,
            dropout=dropout,
            weight_scale=weight_scale,
            dtype=dtype,
            eps=eps,
            momentum=momentum,
            unbiased_running_var=unbiased_running_var,
            loss=loss,
            feature_names=feature_names,
            class_names=class_names,
            feature_mean=feature_mean,
            feature_scale=feature_scale,
        )
        seed = check_uint64(seed, "MLP", "seed")
        self._allocate()
        try:
            self._network.initialize(self._parameters, self._buffers, seed=seed, weight_scale=self._weight_scale)
        except ValueError as error:
            raise _renamed(error, "Network.initialize", "MLP") from None

    def _configure(
        self,
        sizes: Iterable[SupportsIndex],
        *,
        norm: Norm,
        dropout: float,
        weight_scale: float | None,
        dtype: npt.DTypeLike,
        eps: float,
        momentum: float,
        unbiased_running_var: bool,
        activation: Activation = "relu",
        loss: str | Loss | Mapping[str, Any] = "cross_entropy",
        feature_names: Iterable[str] | None = None,
        class_names: Iterable[str] | None = None,
        feature_mean: npt.ArrayLike | None = None,
        feature_scale: npt.ArrayLike | None = None,
    ) -> None:
        """Check the configuration, before anything of the size of the network is allocated."""
        self._sizes = _check_sizes(sizes)
        if not (norm is None or isinstance(norm, str)) or norm not in _NORMS:
            raise ValueError(f"MLP: norm is {norm!r}; accepted are None, 'batch' and 'layer'")
        self._norm: Norm = norm
        if not isinstance(activation, str) or activation not in _core.ACTIVATIONS:
            *others, last = map(repr, _core.ACTIVATIONS)
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
        self._places, self._buffer_places = _places(self._network)
        if isinstance(loss, Mapping):
            parameters = {key: value for key, value in loss.items() if key != "name"}
            loss = Loss(loss["name"], parameters)
        self._loss = losses.get(loss)
        self._feature_names = check_names(feature_names, self.features, "feature_names")
        self._class_names = check_names(class_names, self.outputs, "class_names")
        self._scale = check_feature_scale(feature_mean, feature_scale, self.features)

    def _allocate(self) -> None:
        """Make all arrays, zero."""
        count = self._network.parameter_count
        try:
            self._parameters: FloatArray = np.zeros(count, dtype=self._dtype)
            # Not zeros_like, which writes: memory that is never used is never taken.
            self._gradients: FloatArray = np.zeros(count, dtype=self._dtype)
        except (MemoryError, ValueError):  # ValueError: more bytes than can be addressed
            raise MemoryError(f"MLP: sizes is {list(self._sizes)}: no memory for {count} parameters") from None
        self._buffers: FloatArray = np.zeros(self._network.buffer_count, dtype=self._dtype)
        self._pass: _core.Pass | None = None
        self._pass_input: FloatArray | None = None
        self._pass_shape: tuple[int, ...] = ()  # of the outputs: the input may be reshaped by who owns it
        self._parameter_views = {p.name: self._parameters[p.part].reshape(p.shape) for p in self._places}
        self._gradient_views = {p.name: self._gradients[p.part].reshape(p.shape) for p in self._places}
        self._buffer_views = {p.name: self._buffers[p.part].reshape(p.shape) for p in self._buffer_places}

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
        """Number of outputs: with cross-entropy that of the classes."""
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
        """Of the hidden layers: "relu", "tanh", ..."""
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

    @property
    def loss(self) -> Loss:
        """What the outputs mean; may be set, by name too, before the model is trained."""
        return self._loss

    @loss.setter
    def loss(self, loss: str | Loss) -> None:
        self._loss = losses.get(loss)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the features, or None."""
        return self._feature_names

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the outputs, or None."""
        return self._class_names

    @property
    def feature_mean(self) -> FloatArray | None:
        """What is subtracted from raw features, a float64 copy (features,); None: nothing."""
        return None if self._scale is None else self._scale[0].copy()

    @property
    def feature_scale(self) -> FloatArray | None:
        """What centred features are divided by, a float64 copy (features,); None: nothing."""
        return None if self._scale is None else self._scale[1].copy()

    def config(self) -> dict[str, Any]:
        """Return what the model was made with, as a dict fit for JSON."""
        names = {"feature_names": self._feature_names, "class_names": self._class_names}
        scale = (None, None) if self._scale is None else (array.tolist() for array in self._scale)
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
            "loss": {"name": self._loss.name, **self._loss.parameters},
            **{key: None if value is None else list(value) for key, value in names.items()},
            **dict(zip(SCALE_NAMES, scale, strict=True)),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MLP:
        """Return a model with that `config()` and all parameters and running statistics 0."""
        model = cls.__new__(cls)
        model._configure(**config)
        model._allocate()
        return model

    def __repr__(self) -> str:
        options = [f"{self._sizes}"]
        if self._norm is not None:
            options.append(f"norm={self._norm!r}")
        if self._activation != "relu":
            options.append(f"activation={self._activation!r}")
        if self._dropout:
            options.append(f"dropout={self._dropout!r}")
        if self._loss.name != "cross_entropy":
            options.append(f"loss={self._loss!r}")
        options.append(f"dtype={self._dtype.name!r}")
        return f"MLP({', '.join(options)})"

    # ------------------------------------------------------------------ arrays

    @property
    def parameters_flat(self) -> FloatArray:
        """All parameters as one flat array, in the order of ``parameters()``."""
        return self._parameters

    @property
    def gradients_flat(self) -> FloatArray:
        """All gradients as one flat array, laid out as `parameters_flat`."""
        return self._gradients

    @property
    def buffers_flat(self) -> FloatArray:
        """All running statistics as one flat array, in the order of ``buffers()``; empty without batch norm."""
        return self._buffers

    def parameters(self) -> dict[str, FloatArray]:
        """Views of `parameters_flat`: w1 (in, out), b1, gamma1, beta1, w2, ... (gamma and beta only with a norm)."""
        return dict(self._parameter_views)

    def gradients(self) -> dict[str, FloatArray]:
        """Views of the gradients of the last `loss_and_grads`, named as the parameters; 0 before the first."""
        return dict(self._gradient_views)

    def buffers(self) -> dict[str, FloatArray]:
        """Views of the running statistics of batch norm: running_mean1, running_var1, running_mean2, ..."""
        return dict(self._buffer_views)

    def weight_slices(self) -> list[slice]:
        """Where the weight matrices lie in `parameters_flat`, in order."""
        return [place.part for place in self._places if place.kind == "w"]

    # ------------------------------------------------------------------ evaluation

    def _rows(self, X: npt.ArrayLike, operation: str) -> FloatArray:
        """The rows as the network sees them: checked, scaled if the model has a scale, and of its dtype."""
        if self._scale is None and self._network.takes(X):
            return X  # type: ignore[return-value]
        array = check_features(X, self.features, operation)
        if self._scale is None:
            return convert(array, self._dtype, operation, "X")
        return scaled(array, *self._scale, self._dtype, operation)

    def forward(self, X: npt.ArrayLike, *, out: FloatArray | None = None) -> FloatArray:
        """Outputs in evaluation mode: running statistics for batch norm, no dropout.

        Parameters
        ----------
        X : (..., features) float32 or float64, of any layout
            The leading axes are the rows, raw ones if the model has a scale. Converted to the model's dtype if they
            have another: float16, integers and bool are taken too.
        out : (..., outputs) of the model's dtype, optional
            Where to put the result; it overlaps neither X nor the model.

        Returns
        -------
        (..., outputs) of the model's dtype. Each row depends on nothing but that row: any split gives the same bits.
        """
        return self._forward(self._rows(X, "MLP.forward"), out, "MLP.forward")

    def _forward(self, rows: FloatArray, out: FloatArray | None, operation: str) -> FloatArray:
        """`forward` of rows as `_rows` gives them."""
        if out is not None:
            self._check_apart(out, operation, "out")
        try:
            return self._network.forward(rows, self._parameters, self._buffers, out)
        except (TypeError, ValueError) as error:
            raise _renamed(error, "Network.forward", operation) from None

    def _judged(self, X: npt.ArrayLike, operation: str) -> FloatArray:
        """Outputs for X, to be understood by the loss."""
        if self._sizes[-1] == 1 and self._loss.has_classes:
            raise ValueError(
                f"{operation}: the model has one output, and the softmax over it is 1 whatever it is: use two, one for "
                "each class, or another loss, such as 'logistic'"
            )
        return self._forward(self._rows(X, operation), None, operation)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """What `loss` predicts for each row of X (..., features).

        With cross-entropy the class, int64 (...,): the index of the first greatest output (a NaN counts as greatest).
        See `normcore.losses.Loss.predict` for the others.
        """
        return self._loss.predict(self._judged(X, "MLP.predict"))

    def predict_proba(self, X: npt.ArrayLike) -> FloatArray:
        """Probabilities (..., outputs) of the model's dtype: with cross-entropy of the classes, by softmax.

        TypeError if `loss` is one that predicts numbers.
        """
        return self._loss.predict_proba(self._judged(X, "MLP.predict_proba"))

    def score(self, X: npt.ArrayLike, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """How well X predicts y, by the metric of `loss`.

        With cross-entropy the accuracy: the share of rows whose class is that of `y` (labels, or soft targets, whose
        greatest counts). With losses of numbers r2. See `normcore.losses.Loss.score`.
        """
        operation = "MLP.score"
        outputs = self._judged(X, operation)
        shape = outputs.shape[:-1]
        targets = self._loss.check_targets(y, shape, self.outputs, operation, dtype=self._dtype)
        if not len(targets):
            raise ValueError("MLP.score: X has no rows")
        weights = check_weights(sample_weight, shape, operation, "sample_weight")
        return self._loss.score(outputs.reshape(-1, self.outputs), targets, weights)

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
        >>> model = nc.MLP([3, 8, 2], norm="layer", activation="tanh", seed=1)
        >>> X = np.eye(3, dtype=np.float32)
        >>> inside = model.activations(X)
        >>> {name: array.shape for name, array in inside.items()}
        {'affine1': (3, 8), 'norm1': (3, 8), 'activation1': (3, 8), 'affine2': (3, 2)}
        >>> bool((inside["affine2"] == model.forward(X)).all())
        True
        """
        operation = "MLP.activations"
        array = self._rows(X, operation)
        if training:
            self._check_rows(array, operation)
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

        The first of the four words of a training step: outputs, a loss of them, `backward`, an update of
        `parameters_flat`.

        Parameters
        ----------
        X : (..., features) float32 or float64
            At least one row, with batch norm two. Not copied where it has the model's dtype: leave it, and
            `parameters_flat`, as they are until after `backward`. The model keeps it, and memory for the activations,
            until the next call.
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
        >>> model = nc.MLP([3, 8, 2], seed=1)
        >>> X, T = np.eye(3, dtype=np.float32), np.ones((3, 2), dtype=np.float32)
        >>> Y = model.forward_training(X)
        >>> gradients = model.backward(2 * (Y - T) / Y.size)
        >>> model.parameters_flat[...] -= 0.1 * model.gradients_flat
        >>> bool(((model.forward(X) - T) ** 2).mean() < ((Y - T) ** 2).mean())
        True
        """
        operation = "MLP.forward_training"
        array = self._rows(X, operation)
        self._check_rows(array, operation)
        return self._forward_training(array, seed, stream, operation, update_statistics)

    def _forward_training(
        self,
        array: FloatArray,
        seed: SupportsIndex,
        stream: SupportsIndex,
        operation: str,
        update_statistics: bool = True,
    ) -> FloatArray:
        """`forward_training` of rows that are as `_rows` gives them and as many as `_check_rows` wants."""
        rows = math.prod(array.shape[:-1])
        self._pass_input = None
        if self._pass is None or self._pass.rows < rows:
            self._pass = _core.Pass(self._network, rows)
        buffers = self._buffers if update_statistics else None
        try:
            out = self._network.forward_training(array, self._parameters, buffers, self._pass, seed=seed, stream=stream)
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
            Where to put the gradient with respect to X, raw rows if the model has a scale. It overlaps neither X nor
            the model.

        Returns
        -------
        dict
            ``gradients()``: views, overwritten by the next call. `backward` may be called again, with other doutputs.
        """
        operation = "MLP.backward"
        array = self._pass_input
        if array is None or self._pass is None:
            raise ValueError(f"{operation}: there has been no forward_training to go back from")
        gradient = check_floats(doutputs, operation, "doutputs")
        if gradient.shape != self._pass_shape:
            raise ValueError(
                f"{operation}: doutputs is {gradient.shape}; the outputs of forward_training were {self._pass_shape}"
            )
        self._check_apart(dx, operation, "dx")
        gradient = convert(gradient, self._dtype, operation, "doutputs")
        try:
            self._network.backward(array, self._parameters, self._pass, gradient, self._gradients, dx)
        except (TypeError, ValueError) as error:
            raise _renamed(error, "Network.backward", operation, dy="doutputs", grads="gradients_flat") from None
        if dx is not None and self._scale is not None:
            with np.errstate(all="ignore"):
                dx[...] = dx.astype(np.float64) / self._scale[1]
        return self.gradients()

    def _check_apart(self, out: Any, operation: str, name: str) -> None:
        """ValueError where an output lies in arrays of the model that the core does not look at."""
        if not isinstance(out, np.ndarray):
            return  # which the core refuses
        for attribute, array in (("gradients_flat", self._gradients), ("buffers_flat", self._buffers)):
            if np.may_share_memory(out, array) and np.shares_memory(out, array):
                raise ValueError(f"{operation}: {name} overlaps {attribute} of the model")

    def _check_rows(self, array: FloatArray, operation: str) -> None:
        """ValueError for so few rows that they teach nothing."""
        rows = math.prod(array.shape[:-1])
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
        """Mean loss of one batch in training mode, by the model's `loss`, and its gradients.

        `forward_training`, that loss and `backward` in one call; with cross-entropy it needs no memory of the model's.

        Parameters
        ----------
        X : (..., features) float32 or float64
            At least one row, with batch norm two: one is its own mean, and would teach the layers below nothing.
        y : targets of the loss
            Cross-entropy: (...,) integers or bool in [0, outputs), or (..., outputs) float soft targets. Others:
            (..., outputs) numbers, of one output also (...,). See `normcore.losses.Loss.check_targets`.
        class_weight : (outputs,), or mapping of class to weight, optional
            Finite, not negative; see `softmax_cross_entropy`. A mapping may leave classes out: they weigh 1. This,
            `label_smoothing` and `ignore_index` are for losses with classes.
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

        Examples
        --------
        >>> import numpy as np
        >>> import normcore as nc
        >>> model = nc.MLP([3, 8, 1], loss="squared_error", seed=1)
        >>> loss, gradients = model.loss_and_grads(np.eye(3), [1.0, 2.0, 3.0])
        >>> list(gradients), gradients["w1"].shape
        (['w1', 'b1', 'w2', 'b2'], (3, 8))
        """
        operation, loss = "MLP.loss_and_grads", self._loss
        loss.check_class_options(class_weight, label_smoothing, ignore_index, operation)
        rows, targets, sample_weight = self._examples(X, y, sample_weight, loss, ignore_index, operation)
        if class_weight is not None:
            class_weight = check_class_weight(class_weight, self.outputs, operation)
        seed, stream = check_uint64(seed, operation, "seed"), check_uint64(stream, operation, "stream")
        value, _ = self._training_pass(
            loss,
            rows,
            targets,
            class_weight,
            sample_weight,
            label_smoothing,
            ignore_index,
            seed,
            stream,
            operation,
            update_statistics,
        )
        return value, self.gradients()

    def _examples(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None,
        loss: Loss,
        ignore_index: SupportsIndex | None,
        operation: str,
    ) -> tuple[FloatArray, npt.NDArray[Any], FloatArray | None]:
        """Rows, targets and weights of one training pass: checked, with the leading axes made one."""
        rows = given = self._rows(X, operation)
        if loss.has_classes and self._network.takes_labels(rows, y):
            targets: Any = y  # whose range the pass checks, in less time than it would take here
        else:
            shape = given.shape[:-1]
            self._check_rows(given, operation)
            rows = given.reshape(-1, self.features)
            index = None if ignore_index is None else check_integer(ignore_index, operation, "ignore_index", -(1 << 63))
            targets = loss.check_targets(y, shape, self.outputs, operation, dtype=self._dtype, ignore_index=index)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, given.shape[:-1], operation, "sample_weight")
        return rows, targets, sample_weight

    def _training_pass(
        self,
        loss: Loss,
        rows: FloatArray,
        targets: npt.NDArray[Any],
        class_weight: FloatArray | None,
        sample_weight: FloatArray | None,
        label_smoothing: float,
        ignore_index: SupportsIndex | None,
        seed: int,
        stream: int,
        operation: str,
        update_statistics: bool = True,
    ) -> tuple[float, float]:
        """Forward, loss and backward of what has been checked: loss and sum of weights; the gradients are in place."""
        if loss.name == "cross_entropy":  # of which the core makes the three in one call, to the same bits
            try:
                return self._network.loss_and_grads(
                    rows,
                    targets,
                    self._parameters,
                    self._buffers,
                    self._gradients,
                    class_weight,
                    sample_weight,
                    label_smoothing,
                    ignore_index,
                    seed,
                    stream,
                    update_statistics,
                )
            except (TypeError, ValueError) as error:
                raise _renamed(error, "Network.loss_and_grads", operation, labels="y") from None
        outputs = self._forward_training(rows, seed, stream, operation, update_statistics)
        value, doutputs, weight = loss(outputs, targets, sample_weight=sample_weight)
        self.backward(doutputs)
        return value, weight

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _METHODS]

    # ------------------------------------------------------------------ copies and files

    def copy(self) -> MLP:
        """Return a model of its own with the same parameters and running statistics; its gradients are 0."""
        model = type(self).from_config(self.config())
        model._parameters[...] = self._parameters
        model._buffers[...] = self._buffers
        return model

    def __copy__(self) -> MLP:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> MLP:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config(), "parameters_flat": self._parameters, "buffers": self._buffers}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._configure(**state["config"])
        self._allocate()
        self._parameters[...] = state["parameters_flat"]
        self._buffers[...] = state["buffers"]

    # ------------------------------------------------------------------ seen from outside

    def digest(self) -> str:
        """SHA-256 of all parameters, then all running statistics, in their order and little-endian, in hexadecimal.

        The same on every machine for the same model: of a file it is the digest of its data, before the scale of the
        features. That of the README goes on with the losses of the training.

        Examples
        --------
        >>> import normcore as nc
        >>> nc.MLP([4, 8, 3], seed=0).digest()[:16]
        '9423343db4745c09'
        """
        digest = hashlib.sha256()
        for array in (self._parameters, self._buffers):
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()

    def summary(self) -> str:
        """Return a table of the layers as text: operations, numbers of outputs, arrays and their sizes.

        Examples
        --------
        >>> import normcore as nc
        >>> print(nc.MLP([64, 50, 10], norm="layer", dropout=0.1).summary())
        layer  operation    outputs  parameters  arrays
        1      affine            50       3,250  w1 (64, 50), b1 (50,)
               layer norm        50         100  gamma1 (50,), beta1 (50,)
               relu              50
               dropout 0.1       50
        2      affine            10         510  w2 (50, 10), b2 (10,)
        64 features as they are; loss cross_entropy; 3,860 parameters, 0 running statistics, 15,440 bytes of float32
        """
        lines = [("layer", "operation", "outputs", "parameters", "arrays")]
        for layer in range(1, self.layers + 1):
            here = [place for place in (*self._places, *self._buffer_places) if place.name == f"{place.kind}{layer}"]
            norm = [place for place in here if place.kind not in ("w", "b")]
            operations = [("affine", [place for place in here if place.kind in ("w", "b")])]
            if layer < self.layers:
                operations += [(f"{self._norm} norm", norm)] if norm else []
                operations += [(self._activation, [])]
                operations += [(f"dropout {self._dropout:g}", [])] if self._dropout else []
            for number, (name, places) in enumerate(operations):
                count = sum(math.prod(place.shape) for place in places if place in self._places)
                arrays = ", ".join(f"{place.name} {place.shape}" for place in places)
                shown = f"{count:,}" if count else ""
                lines.append(("" if number else str(layer), name, str(self._sizes[layer]), shown, arrays))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e}".rstrip()
            for a, b, c, d, e in lines
        ]
        size = self._parameters.nbytes + self._buffers.nbytes
        shown = repr(self._loss).removeprefix("losses.").removesuffix("()")
        table.append(
            f"{self.features} features{' as they are' if self._scale is None else ', scaled'}; loss {shown}; "
            f"{self._parameters.size:,} parameters, {self._buffers.size:,} running statistics, {size:,} bytes of "
            f"{self._dtype.name}"
        )
        return "\n".join(table)

    # ------------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write the model to a safetensors file, whole or not at all; see `normcore.save_model`."""
        save_model(path, self, extra)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MLP:
        """Return the model in the file; ValueError, naming the file, if it is not sound."""
        return load_model(path)[0]


for _name, _hint in _METHODS.items():  # here, where no type checker takes them for attributes
    setattr(MLP, _name, _Elsewhere(_name, _hint))

# ---------------------------------------------------------------------- files


def model_arrays(model: MLP) -> dict[str, FloatArray]:
    """The arrays of a file by name, in their order there: parameters, running statistics, scale of the features."""
    scale = {} if model._scale is None else dict(zip(SCALE_NAMES, model._scale, strict=True))
    return {**model.parameters(), **model.buffers(), **scale}


def model_metadata(model: MLP, operation: str) -> dict[str, str]:
    """The entries of a file; ValueError, of the operation, where a name cannot be written."""
    return metadata_of(model.config(), operation)


def model_in(archive: Archive, fields: Fields) -> MLP:
    """Return the model that an archive describes, whose `model_arrays` are still to be read.

    ValueError, naming the file, before anything of the size of the network is allocated if the archive does not begin
    with its arrays.
    """
    try:
        config = config_of(fields, len(archive.specs))
        model = MLP.__new__(MLP)
        model._configure(**config)
        expected: dict[str, Spec] = {
            place.name: (model.dtype.name, place.shape) for place in (*model._places, *model._buffer_places)
        }
        if any(name in archive.specs for name in SCALE_NAMES):
            expected |= {name: ("float64", (model.features,)) for name in SCALE_NAMES}
        _check_specs(expected, archive.specs)
        model._allocate()
        if SCALE_NAMES[0] in expected:
            model._scale = (np.ones(model.features), np.ones(model.features))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{archive.name}: no sound model: {printable(str(error)[:500])}") from None
    return model


def _check_specs(expected: Mapping[str, Spec], found: Mapping[str, Spec]) -> None:
    if missing := [name for name in expected if name not in found]:
        raise ValueError(f"arrays missing: {', '.join(missing[:8])}")
    for name, (dtype, shape) in expected.items():
        if found[name] != (dtype, shape):
            raise ValueError(f"{name} is {found[name][0]} {found[name][1]}; its configuration says {dtype} {shape}")
    for wanted, there in zip(expected, found, strict=False):
        if wanted != there:
            raise ValueError(f"{there} stands where {wanted} belongs")


def check_read(model: MLP, name: str) -> None:
    """Judge what has been read into the arrays of a model from the file `name`; ValueError if no model has that."""
    check_statistics(model, model.buffers_flat, name)
    if model._scale is not None:
        try:
            judge_feature_scale(*model._scale)
        except ValueError as error:
            raise ValueError(f"{name}: no sound model: {error}") from None


def check_statistics(model: MLP, flat: FloatArray, name: str, group: str = "") -> None:
    """Refuse what no training gives: the root of a negative variance would be NaN, or, with eps, anything.

    `flat` is laid out as ``model.buffers_flat``. ValueError that names the file `name` and the entry of `group`.
    """
    for place in model._buffer_places:
        part = flat[place.part]
        if place.kind == "running_var" and (part < 0.0).any():
            index = int(np.flatnonzero(part < 0.0)[0])
            raise ValueError(
                f"{name}: no sound model: {group}{place.name}[{index}] is {part[index]}, a negative variance"
            )


def save_model(path: str | os.PathLike[str], model: MLP, extra: Mapping[str, Any] | None = None) -> None:
    """Write `model`, and what the caller wants to keep with it, to a safetensors file.

    Parameters
    ----------
    path : path of the file
        An older file of that name is replaced at the end, and not before the new one is safe on the disk.
    extra : mapping, optional
        Anything fit for JSON; covered by the checksum too. Names, scale of the features and loss are the model's own.

    Raises
    ------
    TypeError
        `extra` is no mapping or cannot be written as JSON.
    ValueError
        `extra` and names are too large: the header, which they are in, may have 1 MiB, and `extra` 10 000 lists and
        objects; or a name is not valid Unicode.
    OSError
        The file cannot be written; then no part of it is left, and an older one is untouched. Unless the message says
        that the new file is in place: then only its folder could not be synced, and a loss of power may undo the save.

    Examples
    --------
    >>> nc.save_model("model.safetensors", nc.MLP([4, 8, 3], seed=1), extra={"made by": "me"})
    >>> nc.load_model("model.safetensors")
    (MLP((4, 8, 3), dtype='float32'), {'made by': 'me'})
    """
    if not isinstance(model, MLP):
        raise TypeError(f"save_model: model is a {type(model).__name__}; it must be an MLP")
    write_archive(path, _MODEL, model_metadata(model, "save_model"), model_arrays(model), extra)


def check_saving(model: MLP, extra: Mapping[str, Any] | None = None) -> None:
    """Raise what `save_model` will, whatever the parameters become: before a training rather than after it."""
    unsigned_header(_MODEL, model_metadata(model, "save_model"), model_arrays(model), extra)


def load_model(path: str | os.PathLike[str]) -> tuple[MLP, dict[str, Any]]:
    """Read a file of `save_model`: (model, extra).

    Raises OSError if it cannot be read, and ValueError, naming the file and what is wrong, if it is truncated, damaged
    in any bit, no normcore model, of another version, or holds what no model has. Nothing in a file is ever executed.
    Arrays are read into the model's own: beside those, whatever the file is, a load takes about 1 MiB of memory, and
    what the Python objects of names and `extra` take, whose text has 1 MiB at most.

    Examples
    --------
    >>> nc.MLP([4, 8, 3], norm="batch", seed=1).save("model.safetensors")
    >>> model, extra = nc.load_model("model.safetensors")
    >>> model.sizes, model.norm, extra
    ((4, 8, 3), 'batch', {})
    """
    with open_archive(path, _MODEL) as archive:
        with archive.damage_first():
            extra = archive.extra()
            fields = Fields(archive.metadata)
            model = model_in(archive, fields)
            try:
                fields.finish()
                if unknown := [name for name in archive.specs if name not in model_arrays(model)]:
                    raise ValueError(f"unknown arrays: {', '.join(unknown[:8])}")
            except ValueError as error:
                raise ValueError(f"{archive.name}: no sound model: {error}") from None
        archive.read(model_arrays(model))
        check_read(model, archive.name)
    return model, extra
