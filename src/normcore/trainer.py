"""Minibatch training of an `MLP`: the same data and seed give the same bits on every machine and any thread count."""

from __future__ import annotations

import contextlib
import importlib
import math
import operator
import os
import string
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._signals import Call, HeldSignals, uninterrupted
from normcore.mlp import MLP, ClassWeight, check_class_weight, check_features, check_targets, check_weights
from normcore.optimizers import Optimizer, StateOverflowError
from normcore.random import Generator, check_real, check_uint64
from normcore.schedules import Schedule, schedule_from_dict
from normcore.serialization import (
    Spec,
    check_statistics,
    model_tensors,
    new_model,
    open_archive,
    path_name,
    write_archive,
)

__all__ = ["History", "NonFiniteError", "Trainer"]

FloatArray = npt.NDArray[Any]
_Weights = tuple[FloatArray, FloatArray]  # theta and buffers_flat of a model
LearningRate = float | Schedule | Callable[[int], float]

# Streams of the trainer's seed. A model made with the same seed draws its weights from the streams 0, 1, 2 ...; these
# lie far from them and from each other. Epoch e takes its batches from _SHUFFLE_STREAM + e, and step s drops the units
# of layer l by _DROPOUT_STREAM + s * layers + l: a run can go on from any step without replaying what came before.
_SHUFFLE_STREAM = 1 << 62
_DROPOUT_STREAM = 1 << 63

_EVALUATION_ROWS = 1024  # rows a forward pass: bounds the work memory; the result does not depend on it
_MONITORS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
_HOOKS = ("on_train_begin", "on_step_end", "on_epoch_end", "on_train_end")
_REASONS = ("epochs", "early_stopping", "callback", "nonfinite", "interrupted", "error")
_CHECKPOINT = "checkpoint"


class NonFiniteError(FloatingPointError):
    """A loss, a gradient, a parameter, a running statistic or the optimiser's state became NaN or infinite.

    Attributes
    ----------
    step : int
        The step, from 0, that was not done: parameters and running statistics are those before it. If it shows only
        after the last step of an epoch: that step, which is done.
    name : str
        Where it shows first: "X", a parameter or, if all those are finite, a gradient such as "w1", or a running
        statistic; else "loss", "train_loss" or "val_loss". For the optimiser's state: the parameter it belongs to.
    """

    def __init__(self, message: str, step: int, name: str) -> None:
        super().__init__(message)
        self.step = step
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.step, self.name)


@dataclass
class History:
    """What a training run did.

    The four curves have one entry from before training and one after each epoch: entry e is the state after e epochs.
    """

    loss: list[float] = field(default_factory=list)
    """Loss of each step, its L2 term included; that of a skipped step too."""
    train_loss: list[float] = field(default_factory=list)
    """Cross-entropy over the training data in evaluation mode; empty without `evaluate_training`."""
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    """The same over the validation data; empty without them."""
    val_accuracy: list[float] = field(default_factory=list)
    skipped_steps: list[int] = field(default_factory=list)
    """Steps (indices into `loss`) that were not done because of a NaN or Inf."""
    best_epoch: int | None = None
    """Epoch (index into the curves) of the best value of the monitored quantity; None if it was never measured."""
    best_value: float | None = None
    stopped_reason: str | None = None
    """Why the last fit ended: "epochs", "early_stopping", "callback", "nonfinite", "interrupted" (by Ctrl-C or another
    exception that is no `Exception`) or "error"."""

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as a dict of lists and plain values, independent of this object."""
        return {
            name: list(value) if isinstance(value, list) else value
            for name, value in ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        }


def _all_finite(array: FloatArray) -> bool:
    # The sum needs no temporary; squares of finite float64 may overflow.
    return not array.size or math.isfinite(_core.sum_of_squares(array)) or bool(np.isfinite(array).all())


def _same_bits(a: FloatArray, b: FloatArray) -> bool:
    return np.array_equal(a.view(np.uint8), b.view(np.uint8))


class _DataSet:
    """Checked features and targets, with what evaluation needs, made once a fit."""

    def __init__(
        self, model: MLP, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None, operation: str
    ) -> None:
        features = check_features(X, model.features, model.dtype, operation)
        if features.ndim != 2:
            raise ValueError(f"{operation}: X is {features.shape}; it must be (rows, {model.features})")
        if not features.shape[0]:
            raise ValueError(f"{operation}: X is {features.shape}; it must have at least one row")
        # np.take would copy the whole array at each step if it were not contiguous.
        self.X: FloatArray = np.ascontiguousarray(features)
        self.rows: int = features.shape[0]
        targets = check_targets(y, (self.rows,), model.outputs, model.dtype, operation)
        if targets.ndim == 1:
            bad = np.flatnonzero((targets < 0) | (targets >= model.outputs))
            if bad.size:
                row = int(bad[0])
                raise ValueError(f"{operation}: y[{row}] is {targets[row]}; labels must be in [0, {model.outputs})")
            self.y: npt.NDArray[Any] = np.ascontiguousarray(targets, dtype=np.int64)
            self.labels: npt.NDArray[Any] = self.y
        else:
            self.y = np.ascontiguousarray(targets)
            self.labels = self.y.argmax(axis=1)
        self.sample_weight = check_weights(sample_weight, (self.rows,), operation, "sample_weight")
        self.logits: FloatArray = np.empty((self.rows, model.outputs), dtype=model.dtype)


class _Batch:
    """Arrays which each minibatch is gathered into, made once a fit: a step allocates nothing large."""

    def __init__(self, data: _DataSet, rows: int) -> None:
        self._data = data
        self._X = np.empty((rows, *data.X.shape[1:]), dtype=data.X.dtype)
        self._y = np.empty((rows, *data.y.shape[1:]), dtype=data.y.dtype)
        self._sample_weight = None if data.sample_weight is None else np.empty(rows, dtype=np.float64)

    def gather(self, index: npt.NDArray[np.int64]) -> tuple[FloatArray, npt.NDArray[Any], FloatArray | None]:
        rows = len(index)
        # mode="clip", because "raise" gathers into a temporary first; the indices are in range by construction.
        X = np.take(self._data.X, index, axis=0, out=self._X[:rows], mode="clip")
        y = np.take(self._data.y, index, axis=0, out=self._y[:rows], mode="clip")
        if self._sample_weight is None or self._data.sample_weight is None:
            return X, y, None
        weights = np.take(self._data.sample_weight, index, out=self._sample_weight[:rows], mode="clip")
        return X, y, weights


class _Progress:
    """A tqdm bar over the steps, or nothing."""

    def __init__(self, wanted: bool | None, total: int, done: int) -> None:
        self._bar: Any = None
        terminal = sys.stderr is not None and sys.stderr.isatty()
        if wanted is False or (wanted is None and not terminal):
            return
        try:
            tqdm = importlib.import_module("tqdm").tqdm  # optional, and without type information
        except ImportError:
            if wanted:
                raise ImportError("Trainer: progress=True needs tqdm: pip install 'normcore[progress]'") from None
            return
        self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, leave=False)

    def step(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _integer(value: SupportsIndex, minimum: int, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"Trainer: {name} must be an integer, not {type(value).__name__}") from None
    if number < minimum:
        raise ValueError(f"Trainer: {name} is {number}; it must be at least {minimum}")
    return number


def _get(entries: Mapping[str, Any], group: str, name: str) -> Any:
    if name not in entries:
        raise ValueError(f"no entry {group}.{name}" if group else f"no entry {name}")
    return entries[name]


def _check_entry(value: Any, name: str, maximum: int) -> int:
    """Return an integer of a checkpoint; JSON's true is none."""
    if type(value) is not int or not 0 <= value <= maximum:
        raise ValueError(f"{name} is {value!r}; it must be an integer in [0, {maximum}]")
    return value


