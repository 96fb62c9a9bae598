"""Losses: what a network's outputs are compared with in training, and what they predict afterwards.

A loss is named by the user, never guessed from the targets:

>>> from normcore import losses
>>> losses.get("squared_error")
losses.squared_error()
>>> losses.huber(delta=0.5).parameters
{'delta': 0.5}

Each is a line of one table below: the function of the core, the targets it takes, the link from outputs to predictions,
the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._checks import check_real

__all__ = [
    "LOWER_IS_BETTER",
    "Loss",
    "LossName",
    "cross_entropy",
    "get",
    "huber",
    "logistic",
    "poisson",
    "quantile",
    "squared_error",
]

Array = npt.NDArray[Any]
LossName = Literal["cross_entropy", "logistic", "squared_error", "huber", "quantile", "poisson"]
Reduction = Literal["mean", "sum", "none"]

LOWER_IS_BETTER: Mapping[str, bool] = {"loss": True, "accuracy": False, "r2": False, "rmse": True, "mae": True}
"""The scores by name, and whether less of it is better."""

_SUM_TOLERANCE = 1e-3  # of soft targets of one row
# What others call them.
_SYNONYMS = {
    "bce": "logistic",
    "bce_with_logits": "logistic",
    "binary_crossentropy": "logistic",
    "categorical_crossentropy": "cross_entropy",
    "crossentropy": "cross_entropy",
    "huber_loss": "huber",
    "l2": "squared_error",
    "log_loss": "cross_entropy",
    "logistic_loss": "logistic",
    "mean_squared_error": "squared_error",
    "mse": "squared_error",
    "nll": "cross_entropy",
    "pinball": "quantile",
    "poisson_loss": "poisson",
    "poisson_nll": "poisson",
    "quantile_loss": "quantile",
    "smooth_l1": "huber",
    "softmax": "cross_entropy",
    "softmax_cross_entropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
}


# ---------------------------------------------------------------- targets


def _as_array(y: npt.ArrayLike, where: str) -> Array:
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError(f"{where}: y is a masked array; fill or drop the masked elements first")
    array = np.asarray(y)
    if array.dtype.kind in "iub" or (array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)):
        return array
    advice = "; normcore.encode_labels numbers labels of any kind" if array.dtype.kind in "OSUM" else ""
    raise TypeError(f"{where}: y is {array.dtype.name}; accepted are integers, bool, float32 and float64{advice}")


def _meant(y: Array, rows: tuple[int, ...], outputs: int) -> str | None:
    """The loss that targets of these values and this shape are usually for; only for advice in errors."""
    if not y.size:
        return None
    if y.dtype.kind in "iub" and y.shape == rows and outputs > 1:
        return "cross_entropy"
    if y.shape != (*rows, outputs) and not (y.shape == rows and outputs == 1):
        return None
    if ((y >= 0) & (y <= 1)).all():
        sums = y.reshape(-1, outputs).sum(axis=1, dtype=np.float64)
        return "cross_entropy" if outputs > 1 and (abs(sums - 1.0) <= _SUM_TOLERANCE).all() else "logistic"
    return "poisson" if (y >= 0).all() and (y == np.floor(y)).all() else "squared_error"


def _advice(name: str, y: Array, rows: tuple[int, ...], outputs: int) -> str:
    meant = _meant(y, rows, outputs)
    return f'; such targets are for loss="{meant}"' if meant is not None and meant != name else ""


def _to_dtype(y: Array, dtype: np.dtype[Any], where: str) -> Array:
    if y.dtype == dtype:
        return y
    with np.errstate(over="ignore", under="ignore"):
        converted = y.astype(dtype)
    lost = np.argwhere(np.isinf(converted))
    if lost.size:  # what is converted here has been found finite
        index = tuple(lost[0].tolist())
        place = ", ".join(map(str, index))
        raise ValueError(f"{where}: y[{place}] is {y[index]}, which does not fit {dtype.name}, the model's dtype")
    return converted


@dataclass(slots=True)
class _Given:
    """Targets as they were given, and for whom."""

    name: str
    y: Array
    rows: tuple[int, ...]
    outputs: int
    where: str
    dtype: np.dtype[Any]
    ignore_index: int | None

    def refuse(self, text: str, advice: str | None = None) -> ValueError:
        advice = _advice(self.name, self.y, self.rows, self.outputs) if advice is None else advice
        return ValueError(f"{self.where}: {text}{advice}")


def _classes(given: _Given) -> Array:
    """Labels (n,), int64, or soft targets (n, outputs)."""
    y, rows, outputs = given.y, given.rows, given.outputs
    if outputs == 1:
        raise given.refuse(
            "there is one output, whose softmax is 1 whatever it is; use two outputs, one for each class, or",
            ' loss="logistic"',
        )
    if y.dtype.kind != "f":
        if y.shape != rows:
            if y.shape == (*rows, outputs) and ((y >= 0) & (y.sum(axis=-1, keepdims=True) == 1)).all():
                raise given.refuse(f"y is {y.dtype.name} {y.shape}; labels are integers {rows}: y.argmax(axis=-1)", "")
            raise given.refuse(f"y is {y.dtype.name} {y.shape} but X has the rows {rows}; labels must be one a row")
        labels = np.ascontiguousarray(y.reshape(-1), dtype=np.int64)
        ignored = given.ignore_index
        if ignored is not None and not (-(1 << 63) if y.dtype.kind == "i" else 0) <= ignored < 1 << 63:
            ignored = None  # which no label is, though it might look so as int64
        row = _core.first_bad_label(labels, outputs, ignored)
        if row >= 0:
            raise given.refuse(f"y[{row}] is {y.reshape(-1)[row]}; labels must be in [0, {outputs})", "")
        return labels
    if y.shape == rows:
        raise TypeError(
            f"{given.where}: y is {y.dtype.name} {y.shape}; labels must be integers, so that numbers are not taken for "
            'classes: y.astype(int) where they are classes; where not, a model of one output and loss="squared_error"'
        )
    if y.shape != (*rows, outputs):
        raise given.refuse(
            f"y is {y.dtype.name} {y.shape}; soft targets must be {(*rows, outputs)}, labels integers {rows}"
        )
    soft = y.reshape(-1, outputs)
    sums = soft.sum(axis=1, dtype=np.float64)
    bad = ~(soft >= 0).all(axis=1) | ~(abs(sums - 1.0) <= _SUM_TOLERANCE)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        least = float(soft[row].min())
        found = f"y[{row}] sums to {sums[row]:.6g}" if least >= 0 else f"y[{row}] has a target of {least:.6g}"
        raise given.refuse(f"{found}; soft targets are probabilities: not negative, and each row sums to 1")
    return _to_dtype(soft, given.dtype, given.where)


def _numbers(given: _Given) -> Array:
    """Finite numbers (n, outputs)."""
    y, rows, outputs = given.y, given.rows, given.outputs
    if y.shape != (*rows, outputs) and not (outputs == 1 and y.shape == rows):
        wanted = f"{rows} or {(*rows, 1)}" if outputs == 1 else f"{(*rows, outputs)}, a number for each output"
        raise given.refuse(f"y is {y.dtype.name} {y.shape}; targets of {given.name} must be {wanted}")
    if not np.isfinite(y).all():
        index = tuple(np.argwhere(~np.isfinite(y))[0].tolist())
        raise given.refuse(f"y[{', '.join(map(str, index))}] is {y[index]}; targets must be finite", "")
    return _to_dtype(y, given.dtype, given.where).reshape(-1, outputs)


def _within(low: float, high: float, what: str) -> Callable[[_Given], Array]:
    def check(given: _Given) -> Array:
        targets = _numbers(given)
        bad = ~((given.y >= low) & (given.y <= high))
        if bad.any():
            index = tuple(np.argwhere(bad)[0].tolist())
            raise given.refuse(
                f"y[{', '.join(map(str, index))}] is {given.y[index]}; targets of {given.name} are {what}"
            )
        return targets

    return check


# ---------------------------------------------------------------- predictions


def _drop_one(a: Array) -> Array:
    """One output (..., 1) as (...)."""
    return a[..., 0] if a.shape[-1] == 1 else a


def _greatest(outputs: Array) -> Array:
    return np.asarray(outputs.argmax(axis=-1)).astype(np.int64, copy=False)


def _positive(outputs: Array) -> Array:
    return _drop_one(outputs > 0).astype(np.int64)


def _softmax(outputs: Array) -> Array:
    return np.asarray(_core.softmax(outputs))


def _logistic(outputs: Array) -> Array:
    return _drop_one(np.asarray(_core.logistic_forward(outputs)))


def _exp(outputs: Array) -> Array:
    """The contract's exp: the gradient of the Poisson loss, exp(y) - t, where there is nothing to count."""
    column = np.ascontiguousarray(outputs).reshape(-1, 1)
    _, gradient, _ = poisson()(column, np.zeros_like(column), reduction="sum")
    return _drop_one(gradient.reshape(outputs.shape))


