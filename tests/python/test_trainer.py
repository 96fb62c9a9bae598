"""Trainer: batches, optimisers, stopping, restoring, checkpoints, callbacks, and the same bits everywhere."""

from __future__ import annotations

import copy
import inspect
import io
import math
import os
import pickle
import re
import signal
import sys
import tracemalloc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import normcore
from normcore import MLP, Generator, History, Trainer, _core, losses
from normcore.archive import read_archive, write_archive
from normcore.mlp import save_model
from normcore.testing import use_isa, use_num_threads
from normcore.training.fitting import Fit
from normcore.training.guard import NonFiniteError
from normcore.training.optimizers import OPTIMIZERS, Optimizer, StateOverflowError
from normcore.training.schedules import ConstantSchedule, CosineSchedule, PlateauSchedule, Schedule, StepSchedule

NORMS = [None, "batch", "layer"]


def make_data(rows: int = 60, features: int = 6, classes: int = 3, dtype: str = "float32") -> tuple[Any, Any]:
    """Rows whose class depends on them, so that there is something to learn."""
    rng = Generator(21)
    y = rng.integers(classes, rows)
    centres = rng.normal((classes, features), scale=1.5, dtype=dtype)
    return centres[y] + rng.normal((rows, features), dtype=dtype), y


def make_model(norm: Any = "batch", **options: Any) -> MLP:
    return MLP([6, 8, 7, 3], norm=norm, **options)


def state_of(trainer: Trainer) -> tuple[Any, ...]:
    """Everything that must be equal for two runs to count as the same, bit for bit."""
    history = {
        name: [float(v).hex() for v in value] if isinstance(value, list) else value
        for name, value in trainer.history.as_dict().items()
    }
    slots = (trainer.optimizer.slot1, trainer.optimizer.slot2)
    return (
        trainer.model.parameters_flat.tobytes(),
        trainer.model.buffers_flat.tobytes(),
        *(None if slot is None else slot.tobytes() for slot in slots),
        trainer.epoch,
        trainer.step_count,
        history,
    )


class Spy:
    """Keeps what every hook was called with."""

    def __init__(self, stop_step: int | None = None) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.stop_step = stop_step

    def on_train_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        self.events.append(("train_begin", logs))

    def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> bool:
        self.events.append(("step_end", logs))
        return logs["step"] == self.stop_step

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        self.events.append(("epoch_end", logs))

    def on_train_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        self.events.append(("train_end", logs))


def batches_of(trainer: Trainer, X: Any, y: Any, **options: Any) -> list[np.ndarray]:
    """Fit on rows that carry their own number, and return the numbers of each batch."""
    X = np.array(X)
    X[:, 0] = np.arange(len(X))
    seen: list[np.ndarray] = []
    step = trainer._step

    def spy(parts: Any, rate: float, number: Any) -> float:
        [(batch_X, batch_y, weight)] = parts
        index = batch_X[:, 0].astype(int)
        np.testing.assert_array_equal(batch_X, X[index])
        np.testing.assert_array_equal(batch_y, np.asarray(y)[index])
        if weight is not None:
            np.testing.assert_array_equal(weight, options["sample_weight"][index])
        seen.append(index)
        return step(parts, rate, number)

    trainer._step = spy  # type: ignore[method-assign]
    trainer.fit(X, y, **options)
    return seen


# ---------------------------------------------------------------------- learning


def test_learns_the_digits() -> None:
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    order = Generator(1).permutation(len(X))
    X, y = X[order], y[order]
    model = MLP([64, 64, 64, 10], norm="batch")
    history = Trainer(model, epochs=5, batch_size=50, learning_rate=5e-3).fit(
        X[:1400], y[:1400], validation_data=(X[1400:], y[1400:])
    )
    assert isinstance(history, History)
    assert history["val_accuracy"][-1] > 0.95
    assert history["train_accuracy"][-1] > 0.98
    assert history["val_accuracy"][0] < 0.3
    assert history["val_accuracy"][-1] == model.score(X[1400:], y[1400:])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_norm_learns(norm: Any, dtype: str) -> None:
    X, y = make_data(dtype=dtype)
    history = Trainer(make_model(norm, dtype=dtype), epochs=20, batch_size=16, learning_rate=1e-2).fit(X, y)
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]
    assert history["train_accuracy"][-1] > 0.7


def test_history() -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=3, batch_size=20)
    history = trainer.fit(X, y, validation_data=(X[:10], y[:10]))
    assert history is trainer.history
    assert len(history.loss) == 9
    for curve in (history["train_loss"], history["train_accuracy"], history["val_loss"], history["val_accuracy"]):
        assert len(curve) == 4
        assert all(type(value) is float for value in curve)
    assert history.stopped_reason == "epochs"
    assert history.best_epoch == int(np.argmin(history["val_loss"]))
    assert history.best_value == min(history["val_loss"])
    data = history.as_dict()
    assert data["loss"] == history.loss
    assert data["loss"] is not history.loss
    assert set(data) >= {"train_accuracy", "val_accuracy", "best_epoch", "stopped_reason", "skipped_steps"}
    assert (trainer.epoch, trainer.step_count) == (3, 9)
    assert repr(trainer) == f"Trainer({trainer.model!r}, optimizer='adam', epoch=3/3, step=9)"


def test_curves_are_the_loss_in_evaluation_mode() -> None:
    X, y = make_data(2500)
    weight = Generator(3).uniform(len(X))
    options: dict[str, Any] = {"class_weight": np.array([1.0, 2.0, 3.0]), "label_smoothing": 0.1}
    trainer = Trainer(make_model(dropout=0.5), epochs=1, batch_size=500, l2=0.1, **options)
    history = trainer.fit(X, y, validation_data=(X[:50], np.eye(3)[y[:50]]), sample_weight=weight)
    logits = trainer.model.forward(X)
    loss, _, _ = normcore.softmax_cross_entropy(logits, y, sample_weight=weight, **options)
    assert history["train_loss"][-1] == loss
    assert history["train_accuracy"][-1] == trainer.model.score(X, y, sample_weight=weight)
    soft = np.eye(3, dtype=np.float32)[y[:50]]
    assert history["val_loss"][-1] == normcore.softmax_cross_entropy(logits[:50], soft, **options)[0]
    assert history["val_accuracy"][-1] == trainer.model.score(X[:50], y[:50])


def test_without_evaluation_of_the_training_data() -> None:
    X, y = make_data()
    history = Trainer(make_model(), epochs=2, evaluate_training=False).fit(X, y)
    assert list(history) == []
    with pytest.raises(KeyError, match="there is no curve 'train_loss'; measured were loss"):
        history["train_loss"]
    assert len(history.loss) == 2
    assert history.best_epoch is None


def test_no_epochs() -> None:
    X, y = make_data()
    model = make_model()
    before = model.parameters_flat.copy()
    history = Trainer(model, epochs=0).fit(X, y)
    assert model.parameters_flat.tobytes() == before.tobytes()
    assert (len(history.loss), len(history["train_loss"]), history.stopped_reason) == (0, 1, "epochs")


def test_fit_again_does_the_epochs_that_are_missing() -> None:
    X, y = make_data()
    trainer, whole = Trainer(make_model(), epochs=2), Trainer(make_model(), epochs=5)
    trainer.fit(X, y)
    with pytest.warns(UserWarning, match="^Trainer.fit: nothing to do; 2 of 2 epochs are done: raise `epochs` to"):
        trainer.fit(X, y)
    assert trainer.epoch == 2
    trainer.epochs = 5
    trainer.fit(X, y)
    whole.fit(X, y)
    assert state_of(trainer) == state_of(whole)


def test_a_history_is_one_line_and_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=3, batch_size=20)
    assert repr(trainer.history) == "History(epochs=0, steps=0, best_epoch=None, stopped_reason=None)"
    assert "0 epochs, 0 steps" in trainer.history._repr_html_()
    history = trainer.fit(X, y, validation_data=(X, y))
    names = ["train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert list(history) == list(history.keys()) == names
    assert dict(history) == history.curves
    assert "val_loss" in history
    assert "val_r2" not in history
    assert history["loss"] is history.loss
    assert "\n" not in repr(history)
    assert repr(history).startswith(f"History(epochs=3, steps=9, train_loss={history['train_loss'][-1]:.4g}, ")
    assert repr(history).endswith(f"best_epoch={history.best_epoch}, stopped_reason='epochs')")
    table = history._repr_html_()
    assert table.count("<tr>") == 5
    assert f"<td>{min(history['val_loss']):.4g}</td>" in table
    assert f"<td>{max(history['val_accuracy']):.4g}</td>" in table
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        history.to_pandas()
    for name in ("matplotlib", "matplotlib.pyplot"):  # the latter, too: another test may have imported it
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        history.plot()


def test_a_history_as_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = make_data()
    history = Trainer(make_model(), epochs=3).fit(X, y)
    frame = history.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.shape == (4, 2)
    assert frame.index.name == "epoch"
    assert frame["train_loss"].tolist() == history["train_loss"]


def test_a_history_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    X, y = make_data()
    with pytest.raises(ValueError, match="no curve was measured"):
        History().plot()
    history = Trainer(make_model(), epochs=3).fit(X, y, validation_data=(X, y))
    axes = history.plot()
    assert [panel.get_ylabel() for panel in axes] == ["loss", "accuracy"]
    assert axes[0].lines[1].get_ydata().tolist() == history["val_loss"]
    pyplot.close(axes[0].figure)


def test_a_history_of_what_was_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    history = History()
    history.curves.update(val_loss=[1.0, 0.5], train_accuracy=[math.nan, math.nan])
    history.skipped_steps += [3, 4]
    assert "skipped_steps=2" in repr(history)
    assert history._repr_html_().count("<tr>") == 2  # nothing is best where nothing was measured
    axes = history.plot()
    assert [len(panel.lines) for panel in axes] == [1, 1]
    pyplot.close(axes[0].figure)


def test_a_loss_set_later_is_checked() -> None:
    trainer = Trainer(make_model(), label_smoothing=0.1)
    with pytest.raises(ValueError, match="label_smoothing"):
        trainer.loss = "squared_error"
    assert trainer.loss.name == "cross_entropy"
    trainer.label_smoothing = 0.0
    trainer.loss = "squared_error"
    assert trainer.loss.name == "squared_error"


def test_epochs_that_were_not_measured_are_nan() -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=2)
    trainer.fit(X, y)
    trainer.epochs = 3
    history = trainer.fit(X, y, validation_data=(X, y))
    assert [math.isnan(value) for value in history["val_loss"]] == [True, True, True, False]
    assert len(history["train_loss"]) == 4
    assert history.best_epoch == 3
    assert "<td>3</td>" in history._repr_html_()


# ---------------------------------------------------------------------- losses


def numpy_squared_error(outputs: Any, targets: Any, *, sample_weight: Any = None, reduction: str = "mean") -> Any:
    """What the core's function is specified to do, up to rounding."""
    assert reduction == "mean"
    weight = np.ones(len(targets)) if sample_weight is None else sample_weight
    error = outputs.astype(np.float64) - targets
    total = weight.sum()
    value = float((weight * (error**2).mean(axis=1)).sum() / total)
    gradient = 2 * error * weight[:, None] / (total * error.shape[1])
    return value, gradient.astype(outputs.dtype), float(total)


