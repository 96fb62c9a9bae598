"""The callback that watches a training: what it records, when, and that the training does not notice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore as nc
from normcore import diagnostics

X = nc.random_normal(300, seed=0).reshape(100, 3)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
LAYERS, HIDDEN, POINTS = 3, 2, 4


def train(monitor: Any, *, norm: Any = "batch", seed: int = 3, sizes: Any = (3, 8, 6, 2), **options: Any) -> nc.Trainer:
    dropout = options.pop("dropout", 0.0)
    model = nc.MLP(sizes, norm=norm, dropout=dropout, seed=1)
    callbacks = monitor if isinstance(monitor, (list, tuple)) else [monitor]
    trainer = nc.Trainer(model, **{"epochs": 3, "batch_size": 20, **options}, seed=seed, callbacks=callbacks)
    trainer.fit(X, Y)
    return trainer


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_is_the_same_to_the_bit(norm: Any, optimizer: Any) -> None:
    class Gradients:
        """Reads what a callback can read: it must be the step's."""

        def __init__(self) -> None:
            self.seen: list[bytes] = []

        def on_step_end(self, trainer: Any, logs: Any) -> None:
            self.seen.append(trainer.model.gradients_flat.tobytes())

    found = []
    for monitors in ((), (nc.Monitor(X, Y, every=1), nc.Monitor(X[:30]))):
        gradients = Gradients()
        trainer = train([*monitors, gradients], norm=norm, optimizer=optimizer, dropout=0.2, accumulate=2)
        found.append((trainer.model.digest(), trainer.history.as_dict(), gradients.seen))
    assert found[0] == found[1]


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_shapes(norm: Any) -> None:
    monitor = nc.Monitor(X, Y, bins=20)
    train(monitor, norm=norm)
    records = 4
    hidden = ["activation_input_mean", "activation_input_std", "activation_input_shift", "dead_units"]
    layers = ["layer_input_mean", "layer_input_std", "weight_norm", "update_ratio", "gradient_norm"]
    expected: dict[str, tuple[int, ...]] = {name: (records,) for name in ("step", "epoch", "loss")}
    expected |= dict.fromkeys(hidden + (["mean_drift", "std_drift"] if norm == "batch" else []), (records, HIDDEN))
    expected |= dict.fromkeys(layers, (records, LAYERS))
    expected |= dict.fromkeys(["line_losses", "line_distances", "line_cosines"], (records, POINTS))
    expected |= {"line_steps": (POINTS,), "activation_input_quantiles": (records, HIDDEN, 7)}
    expected |= {"activation_input_counts": (records, HIDDEN, 20), "activation_input_edges": (records, HIDDEN, 21)}
    assert {name: array.shape for name, array in monitor.as_dict().items()} == expected
    assert set(monitor.keys()) == set(expected)
    missing = {"activation_input_shift", "update_ratio"}
    for name in expected:
        assert np.isfinite(monitor[name][1 if name in missing else 0 :]).all(), name
    for name in missing:
        assert np.isnan(monitor[name][0]).all()


def test_without_targets_nothing_of_the_loss() -> None:
    monitor = nc.Monitor(X)
    train(monitor)
    assert "dead_units" in monitor
    assert not {"loss", "gradient_norm", "line_losses", "line_steps"} & set(monitor)
    with pytest.raises(
        KeyError, match="Monitor: there is no record 'loss'; recorded are step, epoch, layer_input_mean"
    ):
        monitor["loss"]