# ---------------------------------------------------------------- scores


def _share(right: Array, weight: Array | None) -> float:
    if weight is None:
        return int(np.count_nonzero(right)) / right.size
    total = float(weight.sum())
    return float(weight[right].sum()) / total if total > 0.0 else math.nan


def _class_scores(predicted: Array, targets: Array, weight: Array | None) -> dict[str, float]:
    labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return {"accuracy": _share(predicted == labels, weight)}


def _label_scores(predicted: Array, targets: Array, weight: Array | None) -> dict[str, float]:
    right = predicted.reshape(len(targets), -1) == (targets > 0.5)
    return {"accuracy": _share(right.all(axis=1), weight)}


def _number_scores(predicted: Array, targets: Array, weight: Array | None) -> dict[str, float]:
    t = targets.astype(np.float64)
    w = np.ones((len(t), 1)) if weight is None else weight[:, None]
    with np.errstate(all="ignore"):
        error = predicted.reshape(t.shape).astype(np.float64) - t
        total = w.sum()
        residual, spread = (w * error * error).sum(axis=0), (w * (t - (w * t).sum(axis=0) / total) ** 2).sum(axis=0)
        # Of an output that is constant: 1 where it is predicted exactly, else 0, as in scikit-learn.
        constant = np.where(residual == 0.0, 1.0, np.where(np.isnan(residual), np.nan, 0.0))
        r2 = np.where(spread == 0.0, constant, 1.0 - residual / np.where(spread == 0.0, 1.0, spread))
        rmse = math.sqrt((residual / total).mean())
        mae = float((w * abs(error)).sum() / (total * t.shape[1]))
    return {"r2": float(r2.mean()), "rmse": rmse, "mae": mae}