def regression(rows: int = 60, dtype: str = "float32") -> tuple[Any, Any]:
    rng = Generator(8)
    X = rng.normal((rows, 6), dtype=dtype)
    return X, np.stack([X[:, 0] - 2 * X[:, 1], X[:, 2] + 0.5], axis=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_squared_error_learns_numbers(monkeypatch: pytest.MonkeyPatch, norm: Any, dtype: str) -> None:
    monkeypatch.setattr("normcore._core.squared_error", numpy_squared_error, raising=False)
    X, T = regression(dtype=dtype)
    model = MLP([6, 16, 2], norm=norm, dtype=dtype)
    trainer = Trainer(model, loss="squared_error", epochs=60, batch_size=16, learning_rate=1e-2, monitor="val_r2")
    assert model.loss.name == "cross_entropy"
    history = trainer.fit(X, T, validation_data=(X[:20], T[:20]))
    assert model.loss == trainer.loss == losses.squared_error()
    names = ("loss", "r2", "rmse", "mae")
    assert list(history) == [f"{part}_{name}" for part in ("train", "val") for name in names]
    assert history["val_r2"][-1] > 0.9
    assert history.best_value == max(history["val_r2"])
    assert history["train_loss"][-1] == pytest.approx(((model.forward(X) - T) ** 2).mean(), rel=1e-5)


def test_a_step_of_another_loss_is_forward_loss_backward_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normcore._core.squared_error", numpy_squared_error, raising=False)
    X, T = regression(dtype="float64")
    weight = Generator(2).uniform(60)
    model = MLP([6, 5, 2], norm="batch", dropout=0.3, dtype="float64")
    trainer = Trainer(model, loss="squared_error", optimizer="sgd", learning_rate=0.1, seed=4)
    for step in range(3):
        other = model.copy()
        outputs = other.forward_training(X, seed=4, stream=2**63 + 2 * step)
        loss, gradient, _ = numpy_squared_error(outputs, T, sample_weight=weight)
        other.backward(gradient)
        assert trainer.step(X, T, sample_weight=weight) == loss
        np.testing.assert_allclose(
            model.parameters_flat, other.parameters_flat - 0.1 * other.gradients_flat, rtol=1e-14
        )
        assert model.buffers_flat.tobytes() == other.buffers_flat.tobytes()


def test_the_loss_is_that_of_the_model_unless_one_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("normcore._core.squared_error", numpy_squared_error, raising=False)
    X, T = regression()
    model = MLP([6, 4, 2])
    assert Trainer(model).loss.name == "cross_entropy"
    model.loss = losses.squared_error()
    trainer = Trainer(model, epochs=2, batch_size=20)
    assert trainer.loss.name == "squared_error"
    trainer.fit(X, T)
    trainer.save_checkpoint(tmp_path / "run")
    resumed = Trainer.resume(tmp_path / "run")
    assert resumed.loss == trainer.loss
    resumed.epochs = trainer.epochs = 4
    for other in (trainer, resumed):
        other.fit(X, T)
    assert state_of(resumed) == state_of(trainer)


LOSSES = {
    "squared_error": losses.squared_error(),
    "huber": losses.huber(delta=0.5),
    "quantile": losses.quantile(tau=0.3),
    "logistic": losses.logistic(),
    "poisson": losses.poisson(),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_learns_and_goes_on_from_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, norm: Any
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    X, T = regression(40)
    T = {"logistic": (T > 0).astype(int), "poisson": np.floor(np.abs(T))}.get(name, T)
    data: dict[str, Any] = {"sample_weight": Generator(1).uniform(40), "validation_data": (X[:15], T[:15])}
    options: dict[str, Any] = {
        "loss": LOSSES[name],
        "epochs": 2,
        "batch_size": 8,
        "accumulate": 2,
        "restore_best": True,
    }
    whole = Trainer(
        MLP([6, 9, 2], norm=norm, dropout=0.1), learning_rate=0.02, callbacks=SaveEveryStep(tmp_path), **options
    )
    history = whole.fit(X, T, **data)
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert (
        history["val_loss"][history.best_epoch]
        == LOSSES[name](whole.model.forward(X[:15]), T[:15].astype(np.float32))[0]
    )
    files = list(tmp_path.iterdir())
    assert len(files) == whole.step_count == 6
    for file in files:
        resumed = Trainer.resume(file)
        assert resumed.loss == LOSSES[name]
        resumed.fit(X, T, **data)
        assert state_of(resumed) == state_of(whole)


def test_targets_are_never_guessed() -> None:
    X, y = make_data()
    model = make_model()
    before = model.parameters_flat.copy()
    with pytest.raises(ValueError, match=r'fit: y is int64 \(60,\); .*for loss="cross_entropy"'):
        Trainer(model, loss="squared_error").fit(X, y)
    with pytest.raises(ValueError, match=r'step: y is int64 \(60,\); .*for loss="cross_entropy"'):
        Trainer(model, loss="logistic").step(X, y)
    for loss in ("cross_entropy", "poisson"):
        with pytest.raises(TypeError, match="step: y is a masked array"):
            Trainer(model, loss=loss).step(X, np.ma.masked_array(y))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'step: y\[0\] has a target of -1; .*for loss="squared_error"'):
        Trainer(model).step(X, -np.eye(3)[y])
    for options in ({"class_weight": [1, 2, 3]}, {"label_smoothing": 0.1}):
        with pytest.raises(ValueError, match=rf"^Trainer: {next(iter(options))} is for classes, and huber has none"):
            Trainer(model, loss="huber", **options)
    with pytest.raises(ValueError, match="there is no loss 'mse'; here it is called 'squared_error'"):
        Trainer(model, loss="mse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="watch 'val_r2'; the curves of cross_entropy are train_loss, train_accuracy"):
        Trainer(model, monitor="val_r2", early_stopping=2).fit(X, y, validation_data=(X, y))
    assert model.loss.name == "cross_entropy"
    assert model.parameters_flat.tobytes() == before.tobytes()


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("norm", "rows", "size", "expected"),
    [
        (None, 10, 4, [4, 4, 2]),
        (None, 9, 4, [4, 4, 1]),
        (None, 1, 4, [1]),
        (None, 3, 1, [1, 1, 1]),
        ("layer", 9, 4, [4, 4, 1]),
        ("layer", 1, 4, [1]),
        ("batch", 9, 4, [4, 5]),
        ("batch", 5, 4, [5]),
        ("batch", 10, 4, [4, 4, 2]),
        ("batch", 8, 4, [4, 4]),
        ("batch", 3, 4, [3]),
        ("batch", 2, 4, [2]),
        ("batch", 3, 2, [3]),
    ],
)
def test_batches_of_a_permutation(norm: Any, rows: int, size: int, expected: list[int]) -> None:
    X, y = make_data(rows)
    trainer = Trainer(make_model(norm), epochs=2, batch_size=size)
    seen = batches_of(trainer, X, y, sample_weight=np.arange(1.0, rows + 1))
    assert [len(index) for index in seen] == expected * 2
    orders = [np.concatenate(seen[: len(expected)]), np.concatenate(seen[len(expected) :])]
    for epoch, order in enumerate(orders):
        assert order.tolist() == Generator(0, 2**62 + epoch).permutation(rows).tolist()
    assert rows < 5 or orders[0].tolist() != orders[1].tolist()


@pytest.mark.parametrize(("rows", "size", "count"), [(10, 4, 2), (3, 8, 1), (8, 4, 2), (9, 1, 9)])
def test_batches_with_replacement(rows: int, size: int, count: int) -> None:
    X, y = make_data(rows)
    trainer = Trainer(make_model(None), epochs=2, batch_size=size, shuffle="replacement", seed=4)
    seen = batches_of(trainer, X, np.eye(3, dtype=np.float32)[y])
    assert [len(index) for index in seen] == [size] * 2 * count
    for epoch in range(2):
        drawn = Generator(4, 2**62 + epoch).integers(rows, count * size)
        assert np.concatenate(seen[epoch * count : (epoch + 1) * count]).tolist() == drawn.tolist()


@pytest.mark.parametrize("shuffle", ["permutation", "replacement"])
def test_one_row_cannot_train_batch_norm(shuffle: Any) -> None:
    X, y = make_data(1)
    model = make_model()
    before = model.parameters_flat.copy()
    with pytest.raises(ValueError, match="fit: X has one row; batch norm needs at least two"):
        Trainer(model, shuffle=shuffle).fit(X, y)
    with pytest.raises(ValueError, match="batch_size is 1; with norm='batch' it must be at least 2"):
        Trainer(model, batch_size=1)
    assert model.parameters_flat.tobytes() == before.tobytes()


def test_one_row_is_no_step_of_batch_norm_either() -> None:
    X, y = make_data()
    trainer = Trainer(make_model())
    before = state_of(trainer)
    for wrong in (X[:1], X[:1][np.newaxis], X[:1].tolist()):
        with pytest.raises(ValueError, match=r"^Trainer\.step: X has one row; batch norm needs at least two to train$"):
            trainer.step(wrong, np.zeros(np.shape(wrong)[:-1], int))
    with pytest.raises(ValueError, match=r"Trainer\.step: X is \(6,\)"):
        trainer.step(X[0], y[:1])
    assert state_of(trainer) == before
    for norm in (None, "layer"):
        Trainer(make_model(norm)).step(X[:1], y[:1])
    trainer.step(X[np.newaxis, :2], y[np.newaxis, :2])


def test_a_row_of_weight_zero_counts_in_the_statistics() -> None:
    X, y = make_data()
    weight = np.ones(60)
    weight[7] = 0.0
    statistics = []
    for rows in (np.arange(60), np.flatnonzero(weight)):
        trainer = Trainer(make_model())
        trainer.step(X[rows], y[rows], sample_weight=weight[rows])
        statistics.append(trainer.model.buffers_flat.copy())
    plain = Trainer(make_model())
    plain.step(X, y)
    assert statistics[0].tobytes() == plain.model.buffers_flat.tobytes() != statistics[1].tobytes()


def test_a_step_allocates_no_large_array() -> None:
    # A batch is 128 * 300 * 4 = 154 kB, the parameters are 300 kB, the data 2.4 MB.
    rng = Generator(5)
    X, y = rng.normal((2000, 300), dtype="float32"), rng.integers(10, 2000)
    model = MLP([300, 200, 60, 10], norm="batch", dropout=0.2)
    peaks: list[int] = []

    class Watch:
        def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            current, peak = tracemalloc.get_traced_memory()
            peaks.append(peak - current)
            tracemalloc.reset_peak()

    options: dict[str, Any] = {"l2": 1e-3, "clip_norm": 0.1, "class_weight": np.ones(10)}
    trainer = Trainer(model, epochs=2, batch_size=128, evaluate_training=False, callbacks=[Watch()], **options)
    tracemalloc.start()
    try:
        trainer.fit(X, y, sample_weight=np.ones(2000))
    finally:
        tracemalloc.stop()
    per_epoch = math.ceil(2000 / 128)
    assert len(peaks) == 2 * per_epoch
    # The first step of an epoch may see the index array of that epoch.
    assert max(peaks[1:per_epoch] + peaks[per_epoch + 1 :]) < 30_000


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    X, y = make_data(50, dtype="float64")
    weight = Generator(3).uniform(50)
    data: dict[str, Any] = {"sample_weight": weight}
    options: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-2, "class_weight": [1, 2, 3], "l2": 1e-3}
    parts = Trainer(make_model("layer", dtype="float64"), batch_size=8, accumulate=3, **options)
    whole = Trainer(make_model("layer", dtype="float64"), batch_size=24, **options)
    for trainer in (parts, whole):
        trainer.fit(X, y, **data)
        assert (trainer.step_count, trainer.epoch) == (9, 3)  # 8 + 8 + 8, 8 + 8 + 8, 2
    np.testing.assert_allclose(parts.model.parameters_flat, whole.model.parameters_flat, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(parts.history.loss, whole.history.loss, rtol=1e-9)


def test_accumulation_has_the_bits_of_its_definition() -> None:
    X, y = make_data(40)
    trainer = Trainer(
        make_model(dropout=0.2), batch_size=10, accumulate=2, epochs=1, optimizer="sgd", learning_rate=0.1, seed=3
    )
    model = trainer.model.copy()
    trainer.fit(X, y)
    order = Generator(3, 2**62).permutation(40)
    for step in range(2):
        total = np.zeros_like(model.parameters_flat)
        for part in range(2):
            rows = order[(2 * step + part) * 10 :][:10]
            model.loss_and_grads(X[rows], y[rows], seed=3, stream=2**63 + (2 * step + part) * 3)
            total += np.float32(10.0) * model.gradients_flat
        model.gradients_flat[...] = total / np.float32(20.0)
        Optimizer(model, "sgd").update(0.1)
    assert trainer.model.parameters_flat.tobytes() == model.parameters_flat.tobytes()
    assert trainer.model.buffers_flat.tobytes() == model.buffers_flat.tobytes()


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_part_that_is_not_finite_leaves_the_whole_step_out(policy: Any) -> None:
    X, y = poisoned()
    trainer = Trainer(make_model(), batch_size=10, accumulate=6, epochs=1, on_nonfinite=policy)
    before = trainer.model.parameters_flat.tobytes(), trainer.model.buffers_flat.tobytes()
    if policy == "raise":
        with pytest.raises(NonFiniteError, match="the features of row"):
            trainer.fit(X, y)
    else:
        assert trainer.fit(X, y).skipped_steps == [0]
    assert (trainer.model.parameters_flat.tobytes(), trainer.model.buffers_flat.tobytes()) == before


def test_accumulating_runs_go_on_from_every_step(tmp_path: Path) -> None:
    X, y = make_data(30)
    options: dict[str, Any] = {"batch_size": 4, "accumulate": 3, "epochs": 2, "class_weight": "balanced"}
    y[::7] = -100
    whole = Trainer(make_model(dropout=0.2), ignore_index=-100, **options, callbacks=SaveEveryStep(tmp_path))
    whole.fit(X, y, validation_data=(X, y, np.arange(30.0)))
    files = list(tmp_path.iterdir())
    assert len(files) == whole.step_count == 2 * 3
    for file in files:
        resumed = Trainer.resume(file)
        assert (resumed.class_weight, resumed.ignore_index, resumed.accumulate) == ("balanced", -100, 3)
        resumed.fit(X, y, validation_data=(X, y, np.arange(30.0)))
        assert state_of(resumed) == state_of(whole)


# ---------------------------------------------------------------------- weights


def test_validation_data_may_have_weights() -> None:
    X, y = make_data()
    weight = Generator(2).uniform(60)
    trainer = Trainer(make_model(), epochs=1)
    history = trainer.fit(X, y, validation_data=(X, y, weight))
    outputs = trainer.model.forward(X)
    assert history["val_loss"][-1] == normcore.softmax_cross_entropy(outputs, y, sample_weight=weight)[0]
    right = trainer.model.predict(X) == y
    assert history["val_accuracy"][-1] == pytest.approx(weight[right].sum() / weight.sum(), rel=1e-12)
    assert history["train_accuracy"][-1] == right.mean()
    with pytest.raises(ValueError, match=r"validation_data: sample_weight is \(59,\)"):
        trainer.fit(X, y, validation_data=(X, y, weight[1:]))


def test_balanced_class_weights() -> None:
    X, _ = make_data()
    y = np.repeat([0, 2], [45, 15])
    states = set()
    for weight in ("balanced", {0: 60 / 90, 2: 2.0}, [60 / 90, 1.0, 2.0]):
        trainer = Trainer(make_model(), class_weight=weight, epochs=2)
        trainer.fit(X, y)
        states.add(trainer.model.parameters_flat.tobytes())
    assert len(states) == 1
    trainer = Trainer(make_model(), class_weight="balanced")
    with pytest.raises(ValueError, match=r"^Trainer: class_weight='balanced' is counted when a fit begins"):
        trainer.step(X, y)
    with pytest.raises(ValueError, match="counts labels, and y are soft targets"):
        trainer.fit(X, np.eye(3)[y])
    with pytest.raises(TypeError, match="class_weight is 'even'"):
        Trainer(make_model(), class_weight="even")


@pytest.mark.parametrize("ignored", [-1, 7, 2**40])
def test_ignored_labels_count_for_nothing(ignored: int) -> None:
    X, y = make_data()
    marked = y.copy()
    marked[::5] = ignored
    counted = np.where(marked == ignored, 0.0, 1.0)
    plain = Trainer(make_model(), epochs=2, batch_size=20)
    plain.fit(X, y, sample_weight=counted, validation_data=(X, y, counted))
    trainer = Trainer(make_model(), epochs=2, batch_size=20, ignore_index=ignored)
    trainer.fit(X, marked, validation_data=(X, marked))
    assert state_of(trainer) == state_of(plain)
    assert trainer.step(X, marked) == plain.step(X, y, sample_weight=counted)
    with pytest.raises(ValueError, match=rf"y\[0\] is {ignored}; labels must be in"):
        Trainer(make_model()).fit(X, marked)


# ---------------------------------------------------------------------- one step


def reference_updates(name: str, grads: list[np.ndarray], rate: float) -> np.ndarray:
    """Sum of the updates by the textbook formulas, from the gradients of each step."""
    total, m, s = (np.zeros_like(grads[0]) for _ in range(3))
    for t, g in enumerate(grads, 1):
        if name == "sgd":
            total -= rate * g
        elif name == "momentum":
            m = 0.8 * m - rate * g
            total += m
        elif name == "nesterov":
            m = 0.8 * m - rate * g
            total += 0.8 * m - rate * g
        elif name == "rmsprop":
            s = 0.95 * s + 0.05 * g**2
            total -= rate * g / (np.sqrt(s) + 1e-6)
        else:
            m = 0.7 * m + 0.3 * g
            s = 0.99 * s + 0.01 * g**2
            total -= rate * (m / (1 - 0.7**t)) / (np.sqrt(s / (1 - 0.99**t)) + 1e-6)
    return total


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_follow_their_formulas(name: str) -> None:
    X, y = make_data(dtype="float64")
    model = make_model(dtype="float64")
    start = model.parameters_flat.copy()
    trainer = Trainer(
        model,
        optimizer=name,
        learning_rate=0.01,
        momentum=0.8,
        decay_rate=0.95,
        betas=(0.7, 0.99),
        eps=1e-6,
        weight_decay=0.0,
    )
    grads = []
    for step in range(4):
        loss = trainer.step(X, y)
        assert loss == trainer.history.loss[step]
        grads.append(model.gradients_flat.copy())
    np.testing.assert_allclose(
        model.parameters_flat - start, reference_updates(name, grads, 0.01), rtol=1e-9, atol=1e-12
    )
    assert trainer.optimizer.updates == trainer.step_count == 4
    assert trainer.history.loss[3] < trainer.history.loss[0]


def weights_and_others(model: MLP) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros(model.parameters_flat.size, bool)
    for part in model.weight_slices():
        mask[part] = True
    return mask, ~mask


@pytest.mark.parametrize("norm", NORMS)
def test_l2_is_in_the_loss_and_the_gradient_of_the_weights(norm: Any) -> None:
    X, y = make_data(dtype="float64")
    model = make_model(norm, dtype="float64")
    model.parameters_flat[...] += 0.1
    plain = model.copy()
    start = model.parameters_flat.copy()
    loss = Trainer(model, optimizer="sgd", learning_rate=0.5, l2=0.3).step(X, y)
    plain_loss = Trainer(plain, optimizer="sgd", learning_rate=0.5).step(X, y)
    weights, others = weights_and_others(model)
    assert loss == pytest.approx(plain_loss + 0.15 * (start[weights] ** 2).sum(), rel=1e-12)
    assert model.parameters_flat[others].tobytes() == plain.parameters_flat[others].tobytes()
    np.testing.assert_allclose(
        (plain.parameters_flat - model.parameters_flat)[weights], 0.5 * 0.3 * start[weights], rtol=1e-10
    )


def test_weight_decay_is_decoupled() -> None:
    X, y = make_data(dtype="float64")
    model = make_model(dtype="float64")
    model.parameters_flat[...] += 0.1
    plain, l2 = model.copy(), model.copy()
    start = model.parameters_flat.copy()
    loss = Trainer(model, learning_rate=0.01, weight_decay=0.2).step(X, y)
    assert loss == Trainer(plain, learning_rate=0.01).step(X, y)
    Trainer(l2, learning_rate=0.01, l2=0.2).step(X, y)
    weights, others = weights_and_others(model)
    assert model.parameters_flat[others].tobytes() == plain.parameters_flat[others].tobytes()
    np.testing.assert_allclose(
        (plain.parameters_flat - model.parameters_flat)[weights], 0.01 * 0.2 * start[weights], rtol=1e-9
    )
    assert not np.allclose(l2.parameters_flat[weights], model.parameters_flat[weights], rtol=1e-4, atol=0)


def test_adamw_is_adam_with_decay() -> None:
    X, y = make_data()
    states = []
    for options in ({"optimizer": "adamw"}, {"optimizer": "adam", "weight_decay": 1e-2}, {"optimizer": "adam"}):
        trainer = Trainer(make_model(), epochs=2, **options)
        trainer.fit(X, y)
        states.append(trainer.model.parameters_flat.tobytes())
    assert states[0] == states[1] != states[2]
    assert Trainer(make_model(), optimizer="adamw", weight_decay=0.0).optimizer.weight_decay == 0.0


def test_clipping_by_the_global_norm() -> None:
    X, y = make_data(dtype="float64")
    model = make_model(None, dtype="float64")
    start = model.parameters_flat.copy()
    norm = 0.0
    for limit in (1e-3, 1e3):
        model.parameters_flat[...] = start
        Trainer(model, optimizer="sgd", learning_rate=1.0, clip_norm=limit).step(X, y)
        norm = float(np.linalg.norm(model.gradients_flat))
        change = start - model.parameters_flat
        assert np.linalg.norm(change) == pytest.approx(min(limit, norm), rel=1e-12)
        np.testing.assert_allclose(change / np.linalg.norm(change), model.gradients_flat / norm, rtol=1e-9, atol=1e-15)
    assert 1e-3 < norm < 1e3


def test_clipping_to_nothing_is_refused() -> None:
    model = make_model()
    X, y = make_data(20)
    before = model.parameters_flat.copy()
    trainer = Trainer(model, clip_norm=1e-60)
    with pytest.raises(ValueError, match=r"step 0: clip_norm is 1e-60 and the gradients' norm .* is 0 in float32"):
        trainer.step(X, y)
    assert model.parameters_flat.tobytes() == before.tobytes()
    assert trainer.step_count == 0


def test_clipping_gradients_whose_squares_overflow() -> None:
    model = MLP([2, 3], dtype="float64", seed=1)
    start = model.parameters_flat.copy()
    trainer = Trainer(model, optimizer="sgd", learning_rate=1.0, clip_norm=1.0)
    X = np.array([[1e200, -1e200], [3e200, 1e200]])
    trainer.step(X, model.forward(X).argmin(axis=1))
    assert np.abs(model.gradients_flat).max() > 1e199
    assert np.isfinite(model.parameters_flat).all()
    assert np.linalg.norm(model.parameters_flat - start) == pytest.approx(1.0, rel=1e-12)


def test_running_statistics_whose_squares_overflow() -> None:
    X, y = make_data(dtype="float64")
    trainers = [Trainer(make_model("batch", dtype="float64"), clip_norm=0.1) for _ in range(2)]
    trainers[0].model.buffers_flat[...] = 1e200
    losses = [trainer.step(X, y) for trainer in trainers]
    assert losses[0] == losses[1]
    assert trainers[0].model.parameters_flat.tobytes() == trainers[1].model.parameters_flat.tobytes()
    assert trainers[0].model.buffers_flat.min() > 1e199


def test_without_l2_there_is_no_penalty() -> None:
    optimizer = Optimizer(make_model())
    assert optimizer.penalty() == 0.0
    optimizer.l2 = 0.1
    assert optimizer.penalty() > 0.0


def test_learning_rates() -> None:
    X, y = make_data()
    asked: list[int] = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 0.1 / (step + 1)

    trainer = Trainer(make_model(None), optimizer="sgd", learning_rate=schedule)
    changes = []
    for _ in range(3):
        before = trainer.model.parameters_flat.astype(np.float64)
        trainer.step(X, y)
        gradient = trainer.model.gradients_flat.astype(np.float64)
        changes.append(float((before - trainer.model.parameters_flat) @ gradient / (gradient @ gradient)))
    assert asked == [0, 1, 2]
    np.testing.assert_allclose(changes, [0.1, 0.05, 0.1 / 3], rtol=1e-4)

    fixed = Trainer(make_model(), learning_rate=0.01)
    scheduled = Trainer(make_model(), learning_rate=ConstantSchedule(0.01))
    assert fixed.step(X, y) == scheduled.step(X, y)
    assert fixed.model.parameters_flat.tobytes() == scheduled.model.parameters_flat.tobytes()
    for value, error in ((-1.0, ValueError), (math.nan, ValueError), ("x", TypeError)):
        trainer = Trainer(make_model(), learning_rate=lambda step, value=value: value)  # type: ignore[misc]
        with pytest.raises(error, match="learning_rate of step 0"):
            trainer.step(X, y)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_remembers_the_rates_of_its_steps(name: str) -> None:
    X, y = make_data(dtype="float64")
    trainer = Trainer(
        make_model(dtype="float64"), optimizer=name, momentum=0.9, learning_rate=StepSchedule(0.1, every=2, factor=0.01)
    )
    velocity: Any = 0.0
    for step in range(4):
        rate = 0.1 if step < 2 else 0.001
        before = trainer.model.parameters_flat.copy()
        trainer.step(X, y)
        gradient = trainer.model.gradients_flat
        velocity = 0.9 * velocity - rate * gradient  # not 0.9 * velocity + gradient, and the rate applied afterwards
        moved = velocity if name == "momentum" else 0.9 * velocity - rate * gradient
        np.testing.assert_allclose(trainer.model.parameters_flat - before, moved, rtol=1e-9, atol=1e-14)


def test_steps_by_hand_are_the_steps_of_fit() -> None:
    X, y = make_data()
    weight = Generator(2).uniform(len(X))
    fitted = Trainer(make_model(dropout=0.3), epochs=2, batch_size=16, seed=9)
    fitted.fit(X, y, sample_weight=weight)
    manual = Trainer(make_model(dropout=0.3), seed=9)
    for epoch in range(2):
        order = Generator(9, 2**62 + epoch).permutation(len(X))
        for start in range(0, len(X), 16):
            rows = order[start : start + 16]
            manual.step(X[rows], y[rows], sample_weight=weight[rows])
    assert manual.model.parameters_flat.tobytes() == fitted.model.parameters_flat.tobytes()
    assert manual.model.buffers_flat.tobytes() == fitted.model.buffers_flat.tobytes()
    assert manual.history.loss == fitted.history.loss


def test_dropout_draws_from_the_documented_streams() -> None:
    X, y = make_data()
    model = make_model(dropout=0.4)
    trainer = Trainer(model, optimizer="sgd", seed=6)
    for step in range(3):
        expected, _ = model.copy().loss_and_grads(X, y, seed=6, stream=2**63 + step * model.layers)
        assert trainer.step(X, y) == expected


# ---------------------------------------------------------------------- data and arguments


def test_layouts_and_dtypes_of_the_data() -> None:
    X, y = make_data()
    trainers = []
    wide = np.zeros((120, 9), np.float32)
    wide[::2, 1:7] = X
    for features, labels in (
        (X, y),
        (np.asfortranarray(X), y.astype(np.uint8)),
        (wide[::2, 1:7], np.repeat(y, 2)[::2]),
        (X.astype(np.float64), y.astype(">i2")),
        (X.tolist(), y.tolist()),
    ):
        trainer = Trainer(make_model(), epochs=2, batch_size=16)
        trainer.fit(features, labels, validation_data=(features, labels))
        trainers.append(state_of(trainer))
    assert all(state == trainers[0] for state in trainers)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "uint64", "bool", "float16", ">i4", ">f2"])
