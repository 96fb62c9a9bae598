"""What a `Trainer` was told, which may be told anew at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy.typing as npt

from normcore import losses
from normcore._checks import check_choice, check_flag, check_integer, check_number, check_uint64
from normcore._inputs import check_class_weight
from normcore.losses import Loss, LossName
from normcore.mlp import MLP
from normcore.training.attributes import read_only, setting
from normcore.training.callbacks import check_callbacks
from normcore.training.history import CURVES, Curve, History, curves_of
from normcore.training.optimizers import Optimizer
from normcore.training.schedules import LearningRate, PlateauSchedule

__all__ = ["ARGUMENTS", "FIT_ARGUMENTS", "Policy", "Shuffle", "TrainerSettings"]

Shuffle = Literal["permutation", "replacement"]
Policy = Literal["raise", "skip", "stop"]

# The words of other libraries, and what is meant by them here.
ARGUMENTS = {
    "alpha": "l2",
    "callback": "callbacks",
    "criterion": "loss",
    "gradient_accumulation_steps": "accumulate",
    "lr": "learning_rate",
    "learning_rate_init": "learning_rate",
    "max_epochs": "epochs",
    "max_iter": "epochs",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "patience": "early_stopping",
    "random_state": "seed",
    "rng": "seed",
    "scheduler": "learning_rate, which may be a schedule",
    "solver": "optimizer",
    "verbose": "progress",
}
FIT_ARGUMENTS = {
    "batch_size": "an argument of Trainer",
    "callbacks": "an argument of Trainer",
    "class_weight": "an argument of Trainer",
    "epochs": "an argument of Trainer",
    "shuffle": "an argument of Trainer",
    "validation_split": "validation_data=(X, y), of rows that you set aside",
    "verbose": "progress, an argument of Trainer",
}

Check = Callable[[Any, Any], Any]


def _integer(name: str, low: int) -> Check:
    return lambda trainer, value: check_integer(value, "Trainer", name, low)


def _choice(name: str, choices: tuple[str, ...]) -> Check:
    return lambda trainer, value: check_choice(value, choices, "Trainer", name)


def _flag(name: str) -> Check:
    return lambda trainer, value: check_flag(value, "Trainer", name)


def _optional(check: Check) -> Check:
    return lambda trainer, value: None if value is None else check(trainer, value)


def _check_rate(trainer: TrainerSettings, value: Any) -> LearningRate:
    if callable(value):
        return value  # type: ignore[no-any-return]
    rate = check_number(value, "Trainer", "learning_rate")
    trainer.optimizer.check("Trainer", rate)
    return rate


def _check_batch_size(trainer: TrainerSettings, value: Any) -> int:
    size = check_integer(value, "Trainer", "batch_size", 1)
    if size == 1 and trainer.model.norm == "batch":
        raise ValueError("Trainer: batch_size is 1; with norm='batch' it must be at least 2")
    return size


def _check_clip_norm(trainer: TrainerSettings, value: Any) -> float | None:
    if value is None:
        return None
    return check_number(value, "Trainer", "clip_norm", open_low=True, wanted="positive and finite, or None")


def _check_class_weight(trainer: TrainerSettings, value: Any) -> npt.NDArray[Any] | str | None:
    trainer.loss.check_class_options(value, 0.0, None, "Trainer")
    if isinstance(value, str) and value == "balanced":
        return value
    return check_class_weight(value, trainer.model.outputs, "Trainer")


def _check_label_smoothing(trainer: TrainerSettings, value: Any) -> float:
    number = check_number(value, "Trainer", "label_smoothing", 0.0, 1.0)
    trainer.loss.check_class_options(None, number, None, "Trainer")
    return number


def _check_ignore_index(trainer: TrainerSettings, value: Any) -> int | None:
    trainer.loss.check_class_options(None, 0.0, value, "Trainer")
    return None if value is None else check_integer(value, "Trainer", "ignore_index", -(1 << 63))


def _check_monitored(trainer: TrainerSettings, value: Any) -> str:
    curve: str = check_choice(value, CURVES, "Trainer", "monitor")
    if trainer.history.best_value is not None and curve != trainer.monitor:
        raise ValueError(f"Trainer: monitor cannot be set to {curve!r}: there is a best epoch, by {trainer.monitor!r}")
    return curve


class TrainerSettings:
    """The attributes of `Trainer` that may be set, checked when they are."""

    model: MLP = read_only("make a new Trainer for another model")
    optimizer: Optimizer = read_only("set its attributes, such as trainer.optimizer.l2, or make a new Trainer")
    learning_rate: LearningRate = setting(_check_rate)
    batch_size: int = setting(_check_batch_size, between="epochs")
    accumulate: int = setting(_integer("accumulate", 1), between="epochs")
    epochs: int = setting(_integer("epochs", 0))
    shuffle: Shuffle = setting(_choice("shuffle", get_args(Shuffle)), between="epochs")
    clip_norm: float | None = setting(_check_clip_norm)
    class_weight: npt.NDArray[Any] | Literal["balanced"] | None = setting(_check_class_weight)
    label_smoothing: float = setting(_check_label_smoothing)
    ignore_index: int | None = setting(_check_ignore_index, between="fits")
    early_stopping: int | None = setting(_optional(_integer("early_stopping", 1)))
    min_delta: float = setting(lambda trainer, value: check_number(value, "Trainer", "min_delta"))
    restore_best: bool = setting(_flag("restore_best"))
    monitor: Curve = setting(_check_monitored)
    evaluate_training: bool = setting(_flag("evaluate_training"))
    on_nonfinite: Policy = setting(_choice("on_nonfinite", get_args(Policy)))
    callbacks: list[Any] = setting(lambda trainer, value: check_callbacks(value))
    progress: bool | None = setting(_optional(_flag("progress")))
    seed: int = setting(lambda trainer, value: check_uint64(value, "Trainer", "seed"), between="epochs")

    history: History
    _loss: Loss | None

    @property
    def loss(self) -> Loss:
        """What the outputs are trained to: the loss that was given, else the model's own."""
        return self._loss or self.model._loss

    @loss.setter
    def loss(self, loss: LossName | Loss) -> None:
        given = losses.get(loss)
        if "_claimed" in vars(self):
            raise RuntimeError("Trainer: loss cannot be set during a fit")
        given.check_class_options(self.class_weight, self.label_smoothing, self.ignore_index, "Trainer")
        self._loss = given

    def _check_watched(self, validated: bool) -> None:
        """ValueError where a curve decides something that this fit would not measure."""
        watched = []
        if self.early_stopping is not None or self.restore_best:
            watched.append(("early_stopping and restore_best watch", self.monitor))
        if isinstance(self.learning_rate, PlateauSchedule):
            watched.append(("the learning rate watches", self.learning_rate.curve))
        known = curves_of(self.loss)
        for who, curve in watched:
            if curve not in known:
                raise ValueError(f"Trainer.fit: {who} {curve!r}; the curves of {self.loss.name} are {', '.join(known)}")
            if curve.startswith("val") and not validated:
                raise ValueError(f"Trainer.fit: {who} {curve!r}: give validation_data")
            if curve.startswith("train") and not self.evaluate_training:
                raise ValueError(f"Trainer.fit: {who} {curve!r}: set evaluate_training")