def _entry(state: Mapping[str, Any], name: str, maximum: int) -> int:
    return _check_entry(_get(state, "state", name), f"state.{name}", maximum)


@contextlib.contextmanager
def _laid_to(name: str) -> Iterator[None]:
    """Make whatever is refused the fault of the file `name`."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        detail = str(error)
        raise ValueError(detail if detail.startswith(name) else f"{name}: no sound checkpoint: {detail}") from None


def _choice(value: str, choices: tuple[str, ...], name: str) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"Trainer: {name} is {value!r}; accepted are {', '.join(map(repr, choices))}")
    return value


def _rate(value: Any, where: str) -> float:
    rate = check_real(value, "Trainer", f"learning_rate{where}")
    if not 0.0 <= rate < math.inf:
        raise ValueError(f"Trainer: learning_rate{where} is {rate!r}; it must be finite and not negative")
    return rate


def _is_callback(value: Any) -> bool:
    return callable(value) or any(hasattr(value, hook) for hook in _HOOKS)


def _callbacks(value: Any) -> list[Any]:
    if _is_callback(value):
        return [value]
    wanted = f"a callback must be a function or have one of {', '.join(_HOOKS)}"
    if not isinstance(value, Iterable):
        raise TypeError(f"Trainer: callbacks is {value!r}; it must be a callback or an iterable of them; {wanted}")
    callbacks = list(value)
    for index, callback in enumerate(callbacks):
        if not _is_callback(callback):
            raise TypeError(f"Trainer: callbacks[{index}] is {callback!r}; {wanted}")
    return callbacks


class Trainer:
    """Trains a model on minibatches.

    Parameters
    ----------
    model : MLP
        Trained in place.
    optimizer : "sgd", "momentum", "nesterov", "rmsprop", "adam" or "adamw"
    learning_rate : float, Schedule or callable
        A schedule (or any callable) gets the number of steps done so far, 0 at the first step, and gives a float.
    batch_size, epochs : int
        `epochs` counts from the trainer's beginning: ``fit`` does those that are missing. Raise it to train on.
    shuffle : "permutation" or "replacement"
        Each epoch runs through a permutation of the rows; or it draws max(rows // batch_size, 1) batches with
        replacement. With batch norm a permutation's single last row joins the batch before it.
    momentum, decay_rate, betas, eps, l2, weight_decay
        See `Optimizer`. `l2` adds ``l2 / 2 * sum(w**2)`` over the weight matrices to the loss.
    clip_norm : float, optional
        Gradients of the cross-entropy are scaled down to this global norm when theirs is greater.
    class_weight : (outputs,), or mapping of class to weight (classes left out weigh 1), optional
    label_smoothing : float in [0, 1]
    early_stopping : int, optional
        Stop when `monitor` has not improved for this many epochs.
    restore_best : bool
        When ``fit`` has ended, in whatever way, the model has the parameters and running statistics of the best epoch
        (0: before training); training goes on, by ``fit``, ``step`` or `resume`, from those of the last step, which the
        trainer keeps, unless the model has been changed in between.
    monitor : "val_loss", "val_accuracy", "train_loss" or "train_accuracy"
    evaluate_training : bool
        Whether the curves of the training data are made: one more forward pass over them each epoch.
    on_nonfinite : "raise", "skip" or "stop"
        What to do when the loss, a gradient, a running statistic or, by the update, the optimiser's state is NaN or
        infinite: raise `NonFiniteError`; leave the step out; or leave it out and end the training. Neither model nor
        optimiser is changed by such a step. An update that makes a parameter so shows at the next step, or at the end
        of the epoch: then "raise" raises, and "skip" and "stop" end the training, for there is no step left that could
        be done. So do "raise" and "stop" if the loss measured after an epoch is not finite; "skip" goes on.
    callbacks : iterable, or one callback
        Objects with any of the methods on_train_begin, on_step_end, on_epoch_end, on_train_end, or functions, which are
        called as on_epoch_end is. All are called with (trainer, logs), logs a dict, and return None or a bool; a step
        or epoch hook that returns True ends the training.
    progress : bool, optional
        A bar on standard error (needs tqdm). None: if that is a terminal.
    seed : int in [0, 2**64)
        Of the order of the rows and of dropout.

    Notes
    -----
    Losses of the curves have class weights, label smoothing and, for training data, sample weights, but no L2 term.
    A row whose sample weight is 0 counts for nothing in the loss, but with batch norm it does in the statistics.

    With a schedule, momentum and Nesterov are the form of Keras and CS231n, not PyTorch's: see `Optimizer`.

    Epoch e (from 0) draws its rows from stream 2**62 + e of the seed; step s (from 0) drops units of layer l by stream
    2**63 + s * layers + l. A model's weights come from streams 0, 1, ... of its own seed, which may be the same.
    """

    _claimed: object | None = None  # of the class: what the call that fits an object has put into that

    def __init__(
        self,
        model: MLP,
        *,
        optimizer: str = "adam",
        learning_rate: LearningRate = 1e-3,
        batch_size: SupportsIndex = 128,
        epochs: SupportsIndex = 10,
        shuffle: Literal["permutation", "replacement"] = "permutation",
        momentum: float = 0.9,
        decay_rate: float = 0.99,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        class_weight: ClassWeight = None,
        label_smoothing: float = 0.0,
        early_stopping: SupportsIndex | None = None,
        restore_best: bool = False,
        monitor: Literal["val_loss", "val_accuracy", "train_loss", "train_accuracy"] = "val_loss",
        evaluate_training: bool = True,
        on_nonfinite: Literal["raise", "skip", "stop"] = "raise",
        callbacks: Iterable[Any] | Callable[[Trainer, dict[str, Any]], Any] = (),
        progress: bool | None = None,
        seed: SupportsIndex = 0,
    ) -> None:
        if not isinstance(model, MLP):
            raise TypeError(f"Trainer: model must be an MLP, not {type(model).__name__}")
        self.model = model
        self.optimizer = Optimizer(
            model,
            optimizer,
            momentum=momentum,
            decay_rate=decay_rate,
            betas=betas,
            eps=eps,
            l2=l2,
            weight_decay=weight_decay,
        )
        self.learning_rate: LearningRate = learning_rate if callable(learning_rate) else _rate(learning_rate, "")
        if not callable(self.learning_rate):
            self.optimizer.check("Trainer", self.learning_rate)
        self.batch_size = _integer(batch_size, 1, "batch_size")
        if self.batch_size == 1 and model.norm == "batch":
            raise ValueError("Trainer: batch_size is 1; with norm='batch' it must be at least 2")
        self.epochs = _integer(epochs, 0, "epochs")
        self.shuffle: str = _choice(shuffle, ("permutation", "replacement"), "shuffle")
        self.clip_norm = None if clip_norm is None else check_real(clip_norm, "Trainer", "clip_norm")
        if self.clip_norm is not None and not 0.0 < self.clip_norm < math.inf:
            raise ValueError(f"Trainer: clip_norm is {clip_norm!r}; it must be positive and finite, or None")
        self.class_weight = check_class_weight(class_weight, model.outputs, "Trainer")
        self.label_smoothing = check_real(label_smoothing, "Trainer", "label_smoothing")
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ValueError(f"Trainer: label_smoothing is {label_smoothing!r}; it must be in [0, 1]")
        self.early_stopping = None if early_stopping is None else _integer(early_stopping, 1, "early_stopping")
        self.restore_best = bool(restore_best)
        self.monitor: str = _choice(monitor, _MONITORS, "monitor")
        self.evaluate_training = bool(evaluate_training)
        self.on_nonfinite: str = _choice(on_nonfinite, ("raise", "skip", "stop"), "on_nonfinite")
        self.callbacks: list[Any] = _callbacks(callbacks)
        self.progress = progress
        self.seed = check_uint64(seed, "Trainer", "seed")

        self.history = History()
        self.epoch = 0
        """Finished epochs."""
        self.step_count = 0
        """Finished steps, skipped ones included."""
        self._batch = 0  # batches done in the current epoch
        self._rows = 0  # rows of the training data of the current epoch
        self._halted = False
        # Parameters and running statistics of the best epoch and, while the model has those, of the last step.
        self._best: _Weights | None = None
        self._last: _Weights | None = None
        self._buffers_before = np.empty_like(model.buffers_flat)

    def __repr__(self) -> str:
        return (
            f"Trainer({self.model!r}, optimizer={self.optimizer.name!r}, epoch={self.epoch}/{self.epochs}, "
            f"step={self.step_count})"
        )

    # ------------------------------------------------------------------ one step

    def step(self, X: npt.ArrayLike, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Do one optimisation step on the batch `X` (rows, features), `y` as in `MLP.loss_and_grads`.

        Returns the loss before the step, L2 term included. The first step that is NaN or infinite raises
        `NonFiniteError` or, with another policy, changes nothing and is counted in ``history.skipped_steps``. A step
        that fails changes nothing either; one that a signal ends is done and counted, or has changed nothing.
        ValueError for one row with batch norm; RuntimeError during a ``fit`` or another step, as `fit`.
        """
        token = object()
        try:
            self._claim(token, "Trainer.step")
            rate = self._next_rate()
            if self._last is None:
                return self._step(X, y, sample_weight, rate, None)
            with HeldSignals():
                had_best = self._leave_best()
                try:
                    return self._step(X, y, sample_weight, rate, None)
                except BaseException:
                    if had_best:
                        self._show_best()
                    raise
        finally:
            if self._claimed is token:
                del self._claimed

    def _claim(self, token: object, operation: str) -> None:
        """Take the trainer for one call, or refuse: two at a time would train each other's steps.

        Called in a ``try`` whose ``finally`` gives it back without a call, so that no signal can get in between.
        """
        if vars(self).setdefault("_claimed", token) is not token:  # one operation, whatever other threads do
            raise RuntimeError(
                f"{operation}: this trainer is being fitted already: by the call that a callback or schedule belongs "
                "to, or in another thread"
            )

    def __getstate__(self) -> dict[str, Any]:
        # A copy made in a callback is in nobody's hands.
        return {name: value for name, value in vars(self).items() if name != "_claimed"}

    def _next_rate(self) -> float:
        rate = self.learning_rate
        return _rate(rate(self.step_count), f" of step {self.step_count}") if callable(rate) else rate

    def _step(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None,
        rate: float,
        batch: int | None,
    ) -> float:
        """Do one step, or change nothing: all that can fail comes before all that is kept, which is one call."""
        step, buffers = self.step_count, self.model.buffers_flat
        np.copyto(self._buffers_before, buffers)
        try:
            loss, penalty, norm, fault = self._pass(X, y, sample_weight)
            count: list[Call] = [(self.history.loss.append, loss), (setattr, self, "step_count", step + 1)]
            if batch is not None:
                count.append((setattr, self, "_batch", batch + 1))
            if fault is None:
                fault = self._update(rate, penalty, norm, count)
            if fault is not None:
                name, what = fault
                if self.on_nonfinite == "raise":
                    message = f"Trainer: step {step} (epoch {self.epoch}): the loss is {loss}; {what}"
                    raise NonFiniteError(message, step, name)
                np.copyto(buffers, self._buffers_before)
                self._halted = self.on_nonfinite == "stop"
                uninterrupted(((self.history.skipped_steps.append, step), *count))
        except BaseException:
            if self.step_count == step:
                np.copyto(buffers, self._buffers_before)
            raise
        return loss

    def _pass(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None
    ) -> tuple[float, float, float, tuple[str, str] | None]:
        """Do the training pass of a step.

        Returns the loss, the L2 term in it, the norm of the gradients, and, if any of that or the running statistics is
        not finite, where and how.
        """
        model = self.model
        loss, _ = model._training_pass(
            X,
            y,
            self.class_weight,
            sample_weight,
            self.label_smoothing,
            None,
            self.seed,
            _DROPOUT_STREAM + self.step_count * model.layers,
            "Trainer.step",
        )
        penalty = self.optimizer.penalty()
        loss += penalty
        norm_squared = _core.sum_of_squares(model.gradients_flat)
        finite = (
            math.isfinite(loss)
            and (math.isfinite(norm_squared) or bool(np.isfinite(model.gradients_flat).all()))
            and _all_finite(model.buffers_flat)
        )
        if not finite:
            return loss, penalty, norm_squared, self._nonfinite(X)
        return loss, penalty, self._gradient_norm(norm_squared), None

    def _update(self, rate: float, penalty: float, norm: float, count: Iterable[Call]) -> tuple[str, str] | None:
        """Update the model and count the step, or return where and how the optimiser's state would not be finite."""
        optimizer = self.optimizer
        scale = 1.0 if self.clip_norm is None or norm <= self.clip_norm else self.clip_norm / norm
        if scale < 1.0 and not self.model.dtype.type(scale):  # which the update would refuse without a word of clipping
            raise ValueError(
                f"Trainer: step {self.step_count}: clip_norm is {self.clip_norm!r} and the gradients' norm {norm:.6g}: "
                f"the scale, {scale:.6g}, is 0 in {self.model.dtype.name}"
            )
        # The penalty is l2 / 2 times the sum of the squares of the weights: none of l2 * w is beyond the second root.
        greatest = scale * norm + math.sqrt(2.0 * optimizer.l2 * penalty)
        try:
            optimizer.update(rate, scale, greatest, count)
        except StateOverflowError as error:
            return error.name, str(error)
        return None

    def _gradient_norm(self, norm_squared: float) -> float:
        if math.isfinite(norm_squared):
            return math.sqrt(norm_squared)
        # Finite float64 gradients whose squares overflow.
        gradients = self.model.gradients_flat
        greatest = float(np.abs(gradients).max())
        return greatest * math.sqrt(_core.sum_of_squares(gradients / greatest))

    def _nonfinite(self, X: npt.ArrayLike) -> tuple[str, str]:
        """Say where a NaN or Inf shows first: in what goes in, and only then in what comes out."""
        features = np.asarray(X)
        if not np.isfinite(features).all():
            row = int(np.flatnonzero(~np.isfinite(features).all(axis=-1))[0])
            return "X", f"the features of row {row} of the batch are not finite"
        model = self.model
        found = self._culprit(
            ("parameter", model.parameters()), ("gradient", model.gradients()), ("running statistic", model.buffers())
        )
        return found or ("loss", "all parameters and gradients are finite")

    @staticmethod
    def _culprit(*kinds: tuple[str, Mapping[str, FloatArray]]) -> tuple[str, str] | None:
        """Name and description of the first array that is not finite."""
        for kind, views in kinds:
            for name, view in views.items():
                if not np.isfinite(view).all():
                    layer = name.lstrip(string.ascii_lowercase + "_")
                    return name, f"the first {kind} that is not finite is {name} (layer {layer})"
        return None

    def _diverged(self) -> bool:
        """Whether the last update left something that is not finite, if the policy is not to raise then."""
        model = self.model
        if _all_finite(model.theta) and _all_finite(model.buffers_flat):
            return False
        if self.on_nonfinite == "raise":
            found = self._culprit(("parameter", model.parameters()), ("running statistic", model.buffers()))
            name, what = found or ("theta", "the parameters are not finite")
            step = self.step_count - 1
            raise NonFiniteError(f"Trainer: after step {step} (epoch {self.epoch}): {what}", step, name)
        return True

    def _unmeasurable(self, values: Mapping[str, float]) -> bool:
        """Whether the training must end because a measured loss is not finite, if the policy is not to raise then."""
        bad = next((name for name in ("train_loss", "val_loss") if not math.isfinite(values.get(name, 0.0))), None)
        if bad is None or self.on_nonfinite == "skip":
            return False
        if self.on_nonfinite == "raise":
            step = self.step_count - 1
            what = f"{bad} is {values[bad]}; all parameters are finite"
            raise NonFiniteError(f"Trainer: after step {step} (end of epoch {self.epoch - 1}): {what}", step, bad)
        return True

    # ------------------------------------------------------------------ evaluation

    def _evaluate(self, data: _DataSet) -> tuple[float, float]:
        """Return (cross-entropy, accuracy) in evaluation mode."""
        for start in range(0, data.rows, _EVALUATION_ROWS):
            rows = slice(start, start + _EVALUATION_ROWS)
            self.model.forward(data.X[rows], out=data.logits[rows])
        loss, _, _ = _core.softmax_cross_entropy(
            data.logits,
            data.y,
            class_weight=self.class_weight,
            sample_weight=data.sample_weight,
            label_smoothing=self.label_smoothing,
        )
        correct = int(np.count_nonzero(data.logits.argmax(axis=1) == data.labels))
        return float(loss), correct / data.rows

    def _measure(self, data: _DataSet, validation: _DataSet | None) -> dict[str, float]:
        values: dict[str, float] = {}
        if self.evaluate_training:
            values["train_loss"], values["train_accuracy"] = self._evaluate(data)
        if validation is not None:
            values["val_loss"], values["val_accuracy"] = self._evaluate(validation)
        return values

    def _record(self, values: Mapping[str, float], epoch: int) -> None:
        """Finish an epoch: append an entry to the curves, and keep the weights if they are the best so far."""
        history = self.history
        calls: list[Call] = [(getattr(history, name).append, value) for name, value in values.items()]
        value = values.get(self.monitor, math.nan)
        best = history.best_value
        if not math.isnan(value) and (
            best is None or (value < best if self.monitor.endswith("loss") else value > best)
        ):
            calls += [(setattr, history, "best_value", value), (setattr, history, "best_epoch", epoch)]
            if self.restore_best:
                calls.append((setattr, self, "_best", self._weights()))
        uninterrupted((*calls, (setattr, self, "epoch", epoch), (setattr, self, "_batch", 0)))

    def _weights(self) -> _Weights:
        return self.model.theta.copy(), self.model.buffers_flat.copy()

    def _set_weights(self, weights: _Weights, last: _Weights | None) -> None:
        arrays = (self.model.theta, self.model.buffers_flat)
        calls: list[Call] = [(array.__setitem__, ..., values) for array, values in zip(arrays, weights, strict=True)]
        uninterrupted((*calls, (setattr, self, "_last", last)))

    def _show_best(self) -> None:
        """Give the model the weights of the best epoch, if wanted, and keep those of the last step to go on from."""
        if self.restore_best and self._best is not None:
            self._set_weights(self._best, self._weights())

    def _leave_best(self) -> bool:
        """Undo `_show_best`, if it was done and the model has not been changed since; return whether that was so."""
        last, best = self._last, self._best
        if last is None or best is None:
            return False
        unchanged = _same_bits(self.model.theta, best[0]) and _same_bits(self.model.buffers_flat, best[1])
        if unchanged:
            self._set_weights(last, None)
        self._last = None
        return unchanged

    # ------------------------------------------------------------------ training

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> History:
        """Train up to ``epochs`` epochs, counted from the trainer's beginning.

        Parameters
        ----------
        X : (rows, features) float32 or float64
            Used as it is if it is C-contiguous and of the model's dtype; else converted once.
        y : (rows,) integers or bool in [0, outputs), or (rows, outputs) float soft targets
        validation_data : (X, y), optional
        sample_weight : (rows,), optional
            Finite, not negative.

        Returns
        -------
        History
            The trainer's ``history``, also there when an exception ends the training.

        Raises
        ------
        ValueError
            Shapes, labels or weights are wrong; or one row only, with batch norm, whose statistics would be empty.
        NonFiniteError
            With ``on_nonfinite="raise"``.
        RuntimeError
            This trainer is being fitted already, or does a step: the call is made by a callback or schedule of its own,
            or in another thread. Nothing has been changed.

        Notes
        -----
        On KeyboardInterrupt or any other exception the model is as after the last finished step, or, with
        `restore_best`, as after the best epoch; calling ``fit`` again goes on from the last finished step.

        Ctrl-C, and every signal whose handler is a Python function, has its way in callbacks, schedules and evaluations
        at once, else when the running step is done: whatever the handler raises, steps and curves are whole. That holds
        for handlers set before ``fit`` or, from its return on, by a callback; what the system calls for a signal, such
        as a function registered with faulthandler, is not replaced.
        """
        token = object()
        try:
            self._claim(token, "Trainer.fit")
            return self._fit(X, y, validation_data, sample_weight)
        finally:
            if self._claimed is token:
                del self._claimed

    def _fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None,
        sample_weight: npt.ArrayLike | None,
    ) -> History:
        data = _DataSet(self.model, X, y, sample_weight, "Trainer.fit")
        validation = None
        if validation_data is not None:
            try:
                validation_X, validation_y = validation_data
            except (TypeError, ValueError):
                raise TypeError("Trainer.fit: validation_data must be a pair (X, y)") from None
            validation = _DataSet(self.model, validation_X, validation_y, None, "Trainer.fit: validation_data")
        if self.model.norm == "batch" and data.rows == 1:
            raise ValueError("Trainer.fit: X has one row; batch norm needs at least two to train")
        self._check_monitor(validation)
        if self._batch and self._rows != data.rows:
            raise ValueError(
                f"Trainer.fit: X has {data.rows} rows but the unfinished epoch {self.epoch} was begun with {self._rows}"
            )
        history = self.history
        with HeldSignals() as signals:
            self._rows = data.rows
            self._halted = False
            history.stopped_reason = None
            steps = len(self._bounds(data.rows))
            done = min(self.epoch, self.epochs) * steps + self._batch
            progress = _Progress(self.progress, self.epochs * steps, done)
            self._leave_best()
            reason = "error"
            try:
                begin = {"epochs": self.epochs, "steps": steps, "rows": data.rows}
                signals.through(self._call, "on_train_begin", begin)
                reason = self._run(data, validation, progress, signals)
            except BaseException as error:
                if isinstance(error, NonFiniteError):
                    reason = "nonfinite"
                elif not isinstance(error, Exception):
                    reason = "interrupted"
                raise
            finally:
                history.stopped_reason = reason
                self._show_best()
                progress.close()
                end = {"epoch": self.epoch, "step": self.step_count, "stopped_reason": reason}
                signals.through(self._call, "on_train_end", end)
        return history

    def _check_monitor(self, validation: _DataSet | None) -> None:
        if self.early_stopping is None and not self.restore_best:
            return
        if self.monitor.startswith("val") and validation is None:
            raise ValueError(
                f"Trainer.fit: early_stopping and restore_best watch {self.monitor!r}: give validation_data"
            )
        if self.monitor.startswith("train") and not self.evaluate_training:
            raise ValueError(
                f"Trainer.fit: early_stopping and restore_best watch {self.monitor!r}: set evaluate_training"
            )

    def _bounds(self, rows: int) -> list[tuple[int, int]]:
        """Where each batch of an epoch begins and ends in the epoch's index array."""
        size = self.batch_size
        if self.shuffle == "replacement":
            return [(start, start + size) for start in range(0, max(rows // size, 1) * size, size)]
        bounds = [(start, min(start + size, rows)) for start in range(0, rows, size)]
        if self.model.norm == "batch" and len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
            bounds[-2:] = [(bounds[-2][0], rows)]
        return bounds

    def _order(self, rows: int, batches: int) -> npt.NDArray[np.int64]:
        """Index array of the current epoch."""
        generator = Generator(self.seed, _SHUFFLE_STREAM + self.epoch)
        if self.shuffle == "replacement":
            return generator.integers(rows, batches * self.batch_size)
        return generator.permutation(rows)

    def _run(self, data: _DataSet, validation: _DataSet | None, progress: _Progress, signals: HeldSignals) -> str:
        """Train and return why that ended. What is long, or calls the caller's code, goes through `signals`."""
        bounds = self._bounds(data.rows)
        batch = _Batch(data, max(stop - start for start, stop in bounds))
        curves = (self.history.train_loss, self.history.val_loss)
        if self.epoch == 0 and self._batch == 0 and not any(curves):
            self._record(signals.through(self._measure, data, validation), 0)
        while self.epoch < self.epochs:
            if self._patience_spent():
                return "early_stopping"
            order = self._order(data.rows, len(bounds))
            for number in range(self._batch, len(bounds)):
                start, stop = bounds[number]
                rate = signals.through(self._next_rate)
                loss = self._step(*batch.gather(order[start:stop]), rate, number)
                stopped = signals.through(self._after_step, progress, number, loss)
                if self._halted:
                    return "nonfinite"
                if stopped:
                    return "nonfinite" if self._diverged() else "callback"
            if self._diverged():
                return "nonfinite"
            values = signals.through(self._measure, data, validation)
            self._record(values, self.epoch + 1)
            if self._unmeasurable(values):
                return "nonfinite"
            total = 0.0
            for loss in self.history.loss[-len(bounds) :]:  # sum() rounds differently from Python 3.12 on
                total += loss
            logs = {"epoch": self.epoch, "step": self.step_count, "loss": total / len(bounds), **values}
            if signals.through(self._call, "on_epoch_end", logs):
                return "callback"
        return "epochs"

    def _after_step(self, progress: _Progress, number: int, loss: float) -> bool:
        progress.step(loss)
        logs = {"epoch": self.epoch, "step": self.step_count, "batch": number, "loss": loss}
        return self._call("on_step_end", logs)

    def _patience_spent(self) -> bool:
        if self.early_stopping is None:
            return False
        # Without a best epoch the quantity has been NaN from the start, which is no improvement either.
        return self.epoch - (self.history.best_epoch or 0) >= self.early_stopping

    def _call(self, hook: str, logs: dict[str, Any]) -> bool:
        """Call the callbacks that have `hook`; whether one of them returned True."""
        stop = False
        for callback in self.callbacks:
            method = getattr(callback, hook, None)
            if method is None and hook == "on_epoch_end" and not any(hasattr(callback, name) for name in _HOOKS):
                method = callback
            if method is None:
                continue
            answer = method(self, logs)
            if not (answer is None or isinstance(answer, (bool, np.bool_))):
                raise TypeError(
                    f"Trainer: {hook} of the callback {callback!r} returned a {type(answer).__name__}; it must return "
                    "None, or a bool"
                )
            stop |= bool(answer)
        return stop

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write model, optimiser, position and history to a safetensors file, whole or not at all; see `resume`.

        May be called at any time, also from a callback and after Ctrl-C. The data are not in it, nor are callbacks, nor
        a learning rate that is a plain function. `extra`: anything fit for JSON that the caller wants to keep with it.
        """
        optimizer, history = self.optimizer, self.history
        rate: Any = self.learning_rate
        if isinstance(rate, Schedule):
            rate = rate.to_dict()
        elif callable(rate):
            rate = None
        config = {
            "model": self.model.config(),
            "trainer": {
                "optimizer": optimizer.name,
                "learning_rate": rate,
                "batch_size": self.batch_size,
                "epochs": self.epochs,
                "shuffle": self.shuffle,
                "momentum": optimizer.momentum,
                "decay_rate": optimizer.decay_rate,
                "betas": list(optimizer.betas),
                "eps": optimizer.eps,
                "l2": optimizer.l2,
                "weight_decay": optimizer.weight_decay,
                "clip_norm": self.clip_norm,
                "label_smoothing": self.label_smoothing,
                "early_stopping": self.early_stopping,
                "restore_best": self.restore_best,
                "monitor": self.monitor,
                "evaluate_training": self.evaluate_training,
                "on_nonfinite": self.on_nonfinite,
                "seed": self.seed,
            },
            "state": {
                "updates": optimizer.updates,
                "epoch": self.epoch,
                "step": self.step_count,
                "batch": self._batch,
                "rows": self._rows,
                "best_epoch": history.best_epoch,
                "best_value": history.best_value,
                "stopped_reason": history.stopped_reason,
                "skipped_steps": history.skipped_steps,
            },
        }
        tensors = model_tensors(self.model, "model.")
        optional = {
            "class_weight": self.class_weight,
            "optimizer.slot1": optimizer.slot1,
            "optimizer.slot2": optimizer.slot2,
        }
        for group, weights in (("best", self._best), ("last", self._last)):
            if weights is not None:
                optional |= {f"{group}.parameters": weights[0], f"{group}.buffers": weights[1]}
        tensors |= {name: array for name, array in optional.items() if array is not None}
        for name in ("loss", *_MONITORS):
            tensors[f"history.{name}"] = np.array(getattr(history, name), dtype=np.float64)
        write_archive(path, _CHECKPOINT, config, tensors, extra)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        learning_rate: LearningRate | None = None,
        callbacks: Iterable[Any] | Callable[[Trainer, dict[str, Any]], Any] = (),
        progress: bool | None = None,
    ) -> Trainer:
        """Return the trainer in a file of `save_checkpoint`, with a model of its own.

        ``fit`` with the same data then gives the same bits as if the run had never been interrupted. Its model is as it
        was when the file was written: after a ``fit`` with `restore_best`, that of the best epoch.

        Parameters
        ----------
        path : path of the file
        learning_rate : optional
            Instead of the one in the file; needed if that was a plain function.
        callbacks, progress
            As for `Trainer`: they are not in the file.

        Raises
        ------
        OSError, ValueError
            As `load_model`; ValueError also if the learning rate is needed and not given.
        """
        name = path_name(path, "Trainer.resume")
        # Checked here, for below whatever is wrong is the file's fault.
        callbacks = _callbacks(callbacks)
        if learning_rate is not None and not callable(learning_rate):
            learning_rate = _rate(learning_rate, "")
        with open_archive(name, _CHECKPOINT) as archive:
            name, contract = archive.name, archive.contract
            with archive.damage_first(), _laid_to(name):
                config, _ = archive.objects()
                for key in ("model", "trainer", "state"):
                    if not isinstance(_get(config, "", key), Mapping):
                        raise ValueError(f"{key} is {config[key]!r}; it must be an object")
                specs = {key.removeprefix("model."): spec for key, spec in archive.specs.items() if key[:6] == "model."}
                model = new_model(config["model"], specs, name)
                settings = dict(config["trainer"])
                stored = settings.pop("learning_rate", None)
                rate = stored if learning_rate is None else learning_rate
                if rate is None:
                    raise ValueError("its learning rate was a plain function: give learning_rate")
                if isinstance(rate, Mapping):
                    rate = schedule_from_dict(rate)
                trainer = cls(model, learning_rate=rate, callbacks=callbacks, progress=progress, **settings)
                trainer._set_position(config["state"])
                arrays = trainer._arrays(archive.specs)
            archive.read(arrays)
            with _laid_to(name):
                trainer._set_arrays(arrays, name)
        if contract != _core.CONTRACT:
            warnings.warn(
                f"{name}: written under the numeric contract {contract}, this is {_core.CONTRACT}: the run goes on, "
                "but not with the bits it would have had",
                stacklevel=2,
            )
        return trainer

    def _arrays(self, specs: Mapping[str, Spec]) -> dict[str, FloatArray]:
        """What a checkpoint with those tensors is read into, by name: for the most part the arrays that are trained."""
        model, optimizer = self.model, self.optimizer
        arrays = model_tensors(model, "model.")
        for name, slot in (("slot1", optimizer.slot1), ("slot2", optimizer.slot2)):
            if slot is not None:
                arrays[f"optimizer.{name}"] = slot
        for group in ("best", "last"):
            if any(name.startswith(group + ".") for name in specs):
                arrays[f"{group}.parameters"] = np.empty_like(model.theta)
                arrays[f"{group}.buffers"] = np.empty_like(model.buffers_flat)
        if "class_weight" in specs:
            arrays["class_weight"] = np.empty(model.outputs)
        for name, array in arrays.items():
            dtype, shape = _get(specs, "", name)
            if (dtype, shape) != (array.dtype.name, array.shape):
                raise ValueError(f"{name} is {dtype} {shape}, which does not fit the model")
        for curve in ("loss", *_MONITORS):
            dtype, shape = _get(specs, "", f"history.{curve}")
            limit = self.step_count if curve == "loss" else self.epoch + 1
            if len(shape) != 1 or dtype != "float64" or shape[0] > limit:
                raise ValueError(
                    f"history.{curve} is {dtype} {shape}; it must be float64 and have one axis of at most {limit}"
                )
            arrays[f"history.{curve}"] = np.empty(shape)
        return arrays

    def _set_arrays(self, arrays: Mapping[str, FloatArray], name: str) -> None:
        """Take over what has been read into the arrays of `_arrays` from the file `name`."""
        model = self.model
        check_statistics(model, model.buffers_flat, name)
        for slot in ("slot1", "slot2"):
            array = arrays.get(f"optimizer.{slot}")
            if array is not None and (not _all_finite(array) or (slot == "slot2" and bool((array < 0.0).any()))):
                raise ValueError(f"optimizer.{slot} must be finite{' and not negative' if slot == 'slot2' else ''}")

        def weights(group: str) -> _Weights | None:
            if f"{group}.parameters" not in arrays:
                return None
            theta, buffers = arrays[f"{group}.parameters"], arrays[f"{group}.buffers"]
            check_statistics(model, buffers, name, f"{group}.")
            return theta, buffers

        self._best, self._last = weights("best"), weights("last")
        self.class_weight = check_class_weight(arrays.get("class_weight"), model.outputs, "Trainer")
        for curve in ("loss", *_MONITORS):
            getattr(self.history, curve).extend(arrays[f"history.{curve}"].tolist())

    def _set_position(self, state: Mapping[str, Any]) -> None:
        optimizer, history = self.optimizer, self.history
        # The streams of the seed end somewhere: see _SHUFFLE_STREAM and _DROPOUT_STREAM.
        self.epoch = _entry(state, "epoch", _SHUFFLE_STREAM - 1)
        self.step_count = _entry(state, "step", _DROPOUT_STREAM // self.model.layers - 1)
        self._rows = _entry(state, "rows", sys.maxsize)
        self._batch = _entry(state, "batch", self._rows)
        optimizer.updates = _entry(state, "updates", self.step_count)
        skipped = _get(state, "state", "skipped_steps")
        if not isinstance(skipped, list):
            raise ValueError(f"state.skipped_steps is {skipped!r}; it must be a list")
        for index, step in enumerate(skipped):
            _check_entry(step, f"state.skipped_steps[{index}]", self.step_count - 1)
        history.skipped_steps.extend(skipped)
        best_epoch, best_value, reason = (
            _get(state, "state", name) for name in ("best_epoch", "best_value", "stopped_reason")
        )
        if best_epoch is not None:
            _check_entry(best_epoch, "state.best_epoch", self.epoch)
        if (best_epoch is None) != (best_value is None):
            raise ValueError(f"state.best_epoch is {best_epoch} but state.best_value is {best_value!r}")
        if best_value is not None and (not isinstance(best_value, float) or math.isnan(best_value)):
            raise ValueError(f"state.best_value is {best_value!r}; it must be a number")
        if reason is not None and reason not in _REASONS:
            raise ValueError(f"state.stopped_reason is {reason!r}; it must be one of {', '.join(_REASONS)}")
        history.best_epoch, history.best_value, history.stopped_reason = best_epoch, best_value, reason