@pytest.mark.parametrize("scaled", [False, True])
def test_other_numbers_are_converted(dtype: str, scaled: bool) -> None:
    values = (Generator(3).integers(120, 360).reshape(60, 6) % (2 if dtype == "bool" else 120)).astype(dtype)
    y = Generator(4).integers(3, 60)
    scale: dict[str, Any] = {"feature_mean": np.full(6, 3.0), "feature_scale": np.full(6, 7.0)} if scaled else {}
    states = []
    for X in (values, values.astype(np.float64)):
        trainer = Trainer(make_model(**scale), epochs=1, batch_size=20)
        trainer.fit(X, y, validation_data=(X, y))
        trainer.step(X, y)
        states.append((state_of(trainer), trainer.model.predict_proba(X).tobytes()))
    assert states[0] == states[1]


def test_words_of_other_libraries() -> None:
    X, y = make_data()
    model = make_model()
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: Trainer(model, lr=0.1), "Trainer: there is no argument lr; here it is learning_rate"),  # type: ignore[call-arg]
        (lambda: Trainer(model, verbose=1), "here it is progress"),  # type: ignore[call-arg]
        (lambda: MLP(hidden_layer_sizes=(3,)), "MLP: there is no argument hidden_layer_sizes; here it is sizes, which"),  # type: ignore[call-arg]
        (lambda: Trainer(model).fit(X, y, epochs=3), "Trainer.fit: .* epochs; here it is an argument of Trainer"),  # type: ignore[call-arg]
        (lambda: Trainer(model, unknown=1), "unexpected keyword argument 'unknown'"),  # type: ignore[call-arg]
    ]
    for call, message in calls:
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(AttributeError, match=r"'MLP' object has no attribute 'fit'; normcore\.Trainer\(model"):
        model.fit(X, y)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"'MLP' object has no attribute 'odd'$"):
        model.odd  # type: ignore[attr-defined]  # noqa: B018
    assert "sizes" in str(inspect.signature(MLP))
    assert "learning_rate" in inspect.signature(Trainer).parameters


