"""Minibatch training of an `MLP`: the same data and seed give the same bits on every machine and any thread count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore import losses
from normcore._checks import with_hints
from normcore._inputs import ClassWeight
from normcore._signals import Call, HeldSignals, uninterrupted
from normcore.losses import Loss, LossName
from normcore.mlp import MLP
from normcore.training.batches import DROPOUT_STREAM, Part, ValidationData
from normcore.training.checkpoint import SETTINGS, Resumable
from normcore.training.claims import Claimed
from normcore.training.fitting import Fit
from normcore.training.gradients import Gradients, mean_of_passes
from normcore.training.guard import NonFiniteError, guarded_norm
from normcore.training.history import Curve, History
from normcore.training.optimizers import Optimizer, OptimizerName, StateOverflowError, clipping_scale
from normcore.training.schedules import LearningRate
from normcore.training.settings import ARGUMENTS, FIT_ARGUMENTS, Policy, Shuffle
from normcore.training.weights import BestWeights

__all__ = ["Trainer"]


class Trainer(Resumable, Claimed):
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
        or epoch hook that returns True ends the training. In on_step_end the gradients of that step are still in
        ``trainer.model.gradients()``, as they were before clipping and without the L2 term's.
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
    >>> trainer = nc.Trainer(nc.MLP([2, 16, 2], seed=1), optimizer="adam", learning_rate=0.01, epochs=40, batch_size=20)
    >>> history = trainer.fit(X, y)
    >>> history.stopped_reason, trainer.model.score(X, y) > 0.9
    ('epochs', True)
    """

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
        self._balanced = None
        self._buffers_before = np.empty_like(model.buffers_flat)

    def __repr__(self) -> str:
        return (
            f"Trainer({self.model!r}, optimizer={self.optimizer.name!r}, epoch={self.epoch}/{self.epochs}, "
            f"step={self.step_count})"
        )

    def step(self, X: npt.ArrayLike, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Do one optimisation step on the batch `X` (..., features), `y` as in `Loss.check_targets`.

        Returns the loss before the step, L2 term included. The first step that is NaN or infinite raises
        `NonFiniteError` or, with another policy, changes nothing and is counted in ``history.skipped_steps``. A step
        that fails changes nothing either; one that a signal ends is done and counted, or has changed nothing.
        ValueError for one row with batch norm; RuntimeError during a ``fit`` or another step, as `fit`.
        """
        token = object()
        try:
            if self.__dict__.setdefault("_claimed", token) is not token:
                raise self._taken("Trainer.step")
            model, loss = self.model, self.loss
            part = model._examples(X, y, sample_weight, loss, self.ignore_index, "Trainer.step")
            self._balanced = None
            if model._loss is not loss:
                model.loss = loss  # by which it predicts from now on
            rate = self._next_rate()
            if self._kept.last is None:
                done = self._step((part,), rate, None)
            else:
                with HeldSignals():
                    had_best = self._kept.leave()
                    try:
                        done = self._step((part,), rate, None)
                    except BaseException:
                        if had_best:
                            self._show_best()
                        raise
        finally:
            if self._claimed is token:
                del self._claimed
        return done

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
            if self.__dict__.setdefault("_claimed", token) is not token:
                raise self._taken("Trainer.fit")
            history = Fit(self, self._step, X, y, validation_data, sample_weight).run()
        finally:
            if self._claimed is token:
                del self._claimed
        return history

    # ------------------------------------------------------------------ one step: gradients, reduce, guard, update

    def _step(self, parts: tuple[Part] | Iterable[Part], rate: float, batch: int | None) -> float:
        """Do one step, or change nothing: all that can fail comes before all that is kept, which is one call."""
        step, buffers, before = self.step_count, self.model._buffers, self._buffers_before
        before[...] = buffers
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
                buffers[...] = before
            raise
        return gradients.loss

    def _gradients(self, parts: tuple[Part] | Iterable[Part]) -> Gradients:
        """Gradients of the parts of a step, in the model; the L2 term's own is the optimiser's to add."""
        if isinstance(parts, tuple):
            (part,) = parts
            X = part[0]
            loss, weight = self._pass(part, 0)
        else:
            loss, weight, X = mean_of_passes(self.model.gradients_flat, self._pass, parts)
        penalty = self.optimizer.penalty() if self.optimizer.l2 else 0.0
        return Gradients(loss + penalty, weight, penalty, X)

    def _pass(self, part: Part, number: int) -> tuple[float, float]:
        """Forward, loss and backward pass of one part of a step: loss and sum of the weights."""
        model = self.model
        X, y, sample_weight = part
        return model._training_pass(
            self._loss or model._loss,
            X,
            y,
            self._weight_of_classes(),
            sample_weight,
            self.label_smoothing,
            self.ignore_index,
            self.seed,
            DROPOUT_STREAM + (self.step_count * self.accumulate + number) * model.layers,
            "Trainer.step",
        )

    def _reduce(self, gradients: Gradients) -> Gradients:
        """Make one of the gradients of all processes that train the model: of one process, as they are."""
        return gradients

    def _guard(self, gradients: Gradients) -> tuple[float, tuple[str, str] | None]:
        """Norm of the gradients; and if that, the loss or the running statistics are not finite, where and how."""
        return guarded_norm(self.model, gradients.loss, gradients.X)

    def _update(self, gradients: Gradients, norm: float, rate: float, count: Iterable[Call]) -> tuple[str, str] | None:
        """Update the model and count the step, or return where and how the optimiser's state would not be finite."""
        optimizer, clip = self.optimizer, self.clip_norm
        scale = 1.0
        if clip is not None and norm > clip:
            scale = clipping_scale(clip, norm, self.model.dtype, f"Trainer: step {self.step_count}")
        greatest = scale * norm
        if gradients.penalty:  # l2 / 2 times the sum of the squares of the weights: none of l2 * w is beyond the root
            greatest += math.sqrt(2.0 * optimizer.l2 * gradients.penalty)
        try:
            optimizer.update(rate, scale, greatest, count)
        except StateOverflowError as error:
            return error.name, str(error)
        return None

    def _leave_out(self, gradients: Gradients, fault: tuple[str, str], count: Iterable[Call]) -> None:
        """Count a step that is not done, because of `fault`, or raise that."""
        step, (name, what) = self.step_count, fault
        if self.on_nonfinite == "raise":
            message = f"Trainer: step {step} (epoch {self.epoch}): the loss is {gradients.loss}; {what}"
            raise NonFiniteError(message, step, name)
        self.model.buffers_flat[...] = self._buffers_before
        self._halted = self.on_nonfinite == "stop"
        uninterrupted(((self.history.skipped_steps.append, step), *count))
