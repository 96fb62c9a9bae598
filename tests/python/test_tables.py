"""`normcore.tables`: what the command does with tables, from Python; it says nothing and gives the command's bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from normcore import MLP, Trainer
from normcore.cli import main
from normcore.tables.pipeline import Settings, predict_table, train_table
from normcore.tables.reading import DataError

QUICK = Settings(hidden=(8,), epochs=3)
OPTIONS = ["--hidden", "8", "--epochs", "3"]


def write(path: Path, rows: int = 60) -> Path:
    cells = np.random.default_rng(1).normal(size=(rows, 2)) + np.arange(rows)[:, None] % 3
    lines = [f"{a},{b},{'xyz'[row % 3]}" for row, (a, b) in enumerate(cells)]
    path.write_text("a,b,kind\n" + "\n".join(lines) + "\n")
    return path


def test_training_and_prediction_are_those_of_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "t.csv")
    trained = train_table(table, QUICK)
    trained.save(tmp_path / "python")
    predictions = predict_table(tmp_path / "python", table, probabilities=True)
    assert capfd.readouterr() == ("", "")

    assert main(["train", str(table), "-o", str(tmp_path / "command"), *OPTIONS]) == 0
    assert (tmp_path / "python").read_bytes() == (tmp_path / "command").read_bytes()
    said = capfd.readouterr().out
    assert trained.held_out is not None
    assert (trained.score.rows, trained.held_out.rows) == (48, 12)
    assert f"loss {trained.score.loss:.4f}, accuracy {100 * trained.score.accuracy:.1f} %, 48 rows, 3 epochs" in said

    assert main(["predict", str(tmp_path / "command"), str(table), "--proba"]) == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert predictions.probabilities is not None
    assert lines == [
        ",".join([predictions.classes[code], *map(str, row)])
        for code, row in zip(predictions.codes, predictions.probabilities, strict=True)
    ]
    assert predictions.labels == ["xyz"[row % 3] for row in range(60)]


def test_a_checkpoint_goes_on(tmp_path: Path) -> None:
    table, path = write(tmp_path / "t.csv"), tmp_path / "checkpoint"
    whole = train_table(table, QUICK)

    def fail(trainer: Trainer) -> None:
        raise KeyError(trainer.epoch)

    train_table(table, QUICK, checkpoint=path)
    with pytest.raises(KeyError, match="3"):  # called with what the file gave, before it trains
        train_table(table, QUICK, checkpoint=path, resumed=fail)
    seen: list[int] = []
    again = train_table(table, QUICK, checkpoint=path, resumed=lambda trainer: seen.append(trainer.epoch))
    assert seen == [3]
    quiet = train_table(table, QUICK, checkpoint=path)
    assert (
        again.model.parameters_flat.tobytes()
        == quiet.model.parameters_flat.tobytes()
        == whole.model.parameters_flat.tobytes()
    )


def test_errors_call_settings_by_their_names_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, path = write(tmp_path / "t.csv"), tmp_path / "checkpoint"
    train_table(table, QUICK, checkpoint=path)
    with pytest.raises(DataError, match=r"begun with batch_size 32, not 16; remove the file to begin anew$"):
        train_table(table, Settings(hidden=(8,), epochs=3, batch_size=16), checkpoint=path)
    with pytest.raises(DataError, match=r"^early_stopping watches the held-out loss, and held_out 0 leaves no rows"):
        train_table(table, Settings(held_out=0.0, early_stopping=1))
    with pytest.raises(ValueError, match=r"^train_table: schedule is 'cosin'; accepted are 'constant', 'cosine'$"):
        train_table(table, Settings(schedule="cosin"))
    with pytest.raises(ValueError, match=r"^MLP: activation is 'gelu'; accepted are 'relu', 'leaky_relu',"):
        train_table(table, Settings(activation="gelu"))
    monkeypatch.setattr(MLP, "buffers", lambda model: {"running_var1": np.array([np.nan])})
    with pytest.raises(FloatingPointError, match=r"^training diverged: running_var1 .* try a lower learning_rate$"):
        train_table(table, QUICK)


def test_a_model_of_mlp_save_knows_its_classes_by_number(tmp_path: Path) -> None:
    model = MLP([2, 3])
    model.save(tmp_path / "m")
    predictions = predict_table(tmp_path / "m", write(tmp_path / "t.csv"))
    assert predictions.classes == ["0", "1", "2"]
    assert predictions.probabilities is None