def test_the_data_are_not_changed() -> None:
    X, y = make_data()
    X.flags.writeable = y.flags.writeable = False
    copies = X.copy(), y.copy()
    Trainer(make_model(), epochs=2).fit(X, y, validation_data=(X, y))
    assert (X.tobytes(), y.tobytes()) == (copies[0].tobytes(), copies[1].tobytes())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda X, y: (X[:, :4], y), ValueError, r"fit: X is \(60, 4\) but the model takes 6 features"),
        (lambda X, y: (X[0], y), ValueError, r"fit: X is \(6,\)"),
        (lambda X, y: (X.reshape(6, 10, 6), y), ValueError, r"fit: X is \(6, 10, 6\); it must be \(rows, 6\)"),
        (lambda X, y: (X[:0], y[:0]), ValueError, r"fit: X is \(0, 6\); it must have at least one row"),
        (lambda X, y: (X.astype(complex), y), TypeError, "fit: X is complex128; accepted are float32 and float64"),
        (lambda X, y: (np.ma.masked_array(X), y), TypeError, "fit: X is a masked array"),
        (lambda X, y: (X, y[:-1]), ValueError, r"fit: y is int64 \(59,\) but X has the rows \(60,\)"),
        (lambda X, y: (X, np.where(np.arange(60) == 7, 3, y)), ValueError, r"fit: y\[7\] is 3; labels must be in"),
        (lambda X, y: (X, np.where(np.arange(60) == 5, -1, y)), ValueError, r"fit: y\[5\] is -1"),
        (lambda X, y: (X, y.astype(np.uint64) + 2**63), ValueError, r"fit: y\[0\] is 922337203685477"),
        (lambda X, y: (X, y.astype(float)), TypeError, 'labels must be integers.* loss="squared_error"'),
        (
            lambda X, y: (X, 2 * np.eye(3)[y]),
            ValueError,
            r'fit: y\[0\] sums to 2; .* such targets are for loss="poisson"',
        ),
        (lambda X, y: (X, y.astype(str)), TypeError, "encode_labels numbers labels of any kind"),
    ],
)
def test_wrong_data(change: Callable[..., Any], error: type[Exception], message: str) -> None:
    model = make_model()
    before = model.parameters_flat.copy()
    X, y = make_data()
    with pytest.raises(error, match=message):
        Trainer(model).fit(*change(X, y))
    with pytest.raises(error, match=message.replace("fit:", "fit: validation_data:")):
        Trainer(model).fit(X, y, validation_data=change(X, y))
    assert model.parameters_flat.tobytes() == before.tobytes()


def test_wrong_weights_and_pairs() -> None:
    X, y = make_data()
    trainer = Trainer(make_model())
    with pytest.raises(ValueError, match=r"fit: sample_weight is \(59,\); it must be \(60,\)"):
        trainer.fit(X, y, sample_weight=np.ones(59))
    with pytest.raises(ValueError, match=r"fit: sample_weight\[2\] is -1.0"):
        trainer.fit(X, y, sample_weight=np.where(np.arange(60) == 2, -1, 1))
    for wrong in (X, 3, (X, y, y, y)):
        with pytest.raises(TypeError, match=r"fit: validation_data must be a pair \(X, y\), or"):
            trainer.fit(X, y, validation_data=wrong)  # type: ignore[arg-type]
    for call in (lambda: trainer.step(X[:0], y[:0]), lambda: trainer.step(X, y[:3]), lambda: trainer.step(X, y + 9)):
        with pytest.raises(ValueError, match=r"step: |loss_and_grads: "):
            call()
    assert trainer.step_count == 0
    assert not trainer.history.loss


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": "lion"}, ValueError, "'lion' is no optimizer; known are sgd, momentum, nesterov, rmsprop, adam"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate .*is -0.1"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate .*must be a number, not str"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, not float"),
        ({"epochs": -1}, ValueError, "epochs is -1"),
        ({"shuffle": True}, ValueError, "shuffle is True; accepted are 'permutation', 'replacement'"),
        ({"momentum": 1.0}, ValueError, r"momentum is 1.0; it must be in \[0, 1\)"),
        ({"decay_rate": -0.1}, ValueError, "decay_rate is -0.1"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\] is 1.0"),
        ({"betas": 0.9}, TypeError, "betas must be two numbers"),
        ({"eps": -1.0}, ValueError, "eps is -1.0"),
        ({"l2": math.nan}, ValueError, "l2 is nan"),
        ({"weight_decay": math.inf}, ValueError, "weight_decay is inf"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm is 0.0"),
        ({"class_weight": [1.0, 2.0]}, ValueError, r"class_weight is \(2,\); it must be \(3,\)"),
        ({"class_weight": [1.0, -2.0, 1.0]}, ValueError, r"class_weight\[1\] is -2.0"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing is 1.5"),
        ({"label_smoothing": "a"}, TypeError, "Trainer: label_smoothing must be a number, not str"),
        ({"label_smoothing": None}, TypeError, "Trainer: label_smoothing must be a number, not NoneType"),
        ({"clip_norm": "a"}, TypeError, "Trainer: clip_norm must be a number, not str"),
        ({"clip_norm": "1.0"}, TypeError, "Trainer: clip_norm must be a number, not str"),
        ({"learning_rate": "a"}, TypeError, "Trainer: learning_rate must be a number, not str"),
        ({"learning_rate": 10**400}, ValueError, "Trainer: learning_rate is inf; it must be finite"),
        ({"optimizer": ["adam"]}, ValueError, r"Optimizer: \['adam'\] is no optimizer; known are sgd"),
        (
            {"learning_rate": 1e39},
            ValueError,
            r"^Trainer: learning_rate is 1e\+39; it must be finite in float32, at most",
        ),
        (
            {"learning_rate": 1e38},
            ValueError,
            r"^Trainer: learning_rate / \(1 - betas\[0\]\) is 1\.0*2?e\+39; it must be",
        ),
        (
            {"learning_rate": 1e20, "weight_decay": 1e19},
            ValueError,
            r"^Trainer: learning_rate \* weight_decay is 1e\+39",
        ),
        ({"eps": 1e-46}, ValueError, "^Optimizer: eps is 1e-46, which is 0 in float32; it must be 0 or at least 1e-45"),
        ({"l2": 1e-46}, ValueError, "^Optimizer: l2 is 1e-46, which is 0 in float32"),
        ({"l2": 1e39}, ValueError, r"^Optimizer: l2 is 1e\+39; it must be finite in float32"),
        ({"momentum": 1 - 1e-9}, ValueError, "^Optimizer: momentum is 0.999999999, which is 1 in float32"),
        ({"betas": (1 - 1e-9, 0.9)}, ValueError, r"^Optimizer: betas\[0\] is 0.999999999, which is 1 in float32"),
        ({"shuffle": np.zeros(2)}, ValueError, r"Trainer: shuffle is array\(.*; accepted are 'permutation'"),
        ({"callbacks": None}, TypeError, "Trainer: callbacks is None; it must be a callback or an iterable of them"),
        ({"callbacks": [print, 3]}, TypeError, r"Trainer: callbacks\[1\] is 3; a callback must be a function"),
        ({"early_stopping": 0}, ValueError, "early_stopping is 0"),
        ({"monitor": "loss"}, ValueError, "monitor is 'loss'; accepted are 'train_loss'"),
        ({"on_nonfinite": "ignore"}, ValueError, "on_nonfinite is 'ignore'"),
        ({"callbacks": [3]}, TypeError, "a callback must be a function or have one of"),
        ({"seed": -1}, ValueError, "Trainer: seed is -1"),
        ({"restore_best": "no"}, TypeError, "Trainer: restore_best is 'no'; it must be a bool"),
        ({"evaluate_training": 0}, TypeError, "Trainer: evaluate_training is 0; it must be a bool"),
        ({"progress": "yes"}, TypeError, "Trainer: progress is 'yes'; it must be a bool"),
        ({"accumulate": 0}, ValueError, "Trainer: accumulate is 0"),
        ({"ignore_index": 1.5}, TypeError, "Trainer: ignore_index must be an integer, not float"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Trainer(make_model(), **options)
    with pytest.raises(TypeError, match="model must be an MLP, not dict"):
        Trainer({})  # type: ignore[arg-type]


@pytest.mark.parametrize("owner", ["trainer", "optimizer"])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("batch_size", 0, ValueError),
        ("batch_size", 1, ValueError),
        ("accumulate", 1.5, TypeError),
        ("epochs", -1, ValueError),
        ("shuffle", "yes", ValueError),
        ("learning_rate", math.nan, ValueError),
        ("clip_norm", 0.0, ValueError),
        ("class_weight", [1.0], ValueError),
        ("label_smoothing", 2.0, ValueError),
        ("early_stopping", 0, ValueError),
        ("min_delta", -1.0, ValueError),
        ("restore_best", "no", TypeError),
        ("monitor", "loss", ValueError),
        ("on_nonfinite", "ignore", ValueError),
        ("callbacks", None, TypeError),
        ("progress", 1, TypeError),
        ("seed", -1, ValueError),
        ("loss", "mse", ValueError),
        ("momentum", 1.0, ValueError),
        ("betas", (0.9, 1.5), ValueError),
        ("betas", 0.9, TypeError),
        ("l2", math.nan, ValueError),
        ("weight_decay", "a", TypeError),
    ],
)
def test_what_is_set_later_is_checked(owner: str, name: str, value: Any, error: type[Exception]) -> None:
    trainer = Trainer(make_model())
    target: Any = trainer if owner == "trainer" else trainer.optimizer
    if not hasattr(target, name):
        return
    before = getattr(target, name)
    with pytest.raises(error, match=r"^(Trainer|Optimizer|losses): "):
        setattr(target, name, value)
    assert getattr(target, name) is before


def test_what_is_set_later_is_obeyed() -> None:
    X, y = make_data()
    first = {
        "batch_size": 20,
        "l2": 0.0,
        "weight_decay": 0.0,
        "clip_norm": None,
        "accumulate": 1,
        "label_smoothing": 0.0,
    }
    later = {
        "batch_size": 15,
        "l2": 0.1,
        "weight_decay": 0.1,
        "clip_norm": 0.1,
        "accumulate": 2,
        "label_smoothing": 0.1,
    }

    def change(trainer: Trainer, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 1:
            for name, value in later.items():
                setattr(trainer.optimizer if hasattr(trainer.optimizer, name) else trainer, name, value)

    changed = Trainer(make_model(), epochs=3, callbacks=change, **first)  # type: ignore[arg-type]
    changed.fit(X, y)
    assert changed.step_count == 3 + 2 + 2
    whole = Trainer(make_model(), epochs=1, **first)  # type: ignore[arg-type]
    whole.fit(X, y)
    other = Trainer(whole.model, epochs=3, **later)  # type: ignore[arg-type]
    assert whole.optimizer.slot1 is not None
    assert whole.optimizer.slot2 is not None
    for slot, from_slot in (
        (other.optimizer.slot1, whole.optimizer.slot1),
        (other.optimizer.slot2, whole.optimizer.slot2),
    ):
        assert slot is not None
        slot[...] = from_slot
    other.optimizer.updates, other.step_count, other.epoch, other.history = 3, 3, 1, copy.deepcopy(whole.history)
    other.fit(X, y)
    assert state_of(other) == state_of(changed)


def test_what_cannot_be_set_later_says_so() -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), batch_size=20, epochs=2, restore_best=True, monitor="train_loss")
    for name, message in (("model", "make a new Trainer"), ("optimizer", r"trainer\.optimizer\.l2")):
        with pytest.raises(AttributeError, match=rf"Trainer: {name} cannot be set; .*{message}"):
            setattr(trainer, name, getattr(trainer, name))
    with pytest.raises(AttributeError, match="Optimizer: slot1 cannot be set; write into it"):
        trainer.optimizer.slot1 = None
    trainer.callbacks = [Spy(stop_step=1)]
    trainer.fit(X, y)
    for name, value in (("batch_size", 30), ("accumulate", 2), ("shuffle", "replacement"), ("seed", 1)):
        with pytest.raises(ValueError, match=rf"{name} cannot be set in the middle of an epoch \(1 steps of it"):
            setattr(trainer, name, value)
    trainer.batch_size = 20

    def change(trainer: Trainer, logs: dict[str, Any]) -> None:
        for name, value in (("loss", "cross_entropy"), ("ignore_index", 3)):
            with pytest.raises(RuntimeError, match=f"Trainer: {name} cannot be set during a fit"):
                setattr(trainer, name, value)

    trainer.callbacks = [change]
    trainer.fit(X, y)
    trainer.ignore_index = 3
    with pytest.raises(ValueError, match="monitor cannot be set to 'val_loss': there is a best epoch, by 'train_loss'"):
        trainer.monitor = "val_loss"


def test_numbers_that_only_float32_does_not_hold() -> None:
    model = MLP([6, 3], dtype="float64")
    Trainer(model, learning_rate=1e39, eps=1e-46, l2=1e-46, momentum=1 - 1e-9, betas=(1 - 1e-9, 1 - 1e-9))
    Trainer(make_model(), eps=0.0, l2=1e-45, learning_rate=1e-60)  # a rate of 0 moves nothing, as it should