# ---------------------------------------------------------------- the table


@dataclass(frozen=True)
class _Parameter:
    default: float
    range: str
    accepts: Callable[[float], bool]


@dataclass(frozen=True)
class _Rule:
    """What a loss is."""

    function: str  # of the core: (outputs, targets, **parameters) -> loss, doutputs, weight_sum
    targets: Callable[[_Given], Array] = _numbers
    predict: Callable[[Array], Array] = _drop_one
    scores: Callable[[Array, Array, Array | None], dict[str, float]] = _number_scores
    probabilities: Callable[[Array], Array] | None = None
    metric: str = "r2"
    has_classes: bool = False
    parameters: Mapping[str, _Parameter] = field(default_factory=dict)


_DELTA = _Parameter(1.0, "finite and greater than 0", lambda delta: 0.0 < delta < math.inf)
_TAU = _Parameter(0.5, "in (0, 1)", lambda tau: 0.0 < tau < 1.0)

_RULES: dict[str, _Rule] = {
    "cross_entropy": _Rule(
        "softmax_cross_entropy", _classes, _greatest, _class_scores, _softmax, metric="accuracy", has_classes=True
    ),
    "logistic": _Rule(
        "logistic_loss",
        _within(0.0, 1.0, "0, 1 or probabilities between"),
        _positive,
        _label_scores,
        _logistic,
        metric="accuracy",
    ),
    "squared_error": _Rule("squared_error"),
    "huber": _Rule("huber_loss", parameters={"delta": _DELTA}),
    "quantile": _Rule("quantile_loss", parameters={"tau": _TAU}),
    "poisson": _Rule("poisson_loss", _within(0.0, math.inf, "counts, not negative"), _exp),
}