def test_when() -> None:
    epochs, steps, all_steps = nc.Monitor(X), nc.Monitor(X, every=4), nc.Monitor(X, every=1)
    train([epochs, steps, all_steps])
    assert epochs["step"].tolist() == [0, 5, 10, 15]
    assert epochs["epoch"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert steps["step"].tolist() == [0, 4, 8, 12]
    assert np.allclose(steps["epoch"], np.array([0, 4, 8, 12]) / 5)
    assert all_steps["step"].tolist() == list(range(16))
    # Of the same step, all tell the same, whatever lies between their records.
    for monitor in (epochs, steps):
        at = monitor["step"]
        for name in monitor:
            assert np.array_equal(monitor[name][1:], all_steps[name][at][1:]), name


def test_it_records_what_the_functions_measure() -> None:
    class Keep:
        def __init__(self) -> None:
            self.models: list[nc.MLP] = []

        def on_train_begin(self, trainer: Any, logs: Any) -> None:
            self.models.append(trainer.model.copy())

        def on_step_end(self, trainer: Any, logs: Any) -> None:
            self.models.append(trainer.model.copy())

    kept, monitor = Keep(), nc.Monitor(X, Y, every=1, seed=7, line_steps=[0.3])
    train([kept, monitor], dropout=0.1)
    for number, model in enumerate(kept.models):
        seen = diagnostics.activation_inputs(model, X, seed=7)
        assert np.array_equal(monitor["dead_units"][number], diagnostics.dead_units(model, X))
        assert np.array_equal(monitor["gradient_norm"][number], diagnostics.gradient_norms(model, X, Y, seed=7))
        assert np.array_equal(monitor["mean_drift"][number], diagnostics.statistics_drift(model, X).mean)
        assert np.allclose(monitor["activation_input_std"][number], [array.std() for array in seen])
        line = diagnostics.loss_along_gradient(model, X, Y, [0.3], seed=7)
        assert monitor["loss"][number] == line.loss
        assert np.array_equal(monitor["line_losses"][number], line.losses)
        if number:
            before = kept.models[number - 1]
            assert np.array_equal(monitor["update_ratio"][number], diagnostics.update_ratios(before, model))
            earlier = diagnostics.activation_inputs(before, X, seed=7)
            shift = [diagnostics.distribution_shift(*pair) for pair in zip(earlier, seen, strict=True)]
            assert np.array_equal(monitor["activation_input_shift"][number], shift)


def test_it_goes_on_recording(tmp_path: Path) -> None:
    whole, parts = nc.Monitor(X, Y, every=3), nc.Monitor(X, Y, every=3)
    train(whole, epochs=4)

    class Stop:
        def on_step_end(self, trainer: Any, logs: Any) -> bool:
            return bool(logs["step"] == 8)

    trainer = train([parts, Stop()], epochs=4)  # in the middle of an epoch, just before a record
    trainer.save_checkpoint(tmp_path / "checkpoint.safetensors")
    resumed = nc.Trainer.resume(tmp_path / "checkpoint.safetensors", callbacks=[parts])
    resumed.fit(X, Y)
    for name in whole:
        assert np.array_equal(whole[name], parts[name], equal_nan=True), name


def test_a_monitor_that_begins_late() -> None:
    trainer = train([], epochs=2)
    monitor = nc.Monitor(X)
    trainer.callbacks, trainer.epochs = [monitor], 3
    trainer.fit(X, Y)
    assert monitor["step"].tolist() == [10, 15]
    assert monitor["epoch"].tolist() == [2.0, 3.0]


def test_another_training_is_refused() -> None:
    monitor = nc.Monitor(X)
    train(monitor)
    with pytest.raises(ValueError, match=r"^Monitor: it has records up to step 15, and this training is at 0; make"):
        train(monitor)
    with pytest.raises(ValueError, match=r"sizes \[3, 8, 6, 2\] and norm='batch', and this one has \[3, 9, 2\] and"):
        train(monitor, sizes=(3, 9, 2))
    with pytest.raises(
        ValueError, match=r"norm='batch', and this one has \[3, 8, 6, 2\] and norm=None; make a new one"
    ):
        train(monitor, norm=None)


def test_a_training_that_diverges() -> None:
    monitor = nc.Monitor(X, Y, every=1)
    with np.errstate(all="ignore"):
        train(monitor, norm=None, optimizer="sgd", learning_rate=1e30, on_nonfinite="skip")
    assert not np.isfinite(monitor["loss"][-1])
    assert math.isnan(monitor["activation_input_std"][-1, -1])
    assert len(monitor["step"]) > 1


def test_no_hidden_layer() -> None:
    monitor = nc.Monitor(X, Y)
    train(monitor, norm=None, sizes=(3, 2))
    assert monitor["dead_units"].shape == (4, 0)
    assert monitor["activation_input_quantiles"].shape == (4, 0, 7)
    assert monitor["weight_norm"].shape == (4, 1)


def test_a_scaled_model_and_a_loss_of_numbers() -> None:
    model = nc.MLP([3, 8, 1], loss="squared_error", feature_mean=X.mean(axis=0), feature_scale=X.std(axis=0))
    monitor = nc.Monitor(X[:50], X[:50, :1])
    nc.Trainer(model, epochs=5, callbacks=monitor).fit(X, X[:, 0])
    assert monitor["loss"][-1] < monitor["loss"][0]
    assert np.allclose(monitor["layer_input_std"][:, 0], ((X[:50] - X.mean(axis=0)) / X.std(axis=0)).std())


def test_repr_pandas_and_file(tmp_path: Path) -> None:
    monitor = nc.Monitor(X, Y)
    assert repr(monitor) == "Monitor(records=0)"
    assert list(monitor) == []
    with pytest.raises(KeyError, match="recorded are none: nothing has been trained with it"):
        monitor["step"]
    with pytest.raises(ValueError, match=r"^Monitor\.to_pandas: nothing has been recorded"):
        monitor.to_pandas()
    train(monitor)
    assert repr(monitor) == f"Monitor(records=4, last_step=15, layers=3, loss={monitor['loss'][-1]:.4g})"
    frame = monitor.to_pandas()
    assert frame.shape[0] == 4 * LAYERS
    assert frame.index.names == ["step", "layer"]
    assert frame.loc[(10, 2), "dead_units"] == monitor["dead_units"][2, 1]
    assert math.isnan(frame.loc[(10, 3), "dead_units"])
    assert frame.loc[(10, 3), "gradient_norm"] == monitor["gradient_norm"][2, 2]
    assert frame.loc[(10, 3), "loss"] == monitor["loss"][2]
    assert frame.loc[(5, 1), "activation_input_q50"] == monitor["activation_input_quantiles"][1, 0, 3]
    for name in ("first.npz", "second.npz"):
        monitor.save(tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    with np.load(tmp_path / "first.npz") as read:
        assert set(read) == set(monitor)
        assert all(np.array_equal(read[name], monitor[name], equal_nan=True) for name in read)
    bare = nc.Monitor(X)
    train(bare, norm=None)
    assert "loss" not in bare.to_pandas()


def test_pandas_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"Monitor\.to_pandas needs pandas: pip install pandas"):
        nc.Monitor(X).to_pandas()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 0}, ValueError, "Monitor: every is 0; it must be at least 1"),
        ({"every": "epoch"}, TypeError, "Monitor: every must be an integer, not str"),
        ({"bins": 0}, ValueError, "Monitor: bins is 0; it must be at least 1"),
        ({"seed": -1}, ValueError, "Monitor: seed is -1; it must be in"),
        ({"line_steps": []}, ValueError, r"Monitor: line_steps is \(0,\)"),
    ],
)
def test_arguments(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match="^" + message):
        nc.Monitor(X, Y, **arguments)


@pytest.mark.parametrize(
    ("rows", "targets", "message"),
    [
        (X[:, :2], None, r"Monitor: X is \(100, 2\) but the model takes 3 features"),
        (X[np.newaxis], None, r"Monitor: X is \(1, 100, 3\); it must be \(rows, 3\)"),
        (X[:1], None, "Monitor: X has one row; batch norm needs at least two"),
        (X[:0], None, r"Monitor: X is \(0, 3\); it must have at least one row"),
        (X, Y[:5], r"Monitor: y is int64 \(5,\) but X has the rows"),
        (X, Y + 7, "Monitor: "),
    ],
)
def test_rows_are_checked_before_training(rows: Any, targets: Any, message: str) -> None:
    monitor = nc.Monitor(rows, targets)
    with pytest.raises(ValueError, match="^" + message):
        train(monitor)
    assert list(monitor) == []