def test_labels_that_are_no_sequence() -> None:
    for wrong in (5, None):
        with pytest.raises(TypeError, match=f"encode_labels: y is {wrong}; it must be a sequence of labels"):
            normcore.encode_labels(wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- stopping and restoring


class Overwrite:
    """Makes the measured loss a chosen one at the start and after each epoch, and keeps the model of each."""

    def __init__(self, losses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.snapshots: list[tuple[bytes, bytes]] = []
        values = iter(losses)

        def measure(fit: Fit) -> dict[str, float]:
            model = fit._trainer.model
            self.snapshots.append((model.parameters_flat.tobytes(), model.buffers_flat.tobytes()))
            value = next(values)
            return {"val_loss": value, "val_accuracy": 1 - value}

        monkeypatch.setattr(Fit, "_measure", measure)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([0.9, 0.8, 0.7, 0.7, 0.75], 2, 4, 2),
        ([0.9, 0.8, 0.85, 0.7, 0.8, 0.8], 2, 5, 3),
        ([0.9, 0.95, 0.95], 2, 2, 0),
        ([0.9, math.nan, 0.8, math.nan, math.nan], 2, 4, 2),
        ([math.nan, math.nan, math.nan], 2, 2, None),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], None, 6, 6),
        ([0.9, 0.8, 0.7, 0.75, 0.74, 0.73, 0.72], None, 6, 2),
    ],
)
def test_early_stopping_and_the_best_model(
    monkeypatch: pytest.MonkeyPatch,
    monitor: Any,
    losses: list[float],
    patience: int | None,
    epochs: int,
    best: int | None,
) -> None:
    spy = Overwrite(losses, monkeypatch)
    X, y = make_data()
    trainer = Trainer(
        make_model(),
        epochs=6,
        batch_size=20,
        early_stopping=patience,
        restore_best=True,
        monitor=monitor,
        on_nonfinite="skip",  # goes on after a loss that is NaN
    )
    history = trainer.fit(X, y, validation_data=(X, y))
    assert trainer.epoch == epochs
    assert history.stopped_reason == ("epochs" if epochs == 6 else "early_stopping")
    assert history.best_epoch == best
    shown = epochs if best is None else best
    assert trainer.model.parameters_flat.tobytes() == spy.snapshots[shown][0]
    # The running statistics are those of the best epoch too: they moved in every epoch.
    assert trainer.model.buffers_flat.tobytes() == spy.snapshots[shown][1]
    assert len({buffers for _, buffers in spy.snapshots}) == len(spy.snapshots)


def test_without_restore_the_last_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Overwrite([0.9, 0.5, 0.6, 0.7], monkeypatch)
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=9, early_stopping=2)
    trainer.fit(X, y, validation_data=(X, y))
    assert trainer.epoch == 3
    assert trainer.model.parameters_flat.tobytes() == spy.snapshots[3][0]


def test_early_stopping_for_real() -> None:
    X, y = make_data(40)
    noise = Generator(4).integers(3, 40)
    trainer = Trainer(make_model(), epochs=400, learning_rate=0.02, early_stopping=5, restore_best=True, batch_size=10)
    history = trainer.fit(X, y, validation_data=(X[::-1], noise))
    assert history.stopped_reason == "early_stopping"
    assert trainer.epoch < 400
    assert trainer.epoch == history.best_epoch + 5
    logits = trainer.model.forward(X[::-1])
    assert normcore.softmax_cross_entropy(logits, noise)[0] == history.best_value


def test_an_improvement_is_more_than_min_delta(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Overwrite([0.9, 0.85, 0.7, 0.65, 0.61, 0.5, 0.5], monkeypatch)
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=6, early_stopping=2, min_delta=0.1)
    assert trainer.fit(X, y, validation_data=(X, y)).best_epoch == 2
    assert (trainer.epoch, trainer.history.stopped_reason) == (4, "early_stopping")
    trainer.save_checkpoint(tmp_path / "run")
    assert Trainer.resume(tmp_path / "run").min_delta == 0.1
    with pytest.raises(ValueError, match=r"min_delta is -0\.1"):
        Trainer(make_model(), min_delta=-0.1)


def test_a_plateau_lowers_the_rate_and_goes_on_from_checkpoints(tmp_path: Path) -> None:
    X, y = make_data()
    noise = (X[::-1], Generator(4).integers(3, 60))
    schedule = PlateauSchedule(0.05, patience=1, factor=0.5)
    options: dict[str, Any] = {"learning_rate": schedule, "epochs": 5, "batch_size": 20}
    folder = tmp_path
    whole = Trainer(make_model(), **options, callbacks=SaveEveryStep(folder))
    whole.fit(X, y, validation_data=noise)
    assert whole._next_rate() < 0.05
    files = list(folder.iterdir())
    assert len(files) == 15
    for file in files:
        resumed = Trainer.resume(file)
        assert resumed.learning_rate == schedule
        if resumed.epoch < 5:
            resumed.fit(X, y, validation_data=noise)
        assert state_of(resumed) == state_of(whole)
    with pytest.raises(ValueError, match="the learning rate watches 'val_loss': give validation_data"):
        Trainer(make_model(), learning_rate=schedule).fit(X, y)


@pytest.mark.parametrize("options", [{"early_stopping": 3}, {"restore_best": True}])
def test_what_is_watched_must_be_measured(options: dict[str, Any]) -> None:
    X, y = make_data()
    with pytest.raises(ValueError, match="watch 'val_loss': give validation_data"):
        Trainer(make_model(), **options).fit(X, y)
    with pytest.raises(ValueError, match="watch 'train_loss': set evaluate_training"):
        Trainer(make_model(), monitor="train_loss", evaluate_training=False, **options).fit(X, y)
    Trainer(make_model(), epochs=1, monitor="train_accuracy", **options).fit(X, y)


def overfit(**options: Any) -> tuple[Trainer, dict[str, Any]]:
    """A trainer whose best epoch is in the middle, and the data for its fit."""
    X, y = make_data(40)
    data = {"X": X, "y": y, "validation_data": (X, np.where(np.arange(40) % 2, y, Generator(4).integers(3, 40)))}
    trainer = Trainer(make_model(dropout=0.2), learning_rate=0.05, batch_size=10, **{"restore_best": True, **options})
    return trainer, data


def weights_of(model: MLP) -> tuple[bytes, bytes]:
    return model.parameters_flat.tobytes(), model.buffers_flat.tobytes()


def test_training_goes_on_from_the_last_step_and_not_from_the_best(tmp_path: Path) -> None:
    last, data = overfit(epochs=4, restore_best=False)
    last.fit(**data)
    trainer, _ = overfit(epochs=4)
    trainer.fit(**data)
    assert 0 < trainer.history.best_epoch < 4
    assert weights_of(trainer.model) != weights_of(last.model)
    trainer.save_checkpoint(tmp_path / "run")
    resumed = Trainer.resume(tmp_path / "run")
    assert weights_of(resumed.model) == weights_of(trainer.model)
    resumed.save_checkpoint(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "run").read_bytes()
    whole, _ = overfit(epochs=7)
    whole.fit(**data)
    stepped = copy.deepcopy(trainer)
    for other in (trainer, resumed, by_pickle(trainer)):
        other.epochs = 7
        other.fit(**data)
        assert state_of(other) == state_of(whole)
    # A step by hand does so too, and one that fails leaves the best model there.
    shown = weights_of(stepped.model)
    with pytest.raises(ValueError, match=r"Trainer\.step: y is"):
        stepped.step(data["X"], data["y"][:3])
    assert weights_of(stepped.model) == shown
    assert stepped.step(data["X"], data["y"]) == last.step(data["X"], data["y"])
    assert weights_of(stepped.model) == weights_of(last.model)


@pytest.mark.parametrize("changed", [False, True])
def test_a_step_that_fails_leaves_the_model_that_was_there(changed: bool) -> None:
    trainer, data = overfit(epochs=4)
    trainer.fit(**data)
    assert 0 < trainer.history.best_epoch < 4
    if changed:  # so that training goes on from the change
        trainer.model.parameters()["w1"][0] += 0.5
    other = copy.deepcopy(trainer)
    shown = weights_of(trainer.model)
    X = data["X"].copy()
    X[3, 1] = math.inf
    with pytest.raises(NonFiniteError, match="the features of row 3 of the batch are not finite"):
        trainer.step(X, data["y"])
    assert weights_of(trainer.model) == shown
    assert trainer.step(data["X"], data["y"]) == other.step(data["X"], data["y"])
    assert state_of(trainer) == state_of(other)


def test_a_fit_with_nothing_to_do_leaves_the_best_model(tmp_path: Path) -> None:
    trainer, data = overfit(epochs=4, early_stopping=2)
    trainer.fit(**data)
    before = state_of(trainer), trainer.history.stopped_reason
    with pytest.warns(UserWarning, match="nothing to do; (4 of 4 epochs|val_loss has not improved for 2 epochs)"):
        trainer.fit(**data)
    assert (state_of(trainer), trainer.history.stopped_reason) == before


@pytest.mark.parametrize("change", ["parameters_flat", "buffers_flat"])
def test_a_model_changed_after_fit_is_trained_as_it_is(change: str) -> None:
    trainer, data = overfit(epochs=4)
    trainer.fit(**data)
    getattr(trainer.model, change)[...] += 1.0
    expected, _ = trainer.model.copy().loss_and_grads(data["X"], data["y"], seed=0, stream=2**63 + 16 * 3)
    assert trainer.step(data["X"], data["y"]) == expected


def test_wrong_data_leave_the_best_model() -> None:
    trainer, data = overfit(epochs=4)
    trainer.fit(**data)
    before = weights_of(trainer.model)
    with pytest.raises(ValueError, match="fit: y is"):
        trainer.fit(data["X"], data["y"][:-1], validation_data=data["validation_data"])
    assert weights_of(trainer.model) == before


# ---------------------------------------------------------------------- NaN and Inf


def poisoned(rows: int = 60, row: int = 25) -> tuple[Any, Any]:
    X, y = make_data(rows)
    X[row, 2] = np.nan
    return X, y


@pytest.mark.parametrize("norm", NORMS)
def test_raise_names_step_and_place(norm: Any) -> None:
    X, y = poisoned()
    model = make_model(norm)
    trainer = Trainer(model, epochs=2, batch_size=20)
    order = Generator(0, 2**62).permutation(60)
    step = int(np.flatnonzero(order == 25)[0]) // 20
    good = Trainer(make_model(norm), batch_size=20)
    for start in range(0, step * 20, 20):
        rows = order[start : start + 20]
        good.step(X[rows], y[rows])
    message = rf"step {step} \(epoch 0\): the loss is nan; the features of row"
    with pytest.raises(NonFiniteError, match=message) as caught:
        trainer.fit(X, y)
    assert isinstance(caught.value, FloatingPointError)
    assert (caught.value.step, caught.value.name) == (step, "X")
    assert trainer.history.stopped_reason == "nonfinite"
    assert trainer.step_count == step
    assert model.parameters_flat.tobytes() == good.model.parameters_flat.tobytes()
    assert model.buffers_flat.tobytes() == good.model.buffers_flat.tobytes()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.step, copy.name, str(copy)) == (step, "X", str(caught.value))


def test_raise_names_the_parameter_or_the_gradient() -> None:
    X, y = make_data()
    model = make_model("layer")
    model.parameters()["gamma2"][3] = np.inf
    with pytest.raises(NonFiniteError, match=r"first parameter that is not finite is gamma2 \(layer 2\)") as caught:
        Trainer(model).step(X, y)
    assert caught.value.name == "gamma2"
    model = MLP([1, 1, 2], dtype="float32")
    model.parameters_flat[...] = 1
    model.parameters()["w2"][...] = [[2e28, -2e28]]
    # The logits are +-2e38, the loss, a double, is 4e38, and so would the gradient of w1 be, in single precision.
    message = r"the loss is [0-9.e+]+; the first gradient that is not finite is w1"
    with pytest.raises(NonFiniteError, match=message) as caught:
        Trainer(model).step(np.array([[1e10], [1e10]], np.float32), np.array([1, 1]))
    assert caught.value.name == "w1"


