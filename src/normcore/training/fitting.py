"""One fit of a `Trainer`: its epochs, from the data to the reason why it ended."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy.typing as npt

from normcore._signals import HeldSignals, uninterrupted
from normcore.training.batches import Batch, DataSet, Part, ValidationData, epoch_order, step_bounds
from normcore.training.callbacks import Progress, call_callbacks, has_hook
from normcore.training.guard import NonFiniteError, has_diverged, is_unmeasurable
from normcore.training.history import History, is_better
from normcore.training.state import TrainerState

__all__ = ["Fit"]


class Fit:
    """The data of one fit, checked, and what is done with them by ``step(parts, rate, number)``, the trainer's own.

    What that makes is the trainer's; an object of this class is for one fit.
    """

    def __init__(
        self,
        trainer: TrainerState,
        step: Callable[[Iterable[Part], float, int], float],
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        validation_data: ValidationData | None,
        sample_weight: npt.ArrayLike | None,
    ) -> None:
        model, loss, ignore_index = trainer.model, trainer.loss, trainer.ignore_index
        loss.check_class_options(trainer.class_weight, trainer.label_smoothing, ignore_index, "Trainer.fit")
        data = DataSet(model, loss, X, y, sample_weight, "Trainer.fit", ignore_index)
        validation = DataSet.validation(model, loss, validation_data, ignore_index)
        if model.norm == "batch" and data.rows == 1:
            raise ValueError("Trainer.fit: X has one row; batch norm needs at least two to train")
        trainer._check_watched(validation is not None)
        trainer._balanced = None
        if isinstance(trainer.class_weight, str):
            trainer._balanced = data.balanced(model.outputs, ignore_index)
        model.loss = loss  # by which it predicts from now on
        if trainer._batch and trainer._rows != data.rows:
            raise ValueError(
                f"Trainer.fit: X has {data.rows} rows but the unfinished epoch {trainer.epoch} was begun with "
                f"{trainer._rows}"
            )
        self._step = step
        self._trainer, self._data, self._validation = trainer, data, validation

    def run(self) -> History:
        """Train, and leave the trainer as after the last finished step, or the best epoch, whatever ends that."""
        trainer, history, rows = self._trainer, self._trainer.history, self._data.rows
        begun = (trainer.step_count, trainer.epoch, len(history.curves))
        with HeldSignals() as signals:
            self._signals = signals
            trainer._rows = rows
            trainer._halted = False
            history.stopped_reason = None
            steps = len(self._steps())
            done = min(trainer.epoch, trainer.epochs) * steps + trainer._batch
            self._progress = progress = Progress(trainer.progress, trainer.epochs, steps, done)
            trainer._kept.leave()
            reason = "error"
            try:
                begin = {"epochs": trainer.epochs, "steps": steps, "rows": rows}
                signals.through(self._call, "on_train_begin", begin)
                reason = self._train()
            except BaseException as error:
                if isinstance(error, NonFiniteError):
                    reason = "nonfinite"
                elif not isinstance(error, Exception):
                    reason = "interrupted"
                raise
            finally:
                history.stopped_reason = reason
                trainer._show_best()
                progress.close()
                end = {"epoch": trainer.epoch, "step": trainer.step_count, "stopped_reason": reason}
                signals.through(self._call, "on_train_end", end)
        if reason in ("epochs", "early_stopping") and begun == (trainer.step_count, trainer.epoch, len(history.curves)):
            self._say_idle(reason)
        return history

    def _say_idle(self, reason: str) -> None:
        trainer = self._trainer
        done = f"{trainer.epoch} of {trainer.epochs} epochs are done: raise `epochs` to train on"
        if reason == "early_stopping":
            done = (
                f"{trainer.monitor} has not improved for {trainer.early_stopping} epochs: raise `early_stopping` to "
                "train on"
            )
        warnings.warn(f"Trainer.fit: nothing to do; {done}", stacklevel=5)

    def _steps(self) -> list[list[tuple[int, int]]]:
        t = self._trainer
        return step_bounds(self._data.rows, t.batch_size, t.shuffle, t.model.norm, t.accumulate)

    def _train(self) -> str:
        """Train and return why that ended. What is long, or calls the caller's code, goes through the signals."""
        trainer, data, through = self._trainer, self._data, self._signals.through
        batch = Batch(data)
        if trainer.epoch == 0 and trainer._batch == 0 and not trainer.history.curves:
            self._record(through(self._measure), 0)
        while trainer.epoch < trainer.epochs:
            if self._patience_spent():
                return "early_stopping"
            steps = self._steps()
            batch.make_room(max(stop - start for bounds in steps for start, stop in bounds))
            order = epoch_order(data.rows, steps[-1][-1][1], trainer.shuffle, trainer.seed, trainer.epoch)
            for number in range(trainer._batch, len(steps)):
                rate = through(trainer._next_rate) if callable(trainer.learning_rate) else trainer._next_rate()
                loss = self._step(batch.parts(order, steps[number]), rate, number)
                stopped = self._after_step(number, loss)
                if trainer._halted:
                    return "nonfinite"
                if stopped:
                    return "nonfinite" if has_diverged(trainer.model, *self._where()) else "callback"
            if has_diverged(trainer.model, *self._where()):
                return "nonfinite"
            values = through(self._measure)
            self._record(values, trainer.epoch + 1)
            if is_unmeasurable(values, *self._where()):
                return "nonfinite"
            loss = trainer.history.mean_loss(len(steps))
            logs = {"epoch": trainer.epoch, "step": trainer.step_count, "loss": loss, **values}
            if through(self._after_epoch, logs):
                return "callback"
        return "epochs"

    def _where(self) -> tuple[str, int, int]:
        """What to do about values that are not finite, the last step and the epoch."""
        return self._trainer.on_nonfinite, self._trainer.step_count - 1, self._trainer.epoch

    def _patience_spent(self) -> bool:
        trainer = self._trainer
        if trainer.early_stopping is None:
            return False
        # Without a best epoch the quantity has been NaN from the start, which is no improvement either.
        return trainer.epoch - (trainer.history.best_epoch or 0) >= trainer.early_stopping

    # ------------------------------------------------------------------ evaluation

    def _measure(self) -> dict[str, float]:
        trainer = self._trainer
        options = {
            "class_weight": trainer._weight_of_classes(),
            "label_smoothing": trainer.label_smoothing,
            "ignore_index": trainer.ignore_index,
        }
        values: dict[str, float] = {}
        for part, rows in (("train", self._data if trainer.evaluate_training else None), ("val", self._validation)):
            if rows is not None:
                found = rows.evaluate(trainer.model, trainer.loss, **options)
                values |= {f"{part}_{name}": value for name, value in found.items()}
        return values

    def _record(self, values: Mapping[str, float], epoch: int) -> None:
        """Finish an epoch: append an entry to the curves, and keep the weights if they are the best so far."""
        trainer, history = self._trainer, self._trainer.history
        calls = history.recording(values, epoch)
        value = values.get(trainer.monitor, math.nan)
        if is_better(trainer.monitor, value, history.best_value, trainer.min_delta):
            calls += [(setattr, history, "best_value", value), (setattr, history, "best_epoch", epoch)]
            if trainer.restore_best:
                calls.append((setattr, trainer._kept, "best", trainer._kept.current()))
        uninterrupted((*calls, (setattr, trainer, "epoch", epoch), (setattr, trainer, "_batch", 0)))

    # ------------------------------------------------------------------ the caller's code

    def _after_step(self, number: int, loss: float) -> bool:
        """Show the step and call the callbacks; whether one of them ends the training."""
        if not (self._progress.has_bar or has_hook(self._trainer.callbacks, "on_step_end")):
            self._signals.deliver()  # nothing is called: all there may be to do is what a signal asks
            return False
        return self._signals.through(self._show_step, number, loss)

    def _show_step(self, number: int, loss: float) -> bool:
        trainer = self._trainer
        self._progress.step(loss)
        logs = {"epoch": trainer.epoch, "step": trainer.step_count, "batch": number, "loss": loss}
        return self._call("on_step_end", logs)

    def _after_epoch(self, logs: dict[str, Any]) -> bool:
        values = {name: value for name, value in logs.items() if name not in ("epoch", "step")}
        self._progress.epoch(self._trainer.epoch, values)
        return self._call("on_epoch_end", logs)

    def _call(self, hook: str, logs: dict[str, Any]) -> bool:
        return call_callbacks(self._trainer.callbacks, hook, self._trainer, logs)
