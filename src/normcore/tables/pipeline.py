"""From a table to a trained model, and from a model and a table to predictions: what the command does, from Python."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from normcore import _core
from normcore._checks import check_choice
from normcore.archive import read_extra
from normcore.mlp import MLP, check_saving, load_model, save_model
from normcore.random import Generator
from normcore.tables.description import FORMAT, Description
from normcore.tables.encoding import check_scaled, column_statistics, encode_texts
from normcore.tables.reading import DataError, Table, read_table
from normcore.training.history import History
from normcore.training.optimizers import OptimizerName
from normcore.training.schedules import CosineSchedule, Schedule
from normcore.training.trainer import Trainer

if TYPE_CHECKING:
    from normcore._core import _Activation as Activation

__all__ = ["Predictions", "Score", "Settings", "TrainedTable", "predict_table", "some", "train_table"]

_SPLIT_STREAM = 1 << 32  # apart from the streams of the initial weights and of the minibatches, which count from 0


@dataclass(frozen=True)
class Settings:
    """What decides the result of `train_table` beside the data; the options of ``normcore train`` of these names."""

    hidden: Sequence[int] = (64, 64)
    norm: Literal["batch", "layer", "none"] = "batch"
    activation: Activation = "relu"
    """Of hidden layers, as for `MLP`."""
    dropout: float = 0.0
    weight_scale: float | None = None
    dtype: Literal["float32", "float64"] = "float32"
    optimizer: OptimizerName = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate."""
    epochs: int = 50
    batch_size: int = 32
    l2: float = 0.0
    weight_decay: float | None = None
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    held_out: float = 0.2
    """The part of the rows that is not trained on, in [0, 1)."""
    early_stopping: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Score:
    """How well a model does on some rows."""

    rows: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainedTable:
    """A model, which knows what its inputs and outputs mean, and how it came about.

    Attributes
    ----------
    score : of the rows trained on
    held_out : of those held out, or None
    most_frequent : the class that most of the rows trained on have
    always_most_frequent : the accuracy on the rows held out of always answering that, or None
    """

    model: MLP
    description: Description
    history: History
    score: Score
    held_out: Score | None
    most_frequent: str
    always_most_frequent: float | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and its description to a safetensors file, as `save_model`; see `predict_table`."""
        save_model(path, self.model, self.description.to_extra())


@dataclass(frozen=True)
class Predictions:
    """Of the rows of a table.

    Attributes
    ----------
    codes : int64 (rows,); the class of each, as an index into `classes`
    probabilities : (rows, classes), if asked for
    labels : what the table says, one text a row ("" where missing), or None
    """

    classes: list[str]
    codes: NDArray[np.int64]
    probabilities: NDArray[Any] | None
    labels: list[str] | None


@dataclass(frozen=True)
class _Split:
    """The rows to train on and those held out, as they are in the table, and what the model is to know of them."""

    description: Description
    classes: list[str]
    feature_names: list[str] | None
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    x_train: NDArray[Any]
    codes_train: NDArray[np.int64]
    x_test: NDArray[Any]
    codes_test: NDArray[np.int64]


def train_table(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    target: str | None = None,
    header: bool | None = None,
    delimiter: str = ",",
    checkpoint: str | os.PathLike[str] | None = None,
    resumed: Callable[[Trainer], None] | None = None,
    named: Callable[[str], str] = str,
) -> TrainedTable:
    """Train a classifier on a CSV or NPZ file of numeric features and labels; see `read_table`.

    Features are standardised by the rows trained on; a part of the rows is held out and scored. The same file and
    settings give the same bits on every machine.

    Parameters
    ----------
    path, target, header, delimiter
        As for `read_table`.
    settings : Settings, optional
    checkpoint : path, optional
        Where the state of the training is saved after each epoch. If the file is there, the training goes on from it.
    resumed : optional
        Called with the trainer that a checkpoint gave, before it trains.
    named : optional
        What errors call a setting, from its name.

    Raises
    ------
    DataError
        The table cannot be used, or the checkpoint is that of another training.
    FloatingPointError
        The training diverged.
    OSError, TypeError, ValueError
        As `read_table`, `MLP`, `Trainer` and `Trainer.resume`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lines = [f"{i},{i % 7},{'low' if i < 30 else 'high'}" for i in range(60)]
    >>> _ = (folder / "t.csv").write_text("height,rest,class\\n" + "\\n".join(lines))
    >>> trained = train_table(folder / "t.csv", Settings(hidden=(8,), epochs=30, learning_rate=0.01))
    >>> trained.model.class_names, trained.held_out.rows
    (('high', 'low'), 12)
    >>> trained.save(folder / "model.safetensors")
    >>> predictions = predict_table(folder / "model.safetensors", folder / "t.csv")
    >>> [predictions.classes[code] for code in predictions.codes[[0, -1]]]
    ['low', 'high']
    """
    settings = Settings() if settings is None else settings
    table = read_table(Path(path), target=target, header=header, delimiter=delimiter)
    split = _split(table, settings, Path(path), named)
    # All that the bits of the result depend on.
    begun = asdict(settings)
    begun["hidden"] = list(settings.hidden)
    begun["contract"] = _core.CONTRACT
    begun["data"] = _digest(split)

    trainer = None
    if checkpoint is not None and Path(checkpoint).exists():
        trainer = _resume(Path(checkpoint), begun, named)
        if resumed is not None:
            resumed(trainer)
    if trainer is None:
        trainer = _new_trainer(split, settings)
    for x in (split.x_train, split.x_test):
        check_scaled(trainer.model, x, path)
    check_saving(trainer.model, split.description.to_extra())  # before the work, not after it
    if checkpoint is not None:

        def save(trainer: Trainer, logs: dict[str, Any]) -> None:
            trainer.save_checkpoint(checkpoint, extra={"format": FORMAT, "settings": begun})

        trainer.callbacks.append(save)
    held_out = len(split.codes_test) > 0
    with warnings.catch_warnings():  # of a checkpoint of a training that had ended
        warnings.filterwarnings("ignore", "Trainer.fit: nothing to do", UserWarning)
        history = trainer.fit(
            split.x_train, split.codes_train, validation_data=(split.x_test, split.codes_test) if held_out else None
        )

    model = trainer.model
    score = _score(model, split.x_train, split.codes_train)
    test = _score(model, split.x_test, split.codes_test) if held_out else None
    losses = [*history.loss[-1:], score.loss, *([test.loss] if test else [])]
    _check_sound(model, losses, named)
    most = int(np.bincount(split.codes_train).argmax())
    share = float((split.codes_test == most).mean()) if held_out else None
    return TrainedTable(model, split.description, history, score, test, split.classes[most], share)


def _split(table: Table, settings: Settings, path: Path, named: Callable[[str], str]) -> _Split:
    assert table.labels is not None  # training tables have labels, or reading them fails
    codes, classes = encode_texts(table.labels)
    rows = len(table.features)
    if len(classes) < 2:
        raise DataError(f"{path}: every row has the label {classes[0]!r}; there is nothing to tell apart")
    if len(classes) > max(2, rows // 2):
        raise DataError(
            f"{path}: {table.target} has {len(classes)} different values in {rows} rows; it must hold classes"
        )
    held_out = int(rows * settings.held_out + 0.5)
    if settings.held_out > 0.0:
        held_out = max(held_out, 1)
    if rows - held_out < 2:
        raise DataError(f"{path}: {rows} rows leave {rows - held_out} to train on; at least 2 are needed")
    if settings.early_stopping and not held_out:
        raise DataError(
            f"{named('early_stopping')} watches the held-out loss, and {named('held_out')} 0 leaves no rows for it"
        )
    order = Generator(settings.seed, _SPLIT_STREAM).permutation(rows)
    train, test = order[held_out:], order[:held_out]
    mean, scale = column_statistics(table.features[train], path, table.names)
    return _Split(
        Description(table.target, table.position),
        classes,
        table.names,
        mean,
        scale,
        table.features[train],
        codes[train],
        table.features[test],
        codes[test],
    )


def _digest(split: _Split) -> str:
    digest = hashlib.sha256(json.dumps([split.classes, split.feature_names]).encode())
    for array in (split.x_train, split.codes_train, split.x_test, split.codes_test):
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _resume(path: Path, settings: Mapping[str, Any], named: Callable[[str], str]) -> Trainer:
    """The trainer in a checkpoint of the same training."""
    extra = read_extra(path, "checkpoint")
    begun = extra.get("settings")
    if extra.get("format") != FORMAT or not isinstance(begun, dict):
        raise DataError(f"{path}: a checkpoint, but none of normcore train")
    for name in (*settings, *begun):
        before, now = begun.get(name), settings.get(name)
        if before != now:
            # They are JSON's values and the data's digest: a stranger's may be of any length.
            own = name if name == "contract" else named(name)
            what = "other data" if name == "data" else f"{own} {str(before)[:80]}, not {now}"
            raise DataError(f"{path}: this training was begun with {what}; remove the file to begin anew")
    return Trainer.resume(path)


def _new_trainer(split: _Split, settings: Settings) -> Trainer:
    rows, columns = split.x_train.shape
    model = MLP(
        [columns, *settings.hidden, len(split.classes)],
        norm=None if settings.norm == "none" else settings.norm,
        activation=settings.activation,
        dropout=settings.dropout,
        weight_scale=settings.weight_scale,
        dtype=settings.dtype,
        seed=settings.seed,
        feature_names=split.feature_names,
        class_names=split.classes,
        feature_mean=split.mean,
        feature_scale=split.scale,
    )
    learning_rate: float | Schedule = settings.learning_rate
    if check_choice(settings.schedule, ("constant", "cosine"), "train_table", "schedule") == "cosine":
        steps = settings.epochs * math.ceil(rows / settings.batch_size)
        learning_rate = CosineSchedule(settings.learning_rate, steps)
    return Trainer(
        model,
        optimizer=settings.optimizer,
        learning_rate=learning_rate,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        l2=settings.l2,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        label_smoothing=settings.label_smoothing,
        early_stopping=settings.early_stopping,
        restore_best=settings.early_stopping is not None,
        seed=settings.seed,
    )


def _score(model: MLP, x: NDArray[Any], codes: NDArray[np.int64]) -> Score:
    loss, _, _ = _core.softmax_cross_entropy(model.forward(x), codes)
    return Score(len(codes), float(loss), model.score(x, codes))


def _check_sound(model: MLP, losses: Sequence[float], named: Callable[[str], str]) -> None:
    unsound = _not_finite(model)
    bad = [loss for loss in losses if not math.isfinite(loss)]
    if unsound is not None or bad:
        reason = f"the loss is {bad[0]}" if unsound is None else f"{unsound} of the model is not finite"
        raise FloatingPointError(
            f"training diverged: {reason}; no model is saved; try a lower {named('learning_rate')}"
        )


def _not_finite(model: MLP) -> str | None:
    """The name of an array of the model with a value that is NaN or infinite."""
    arrays = {**model.parameters(), **model.buffers()}
    return next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)


def some(names: Sequence[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def predict_table(
    model_path: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    header: bool | None = None,
    delimiter: str = ",",
    probabilities: bool = False,
) -> Predictions:
    """Predict the class of each row of a CSV or NPZ file, in order, with a saved model.

    The rows are those of the table, which the model scales if it has a scale. Its columns are found by name, where both
    have names, and its classes are called by number if it has no names for them.

    Parameters
    ----------
    model_path : file of ``TrainedTable.save`` or ``MLP.save``
    path, header, delimiter
        As for `read_table`.
    probabilities : bool
        Whether the probability of each class is wanted too.

    Raises
    ------
    DataError
        The table does not fit the model, or the model is not sound.
    OSError, ValueError
        As `load_model` and `read_table`.
    """
    model_path, path = Path(model_path), Path(path)
    model, extra = load_model(model_path)
    unsound = _not_finite(model)
    if unsound is not None:
        raise DataError(f"{model_path}: {unsound} of the model is not finite; its training diverged")
    if not model.loss.has_classes:
        raise DataError(f"{model_path}: the loss of the model is {model.loss.name}; it predicts no classes")
    known = Description.from_extra(extra, model.features, model_path)
    classes = [str(i) for i in range(model.outputs)] if model.class_names is None else list(model.class_names)
    table = read_table(
        path,
        target=known.target,
        header=header,
        delimiter=delimiter,
        expected_names=model.feature_names,
        expected_count=model.features,
        expected_position=known.target_position,
        known_labels=set(classes),
    )
    labels = {label for label in table.labels or () if label}
    if model.class_names is not None and labels and labels.isdisjoint(classes):
        raise DataError(
            f"{path}: no label in {table.target} is a class of the model ({some(classes)}); leave the column out if it "
            "is not the target"
        )
    x = table.features
    check_scaled(model, x, path)
    return Predictions(classes, model.predict(x), model.predict_proba(x) if probabilities else None, table.labels)