@pytest.mark.parametrize("norm", NORMS)
def test_skip_leaves_the_step_out(norm: Any) -> None:
    X, y = poisoned()
    trainer = Trainer(make_model(norm), epochs=2, batch_size=20, on_nonfinite="skip")
    history = trainer.fit(X, y)
    assert len(history.loss) == trainer.step_count == 6
    assert len(history.skipped_steps) == 2
    assert [math.isnan(loss) for loss in history.loss] == [step in history.skipped_steps for step in range(6)]
    assert trainer.optimizer.updates == 4
    assert np.isfinite(trainer.model.parameters_flat).all()
    assert np.isfinite(trainer.model.buffers_flat).all()
    # Just as if those batches had not been there.
    other = Trainer(make_model(norm))
    for step in range(6):
        rows = Generator(0, 2**62 + step // 3).permutation(60)[step % 3 * 20 :][:20]
        if step not in history.skipped_steps:
            other.step(X[rows], y[rows])
    assert other.model.parameters_flat.tobytes() == trainer.model.parameters_flat.tobytes()
    assert other.model.buffers_flat.tobytes() == trainer.model.buffers_flat.tobytes()


def test_stop_ends_the_training() -> None:
    X, y = poisoned()
    trainer = Trainer(make_model(), epochs=5, batch_size=20, on_nonfinite="stop")
    history = trainer.fit(X, y)
    assert history.stopped_reason == "nonfinite"
    assert trainer.epoch == 0
    assert history.skipped_steps == [trainer.step_count - 1]
    assert np.isfinite(trainer.model.parameters_flat).all()
    assert np.isfinite(trainer.model.buffers_flat).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("policy", ["raise", "skip", "stop"])
def test_a_last_update_that_overflows(norm: Any, policy: Any) -> None:
    X, y = make_data()
    X *= 100  # the gradients times the rate are beyond float32, too
    model = make_model(norm)
    trainer = Trainer(model, optimizer="sgd", learning_rate=3e38, l2=50.0, epochs=2, batch_size=60, on_nonfinite=policy)
    if policy == "raise":
        message = r"^Trainer: after step 0 \(epoch 0\): the first parameter that is not finite is w1 \(layer 1\)$"
        with pytest.raises(NonFiniteError, match=message) as caught:
            trainer.fit(X, y)
        assert (caught.value.step, caught.value.name) == (0, "w1")
    else:
        trainer.fit(X, y)
    history = trainer.history
    assert not np.isfinite(model.parameters_flat).all()
    assert history.stopped_reason == "nonfinite"
    assert (trainer.step_count, trainer.epoch, len(history.loss), len(history["train_loss"])) == (1, 0, 1, 1)
    assert history.skipped_steps == []


def test_a_callback_does_not_hide_an_update_that_overflows() -> None:
    X, y = make_data()
    trainer = Trainer(
        make_model(),
        optimizer="sgd",
        learning_rate=3e38,
        l2=50.0,
        batch_size=20,
        on_nonfinite="stop",
        callbacks=Spy(stop_step=1),
    )
    assert trainer.fit(X, y).stopped_reason == "nonfinite"
    assert trainer.step_count == 1


@pytest.mark.parametrize(("policy", "reason"), [("raise", "nonfinite"), ("skip", "epochs"), ("stop", "nonfinite")])
def test_a_measured_loss_that_is_not_finite(policy: Any, reason: str) -> None:
    X, y = make_data()
    # Finite parameters, whose logits overflow.
    trainer = Trainer(make_model(), optimizer="sgd", learning_rate=3e38, epochs=1, batch_size=60, on_nonfinite=policy)
    if policy == "raise":
        message = r"after step 0 \(end of epoch 0\): train_loss is nan; all parameters are finite"
        with pytest.raises(NonFiniteError, match=message) as caught:
            trainer.fit(X, y)
        assert (caught.value.step, caught.value.name) == (0, "train_loss")
    else:
        trainer.fit(X, y)
    assert np.isfinite(trainer.model.parameters_flat).all()
    assert trainer.history.stopped_reason == reason
    assert [math.isnan(loss) for loss in trainer.history["train_loss"]] == [False, True]
    # And so for the validation data, here because of a NaN among them.
    bad_X, bad_y = poisoned()
    trainer = Trainer(make_model(), epochs=2, on_nonfinite=policy)
    if policy == "raise":
        with pytest.raises(NonFiniteError, match="val_loss is nan") as caught:
            trainer.fit(X, y, validation_data=(bad_X, bad_y))
        assert caught.value.name == "val_loss"
    else:
        trainer.fit(X, y, validation_data=(bad_X, bad_y))
    assert trainer.history.stopped_reason == reason
    assert trainer.epoch == (2 if policy == "skip" else 1)


@pytest.mark.parametrize("policy", ["raise", "skip", "stop"])
def test_running_statistics_that_overflow(policy: Any) -> None:
    # The variance of the activations is beyond float32; what is normalised with it, the loss and the gradients are not.
    X, y = make_data()
    model = make_model("batch")
    model.parameters()["w1"][...] *= np.float32(1e20)
    before = (model.parameters_flat.tobytes(), model.buffers_flat.tobytes())
    trainer = Trainer(model, on_nonfinite=policy)
    if policy == "raise":
        with pytest.raises(NonFiniteError, match=r"running statistic that is not finite is running_var1 \(layer 1\)"):
            trainer.step(X, y)
    else:
        trainer.step(X, y)
        assert trainer.history.skipped_steps == [0]
    assert (model.parameters_flat.tobytes(), model.buffers_flat.tobytes()) == before


def fill_value(rule: str) -> tuple[Trainer, Any, Any, tuple[Any, Any]]:
    """A trainer with its first batch good, and then data with a fill value in a row that the model takes for wrong."""
    rng = Generator(0)
    X = rng.normal((64, 3), dtype="float32")
    y = (X[:, 1] < 0).astype(int)
    model = MLP([3, 2], seed=3)
    trainer = Trainer(model, optimizer=rule, learning_rate=0.05 if rule in ("rmsprop", "adam", "adamw") else 20.0)
    trainer.step(X, y)
    bad_X, bad_y = X.copy(), y.copy()
    bad_X[7, 1] = 9.96921e36  # netCDF's fill value of float data
    bad_y[7] = 1 - model.predict(bad_X[7:8])[0]
    if rule in ("momentum", "nesterov"):
        bad_X[:, 1] = bad_X[7, 1]
        bad_y[:] = bad_y[7]
        trainer.learning_rate = 1e3
    return trainer, bad_X, bad_y, (X, y)


@pytest.mark.parametrize("policy", ["raise", "skip", "stop"])
@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ("rmsprop", "mean square"),
        ("adam", "second moment"),
        ("adamw", "second moment"),
        ("momentum", "velocity"),
        ("nesterov", "velocity"),
    ],
)
def test_a_state_that_overflows_is_noticed(rule: str, state: str, policy: Any) -> None:
    trainer, bad_X, bad_y, good = fill_value(rule)
    trainer.on_nonfinite = policy
    before = state_of(trainer)
    if policy == "raise":
        message = rf"^Trainer: step 1 \(epoch 0\): the loss is .*; the update would make the {state} of w1 overflow$"
        with pytest.raises(NonFiniteError, match=message) as caught:
            trainer.step(bad_X, bad_y)
        assert (caught.value.step, caught.value.name) == (1, "w1")
        assert state_of(trainer) == before
    else:
        loss = trainer.step(bad_X, bad_y)
        assert math.isfinite(loss)
        assert trainer.history.skipped_steps == [1]
        assert trainer.history.loss[1] == loss
        assert (trainer.step_count, trainer.optimizer.updates) == (2, 1)
        assert state_of(trainer)[:4] == before[:4]
        fitted = Trainer(
            trainer.model, optimizer=rule, on_nonfinite=policy, epochs=2, learning_rate=trainer.learning_rate
        )
        assert fitted.fit(bad_X, bad_y).stopped_reason == ("epochs" if policy == "skip" else "nonfinite")
        assert len(fitted.history.skipped_steps) == (2 if policy == "skip" else 1)
    trainer.learning_rate = 1e-3
    trainer.step(*good)
    for slot in (trainer.optimizer.slot1, trainer.optimizer.slot2):
        assert slot is None or np.isfinite(slot).all()


def refused_update(optimizer: Optimizer, greatest: float) -> StateOverflowError | None:
    try:
        optimizer.update(0.5, 1.0, greatest)
    except StateOverflowError as error:
        return error
    return None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_gradient_makes_a_state_infinite_in_silence(name: str, dtype: str) -> None:
    """Gradients up to the greatest number, with the tightest bound and with none: the same bits or the same refusal."""
    greatest = float(np.finfo(dtype).max)
    sizes = [*np.logspace(-3, math.log10(greatest) - 0.01, 60).tolist(), greatest]
    refused = 0
    for decays in (0.0, 0.5, 0.999):
        options: dict[str, Any] = {"momentum": decays, "decay_rate": decays, "betas": (decays, decays)}
        optimizers = [Optimizer(make_model("layer", dtype=dtype), name, **options) for _ in range(2)]
        for size in sizes:
            results = []
            for bounded, optimizer in zip((True, False), optimizers, strict=True):
                model = optimizer._model
                signs = np.where(np.arange(model.parameters_flat.size) % 3, 1.0, -1.0)
                model.parameters_flat[...] = 0
                model.gradients_flat[...] = signs * size
                bound = float(np.abs(model.gradients_flat).max()) if bounded else math.inf
                before = (model.parameters_flat.tobytes(), optimizer.updates)
                refusal = refused_update(optimizer, bound)
                if refusal is not None:
                    assert (model.parameters_flat.tobytes(), optimizer.updates) == before
                    assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal)
                results.append("" if refusal is None else refusal.name)
                for slot in (optimizer.slot1, optimizer.slot2):
                    assert slot is None or np.isfinite(slot).all()
                results[-1] += repr([None if s is None else s.tobytes() for s in (optimizer.slot1, optimizer.slot2)])
            assert results[0] == results[1]
            refused += results[0].startswith("w1")
    _, first, second = OPTIMIZERS[name]
    assert bool(refused) is (second or (first and dtype == "float32"))  # there the velocities add up to too much


def test_the_l2_term_can_make_the_state_overflow() -> None:
    model = make_model(None)
    model.parameters_flat[...] = 0.0
    model.parameters()["w2"][0, 0] = 1e15
    trainer = Trainer(model, optimizer="rmsprop", l2=1e8)
    X, y = make_data()
    with pytest.raises(NonFiniteError, match="the update would make the mean square of w2 overflow") as caught:
        trainer.step(X, y)
    assert caught.value.name == "w2"
    model.parameters()["w2"][0, 0] = 1e5
    trainer.step(X, y)


def test_gradients_of_usual_size_are_updated_without_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(optimizer: Optimizer) -> None:
        raise AssertionError

    monkeypatch.setattr(Optimizer, "_check_state", fail)
    X, y = make_data()
    for name in OPTIMIZERS:
        for options in ({}, {"l2": 1e-2}, {"clip_norm": 1e3}):
            Trainer(make_model(), optimizer=name, epochs=2, **options).fit(X * 1e3, y)


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "where",
    ["rate", "schedule", "option", "pass", "penalty", "norm", "update", "after the update", "labels", "weights"],
)
def test_a_step_that_fails_has_changed_nothing(norm: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    trainer = Trainer(make_model(norm), optimizer="adamw", l2=1e-3, clip_norm=1.0)
    trainer.step(X, y)
    other = Trainer(make_model(norm), optimizer="adamw", l2=1e-3, clip_norm=1.0)
    other.step(X, y)
    before, arguments = state_of(trainer), {"X": X, "y": y}
    optimizer = trainer.optimizer

    def fail(*args: Any) -> Any:
        raise BrokenError

    expected: Any = BrokenError
    if where == "rate":
        monkeypatch.setitem(vars(trainer), "learning_rate", math.nan)
        expected = ValueError
    elif where == "schedule":
        monkeypatch.setattr(trainer, "learning_rate", fail)
    elif where == "option":
        monkeypatch.setitem(vars(optimizer), "betas", (0.9, 1.5))
        monkeypatch.setitem(vars(optimizer), "_updater", None)
        expected = ValueError
    elif where == "pass":
        monkeypatch.setattr(trainer.model, "_training_pass", fail)
    elif where == "penalty":
        monkeypatch.setattr(optimizer, "penalty", fail)
    elif where == "norm":
        monkeypatch.setattr(trainer, "_guard", fail)
    elif where == "update":
        monkeypatch.setattr(optimizer, "update", fail)
    elif where == "after the update":
        monkeypatch.setattr(optimizer, "_limit", 0.0)
        monkeypatch.setattr(optimizer, "_check_state", fail)
    elif where == "labels":
        arguments["y"] = np.where(np.arange(60) == 59, 3, y)
        expected = ValueError
    else:
        arguments["sample_weight"] = np.where(np.arange(60) == 59, -1.0, 1.0)
        expected = ValueError
    with pytest.raises(expected):
        trainer.step(**arguments)
    assert state_of(trainer) == before
    monkeypatch.undo()
    trainer.step(X, y)
    other.step(X, y)
    assert state_of(trainer) == state_of(other)


def test_a_callback_that_breaks_the_rate() -> None:
    X, y = make_data()
    kept: list[Any] = []

    class Break:
        def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            kept.append(state_of(trainer)[:-1])
            if logs["step"] == 5:
                trainer.learning_rate = math.nan  # which is refused here

    trainer = Trainer(make_model(), epochs=4, batch_size=20, callbacks=Break())
    with pytest.raises(ValueError, match="learning_rate is nan"):
        trainer.fit(X, y)
    assert trainer.history.stopped_reason == "error"
    assert trainer.step_count == len(kept) == 5
    assert state_of(trainer)[:-1] == kept[-1]


# ---------------------------------------------------------------------- callbacks and interrupts


def test_order_and_logs_of_the_hooks() -> None:
    X, y = make_data()
    spy = Spy()
    history = Trainer(make_model(), epochs=2, batch_size=30, callbacks=[spy]).fit(X, y, validation_data=(X, y))
    names = [name for name, _ in spy.events]
    assert names == ["train_begin", *["step_end", "step_end", "epoch_end"] * 2, "train_end"]
    steps = [logs for name, logs in spy.events if name == "step_end"]
    assert [logs["step"] for logs in steps] == [1, 2, 3, 4]
    assert [logs["batch"] for logs in steps] == [0, 1, 0, 1]
    assert [logs["loss"] for logs in steps] == history.loss
    epochs = [logs for name, logs in spy.events if name == "epoch_end"]
    assert [logs["epoch"] for logs in epochs] == [1, 2]
    assert [logs["loss"] for logs in epochs] == [(a + b) / 2 for a, b in (history.loss[:2], history.loss[2:])]
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert [logs[name] for logs in epochs] == history[name][1:]
    assert spy.events[-1][1]["stopped_reason"] == "epochs"


def test_functions_are_called_each_epoch_and_may_stop() -> None:
    X, y = make_data()
    seen: list[int] = []

    def watch(trainer: Trainer, logs: dict[str, Any]) -> bool:
        assert trainer.epoch == logs["epoch"]
        seen.append(logs["epoch"])
        return logs["epoch"] == 3

    trainer = Trainer(make_model(), epochs=9, callbacks=[watch, lambda trainer, logs: None])
    assert trainer.fit(X, y).stopped_reason == "callback"
    assert seen == [1, 2, 3]


def test_one_callback_needs_no_list() -> None:
    X, y = make_data()
    epochs: list[int] = []
    Trainer(make_model(), epochs=3, callbacks=lambda trainer, logs: epochs.append(logs["epoch"])).fit(X, y)
    assert epochs == [1, 2, 3]
    spy = Spy()
    Trainer(make_model(), epochs=1, callbacks=spy).fit(X, y)  # type: ignore[arg-type]
    assert [event for event, _ in spy.events] == ["train_begin", "step_end", "epoch_end", "train_end"]


def test_a_step_hook_may_stop() -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=9, batch_size=20, callbacks=[Spy(stop_step=5)])
    history = trainer.fit(X, y)
    assert (history.stopped_reason, trainer.epoch, trainer.step_count) == ("callback", 1, 5)
    assert len(history["train_loss"]) == 2


@pytest.mark.parametrize("answer", [True, np.True_, np.array([True])[0]])
def test_every_kind_of_true_stops(answer: Any) -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=9, callbacks=[lambda trainer, logs: answer, lambda trainer, logs: False])
    assert trainer.fit(X, y).stopped_reason == "callback"
    assert trainer.epoch == 1


@pytest.mark.parametrize("answer", [None, False, np.False_])
def test_none_and_false_do_not_stop(answer: Any) -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=3, callbacks=lambda trainer, logs: answer)
    assert trainer.fit(X, y).stopped_reason == "epochs"


