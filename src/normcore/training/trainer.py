"""Minibatch training of an `MLP`: the same data and seed give the same bits on every machine and any thread count."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore import _core, losses
from normcore._checks import check_number, with_hints
from normcore._signals import Call, HeldSignals, uninterrupted
from normcore.losses import Loss, LossName
from normcore.mlp import MLP, ClassWeight, check_weights
from normcore.training.batches import DROPOUT_STREAM, Batch, DataSet, Part, batch_bounds, epoch_order
from normcore.training.callbacks import Progress, call_callbacks
from normcore.training.checkpoint import SETTINGS, Resumable
from normcore.training.history import Curve, History, is_better
from normcore.training.optimizers import Optimizer, OptimizerName, StateOverflowError
from normcore.training.schedules import LearningRate, PlateauSchedule
from normcore.training.settings import ARGUMENTS, FIT_ARGUMENTS, Policy, Shuffle, TrainerSettings
from normcore.training.stopping import (
    BestWeights,
    NonFiniteError,
    all_finite,
    has_diverged,
    is_unmeasurable,
    nonfinite_in_pass,
)

__all__ = ["Trainer"]


ValidationData = tuple[npt.ArrayLike, npt.ArrayLike] | tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]


@dataclass
class _Gradients:
    """What a training pass says of the gradients that it leaves in the model's ``gradients_flat``."""

    loss: float
    """Mean over the batch, with the L2 term."""
    weight: float
    """Sum of the weights of the rows which that is the mean of."""
    penalty: float
    """The L2 term."""
    X: npt.NDArray[Any]
    """The rows, or those of the last part; of the first part whose loss is not finite, if there is one."""


