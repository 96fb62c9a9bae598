"""What goes on inside a model: the distributions that its layers see, dead units, gradients, updates, the loss around.

Each function measures one thing of a model at one moment and leaves the model, its gradients and its running statistics
as they are. `normcore.Monitor` calls them during a training, `normcore.plots` draws what they find. They measure in
training mode, batch statistics and dropout included, unless told otherwise, because that is what a training step sees.

Sums are made by NumPy in double: their last bits may differ between machines.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._checks import check_flag, check_integer, check_uint64
from normcore.mlp import MLP

__all__ = [
    "QUANTILES",
    "Distribution",
    "GradientLine",
    "StatisticsDrift",
    "activation_inputs",
    "dead_units",
    "distribution",
    "distribution_shift",
    "gradient_norms",
    "layer_inputs",
    "loss_along_gradient",
    "statistics_drift",
    "update_ratios",
    "weight_norms",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: The quantiles of a `Distribution`: median, quartiles, and what lies outside by 5 and by 1 per cent on either side.
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

_BEYOND = 1e150  # counted as infinite: the squares of greater numbers are, or their sums


# ---------------------------------------------------------------------------------------------- distributions


@dataclass(frozen=True, eq=False)
class Distribution:
    """Mean, spread, quantiles and histogram of some numbers, as `distribution` makes it.

    Examples
    --------
    >>> from normcore.diagnostics import distribution
    >>> distribution(np.arange(5))
    Distribution(mean=2, std=1.414, values=5)
    """

    mean: float
    std: float
    """Standard deviation, with the number of values as divisor."""
    quantiles: Floats
    """(7,): those of `QUANTILES`."""
    counts: npt.NDArray[np.int64]
    """(bins,): values between two edges; of finite values alone."""
    edges: Floats
    """(bins + 1,): from the least finite value to the greatest, equally far apart."""

    def __repr__(self) -> str:
        return f"Distribution(mean={self.mean:.4g}, std={self.std:.4g}, values={int(self.counts.sum())})"


def distribution(values: npt.ArrayLike, *, bins: SupportsIndex = 50) -> Distribution:
    """Describe `values`, an array of any shape with at least one element, as one sample.

    If some value is NaN or infinite, mean, spread and quantiles are NaN, and the histogram counts the others.

    Raises
    ------
    TypeError, ValueError
        `values` are not real numbers, or there are none; `bins` is not a positive integer.

    Examples
    --------
    >>> from normcore.diagnostics import distribution
    >>> found = distribution([0.0, 1.0, 1.0, 2.0], bins=2)
    >>> found.mean, round(found.std, 4), float(found.quantiles[3]), found.counts.tolist(), found.edges.tolist()
    (1.0, 0.7071, 1.0, [1, 3], [0.0, 1.0, 2.0])
    """
    bins = check_integer(bins, "distribution", "bins", 1)
    array = np.asarray(values)
    if array.dtype.kind not in "iubf":
        raise TypeError(f"distribution: values are {array.dtype.name}; they must be real numbers")
    if not array.size:
        raise ValueError(f"distribution: values is {array.shape}; it must have at least one element")
    values = np.sort(array.astype(np.float64), axis=None)  # by which quantiles and histogram are quick
    finite = values[np.abs(values) < _BEYOND]
    counts, edges = _histogram(finite, bins)
    if finite.size < values.size:
        return Distribution(math.nan, math.nan, np.full(len(QUANTILES), math.nan), counts, edges)
    quantiles = np.interp(np.multiply(QUANTILES, values.size - 1), np.arange(values.size), values)
    return Distribution(float(values.mean()), float(values.std()), quantiles, counts, edges)


def _histogram(values: Floats, bins: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Counts and edges of sorted values, which may all be the same, or none."""
    low, high = (float(values[0]), float(values[-1])) if values.size else (0.0, 0.0)
    least = 4 * bins * np.spacing(max(abs(low), abs(high)))  # below it edges would coincide
    if high - low < least:
        half = max(0.5, least)
        low, high = low - half, high + half
    edges = np.linspace(low, high, bins + 1)
    below = np.searchsorted(values, edges)
    below[-1] = values.size  # the last bin has its upper edge too
    return np.diff(below).astype(np.int64), edges