@pytest.mark.parametrize("hook", ["on_train_begin", "on_step_end", "on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("answer", [1, 0, "stop", np.array([True]), np.float64(1.0), []])
def test_other_answers_of_callbacks_are_refused(hook: str, answer: Any) -> None:
    X, y = make_data()
    callback = type("Mine", (), {hook: lambda self, trainer, logs: answer})()
    trainer = Trainer(make_model(), epochs=1, callbacks=callback)
    with pytest.raises(TypeError, match=rf"^Trainer: {hook} of the callback <.*Mine.*> returned a .*; it must return"):
        trainer.fit(X, y)
    assert trainer.history.stopped_reason == ("epochs" if hook == "on_train_end" else "error")


def test_an_unfinished_epoch_is_finished_by_the_next_fit() -> None:
    X, y = make_data()
    whole = Trainer(make_model(dropout=0.2), epochs=4, batch_size=16)
    whole.fit(X, y)
    trainer = Trainer(make_model(dropout=0.2), epochs=4, batch_size=16, callbacks=[Spy(stop_step=6)])
    trainer.fit(X, y)
    with pytest.raises(ValueError, match="X has 59 rows but the unfinished epoch 1 was begun with 60"):
        trainer.fit(X[:-1], y[:-1])
    trainer.fit(X, y)
    assert state_of(trainer) == state_of(whole)


@pytest.mark.parametrize("restore", [False, True])
def test_interrupt_leaves_the_last_finished_step(restore: bool) -> None:
    X, y = make_data()
    snapshots: list[bytes] = []

    class Interrupt(Spy):
        def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> bool:
            snapshots.append(trainer.model.parameters_flat.tobytes())
            if logs["step"] == 5:
                raise KeyboardInterrupt
            return False

    spy = Interrupt()
    trainer = Trainer(make_model(), epochs=9, batch_size=20, callbacks=[spy], restore_best=restore)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, validation_data=(X, y))
    history = trainer.history
    assert history.stopped_reason == "interrupted"
    assert spy.events[-1] == ("train_end", {"epoch": 1, "step": 5, "stopped_reason": "interrupted"})
    assert len(history.loss) == 5
    if restore:
        assert history.best_epoch == 1
        assert trainer.model.parameters_flat.tobytes() == snapshots[2]
    else:
        assert trainer.model.parameters_flat.tobytes() == snapshots[-1]


@pytest.fixture
def default_sigint() -> Iterator[None]:
    """Python's own handler, which is not there where the tests were started in the background."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("moment", ["pass", "update"])
def test_control_c_in_the_middle_of_a_step_waits_for_its_end(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=9, batch_size=20, l2=0.1)
    target: Any = trainer.model if moment == "pass" else trainer.optimizer
    name = "_training_pass" if moment == "pass" else "update"
    original = getattr(target, name)
    calls = 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            signal.raise_signal(signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(target, name, interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert trainer.step_count == len(trainer.history.loss) == trainer.optimizer.updates == 4
    monkeypatch.undo()
    trainer.fit(X, y)
    whole = Trainer(make_model(), epochs=9, batch_size=20, l2=0.1)
    whole.fit(X, y)
    assert state_of(trainer) == state_of(whole)


@pytest.mark.usefixtures("default_sigint")
def test_control_c_between_steps_is_immediate() -> None:
    X, y = make_data()
    after: list[int] = []

    def press(trainer: Trainer, logs: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGINT)
        after.append(1)

    with pytest.raises(KeyboardInterrupt):
        Trainer(make_model(), callbacks=[press]).fit(X, y)
    assert not after


def test_a_handler_of_the_caller_stays() -> None:
    X, y = make_data()
    pressed: list[int] = []
    old = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        handler = signal.getsignal(signal.SIGINT)
        Trainer(make_model(), epochs=2, callbacks=[lambda t, logs: signal.raise_signal(signal.SIGINT)]).fit(X, y)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, old)
    assert len(pressed) == 2


def test_errors_of_callbacks_come_through() -> None:
    X, y = make_data()

    def fail(trainer: Trainer, logs: dict[str, Any]) -> None:
        raise RuntimeError("mine")

    trainer = Trainer(make_model(), callbacks=[fail])
    with pytest.raises(RuntimeError, match="mine"):
        trainer.fit(X, y)
    assert trainer.history.stopped_reason == "error"
    assert trainer.epoch == 1


# ---------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("progress", "terminal", "drawn"),
    [(None, False, False), (None, True, True), (False, True, False), (True, False, True), (True, True, True)],
)
def test_progress_is_quiet_unless_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], progress: Any, terminal: bool, drawn: bool
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    X, y = make_data()
    Trainer(make_model(), epochs=2, progress=progress).fit(X, y)
    shown = stream.getvalue()
    assert bool(shown) is drawn
    if drawn and terminal:
        assert re.search(r"epoch 2/2: 100%.* 2/2 .*loss=[0-9.]+", shown.split("\r")[-1])
        assert shown.endswith("\n")  # the last line stays
    elif drawn:
        lines = shown.splitlines()
        assert len(lines) == 2
        assert re.fullmatch(r"epoch 2/2: loss [0-9.]+, train_loss [0-9.]+, train_accuracy [0-9.]+", lines[1])
    assert capsys.readouterr().out == ""


def test_the_bar_shows_the_validation_value(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    X, y = make_data()
    history = Trainer(make_model(), epochs=3).fit(X, y, validation_data=(X, y))
    last = stream.getvalue().split("\r")[-1]
    assert f"val_loss={history['val_loss'][-1]:.4g}, val_accuracy={history['val_accuracy'][-1]:.4g}" in last


def test_a_notebook_gets_the_bar_of_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            asked.append("bar")

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **options: asked.append(name)

    shell = type("Shell", (), {"kernel": None})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    X, y = make_data()
    Trainer(make_model(), epochs=1).fit(X, y)
    assert asked[0] == "bar"
    assert asked[-1] == "close"


def test_a_closed_stream_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=2, progress=True)
    monkeypatch.setattr(stream, "isatty", lambda: False, raising=False)
    assert trainer.fit(X, y).stopped_reason == "epochs"


def test_progress_without_tqdm_or_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    Trainer(make_model(), epochs=1).fit(X, y)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    Trainer(make_model(), epochs=1, progress=True).fit(X, y)
    assert sys.stderr.getvalue().startswith("epoch 1/1: loss ")  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stderr", None)
    assert Trainer(make_model(), epochs=1).fit(X, y).stopped_reason == "epochs"


# ---------------------------------------------------------------------- checkpoints


class SaveAt:
    def __init__(self, path: Path, step: int, hook: str) -> None:
        self.path, self.step = path, step
        setattr(self, hook, self._save)

    def _save(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        if trainer.step_count == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("step", "hook"), [(4, "on_epoch_end"), (4, "on_step_end"), (6, "on_step_end"), (12, "on_epoch_end")]
)
def test_a_resumed_run_has_the_bits_of_one_that_was_never_interrupted(
    tmp_path: Path, name: str, step: int, hook: str
) -> None:
    X, y = make_data()
    options: dict[str, Any] = {
        "optimizer": name,
        "learning_rate": CosineSchedule(5e-3, 12, 1e-4, warmup=3),
        "batch_size": 16,
        "epochs": 4,
        "l2": 1e-3,
        "clip_norm": 0.5,
        "class_weight": [1.0, 2.0, 0.5],
        "label_smoothing": 0.1,
        "early_stopping": 3,
        "restore_best": True,
        "seed": 2**64 - 1,
    }
    path = tmp_path / "run.safetensors"
    data: dict[str, Any] = {"validation_data": (X[:20], y[:20]), "sample_weight": Generator(1).uniform(60)}
    whole = Trainer(make_model(dropout=0.2), **options, callbacks=[SaveAt(path, step, hook)])
    whole.fit(X, y, **data)
    resumed = Trainer.resume(path)
    assert resumed.step_count == step
    assert resumed.model is not whole.model
    resumed.fit(X, y, **data)
    assert state_of(resumed) == state_of(whole)
    assert resumed.learning_rate == whole.learning_rate


class SaveEveryStep:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        trainer.save_checkpoint(self.folder / f"step{trainer.step_count}")


@pytest.mark.parametrize("shuffle", ["permutation", "replacement"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, norm: Any, shuffle: Any
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    X, y = make_data(18)
    whole = Trainer(
        MLP([6, 4, 3], norm=norm, dropout=0.2, seed=1),
        optimizer=name,
        shuffle=shuffle,
        learning_rate=CosineSchedule(1e-2, 10, warmup=2),
        epochs=3,
        batch_size=5,
        l2=1e-3,
        clip_norm=1.0,
        restore_best=True,
        seed=5,
        callbacks=SaveEveryStep(tmp_path),
    )
    whole.fit(X, y, validation_data=(X[:7], y[:7]))
    files = list(tmp_path.iterdir())
    assert len(files) == whole.step_count == 3 * (4 if shuffle == "permutation" else 3)
    for file in files:
        resumed = Trainer.resume(file)
        resumed.fit(X, y, validation_data=(X[:7], y[:7]))
        assert state_of(resumed) == state_of(whole)


@pytest.mark.parametrize("step", [1, 5, 9, 15])
def test_a_checkpoint_after_an_interrupt_goes_on(tmp_path: Path, step: int) -> None:
    class Interrupt:
        def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            if logs["step"] == step:
                raise KeyboardInterrupt

    whole, data = overfit(epochs=4)
    whole.fit(**data)
    assert 0 < whole.history.best_epoch < 4
    trainer, _ = overfit(epochs=4, callbacks=Interrupt())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(**data)
    trainer.save_checkpoint(tmp_path / "run")
    resumed = Trainer.resume(tmp_path / "run")
    assert weights_of(resumed.model) == weights_of(trainer.model)
    resumed.fit(**data)
    assert state_of(resumed) == state_of(whole)


def test_a_run_in_pieces_with_replacement(tmp_path: Path) -> None:
    X, y = make_data(dtype="float64")
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "shuffle": "replacement", "on_nonfinite": "skip"}
    X[3] = np.inf
    whole = Trainer(make_model(dtype="float64"), **options)
    whole.fit(X, y)
    path = tmp_path / "run"
    Trainer(make_model(dtype="float64"), **options).save_checkpoint(path)
    for stop in (3, 7, 8, 14, 20, 21):
        trainer = Trainer.resume(path, callbacks=[Spy(stop_step=stop)])
        trainer.fit(X, y)
        assert trainer.step_count == stop
        trainer.save_checkpoint(path)
    trainer = Trainer.resume(path)
    trainer.fit(X, y)
    assert state_of(trainer) == state_of(whole)
    assert whole.history.skipped_steps


def test_learning_rates_in_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def rate(step: int) -> float:
        return 1e-3

    Trainer(make_model(), learning_rate=rate).save_checkpoint(path)
    with pytest.raises(ValueError, match="its learning rate was a plain function: give learning_rate"):
        Trainer.resume(path)
    assert Trainer.resume(path, learning_rate=rate).learning_rate is rate
    Trainer(make_model(), learning_rate=0.125).save_checkpoint(path)
    assert Trainer.resume(path).learning_rate == 0.125
    assert isinstance(Trainer.resume(path, learning_rate=ConstantSchedule(1.0)).learning_rate, Schedule)


def test_resume_keeps_callbacks_and_progress_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "run"
    spy = Spy()
    Trainer(make_model(), callbacks=[Spy()], progress=True).save_checkpoint(path)
    trainer = Trainer.resume(path, callbacks=[spy], progress=False)
    assert trainer.callbacks == [spy]
    assert trainer.progress is False


def by_pickle(trainer: Trainer) -> Trainer:
    return pickle.loads(pickle.dumps(trainer))


@pytest.mark.parametrize("duplicate", [by_pickle, copy.deepcopy])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copies_of_a_trainer_train(duplicate: Callable[[Trainer], Trainer], name: str) -> None:
    X, y = make_data()
    model = make_model(dropout=0.25)
    trainer = Trainer(
        model, optimizer=name, epochs=2, batch_size=20, l2=0.01, restore_best=True, monitor="train_loss", seed=3
    )
    untrained = duplicate(trainer)
    trainer.fit(X, y)
    assert untrained.step_count == 0
    untrained.fit(X, y)
    assert state_of(untrained) == state_of(trainer)
    assert trainer.model.parameters_flat.tobytes() != make_model(dropout=0.25).parameters_flat.tobytes()
    trained = duplicate(trainer)
    assert trained.model is not model
    before = state_of(trainer)
    trained.epochs = trainer.epochs = 4
    trained.fit(X, y)
    assert state_of(trainer) == before
    trainer.fit(X, y)
    assert state_of(trained) == state_of(trainer)
    assert trained.optimizer.penalty() == trainer.optimizer.penalty() > 0.0


class Duplicate:
    """Copies the trainer after some step, without itself."""

    def __init__(self, duplicate: Callable[[Trainer], Trainer], step: int) -> None:
        self.duplicate = duplicate
        self.step = step
        self.copy: Trainer | None = None

    def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        if logs["step"] == self.step:
            trainer.callbacks.remove(self)
            self.copy = self.duplicate(trainer)


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("duplicate", [by_pickle, copy.deepcopy])
@pytest.mark.parametrize("step", [2, 3])
def test_a_copy_made_in_the_middle_of_a_run_goes_on(duplicate: Callable[[Trainer], Trainer], step: int) -> None:
    X, y = make_data()
    callback = Duplicate(duplicate, step)
    trainer = Trainer(make_model(dropout=0.25), epochs=3, batch_size=20, clip_norm=0.5, callbacks=[callback])
    trainer.fit(X, y)
    other = callback.copy
    assert other is not None
    assert other.step_count == step
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    other.fit(X, y)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert state_of(other) == state_of(trainer)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    X, y = make_data()
    trainer = Trainer(make_model(), epochs=1, restore_best=True, monitor="train_loss")
    trainer.fit(X, y)
    trainer.save_checkpoint(tmp_path / "run")
    return tmp_path / "run"


def test_damaged_checkpoints_are_refused(checkpoint: Path) -> None:
    good = checkpoint.read_bytes()
    for position in range(0, len(good), 23):
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        checkpoint.write_bytes(damaged)
        with pytest.raises(ValueError, match="run: "):
            Trainer.resume(checkpoint)
    checkpoint.write_bytes(good[:-1])
    with pytest.raises(ValueError, match="run: truncated or damaged"):
        Trainer.resume(checkpoint)


def test_resume_reads_into_the_arrays_that_are_trained(tmp_path: Path) -> None:
    trainer = Trainer(MLP([1000, 500, 3]), epochs=1, restore_best=True, monitor="train_loss", evaluate_training=True)
    X = np.zeros((4, 1000), np.float32)
    trainer.fit(X, [0, 1, 2, 0])
    trainer.save_checkpoint(tmp_path / "run")
    tracemalloc.start()
    try:
        again = Trainer.resume(tmp_path / "run")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = (tmp_path / "run").stat().st_size
    assert size > 8 << 20
    assert peak < size + again.model.gradients_flat.nbytes + (1 << 20)
    assert state_of(again) == state_of(trainer)


def test_models_are_no_checkpoints(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="run: this is a 'normcore checkpoint' file"):
        MLP.load(checkpoint)
    save_model(checkpoint, make_model())
    with pytest.raises(ValueError, match="run: this is a 'normcore model' file"):
        Trainer.resume(checkpoint)
    with pytest.raises(FileNotFoundError):
        Trainer.resume(checkpoint.parent / "missing")


@pytest.mark.parametrize(
    "change",
    [
        lambda entries, tensors: entries.pop("state.epoch"),
        lambda entries, tensors: entries.pop("trainer.seed"),
        lambda entries, tensors: entries.pop("trainer.betas"),
        lambda entries, tensors: entries.pop("sizes"),
        lambda entries, tensors: entries.update({"state.epoch": "-1"}),
        lambda entries, tensors: entries.update({"state.step": "x"}),
        lambda entries, tensors: entries.update({"state.more": "0"}),
        lambda entries, tensors: entries.update({"more": "0"}),
        lambda entries, tensors: entries.update({"trainer.optimizer": "lion"}),
        lambda entries, tensors: entries.update({"trainer.surprise": "1"}),
        lambda entries, tensors: entries.update({"trainer.seed.more": "1"}),
        lambda entries, tensors: entries.update({"trainer.seed": "0x1.0000000000000p+0"}),
        lambda entries, tensors: entries.update({"trainer.betas": "0x1.0000000000000p-1"}),
        lambda entries, tensors: entries.update({"trainer.l2": "0x1.00000000000000p-1"}),
        lambda entries, tensors: entries.update({"trainer.learning_rate": "none"}),
        lambda entries, tensors: entries.update({"trainer.learning_rate.schedule": "Odd"}),
        lambda entries, tensors: entries.update(sizes="6,3"),
        lambda entries, tensors: tensors.update(w9=np.zeros(2)),
        lambda entries, tensors: tensors.pop("optimizer.slot2"),
        lambda entries, tensors: tensors.pop("best.buffers"),
        lambda entries, tensors: tensors.pop("last.buffers"),
        lambda entries, tensors: tensors.update({"last.parameters": tensors["last.parameters"][:-1]}),
        lambda entries, tensors: tensors.pop("history.loss"),
        lambda entries, tensors: tensors.pop("w1"),
        lambda entries, tensors: tensors["running_var1"].put(1, -1.0),
        lambda entries, tensors: tensors["best.buffers"].put(-1, -1.0),
        lambda entries, tensors: tensors["last.buffers"].put(-1, -1.0),
        lambda entries, tensors: tensors.update(class_weight=np.ones(2)),
        lambda entries, tensors: tensors.update(class_weight=np.ones(3, np.float32)),
        lambda entries, tensors: tensors.update(class_weight=-np.ones(3)),
        lambda entries, tensors: tensors.update({"optimizer.slot1": np.zeros(3, np.float32)}),
        lambda entries, tensors: tensors.update({"best.parameters": tensors["best.parameters"].astype(np.float64)}),
    ],
)
def test_inconsistent_checkpoints_are_refused(checkpoint: Path, change: Callable[..., Any]) -> None:
    entries, tensors, _, _ = read_archive(checkpoint, "checkpoint")
    write_archive(checkpoint, "checkpoint", entries, tensors)
    Trainer.resume(checkpoint)
    change(entries, tensors)
    write_archive(checkpoint, "checkpoint", entries, tensors)
    with pytest.raises(ValueError, match=r"run: no sound (checkpoint|model): ."):
        Trainer.resume(checkpoint)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("best_epoch", "x", r"state.best_epoch is 'x'; it must be an integer in \[0, 1\]"),
        ("best_epoch", "2", "state.best_epoch is '2'"),
        ("best_epoch", "0x1.0000000000000p-1", "state.best_epoch is '0x1"),
        ("best_epoch", "true", "state.best_epoch is 'true'"),
        ("best_epoch", "none", "state.best_epoch is None but state.best_value is"),
        ("best_value", "x", "state.best_value is 'x'; it must be a number"),
        ("best_value", "nan", "state.best_value is 'nan'; it must be a number"),
        ("step", str(2**63), r"state.step is '9223372036854775808'; it must be an integer in \[0, "),
        ("step", "0", r"state.updates is '1'; it must be an integer in \[0, 0\]"),
        ("epoch", str(2**62), "state.epoch is '4611686018427387904'"),
        ("epoch", "none", "state.epoch is 'none'"),
        ("batch", "61", r"state.batch is '61'; it must be an integer in \[0, 60\]"),
        ("rows", "-1", "state.rows is '-1'"),
        ("history.skipped_steps", np.array([1]), r"history.skipped_steps must be in \[0, 1\)"),
        ("history.skipped_steps", np.array([-1]), r"history.skipped_steps must be in \[0, 1\)"),
        ("history.skipped_steps", np.array([0.0]), "history.skipped_steps is float64"),
        ("history.skipped_steps", np.array([0, 0]), r"history.skipped_steps is int64 \(2,\); .* at most 1"),
        ("stopped_reason", "tired", "state.stopped_reason is 'tired'; it must be one of epochs, "),
        ("optimizer.slot1", math.nan, "optimizer.slot1 must be finite$"),
        ("optimizer.slot2", math.inf, "optimizer.slot2 must be finite and not negative$"),
        ("optimizer.slot2", -1.0, "optimizer.slot2 must be finite and not negative$"),
        ("history.loss", np.zeros((1, 1)), r"history.loss is float64 \(1, 1\); it must be float64 and have one axis"),
        ("history.loss", np.zeros(2), r"history.loss is float64 \(2,\); .* at most 1"),
        ("history.val_loss", np.zeros(3), r"history.val_loss is float64 \(3,\); .* at most 2"),
        ("history.train_loss", np.zeros(2, np.int64), r"history.train_loss is int64 \(2,\); it must be float64"),
    ],
)
def test_resume_names_the_entry_that_is_wrong(checkpoint: Path, entry: str, value: Any, message: str) -> None:
    entries, tensors, _, _ = read_archive(checkpoint, "checkpoint")
    if entry.startswith("history"):
        tensors[entry] = value
    elif entry.startswith("optimizer"):
        tensors[entry][3] = value
    else:
        entries[f"state.{entry}"] = value
    write_archive(checkpoint, "checkpoint", entries, tensors)
    with pytest.raises(ValueError, match=rf"run: no sound checkpoint: {message}"):
        Trainer.resume(checkpoint)


@pytest.mark.parametrize(
    "entry", ["state.epoch", "state.best_value", "history.loss", "optimizer.slot1", "best.buffers"]
)
def test_resume_names_the_entry_that_is_missing(checkpoint: Path, entry: str) -> None:
    entries, tensors, _, _ = read_archive(checkpoint, "checkpoint")
    del (entries if entry in entries else tensors)[entry]
    write_archive(checkpoint, "checkpoint", entries, tensors)
    with pytest.raises(ValueError, match=f"run: no sound checkpoint: (no entry|arrays missing or unknown:) {entry}"):
        Trainer.resume(checkpoint)
    with pytest.raises(TypeError, match=r"Trainer\.resume: path is a int"):
        Trainer.resume(3)  # type: ignore[arg-type]


def test_wrong_arguments_of_resume_are_not_laid_to_the_file(checkpoint: Path) -> None:
    with pytest.raises(TypeError, match=r"^Trainer: callbacks is None"):
        Trainer.resume(checkpoint, callbacks=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Trainer: learning_rate must be a number, not str"):
        Trainer.resume(checkpoint, learning_rate="a")  # type: ignore[arg-type]


def test_a_full_disk_leaves_the_old_checkpoint(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = checkpoint.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        Trainer(make_model()).save_checkpoint(checkpoint)
    monkeypatch.undo()
    assert checkpoint.read_bytes() == good
    assert [entry.name for entry in checkpoint.parent.iterdir()] == ["run"]


def test_another_contract_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, tensors, _, _ = read_archive(checkpoint, "checkpoint")
    monkeypatch.setattr("normcore.archive._core.CONTRACT", "NC9")
    write_archive(checkpoint, "checkpoint", entries, tensors)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="numeric contract NC9, this is NC1"):
        Trainer.resume(checkpoint)


# ---------------------------------------------------------------------- the contract


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_on_every_instruction_set_and_thread_count(norm: Any, dtype: str) -> None:
    rng = Generator(6)
    X, y = rng.normal((530, 33), dtype=dtype), rng.integers(10, 530)
    results = set()
    for isa in normcore.available_isas():
        for count in (1, 2, 3):
            with use_isa(isa), use_num_threads(count):
                model = MLP([33, 40, 17, 10], norm=norm, dropout=0.1, dtype=dtype)
                trainer = Trainer(model, epochs=1, batch_size=265, l2=1e-3, clip_norm=0.3)
                history = trainer.fit(X, y, validation_data=(X[:99], y[:99]))
                curves = (history.loss, history["train_loss"], history["val_loss"], history["val_accuracy"])
                results.add(
                    (model.parameters_flat.tobytes(), model.buffers_flat.tobytes(), *(tuple(curve) for curve in curves))
                )
    assert len(results) == 1


def test_seeds() -> None:
    X, y = make_data()

    def train(**options: Any) -> bytes:
        trainer = Trainer(make_model(dropout=0.2), epochs=2, batch_size=16, **options)
        trainer.fit(X, y)
        return trainer.model.parameters_flat.tobytes()

    assert train() == train(seed=0)
    assert train(seed=1) == train(seed=np.uint64(1)) != train()


# ---------------------------------------------------------------------- what is compiled from the settings


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_updater_follows_every_setting(name: Any) -> None:
    """The core's view of an optimiser is made anew when a setting changes, and of the same arrays."""
    X, y = make_data()
    trainer, other = (Trainer(make_model(), optimizer=name, learning_rate=0.01) for _ in range(2))
    trainer.step(X, y)
    other.step(X, y)
    optimizer = trainer.optimizer
    before = optimizer._updater
    trainer.step(X, y)
    assert optimizer._updater is before
    for setting, value in {"l2": 0.01, "momentum": 0.5, "decay_rate": 0.9, "betas": (0.5, 0.9), "eps": 1e-3}.items():
        setattr(optimizer, setting, value)
        assert optimizer._updater is None
    with pytest.raises(ValueError, match="Optimizer: eps is -1"):
        optimizer.eps = -1.0
    trainer.step(X, y)
    fresh = Optimizer(
        other.model, name, l2=0.01, momentum=0.5, decay_rate=0.9, betas=(0.5, 0.9), eps=1e-3,
        weight_decay=optimizer.weight_decay,
    )  # fmt: skip
    other.step(X, y)
    for slot, source in ((fresh.slot1, other.optimizer.slot1), (fresh.slot2, other.optimizer.slot2)):
        if slot is not None and source is not None:
            slot[...] = source
    fresh.updates = 2
    vars(other)["optimizer"] = fresh
    other.step(X, y)
    assert trainer.model.parameters_flat.tobytes() == other.model.parameters_flat.tobytes()
    with pytest.raises(TypeError, match="Updater: a copy would change arrays of nobody"):
        pickle.dumps(optimizer._updater)


def test_an_updater_refuses_what_optimizer_update_refuses() -> None:
    p = np.ones(3, np.float32)
    updater = _core.Updater("sgd", [(p, p.copy(), None, None, 0.0, 1.0)], 0.9, 0.99, (0.9, 0.999), 1e-8)
    for arguments, message in (
        ((math.nan, 1.0, 1), "learning_rate is nan"),
        ((1e39, 1.0, 1), "learning_rate is 1e[+]39; it must be finite in float32"),
        ((0.1, 1e-46, 1), "gradient_scale is 1e-46, which is 0 in float32"),
        ((0.1, 1.0, 0), "step is 0"),
        ((0.1, 1.0, -1), "step is -1"),
    ):
        with pytest.raises(ValueError, match=f"^optimizer_update: {message}"):
            updater.update(*arguments, ())
        assert p.tolist() == [1, 1, 1]
    done: list[Any] = []
    updater.update(0.5, 1.0, 1, [(done.append, 1), (done.clear,), (done.append, 2)])
    assert p.tolist() == [0.0, 0.0, 0.0]
    assert done == [2]
    with pytest.raises(ValueError, match="adam needs slot1"):
        _core.Updater("adam", [(p, p.copy(), None, None, 0.0, 0.0)], 0.9, 0.99, (0.9, 0.999), 1e-8)


def test_gradients_are_there_after_each_step() -> None:
    X, y = make_data()
    seen: list[float] = []

    class Watch:
        def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            seen.append(float(np.abs(trainer.model.gradients()["w1"]).max()))

    Trainer(make_model(), epochs=1, batch_size=20, callbacks=Watch(), progress=False).fit(X, y)
    assert len(seen) == 3
    assert min(seen) > 0.0