@dataclass(frozen=True, repr=False)
class Loss:
    """A loss with its parameters: what `losses.get`, `losses.huber` and the others of this module give.

    Parameters
    ----------
    name : str
        "cross_entropy", "logistic", "squared_error", "huber", "quantile" or "poisson".
    parameters : dict of str to float
        `delta` of "huber" (1.0), `tau` of "quantile" (0.5). What is left out has its default.

    Attributes
    ----------
    metric : str
        The score shown while training: "accuracy" or "r2".
    lower_is_better : bool
        Whether less of the metric is better. (Less of the loss always is.)
    has_classes : bool
        Whether a target is one of several classes, which may have weights.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import losses
    >>> loss = losses.get("cross_entropy")
    >>> value, gradient, weight_sum = loss(np.zeros((1, 4)), [2])
    >>> print(f"{value:.4f}")  # log(4)
    1.3863
    >>> loss.predict(np.array([[0.0, 3.0, 1.0]]))
    array([1])
    """

    name: LossName
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in _RULES:
            raise ValueError(_unknown(self.name))
        known = _RULES[self.name].parameters
        given = dict(self.parameters)
        for key in given:
            if key not in known:
                accepted = f"it takes {', '.join(known)}" if known else "it takes no parameters"
                raise TypeError(f"losses.{self.name}: there is no parameter {key!r}; {accepted}")
        checked = {}
        for key, parameter in known.items():
            value = check_real(given.get(key, parameter.default), f"losses.{self.name}", key)
            if not parameter.accepts(value):
                raise ValueError(f"losses.{self.name}: {key} is {value!r}; it must be {parameter.range}")
            checked[key] = value
        object.__setattr__(self, "parameters", checked)

    def __hash__(self) -> int:
        return hash((self.name, *self.parameters.items()))

    def __repr__(self) -> str:
        return f"losses.{self.name}({', '.join(f'{key}={value!r}' for key, value in self.parameters.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.parameters)

    # Looked up once: each step of a training asks for them.

    @cached_property
    def _rule(self) -> _Rule:
        return _RULES[self.name]

    @cached_property
    def _function(self) -> Callable[..., tuple[Any, Array, float]]:
        function: Callable[..., tuple[Any, Array, float]] = getattr(_core, self._rule.function)
        return function

    @cached_property
    def metric(self) -> str:
        return self._rule.metric

    @cached_property
    def lower_is_better(self) -> bool:
        return LOWER_IS_BETTER[self._rule.metric]

    @cached_property
    def has_classes(self) -> bool:
        return self._rule.has_classes

    def __call__(
        self,
        outputs: Array,
        targets: npt.ArrayLike,
        *,
        sample_weight: npt.ArrayLike | None = None,
        class_weight: npt.ArrayLike | Mapping[Any, float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        reduction: Reduction = "mean",
    ) -> tuple[Any, Array, float]:
        """Loss, its gradient with respect to the outputs, and the sum of the weights.

        Parameters
        ----------
        outputs : ndarray (..., m) of float32 or float64
            Of a network: logits, or whatever else the loss makes predictions of.
        targets : array_like
            As `check_targets` returns them.
        sample_weight : array_like (...), optional
        class_weight, label_smoothing, ignore_index : optional
            Of cross-entropy; see `normcore.softmax_cross_entropy`.
        reduction : {"mean", "sum", "none"}
            The weighted mean over the rows; the sum; the loss of each row, times its weight. A row's loss is the mean
            over its outputs (of cross-entropy: the sum over its classes).
        """
        options: Mapping[str, Any] = self.parameters
        if self.has_classes:
            chosen = {"class_weight": class_weight, "label_smoothing": label_smoothing, "ignore_index": ignore_index}
            options = {**options, **chosen}
        else:
            self.check_class_options(class_weight, label_smoothing, ignore_index, f"losses.{self.name}")
        return self._function(outputs, targets, sample_weight=sample_weight, reduction=reduction, **options)

    def check_class_options(self, class_weight: Any, label_smoothing: Any, ignore_index: Any, where: str) -> None:
        """ValueError, as one of the operation `where`, for options that only classes give a meaning."""
        if self.has_classes:
            return
        for name, given, default, instead in (
            ("class_weight", class_weight, None, "; sample_weight weighs rows"),
            ("label_smoothing", label_smoothing, 0.0, ""),
            ("ignore_index", ignore_index, None, "; a sample_weight of 0 leaves a row out"),
        ):
            if given is not default and not (default is not None and given == default):
                raise ValueError(f"{where}: {name} is for classes, and {self.name} has none{instead}")

    def check_targets(
        self,
        targets: npt.ArrayLike,
        rows: int | tuple[int, ...],
        outputs: int,
        where: str,
        *,
        dtype: npt.DTypeLike = np.float64,
        ignore_index: int | None = None,
    ) -> Array:
        """Return the targets `y` of a call as an array of n rows, or raise an error that says what was meant.

        Parameters
        ----------
        targets : array_like
            cross_entropy: integer labels (...) in [0, outputs), or float soft targets (..., outputs), not negative and
            of sum 1 within 1e-3. Others: numbers (..., outputs), of one output also (...): in [0, 1] for logistic, not
            negative for poisson.
        rows : int or tuple
            Of the features: their number, or the lengths of the leading axes.
        outputs : int
            Of the network.
        where : str
            The operation, which errors begin with.
        dtype : float32 or float64
            Of the model: what numbers are rounded to.
        ignore_index : int, optional
            A label that is accepted wherever it lies.

        Returns
        -------
        int64 (n,) of labels; else (n, outputs) of `dtype`

        Raises
        ------
        TypeError, ValueError
            What does not fit, with its place, and the loss that such targets are usually for.
        """
        shape = rows if isinstance(rows, tuple) else (rows,)
        given = _Given(self.name, _as_array(targets, where), shape, outputs, where, np.dtype(dtype), ignore_index)
        return self._rule.targets(given)

    def predict(self, outputs: Array) -> Array:
        """Predictions from outputs (..., m).

        cross_entropy: the class of each row, int64 (...), the first that is greatest (NaN counts as greatest).
        logistic: 0 or 1 for each output, int64. poisson: exp of the outputs. Others: the outputs.
        Of one output (...), else (..., m).
        """
        return self._rule.predict(outputs)

    def predict_proba(self, outputs: Array) -> Array:
        """Probabilities from outputs (..., m): of the classes by softmax, or of each 1 by the logistic function.

        TypeError for a loss whose predictions are numbers.
        """
        probabilities = self._rule.probabilities
        if probabilities is None:
            raise TypeError(f"predict_proba: the loss is {self.name}, which predicts numbers and has no probabilities")
        return probabilities(outputs)

    def score(self, outputs: Array, targets: Array, sample_weight: npt.ArrayLike | None = None) -> float:
        """The `metric` of outputs (..., m) against targets as `check_targets` returns them.

        "accuracy" is the share of rows with the right class (of soft targets the greatest), or for logistic of rows of
        which all outputs are right (a target above 1/2 is a 1). "r2" is the coefficient of determination, 1 - residual
        / total sum of squares, the mean over the outputs; 1 is perfect, 0 no better than the mean of the targets.
        """
        return self.metrics(outputs, targets, sample_weight)[self.metric]

    def metrics(self, outputs: Array, targets: Array, sample_weight: npt.ArrayLike | None = None) -> dict[str, float]:
        """All scores by name: "accuracy"; or "r2", "rmse" and "mae", which are about numbers as predicted."""
        if not len(targets):
            raise ValueError("metrics: there are no rows")
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64).reshape(-1)
        flat = outputs.reshape(-1, outputs.shape[-1])
        return self._rule.scores(self.predict(flat), targets, weight)