def layer_inputs(
    model: MLP, X: npt.ArrayLike, *, training: bool = True, seed: SupportsIndex = 0
) -> list[npt.NDArray[Any]]:
    """What each affine map of the model is given for the rows `X`: X itself, then what the hidden layers make of it.

    Parameters
    ----------
    X : (..., features)
        As in `MLP.activations`: raw rows if the model has a scale; in training with batch norm at least two.
    training : bool
        Batch statistics and dropout, as in a training step.
    seed : int in [0, 2**64)
        Of dropout.

    Returns
    -------
    list of `model.layers` arrays (..., width)
        The first is X as the network sees it: X itself where it is of the model's dtype and is not scaled.

    Examples
    --------
    >>> from normcore.diagnostics import layer_inputs
    >>> model = nc.MLP([3, 8, 2], norm="batch", seed=1)
    >>> [array.shape for array in layer_inputs(model, np.eye(3))]
    [(3, 3), (3, 8)]
    """
    rows, inside = _inside(model, X, training, seed, "layer_inputs")
    dropped = "dropout1" in inside
    name = "dropout" if dropped else "activation"
    return [rows, *(inside[f"{name}{layer}"] for layer in range(1, model.layers))]


def activation_inputs(
    model: MLP, X: npt.ArrayLike, *, training: bool = True, seed: SupportsIndex = 0
) -> list[npt.NDArray[Any]]:
    """What each hidden layer's activation, such as ReLU, is given: by the norm or, without one, the affine map.

    Parameters are those of `layer_inputs`.

    Returns
    -------
    list of ``model.layers - 1`` arrays (..., width)

    Examples
    --------
    Without a norm and with small weights the signal fades from layer to layer; a norm keeps its spread.

    >>> from normcore.diagnostics import activation_inputs
    >>> X = nc.random_normal(600, seed=0).reshape(200, 3)
    >>> for norm in (None, "layer"):
    ...     model = nc.MLP([3, 50, 50, 50, 2], norm=norm, weight_scale=0.02)
    ...     print(norm, [f"{array.std():.4f}" for array in activation_inputs(model, X)])
    None ['0.0354', '0.0036', '0.0004']
    layer ['0.9891', '0.9995', '0.9995']
    """
    _, inside = _inside(model, X, training, seed, "activation_inputs")
    name = "affine" if model.norm is None else "norm"
    return [inside[f"{name}{layer}"] for layer in range(1, model.layers)]


def _inside(
    model: MLP, X: npt.ArrayLike, training: bool, seed: SupportsIndex, operation: str
) -> tuple[Array, dict[str, Array]]:
    """The rows as the network sees them and ``model.activations``; errors are those of `operation`."""
    training = check_flag(training, operation, "training")
    seed = check_uint64(seed, operation, "seed")
    rows = _checked_rows(model, X, operation, training)
    return rows, model.activations(X, training=training, seed=seed)


def _checked_rows(model: MLP, X: npt.ArrayLike, operation: str, training: bool) -> Array:
    if not isinstance(model, MLP):
        raise TypeError(f"{operation}: model is a {type(model).__name__}; it must be an MLP")
    rows = model._rows(X, operation)
    if training or not rows.size:
        model._check_rows(rows, operation)
    return rows