class Trainer(TrainerSettings, Resumable):
    """Trains a model on minibatches.

    Parameters
    ----------
    model : MLP
        Trained in place.
    optimizer : "sgd", "momentum", "nesterov", "rmsprop", "adam" or "adamw"
    learning_rate : float, Schedule or callable
        A schedule (or any callable) gets the number of steps done so far, 0 at the first step, and gives a float.
    loss : str or `normcore.losses.Loss`, optional
        "cross_entropy", "logistic", "squared_error", "huber", "quantile", "poisson", or one with parameters such as
        ``losses.huber(delta=0.5)``; never guessed from the targets. None: the model's own, which is cross-entropy
        unless another was set. The first ``fit``, ``step`` or ``save_checkpoint`` sets a given one on the model,
        which predicts by it.
    accumulate : int
        Batches of each step of ``fit``, the last of an epoch fewer: their gradients are summed in order, each times the
        sum of its weights (of its rows, where there are none), and divided by the sum of all. Without batch norm and
        dropout that is the gradient of one batch of all those rows, up to rounding. ``step`` does one batch.
    batch_size, epochs : int
        `epochs` counts from the trainer's beginning: ``fit`` does those that are missing. Raise it to train on.
    shuffle : "permutation" or "replacement"
        Each epoch runs through a permutation of the rows; or it draws max(rows // batch_size, 1) batches with
        replacement. With batch norm a permutation's single last row joins the batch before it.
    momentum, decay_rate, betas, eps, l2, weight_decay
        See `Optimizer`. `l2` adds ``l2 / 2 * sum(w**2)`` over the weight matrices to the loss.
    clip_norm : float, optional
        Gradients of the cross-entropy are scaled down to this global norm when theirs is greater.
    class_weight : (outputs,), mapping of class to weight (classes left out weigh 1), or "balanced", optional
        Balanced: rows / (classes * rows of the class), counted in the labels of each ``fit``; not for ``step``.
    label_smoothing : float in [0, 1]
    ignore_index : int, optional
        Rows with this label weigh 0 in loss and scores, but with batch norm count in the statistics. This and the two
        before are for losses with classes.
    early_stopping : int, optional
        Stop when `monitor` has not improved for this many epochs, by more than `min_delta` (0).
    restore_best : bool
        When ``fit`` has ended, in whatever way, the model has the parameters and running statistics of the best epoch
        (0: before training); training goes on, by ``fit``, ``step`` or `resume`, from those of the last step, which the
        trainer keeps, unless the model has been changed in between.
    monitor : "val_loss", "train_loss", "val_accuracy" or another curve of `History`
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
        On standard error: a bar with epoch, loss and validation values (needs tqdm), whose last line stays; where that
        is no terminal and no notebook, a line for each epoch. None: the bar alone. False: nothing.
    seed : int in [0, 2**64)
        Of the order of the rows and of dropout.

    Notes
    -----
    All but `model`, `optimizer` and `monitor` may be set later, and are checked then and obeyed from the next step on;
    `batch_size`, `accumulate`, `shuffle` and `seed`, which decide the rows of an epoch, between two epochs, and `loss`
    and `ignore_index`, by which data are checked, between two fits. What the optimiser takes is
    set on it: ``trainer.optimizer.l2 = 1e-3``.

    Losses of the curves have class weights, label smoothing and sample weights, but no L2 term; scores have sample
    weights.
    A row whose sample weight is 0 counts for nothing in the loss, but with batch norm it does in the statistics.

    With a schedule, momentum and Nesterov are the form of Keras and CS231n, not PyTorch's: see `Optimizer`.

    Epoch e (from 0) draws its rows from stream 2**62 + e of the seed; step s (from 0) drops units of layer l by stream
    2**63 + s * layers + l. A model's weights come from streams 0, 1, ... of its own seed, which may be the same.

    Examples
    --------
    >>> X = nc.random_normal(400, seed=1).reshape(200, 2)
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> trainer = nc.Trainer(nc.MLP([2, 16, 2], rng=1), optimizer="adam", learning_rate=0.01, epochs=40, batch_size=20)
    >>> history = trainer.fit(X, y)
    >>> history.stopped_reason, trainer.model.score(X, y) > 0.9
    ('epochs', True)
    """

    _claimed: object | None = None  # of the class: what the call that fits an object has put into that

    @with_hints("Trainer", ARGUMENTS)
    def __init__(
        self,
        model: MLP,
        *,
        loss: LossName | Loss | None = None,
        optimizer: OptimizerName = "adam",
        learning_rate: LearningRate = 1e-3,
        batch_size: SupportsIndex = 128,
        accumulate: SupportsIndex = 1,
        epochs: SupportsIndex = 10,
        shuffle: Shuffle = "permutation",
        momentum: float = 0.9,
        decay_rate: float = 0.99,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        class_weight: ClassWeight | Literal["balanced"] = None,
        label_smoothing: float = 0.0,
        ignore_index: SupportsIndex | None = None,
        early_stopping: SupportsIndex | None = None,
        min_delta: float = 0.0,
        restore_best: bool = False,
        monitor: Curve = "val_loss",
        evaluate_training: bool = True,
        on_nonfinite: Policy = "raise",
        callbacks: Iterable[Any] | Callable[[Trainer, dict[str, Any]], Any] = (),
        progress: bool | None = None,
        seed: SupportsIndex = 0,
    ) -> None:
        if not isinstance(model, MLP):
            raise TypeError(f"Trainer: model must be an MLP, not {type(model).__name__}")
        self.model = model
        self._loss = None if loss is None else losses.get(loss)
        self.loss.check_class_options(class_weight, label_smoothing, ignore_index, "Trainer")
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
        self.history = History()
        given = locals()
        for name in SETTINGS:  # by the properties above, which check them
            setattr(self, name, given[name])
        self.epoch = 0
        self.step_count = 0
        self._batch = 0
        self._rows = 0
        self._halted = False
        self._kept = BestWeights(model)
        self._balanced: npt.NDArray[Any] | None = None  # class weights by the labels of the fit that is being done
        self._buffers_before = np.empty_like(model.buffers_flat)

    def __repr__(self) -> str:
        return (
            f"Trainer({self.model!r}, optimizer={self.optimizer.name!r}, epoch={self.epoch}/{self.epochs}, "
            f"step={self.step_count})"
        )

    # ------------------------------------------------------------------ one step

    def step(self, X: npt.ArrayLike, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Do one optimisation step on the batch `X` (..., features), `y` as in `Loss.check_targets`.

        Returns the loss before the step, L2 term included. The first step that is NaN or infinite raises
        `NonFiniteError` or, with another policy, changes nothing and is counted in ``history.skipped_steps``. A step
        that fails changes nothing either; one that a signal ends is done and counted, or has changed nothing.
        ValueError for one row with batch norm; RuntimeError during a ``fit`` or another step, as `fit`.
        """
        token = object()
        try:
            self._claim(token, "Trainer.step")
            model, loss = self.model, self.loss
            rows = model._rows(X, "Trainer.step")
            shape = rows.shape[:-1]
            targets = np.asanyarray(y)  # masked arrays are refused
            # Labels are checked by the pass, in less time than here.
            if loss.name != "cross_entropy" or targets.dtype.kind not in "iub" or len(shape) > 1 or model.outputs == 1:
                targets = loss.check_targets(
                    y, shape, model.outputs, "Trainer.step", dtype=model.dtype, ignore_index=self.ignore_index
                )
            weights = check_weights(sample_weight, shape, "Trainer.step", "sample_weight")
            if len(shape) > 1:
                rows = rows.reshape(-1, model.features)
            self._balanced = None
            model.loss = loss  # by which it predicts from now on
            rate = self._next_rate()
            if self._kept.last is None:
                return self._step(((rows, targets, weights),), rate, None)
            with HeldSignals():
                had_best = self._kept.leave()
                try:
                    return self._step(((rows, targets, weights),), rate, None)
                except BaseException:
                    if had_best:
                        self._show_best()
                    raise
        finally:
            if self._claimed is token:
                del self._claimed

    def _step(
        self,
        parts: tuple[Part] | Iterator[Part],
        rate: float,
        batch: int | None,
    ) -> float:
        """Do one step, or change nothing: all that can fail comes before all that is kept, which is one call."""
        step, buffers = self.step_count, self.model.buffers_flat
        np.copyto(self._buffers_before, buffers)
        try:
            gradients = self._gradients(parts)
            gradients = self._reduce(gradients)
            norm, fault = self._guard(gradients)
            count: list[Call] = [(self.history.loss.append, gradients.loss), (setattr, self, "step_count", step + 1)]
            if batch is not None:
                count.append((setattr, self, "_batch", batch + 1))
            if fault is None:
                fault = self._update(gradients, norm, rate, count)
            if fault is not None:
                self._leave_out(gradients, fault, count)
        except BaseException:
            if self.step_count == step:
                np.copyto(buffers, self._buffers_before)
            raise
        return gradients.loss

    def _gradients(self, parts: tuple[Part] | Iterator[Part]) -> _Gradients:
        """Gradients of the parts of a step, in the model; the L2 term's own is the optimiser's to add."""
        if isinstance(parts, tuple):
            [(X, y, sample_weight)] = parts
            loss, weight = self._pass(X, y, sample_weight, 0)
        else:
            loss, weight, X = self._accumulated(parts)
        penalty = self.optimizer.penalty()
        return _Gradients(loss + penalty, weight, penalty, X)

    def _accumulated(self, parts: Iterable[Part]) -> tuple[float, float, npt.NDArray[Any]]:
        """Leave the mean of the parts' gradients by their weights in the model; return loss, weight and last rows."""
        flat = self.model.gradients_flat
        summed, loss, weight = np.zeros_like(flat), 0.0, 0.0
        X: Any = None
        with np.errstate(all="ignore"):  # what is not finite is seen afterwards
            for number, (X, y, sample_weight) in enumerate(parts):
                value, rows = self._pass(X, y, sample_weight, number)
                if not math.isfinite(value):
                    return value, rows, X
                np.multiply(flat, flat.dtype.type(rows), out=flat)
                np.add(summed, flat, out=summed)
                loss, weight = loss + rows * value, weight + rows
            divisor = weight if weight > 0.0 else 1.0
            np.divide(summed, flat.dtype.type(divisor), out=flat)
        return loss / divisor, weight, X

    def _pass(
        self, X: npt.NDArray[Any], y: npt.NDArray[Any], sample_weight: npt.NDArray[Any] | None, number: int
    ) -> tuple[float, float]:
        """Forward, loss and backward pass of one part of a step: loss and sum of the weights."""
        model, loss = self.model, self.loss
        stream = DROPOUT_STREAM + (self.step_count * self.accumulate + number) * model.layers
        if loss.name == "cross_entropy":  # of which the core makes the three in one call, to the same bits
            value, weight = model._training_pass(
                X,
                y,
                self._class_weight(),
                sample_weight,
                self.label_smoothing,
                self.ignore_index,
                self.seed,
                stream,
                "Trainer.step",
            )
        else:
            outputs = model._forward_training(X, self.seed, stream, "Trainer.step")
            value, doutputs, weight = loss(outputs, y, sample_weight=sample_weight)
            model.backward(doutputs)
        return float(value), weight

    def _class_weight(self) -> npt.NDArray[Any] | None:
        weight = self.class_weight
        if not isinstance(weight, str):
            return weight
        if self._balanced is None:
            raise ValueError("Trainer: class_weight='balanced' is counted when a fit begins; give numbers")
        return self._balanced

    def _reduce(self, gradients: _Gradients) -> _Gradients:
        """Make one of the gradients of all processes that train the model: of one process, as they are."""
        return gradients

    def _guard(self, gradients: _Gradients) -> tuple[float, tuple[str, str] | None]:
        """Norm of the gradients; and if that, the loss or the running statistics are not finite, where and how."""
        flat = self.model.gradients_flat
        norm_squared = _core.sum_of_squares(flat)
        finite = (
            math.isfinite(gradients.loss)
            and (math.isfinite(norm_squared) or bool(np.isfinite(flat).all()))
            and all_finite(self.model.buffers_flat)
        )
        if not finite:
            return norm_squared, nonfinite_in_pass(self.model, gradients.X)
        if math.isfinite(norm_squared):
            return math.sqrt(norm_squared), None
        # Finite float64 gradients whose squares overflow.
        greatest = float(np.abs(flat).max())
        return greatest * math.sqrt(_core.sum_of_squares(flat / greatest)), None

    def _update(self, gradients: _Gradients, norm: float, rate: float, count: Iterable[Call]) -> tuple[str, str] | None:
        """Update the model and count the step, or return where and how the optimiser's state would not be finite."""
        optimizer = self.optimizer
        scale = 1.0 if self.clip_norm is None or norm <= self.clip_norm else self.clip_norm / norm
        if scale < 1.0 and not self.model.dtype.type(scale):  # which the update would refuse without a word of clipping
            raise ValueError(
                f"Trainer: step {self.step_count}: clip_norm is {self.clip_norm!r} and the gradients' norm {norm:.6g}: "
                f"the scale, {scale:.6g}, is 0 in {self.model.dtype.name}"
            )
        # The penalty is l2 / 2 times the sum of the squares of the weights: none of l2 * w is beyond the second root.
        greatest = scale * norm + math.sqrt(2.0 * optimizer.l2 * gradients.penalty)
        try:
            optimizer.update(rate, scale, greatest, count)
        except StateOverflowError as error:
            return error.name, str(error)
        return None

    def _leave_out(self, gradients: _Gradients, fault: tuple[str, str], count: Iterable[Call]) -> None:
        """Count a step that is not done, because of `fault`, or raise that."""
        step, (name, what) = self.step_count, fault
        if self.on_nonfinite == "raise":
            message = f"Trainer: step {step} (epoch {self.epoch}): the loss is {gradients.loss}; {what}"
            raise NonFiniteError(message, step, name)
        np.copyto(self.model.buffers_flat, self._buffers_before)
        self._halted = self.on_nonfinite == "stop"
        uninterrupted(((self.history.skipped_steps.append, step), *count))

    def _next_rate(self) -> float:
        rate = self.learning_rate
        if isinstance(rate, PlateauSchedule):
            return rate.after(self.step_count, self.history.curves.get(rate.curve, ()))
        if callable(rate):
            return check_number(rate(self.step_count), "Trainer", f"learning_rate of step {self.step_count}")
        return rate

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

    # ------------------------------------------------------------------ evaluation

    def _measure(self, data: DataSet, validation: DataSet | None) -> dict[str, float]:
        values: dict[str, float] = {}
        for part, rows in (("train", data if self.evaluate_training else None), ("val", validation)):
            if rows is not None:
                found = rows.evaluate(
                    self.model,
                    self.loss,
                    class_weight=self._class_weight(),
                    label_smoothing=self.label_smoothing,
                    ignore_index=self.ignore_index,
                )
                values |= {f"{part}_{name}": value for name, value in found.items()}
        return values

    def _record(self, values: Mapping[str, float], epoch: int) -> None:
        """Finish an epoch: append an entry to the curves, and keep the weights if they are the best so far."""
        history = self.history
        calls = history.recording(values, epoch)
        value = values.get(self.monitor, math.nan)
        if is_better(self.monitor, value, history.best_value, self.min_delta):
            calls += [(setattr, history, "best_value", value), (setattr, history, "best_epoch", epoch)]
            if self.restore_best:
                calls.append((setattr, self._kept, "best", self._kept.current()))
        uninterrupted((*calls, (setattr, self, "epoch", epoch), (setattr, self, "_batch", 0)))

    def _show_best(self) -> None:
        """Give the model the weights of the best epoch, if wanted, and keep those of the last step to go on from."""
        if self.restore_best:
            self._kept.show()

    # ------------------------------------------------------------------ training

    @with_hints("Trainer.fit", FIT_ARGUMENTS)
    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        validation_data: ValidationData | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> History:
        """Train up to ``epochs`` epochs, counted from the trainer's beginning.

        Parameters
        ----------
        X : (rows, features) float32 or float64
            Raw rows if the model has a scale, which are scaled once. Else used as they are if they are C-contiguous and
            of the model's dtype; else converted once, as float16, integers and bool are.
        y : targets of the loss
            Cross-entropy: (rows,) integers or bool in [0, outputs), or (rows, outputs) float soft targets, not negative
            and each row of sum 1 within 1e-3. Others: (rows, outputs) numbers, of one output also (rows,).
        validation_data : (X, y) or (X, y, sample_weight), optional
        sample_weight : (rows,), optional
            Finite, not negative. Losses and scores of the curves are weighted by it.

        Returns
        -------
        History
            The trainer's ``history``, also there when an exception ends the training. UserWarning if there was nothing
            to do.

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
        validation_data: ValidationData | None,
        sample_weight: npt.ArrayLike | None,
    ) -> History:
        model, loss = self.model, self.loss
        loss.check_class_options(self.class_weight, self.label_smoothing, self.ignore_index, "Trainer.fit")
        data = DataSet(model, loss, X, y, sample_weight, "Trainer.fit", self.ignore_index)
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise TypeError("Trainer.fit: validation_data must be a pair (X, y), or (X, y, sample_weight)")
            operation = "Trainer.fit: validation_data"
            validation_X, validation_y, weight = (*validation_data, None)[:3]
            validation = DataSet(model, loss, validation_X, validation_y, weight, operation, self.ignore_index)
        if model.norm == "batch" and data.rows == 1:
            raise ValueError("Trainer.fit: X has one row; batch norm needs at least two to train")
        self._check_watched(validation is not None)
        self._balanced = None
        if isinstance(self.class_weight, str):
            self._balanced = data.balanced(model.outputs, self.ignore_index)
        model.loss = loss  # by which it predicts from now on
        if self._batch and self._rows != data.rows:
            raise ValueError(
                f"Trainer.fit: X has {data.rows} rows but the unfinished epoch {self.epoch} was begun with {self._rows}"
            )
        history, begun = self.history, (self.step_count, self.epoch, len(self.history.curves))
        with HeldSignals() as signals:
            self._rows = data.rows
            self._halted = False
            history.stopped_reason = None
            steps = len(self._steps(data.rows))
            done = min(self.epoch, self.epochs) * steps + self._batch
            progress = Progress(self.progress, self.epochs, steps, done)
            self._kept.leave()
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
        if reason in ("epochs", "early_stopping") and begun == (self.step_count, self.epoch, len(history.curves)):
            self._say_idle(reason)
        return history

    def _say_idle(self, reason: str) -> None:
        done = f"{self.epoch} of {self.epochs} epochs are done: raise `epochs` to train on"
        if reason == "early_stopping":
            done = (
                f"{self.monitor} has not improved for {self.early_stopping} epochs: raise `early_stopping` to train on"
            )
        warnings.warn(f"Trainer.fit: nothing to do; {done}", stacklevel=5)

    def _steps(self, rows: int) -> list[list[tuple[int, int]]]:
        """Where the batches of each step of an epoch begin and end in its order."""
        bounds = batch_bounds(rows, self.batch_size, self.shuffle, self.model.norm)
        return [bounds[first : first + self.accumulate] for first in range(0, len(bounds), self.accumulate)]

    def _run(self, data: DataSet, validation: DataSet | None, progress: Progress, signals: HeldSignals) -> str:
        """Train and return why that ended. What is long, or calls the caller's code, goes through `signals`."""
        batch = Batch(data)
        if self.epoch == 0 and self._batch == 0 and not self.history.curves:
            self._record(signals.through(self._measure, data, validation), 0)
        while self.epoch < self.epochs:
            if self._patience_spent():
                return "early_stopping"
            steps = self._steps(data.rows)
            batch.make_room(max(stop - start for bounds in steps for start, stop in bounds))
            order = epoch_order(data.rows, steps[-1][-1][1], self.shuffle, self.seed, self.epoch)
            for number in range(self._batch, len(steps)):
                rate = signals.through(self._next_rate)
                loss = self._step(batch.parts(order, steps[number]), rate, number)
                stopped = signals.through(self._after_step, progress, number, loss)
                if self._halted:
                    return "nonfinite"
                if stopped:
                    return "nonfinite" if has_diverged(self.model, *self._where()) else "callback"
            if has_diverged(self.model, *self._where()):
                return "nonfinite"
            values = signals.through(self._measure, data, validation)
            self._record(values, self.epoch + 1)
            if is_unmeasurable(values, *self._where()):
                return "nonfinite"
            total = 0.0
            for loss in self.history.loss[-len(steps) :]:  # sum() rounds differently from Python 3.12 on
                total += loss
            logs = {"epoch": self.epoch, "step": self.step_count, "loss": total / len(steps), **values}
            if signals.through(self._after_epoch, progress, logs):
                return "callback"
        return "epochs"

    def _where(self) -> tuple[str, int, int]:
        """What to do about values that are not finite, the last step and the epoch."""
        return self.on_nonfinite, self.step_count - 1, self.epoch

    def _after_step(self, progress: Progress, number: int, loss: float) -> bool:
        progress.step(loss)
        logs = {"epoch": self.epoch, "step": self.step_count, "batch": number, "loss": loss}
        return self._call("on_step_end", logs)

    def _after_epoch(self, progress: Progress, logs: dict[str, Any]) -> bool:
        progress.epoch(self.epoch, {name: value for name, value in logs.items() if name not in ("epoch", "step")})
        return self._call("on_epoch_end", logs)

    def _patience_spent(self) -> bool:
        if self.early_stopping is None:
            return False
        # Without a best epoch the quantity has been NaN from the start, which is no improvement either.
        return self.epoch - (self.history.best_epoch or 0) >= self.early_stopping

    def _call(self, hook: str, logs: dict[str, Any]) -> bool:
        return call_callbacks(self.callbacks, hook, self, logs)