def _unknown(name: object) -> str:
    hint = _SYNONYMS.get(name.lower().replace(" ", "_")) if isinstance(name, str) else None
    if isinstance(name, str) and name.lower() in ("mae", "l1", "absolute_error", "mean_absolute_error"):
        return f"losses: there is no loss {name!r}; losses.quantile(tau=0.5) is half of the absolute error"
    return f"losses: there is no loss {name!r}; " + (
        f"here it is called {hint!r}" if hint else f"known are {', '.join(get_args(LossName))}"
    )


def get(loss: str | Loss) -> Loss:
    """Return the loss of a name, with the defaults of its parameters; a `Loss` as it is.

    >>> from normcore import losses
    >>> losses.get("quantile")
    losses.quantile(tau=0.5)
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"losses: a loss is a name or made by normcore.losses, not {loss!r}")
    return Loss(loss)  # type: ignore[arg-type]


def cross_entropy() -> Loss:
    """Softmax cross-entropy, for one of several classes: ``-log(softmax(outputs)[label])``.

    Examples
    --------
    >>> from normcore import losses
    >>> outputs = np.array([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    >>> losses.cross_entropy().predict(outputs)
    array([1, 0])
    """
    return Loss("cross_entropy")


def logistic() -> Loss:
    """Logistic loss, for independent answers of 0 or 1 (several labels a row): ``log(1 + exp(y)) - t * y``.

    Examples
    --------
    >>> from normcore import losses
    >>> outputs = np.array([[0.0, 2.0, -1.0]])
    >>> losses.logistic().predict_proba(outputs).round(3)
    array([[0.5  , 0.881, 0.269]])
    """
    return Loss("logistic")


def squared_error() -> Loss:
    """Squared error, for numbers and their mean: ``(y - t)**2``.

    Examples
    --------
    >>> from normcore import losses
    >>> losses.squared_error().score(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [4.0]]))
    0.7857142857142857
    """
    return Loss("squared_error")


def huber(delta: float = 1.0) -> Loss:
    """Huber loss, for numbers with outliers: squared near 0, straight from delta on.

    ``r**2 / 2`` for r = y - t within delta, else ``delta * (abs(r) - delta / 2)``. P. J. Huber, Robust estimation of a
    location parameter, 1964.

    Examples
    --------
    >>> from normcore import losses
    >>> losses.huber(delta=0.5)
    losses.huber(delta=0.5)
    """
    return Loss("huber", {"delta": delta})


def quantile(tau: float = 0.5) -> Loss:
    """Quantile (pinball) loss, for the tau-quantile of numbers: ``max(tau * (t - y), (tau - 1) * (t - y))``.

    R. Koenker and G. Bassett, Regression quantiles, 1978. At 0.5 it is half of the absolute error, for the median.

    Examples
    --------
    >>> from normcore import losses
    >>> losses.quantile(tau=0.9)
    losses.quantile(tau=0.9)
    """
    return Loss("quantile", {"tau": tau})


def poisson() -> Loss:
    """Poisson loss, for counts, of which the outputs are the logarithm of the mean: ``exp(y) - t * y``.

    Examples
    --------
    >>> from normcore import losses
    >>> losses.poisson().metric
    'r2'
    """
    return Loss("poisson")