def distribution_shift(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """How far the distribution of each unit has moved, in standard deviations: 0 if it has stayed where it was.

    Parameters
    ----------
    before, after : (rows, units) of one shape, at least one row and one unit
        What the same layer sees, as of `activation_inputs`, with the parameters before and after an update.

    Returns
    -------
    float
        The mean over the units of the 1-Wasserstein distance of a unit's values before and after, which is the mean
        difference of the two samples, each sorted; divided by the standard deviation of all values before. NaN if that
        is 0 or something is not finite.

    Examples
    --------
    >>> from normcore.diagnostics import distribution_shift
    >>> before = np.array([[-1.0], [1.0]])
    >>> distribution_shift(before, before[::-1]), distribution_shift(before, before + 0.25)
    (0.0, 0.25)
    """
    pair = [np.asarray(array, dtype=np.float64) for array in (before, after)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 2 or not pair[0].size:
        raise ValueError(
            f"distribution_shift: before is {pair[0].shape} and after {pair[1].shape}; both must be (rows, units)"
        )
    old, new = (np.sort(array, axis=0) for array in pair)
    with np.errstate(all="ignore"):
        return float(np.abs(new - old).mean() / old.std()) if old.std() > 0.0 else math.nan


def dead_units(model: MLP, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Share of each hidden layer's units that pass no gradient back, whichever row of `X` it is; without dropout.

    Such a unit does not learn: a ReLU that is 0 for every row, or a tanh that is rounded to 1 or -1 for each.

    Parameters
    ----------
    X : (..., features)
        As in `layer_inputs`. The more rows, the surer that a unit is dead; all of the training data are best.

    Returns
    -------
    (``model.layers - 1``,) float64, from 0 to 1

    Examples
    --------
    >>> from normcore.diagnostics import dead_units
    >>> model = nc.MLP([3, 8, 8, 2], seed=1)
    >>> model.parameters()["b2"][:4] = -100.0  # half of the second layer
    >>> dead_units(model, nc.random_normal(600, seed=0).reshape(200, 3)).tolist()
    [0.0, 0.5]
    """
    _checked_rows(model, X, "dead_units", True)
    # Dropout would hide some units; batch statistics alone are what is wanted of training mode.
    inside = _without_dropout(model).activations(X, training=True)
    backward = getattr(_core, f"{model.activation}_backward")
    takes_input = "x" in inspect.signature(backward).parameters
    shares = []
    for layer in range(1, model.layers):
        before = f"affine{layer}" if model.norm is None else f"norm{layer}"
        taken = inside[before if takes_input else f"activation{layer}"].reshape(-1, model.sizes[layer])
        passed = backward(np.ones_like(taken), taken)
        shares.append(float(np.mean(~(passed != 0.0).any(axis=0))))
    return np.array(shares)


def _without_dropout(model: MLP) -> MLP:
    """The model itself, or a copy that drops nothing."""
    if not model.dropout:
        return model
    return _changed(model, dropout=0.0)


def _changed(model: MLP, **configuration: Any) -> MLP:
    """A copy of the model with another configuration, in what its arrays do not depend on."""
    copy = MLP.from_config({**model.config(), **configuration})
    copy.parameters_flat[...] = model.parameters_flat
    copy.buffers_flat[...] = model.buffers_flat
    return copy


@dataclass(frozen=True, eq=False)
class StatisticsDrift:
    """How far the running statistics of each hidden layer are from those of a batch; see `statistics_drift`.

    Examples
    --------
    >>> from normcore.diagnostics import statistics_drift
    >>> statistics_drift(nc.MLP([2, 4, 2], norm="batch", seed=1), [[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    StatisticsDrift(mean=[2.35], std=[1.48])
    """

    mean: Floats
    """(layers - 1,): distance of the means, in standard deviations of the batch."""
    std: Floats
    """(layers - 1,): ratio of the standard deviations, as factors of two: 1 if one is twice or half the other."""

    def __repr__(self) -> str:
        mean, std = ([float(f"{value:.3g}") for value in array] for array in (self.mean, self.std))
        return f"StatisticsDrift(mean={mean}, std={std})"


def statistics_drift(model: MLP, X: npt.ArrayLike) -> StatisticsDrift:
    """How far the running statistics, by which a model with batch norm predicts, are from the statistics of `X`.

    Where they are far, training and evaluation mode see different networks: validation curves jump although the loss of
    the steps is smooth. The usual reasons are few steps, a momentum near 1, and small batches.

    Parameters
    ----------
    X : (..., features), at least two rows
        As in `layer_inputs`; dropout is left out.

    Returns
    -------
    StatisticsDrift
        Of each hidden layer, root mean squares over the units of (running mean - batch mean) / batch std, and of
        log2(running std / batch std), where std is ``sqrt(variance + eps)``, which the layer divides by.

    Raises
    ------
    ValueError
        The model has no batch norm.

    Examples
    --------
    >>> from normcore.diagnostics import statistics_drift
    >>> X = nc.random_normal(600, seed=0).reshape(200, 3)
    >>> model = nc.MLP([3, 8, 2], norm="batch", momentum=0.5)
    >>> for steps in (0, 1, 8):
    ...     for _ in range(steps):
    ...         outputs = model.forward_training(X)
    ...     drift = statistics_drift(model, X)
    ...     print(f"{drift.mean[0]:.3f} {drift.std[0]:.3f}")
    0.129 0.635
    0.065 0.276
    0.000 0.001
    """
    operation = "statistics_drift"
    _checked_rows(model, X, operation, True)
    if model.norm != "batch":
        raise ValueError(f"{operation}: the model has norm={model.norm!r}; only batch norm has running statistics")
    inside = _without_dropout(model).activations(X, training=True)
    eps, buffers = model.config()["eps"], model.buffers()
    means, stds = [], []
    for layer in range(1, model.layers):
        values = inside[f"affine{layer}"].astype(np.float64).reshape(-1, model.sizes[layer])
        with np.errstate(all="ignore"):
            std = np.sqrt(values.var(axis=0) + eps)
            running = np.sqrt(buffers[f"running_var{layer}"].astype(np.float64) + eps)
            means.append(_rms((buffers[f"running_mean{layer}"] - values.mean(axis=0)) / std))
            stds.append(_rms(np.log2(running / std)))
    return StatisticsDrift(np.array(means), np.array(stds))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


# ---------------------------------------------------------------------------------------------- weights and gradients


def _weights(model: MLP) -> list[str]:
    return [f"w{layer}" for layer in range(1, model.layers + 1)]


def _norm(array: Array) -> float:
    """The Euclidean norm, of numbers whose squares overflow too."""
    squared = _core.sum_of_squares(array)
    if math.isfinite(squared) or not np.isfinite(array).all():
        return math.sqrt(squared)
    greatest = float(np.abs(array).max())
    return greatest * math.sqrt(_core.sum_of_squares(array / greatest))


def weight_norms(model: MLP) -> npt.NDArray[np.float64]:
    """Euclidean norm of each weight matrix: (``model.layers``,) float64.

    Examples
    --------
    >>> from normcore.diagnostics import weight_norms
    >>> weight_norms(nc.MLP([100, 100, 100, 10], weight_scale=0.01)).round(2).tolist()
    [1.01, 1.0, 0.32]
    """
    if not isinstance(model, MLP):
        raise TypeError(f"weight_norms: model is a {type(model).__name__}; it must be an MLP")
    parameters = model.parameters()
    return np.array([_norm(parameters[name]) for name in _weights(model)])


def update_ratios(before: MLP | npt.ArrayLike, after: MLP) -> npt.NDArray[np.float64]:
    """How much an update changed each weight matrix: the norm of the change divided by the norm of the matrix before.

    About 1e-3 for a step is a rule of thumb; much less learns slowly, much more is unstable.

    Parameters
    ----------
    before : MLP, or array laid out as its `parameters_flat`
        The model, or its parameters, before the update: ``model.copy()`` or ``model.parameters_flat.copy()``.
    after : MLP
        The model after it, of the same sizes and norm.

    Returns
    -------
    (``after.layers``,) float64
        Infinite where the matrix was 0 and is not any more, NaN where it was and is 0.

    Examples
    --------
    >>> from normcore.diagnostics import update_ratios
    >>> model = nc.MLP([3, 8, 2])
    >>> before = model.copy()
    >>> model.parameters()["w2"][...] *= 1.5
    >>> update_ratios(before, model).round(6).tolist()
    [0.0, 0.5]
    """
    if not isinstance(after, MLP):
        raise TypeError(f"update_ratios: after is a {type(after).__name__}; it must be an MLP")
    old = np.asarray(before.parameters_flat if isinstance(before, MLP) else before)
    new = after.parameters_flat
    if old.shape != new.shape:
        raise ValueError(f"update_ratios: before has {old.shape} parameters and after {new.shape}")
    ratios = []
    for part in after.weight_slices():
        with np.errstate(all="ignore"):
            change = new[part].astype(np.float64) - old[part]
            ratios.append(np.float64(_norm(change)) / _norm(old[part].astype(np.float64)))
    return np.array(ratios)


class _Probe:
    """A copy of a model, to compute gradients of: what is asked of it does not touch the model."""

    def __init__(self, model: MLP, X: npt.ArrayLike, y: npt.ArrayLike, seed: SupportsIndex, operation: str) -> None:
        self._seed = check_uint64(seed, operation, "seed")
        rows = _checked_rows(model, X, operation, True)
        self._targets = model.loss.check_targets(y, rows.shape[:-1], model.outputs, operation, dtype=model.dtype)
        self._rows = rows.reshape(-1, model.features)
        self.model = _changed(model, feature_mean=None, feature_scale=None)  # the rows are scaled, once

    def loss_and_gradient(self) -> tuple[float, Array]:
        """The loss and its gradient, as a view of the copy's `gradients_flat`."""
        loss, _ = self.model.loss_and_grads(self._rows, self._targets, seed=self._seed, update_statistics=False)
        return loss, self.model.gradients_flat

    def gradient_norms(self) -> Floats:
        gradients = self.model.gradients()
        return np.array([_norm(gradients[name]) for name in _weights(self.model)])

    def along(self, steps: Floats, normalize: bool) -> GradientLine:
        """Go along the gradient. The copy ends where it began, and its gradient with it."""
        loss, gradients = self.loss_and_gradient()
        start, gradient = self.model.parameters_flat.copy(), gradients.copy()
        wide = gradient.astype(np.float64)
        norm = _norm(wide)
        losses, distances, cosines = (np.empty(len(steps)) for _ in range(3))
        with np.errstate(all="ignore"):
            direction = gradient / gradient.dtype.type(norm) if normalize else gradient
            for index, step in enumerate(steps):
                np.subtract(start, direction * direction.dtype.type(step), out=self.model.parameters_flat)
                losses[index], there = self.loss_and_gradient()
                other = there.astype(np.float64)
                distances[index] = _norm(other - wide)
                cosines[index] = np.sum(other * wide) / (np.float64(norm) * _norm(other))
        self.model.parameters_flat[...] = start
        gradients[...] = gradient
        return GradientLine(steps, loss, norm, losses, distances, np.clip(cosines, -1.0, 1.0))


def gradient_norms(
    model: MLP, X: npt.ArrayLike, y: npt.ArrayLike, *, seed: SupportsIndex = 0
) -> npt.NDArray[np.float64]:
    """Euclidean norm of the gradient of each weight matrix, on one batch in training mode.

    Parameters
    ----------
    X : (..., features)
        As in `MLP.forward_training`.
    y : targets of ``model.loss``
    seed : int in [0, 2**64)
        Of dropout.

    Returns
    -------
    (``model.layers``,) float64

    Examples
    --------
    Without a norm and with small weights the gradients vanish, those of the last layer too, for the signal does.

    >>> from normcore.diagnostics import gradient_norms
    >>> X = nc.random_normal(600, seed=0).reshape(200, 3)
    >>> y = (X[:, 0] > 0).astype(int)
    >>> for norm in (None, "batch"):
    ...     model = nc.MLP([3, 50, 50, 50, 2], norm=norm, weight_scale=0.02)
    ...     print(norm, [f"{value:.0e}" for value in gradient_norms(model, X, y)])
    None ['3e-04', '4e-04', '3e-04', '4e-04']
    batch ['1e+00', '1e+00', '9e-01', '9e-01']
    """
    probe = _Probe(model, X, y, seed, "gradient_norms")
    probe.loss_and_gradient()
    return probe.gradient_norms()


# ---------------------------------------------------------------------------------------------- the loss around


@dataclass(frozen=True, eq=False)
class GradientLine:
    """Loss and gradient at some points along the gradient's direction, as `loss_along_gradient` finds them.

    Examples
    --------
    >>> from normcore.diagnostics import loss_along_gradient
    >>> line = loss_along_gradient(nc.MLP([2, 4, 2], seed=1), [[0.0, 1.0], [2.0, 0.0]], [0, 1], [0.1, 0.2])
    >>> line.loss_range[1] == line.loss  # the way leads downhill, twice
    True
    """

    steps: Floats
    """(points,): how far each is from the start."""
    loss: float
    """At the start."""
    gradient_norm: float
    """At the start, of all parameters together."""
    losses: Floats
    """(points,)"""
    gradient_distances: Floats
    """(points,): Euclidean distance of the gradient there from the one at the start."""
    cosines: Floats
    """(points,): cosine of the angle between the two: 1 if the gradient has not turned, 0 at a right angle."""

    @property
    def loss_range(self) -> tuple[float, float]:
        """Least and greatest loss of the line, the start included: NaN where one of them is."""
        values = np.append(self.losses, self.loss)
        return float(values.min()), float(values.max())

    @property
    def turn(self) -> float:
        """The greatest angle between the gradient at the start and one of the line, in degrees."""
        return float(np.degrees(np.arccos(self.cosines)).max())

    def __repr__(self) -> str:
        low, high = self.loss_range
        return (
            f"GradientLine(points={len(self.steps)}, loss={self.loss:.4g}, loss_range=({low:.4g}, {high:.4g}), "
            f"turn={self.turn:.3g})"
        )


def loss_along_gradient(
    model: MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    steps: Sequence[float] | npt.NDArray[Any],
    *,
    normalize: bool = False,
    seed: SupportsIndex = 0,
) -> GradientLine:
    """Loss and gradient at ``parameters - step * gradient`` for each of `steps`: how smooth the loss is around a model.

    A narrow range of losses and a gradient that hardly turns mean that a step may be trusted: that is how Santurkar,
    Tsipras, Ilyas and Madry, "How Does Batch Normalization Help Optimization?", arXiv 1805.11604, section 3.1, compare
    networks with batch norm and without. All is of one batch, in training mode, with the same units dropped.

    Parameters
    ----------
    X : (..., features)
        As in `MLP.forward_training`.
    y : targets of ``model.loss``
    steps : (points,) numbers, finite, at least one
        Step lengths: learning rates of gradient descent.
    normalize : bool
        Divide the gradient by its norm first, so that steps are distances and models with gradients of different
        lengths go equally far.
    seed : int in [0, 2**64)
        Of dropout.

    Returns
    -------
    GradientLine
        The model's own parameters, gradients and running statistics have not been touched.

    Examples
    --------
    >>> from normcore.diagnostics import loss_along_gradient
    >>> X = nc.random_normal(600, seed=0).reshape(200, 3)
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> model = nc.MLP([3, 50, 50, 2], norm="batch", seed=1)
    >>> line = loss_along_gradient(model, X, y, [0.1, 0.2, 0.4])
    >>> line
    GradientLine(points=3, loss=0.6916, loss_range=(0.4391, 0.6916), turn=67)
    >>> bool(line.losses[0] < line.loss)
    True
    """
    operation = "loss_along_gradient"
    normalize = check_flag(normalize, operation, "normalize")
    return _Probe(model, X, y, seed, operation).along(check_steps(steps, operation), normalize)


def check_steps(
    steps: Sequence[float] | npt.NDArray[Any], operation: str, name: str = "steps"
) -> npt.NDArray[np.float64]:
    """Step lengths as a float64 array (points,), or an error of `operation`."""
    array = np.asarray(steps)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{operation}: {name} is {array.dtype.name}; it must be numbers")
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{operation}: {name} is {array.shape}; it must be (points,), at least one")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{operation}: {name}[{index}] is {array[index]}; it must be finite")
    return array
