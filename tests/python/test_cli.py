"""The command line: what it prints, writes and refuses. Every refusal is one line on standard error and exit code 2."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore
from normcore import MLP
from normcore._core import ACTIVATIONS
from normcore.cli import main
from normcore.mlp import load_model, save_model
from normcore.tables.encoding import encode_texts
from normcore.tables.reading import read_table

CLASSES = ("north", "east", "south")
QUICK = ["--epochs", "30", "--hidden", "16", "--learning-rate", "0.01", "--batch-size", "16"]


def flower_rows(rows: int = 90) -> list[list[str]]:
    """Three classes that two of three features tell apart; the third is constant. No random numbers."""
    return [
        [str(10 * (i % 3) + (i * 7 % 5) / 4), str(-3.5 + (i * 11 % 13) + 20 * (i % 3 == 1)), "1e3", CLASSES[i % 3]]
        for i in range(rows)
    ]


def write_csv(path: Path, rows: list[list[str]], header: list[str] | None = None, delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "flowers.csv", flower_rows(), ["width", "height", "unit", "species"])


@pytest.fixture
def trained(tmp_path: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    model = tmp_path / "flowers.safetensors"
    assert main(["train", str(flowers), "--output", str(model), *QUICK]) == 0
    capsys.readouterr()
    return model


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused; check the form of the refusal and return its message."""
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("normcore: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("normcore: error: ").rstrip("\n")


# ------------------------------------------------------------ train


def test_train_reports_and_saves(tmp_path: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_path = tmp_path / "model.safetensors"
    code, out, err = run(capsys, "train", flowers, "--output", model_path, *QUICK)
    assert code == 0
    assert err == ""
    assert "90 rows, 3 features, 3 classes (east, north, south)" in out
    assert "3-16-3, batch normalisation, relu, float32" in out
    assert "72 rows, 30 epochs" in out
    assert "accuracy 100.0 %, 18 rows" in out
    model, extra = load_model(model_path)
    assert model.sizes == (3, 16, 3)
    assert model.class_names == ("east", "north", "south")
    assert model.feature_names == ("width", "height", "unit")
    assert extra == {"format": "normcore-table-2", "target": "species", "target_position": 3}
    assert model.feature_scale is not None
    assert model.feature_mean is not None
    assert model.feature_scale[2] == 1.0, "a constant column is not scaled"
    assert model.feature_mean[2] == 1000.0


def test_statistics_come_from_the_training_rows_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = flower_rows()
    paths = []
    for name in ("a", "b"):
        path = write_csv(tmp_path / f"{name}.csv", rows)
        paths.append(tmp_path / f"{name}.safetensors")
        assert main(["train", str(path), "-o", str(paths[-1]), *QUICK]) == 0
        # For the second file, change the feature of a row that the first model held out.
        held_out = normcore.Generator(0, 1 << 32).permutation(len(rows))[:18]
        rows[held_out[0]][0] = "77"
    first, second = (MLP.load(path).config() for path in paths)
    assert first["feature_mean"] == second["feature_mean"]
    assert first["feature_scale"] == second["feature_scale"]
    kept = normcore.Generator(0, 1 << 32).permutation(len(rows))[18:]
    column = np.array([float(flower_rows()[i][0]) for i in kept])
    np.testing.assert_allclose(first["feature_mean"][0], column.mean(), rtol=1e-14)
    np.testing.assert_allclose(first["feature_scale"][0], column.std(), rtol=1e-14)


def test_the_same_seed_gives_the_same_file(tmp_path: Path, flowers: Path) -> None:
    files = []
    for i, seed in enumerate((3, 3, 4)):
        files.append(tmp_path / f"{i}.safetensors")
        assert main(["train", str(flowers), "-o", str(files[-1]), "--seed", str(seed), *QUICK]) == 0
    same, again, other = (path.read_bytes() for path in files)
    assert same == again
    assert same != other


@pytest.mark.parametrize(
    "options",
    [
        ["--norm", "layer", "--hidden", "8,8"],
        ["--norm", "none", "--hidden", "none", "--optimizer", "sgd"],
        ["--dropout", "0.2", "--optimizer", "adamw", "--weight-decay", "0.1"],
        ["--optimizer", "nesterov", "--l2", "0.001", "--schedule", "cosine"],
        ["--clip-norm", "1", "--label-smoothing", "0.1", "--weight-scale", "0.1"],
        ["--dtype", "float64", "--held-out", "0", "--optimizer", "rmsprop"],
        ["--early-stopping", "2", "--optimizer", "momentum"],
        *(["--activation", name] for name in ACTIVATIONS),
    ],
    ids=lambda options: " ".join(options),
)
def test_every_training_option(
    tmp_path: Path, flowers: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    code, out, _ = run(capsys, "train", flowers, "-o", path, "--epochs", 3, *options)
    assert code == 0
    assert ("held out" in out) == ("--held-out" not in options)
    assert ("early stopping watched" in out) == ("--early-stopping" in options)
    model, _ = load_model(path)
    if "--norm" in options:
        assert (model.norm or "none") == options[1]
    if "--activation" in options:
        assert model.activation == options[1]
        assert f", {options[1]}, float32" in out
    if "float64" in options:
        assert model.dtype == np.float64


def test_target_by_name_number_and_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[row[3], *row[:3]] for row in flower_rows()]
    path = write_csv(tmp_path / "first.csv", rows, ["species", "width", "height", "unit"])
    for target in ("species", "0", "-4"):
        model = tmp_path / "m.safetensors"
        assert run(capsys, "train", path, "-o", model, "--target", target, *QUICK)[0] == 0
        assert MLP.load(model).feature_names == ("width", "height", "unit")
    assert "line 2, column 1 ('species')" in refusal(capsys, "train", path, "-o", model, "--target", "unit")


@pytest.mark.parametrize("labels", [["3", "20", "100"], ["3.0", "20.0", "100.0"]], ids=["whole", "with .0"])
def test_number_labels_sort_by_value(labels: list[str]) -> None:
    codes, classes = encode_texts(labels * 2)
    assert classes == labels
    assert codes.tolist() == [0, 1, 2, 0, 1, 2]


def test_delimiter_and_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "t.csv", flower_rows(), ["width", "height", "unit", "species"], delimiter="\t")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    model = tmp_path / "m.safetensors"
    assert run(capsys, "train", path, "-o", model, "--delimiter", "tab", *QUICK)[0] == 0
    assert (MLP.load(model).feature_names or ())[0] == "width"


def test_header_is_found_out_or_said(tmp_path: Path) -> None:
    plain = write_csv(tmp_path / "plain.csv", flower_rows(6))
    assert read_table(plain).names is None
    assert read_table(plain).features.shape == (6, 3)
    named = write_csv(tmp_path / "named.csv", flower_rows(6), ["a", "b", "c", "d"])
    assert read_table(named).names == ["a", "b", "c"]
    # Names that are numbers have to be said to be names, where no model knows them.
    numbered = write_csv(tmp_path / "numbered.csv", flower_rows(6), ["0", "1", "2", "3"])
    assert read_table(numbered, header=True).names == ["0", "1", "2"]
    assert read_table(numbered, header=True).features.shape == (6, 3)


def good_npz(path: Path, **changes: Any) -> Path:
    rows = flower_rows()
    arrays: dict[str, Any] = {
        "X": np.array([[float(cell) for cell in row[:3]] for row in rows]),
        "y": np.array([row[3] for row in rows]),
    }
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("kind", ["U", "S", "int8", "uint64", "float32", "bool"])
def test_npz_labels_of_every_kind(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    codes = np.arange(90) % 3
    y: Any = np.array(CLASSES)[codes].astype(kind) if kind in "US" else (codes > 0 if kind == "bool" else codes)
    path = good_npz(tmp_path / "d.npz", y=np.asarray(y).astype(kind))
    model = tmp_path / "m.safetensors"
    assert run(capsys, "train", path, "-o", model, *QUICK)[0] == 0
    expected = sorted(CLASSES) if kind in "US" else (["False", "True"] if kind == "bool" else ["0", "1", "2"])
    assert MLP.load(model).class_names == tuple(expected)
    assert "accuracy 100.0 % (90 of 90 rows)" in run(capsys, "predict", model, path)[2]


def test_npz_images_are_flattened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.arange(90 * 12, dtype=np.uint8).reshape(90, 3, 4)
    path = good_npz(tmp_path / "d.npz", X=images)
    model = tmp_path / "m.safetensors"
    assert run(capsys, "train", path, "-o", model, *QUICK)[0] == 0
    assert load_model(model)[0].sizes[0] == 12


BAD_TABLES: dict[str, tuple[str, list[str]]] = {
    "missing value": ("a,b,c\n1,2,x\n3,,y\n", ["line 3, column 2 ('b')", "missing"]),
    "text for a number": ("a,b,c\n1,2,x\noops,2,y\n", ["line 3, column 1 ('a')", "'oops' is not a number"]),
    "nan": ("a,b,c\n1,2,x\n1,nan,y\n", ["line 3, column 2", "not a finite number"]),
    "infinity": ("1,2,x\n1,-inf,y\n", ["line 2, column 2", "not a finite number"]),
    "missing label": ("a,b,c\n1,2,x\n1,2,\n", ["line 3, column 3 ('c')", "target is missing"]),
    "ragged row": ("a,b,c\n1,2,x\n1,2\n", ["line 3", "2 cells", "3"]),
    "after quoted line break": ('a,b,c\n1,2,"x\ny"\n1,?,z\n', ["line 4, column 2"]),
    "empty file": ("", ["empty"]),
    "blank lines only": ("\n  \n", ["empty"]),
    "names only": ("a,b,c\n", ["no rows"]),
    "one class": ("a,b,c\n1,2,x\n3,4,x\n", ["every row has the label 'x'"]),
    "a measurement as target": (
        "a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(50)),
        ["50 different values in 50 rows"],
    ),
    "one column": ("a\n1\n2\n", ["no features"]),
    "two names alike": ("a,a,c\n1,2,x\n3,4,y\n", ["two columns are called 'a'"]),
    "names or data": ("1,2,label\n3,4,5\n6,7,8\n", ["line 1, column 3", "--header or --no-header"]),
    "too few rows": ("a,b,c\n1,2,x\n3,4,y\n", ["2 rows leave 1 to train on"]),
    "open quote": ('a,b,c\n1,2,"x\n', ["not a readable CSV file"]),
    "huge values": ("a,b,c\n" + "1e200,1,x\n-1e200,1,y\n" * 9, ["'a'", "too large"]),
}


@pytest.mark.parametrize(("content", "parts"), BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_bad_tables(tmp_path: Path, content: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    message = refusal(capsys, "train", path, "-o", tmp_path / "m.safetensors")
    for part in ["bad.csv", *parts]:
        assert part in message
    assert os.listdir(tmp_path) == ["bad.csv"], "nothing is left behind"


def test_binary_file_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "image.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    assert "image.csv: not a text file" in refusal(capsys, "train", path, "-o", tmp_path / "m.safetensors")


BAD_ARCHIVES: dict[str, tuple[dict[str, Any], str]] = {
    "no X": ({"X": None}, "no array 'X'"),
    "no y": ({"y": None}, "no array 'y'"),
    "text features": ({"X": np.full((90, 3), "a")}, "not numbers"),
    "complex features": ({"X": np.ones((90, 3), complex)}, "not numbers"),
    "one axis": ({"X": np.ones(90)}, "(90,)"),
    "no rows": ({"X": np.ones((0, 3)), "y": np.ones(0)}, "(0, 3)"),
    "nan": ({"X": np.full((90, 3), np.nan)}, "X[0, 0] is nan"),
    "other rows": ({"y": np.arange(89) % 3}, "(89,)"),
    "nan label": ({"y": np.where(np.arange(90) == 7, np.nan, np.arange(90) % 3)}, "y[7]"),
    "dates": ({"y": np.arange(90).astype("datetime64[D]")}, "datetime64"),
    "pickled": ({"y": np.array([object()] * 90)}, "not a readable NPZ"),
}


@pytest.mark.parametrize(("changes", "part"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES.keys())
def test_bad_archives(tmp_path: Path, changes: dict[str, Any], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = good_npz(tmp_path / "bad.npz", **changes)
    message = refusal(capsys, "train", path, "-o", tmp_path / "m.safetensors")
    assert "bad.npz" in message
    assert part in message


def test_cut_archive_and_single_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = good_npz(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:-200])
    assert "cut.npz: not a readable NPZ" in refusal(capsys, "train", path, "-o", tmp_path / "m.safetensors")
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.ones((4, 2)))  # one array is no archive
    message = refusal(capsys, "train", tmp_path / "one.npz", "-o", tmp_path / "m.safetensors")
    assert "one.npz: not an NPZ file" in message


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--target", "colour"], "no column is called 'colour'"),
        (["--target", "4"], "not one of its 4 columns"),
        (["--hidden", "64,0"], "'64,0'"),
        (["--hidden", "wide"], "'wide'"),
        (["--norm", "group"], "'group'"),
        (["--activation", "gelu"], "'gelu'"),
        (["--dropout", "1.5"], "dropout"),
        (["--epochs", "0"], "--epochs"),
        (["--batch-size", "x"], "--batch-size"),
        (["--batch-size", "1"], "batch_size"),
        (["--held-out", "1"], "--held-out"),
        (["--held-out", "0.99"], "to train on"),
        (["--held-out", "0", "--early-stopping", "3"], "--held-out 0"),
        (["--learning-rate", "-1"], "learning_rate"),
        (["--learning-rate", "nan"], "learning_rate"),
        (["--l2", "0.1", "--weight-decay", "0.1"], "not allowed with"),
        (["--delimiter", ";;"], "one character"),
        (["--seed", "-1"], "--seed"),
        (["--optimiser", "adam"], "--optimiser"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_training_options(
    tmp_path: Path, flowers: Path, options: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.safetensors"
    assert part in refusal(capsys, "train", flowers, "-o", model, *options)
    assert not model.exists()


def test_places_that_cannot_be_written(tmp_path: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in refusal(capsys, "train", flowers, "-o", tmp_path / "absent" / "m.safetensors")
    assert "not a regular file" in refusal(capsys, "train", flowers, "-o", tmp_path)
    assert "not a regular file" in refusal(capsys, "train", flowers, "-o", os.devnull)
    assert "no-such.csv" in refusal(capsys, "train", tmp_path / "no-such.csv", "-o", tmp_path / "m")


def test_training_that_diverges_is_one_line(tmp_path: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--learning-rate", "1e30", "--norm", "none", "--optimizer", "sgd"]
    message = refusal(capsys, "train", flowers, "-o", tmp_path / "m.safetensors", *options)
    assert "step" in message
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_data_through_a_pipe(tmp_path: Path, kind: str) -> None:
    rows = flower_rows(600)
    plain = write_csv(tmp_path / "long.csv", rows) if kind == "csv" else good_npz(tmp_path / "long.npz")
    assert len(plain.read_bytes()) > 4096
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(plain.read_bytes()), daemon=True)
    writer.start()
    table = read_table(pipe)
    writer.join()
    np.testing.assert_array_equal(table.features, read_table(plain).features)
    assert table.labels == read_table(plain).labels


def test_a_header_of_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "n.csv", flower_rows(), ["0", "1", "2", "label"])
    model = tmp_path / "m.safetensors"
    message = refusal(capsys, "train", path, "-o", model, *QUICK)
    assert "line 1, column 4" in message
    assert "'label'" in message
    assert "--header or --no-header" in message
    assert run(capsys, "train", path, "-o", model, "--header", *QUICK)[0] == 0
    assert MLP.load(model).feature_names == ("0", "1", "2")
    code, out, err = run(capsys, "predict", model, path)
    assert (code, err) == (0, "accuracy 100.0 % (90 of 90 rows)\n")
    assert len(predictions(out)) == 90
    assert run(capsys, "train", path, "-o", model, "--no-header", "--held-out", "0", *QUICK)[0] == 0
    assert "label" in (MLP.load(model).class_names or ())
    # A model without names meets a file with such names.
    bare = write_csv(tmp_path / "bare.csv", flower_rows())
    assert run(capsys, "train", bare, "-o", model, *QUICK)[0] == 0
    assert "--header or --no-header" in refusal(capsys, "predict", model, path)


@pytest.mark.parametrize("cell", ["1_000", "\u0661\u0662", "\uff13"])
def test_numbers_that_only_python_reads(tmp_path: Path, cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = flower_rows()
    rows[4][1] = cell
    path = write_csv(tmp_path / "t.csv", rows, ["a", "b", "c", "d"])
    assert "line 6, column 2 ('b')" in refusal(capsys, "train", path, "-o", tmp_path / "m")
    rows[4][1] = "0\xa0"  # a blank of another kind is still a blank
    rows[5][3] = "\xe9t\xe9_1"
    assert read_table(write_csv(path, rows)).features[4, 1] == 0.0


def test_bad_csv_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b,c\n1,2,x\n1,"2"3,x\n')
    assert "t.csv, line 3: not a readable CSV file" in refusal(capsys, "train", path, "-o", tmp_path / "m")
    path.write_text("a,b,c\n1,2,x\n1,2,y\0\n")
    assert "t.csv, line 3: a NUL character" in refusal(capsys, "train", path, "-o", tmp_path / "m")


def test_archive_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = good_npz(tmp_path / "d.npz")
    assert "the target cannot be X" in refusal(capsys, "train", path, "-o", tmp_path / "m", "--target", "X")
    path = good_npz(tmp_path / "d.npz", z=np.ones((90, 3)))
    message = refusal(capsys, "train", path, "-o", tmp_path / "m", "--target", "z")
    assert message.endswith("z has shape (90, 3), but X has 90 rows, so it must be (90,)")
    path = good_npz(tmp_path / "d.npz", X=None)
    assert refusal(capsys, "train", path, "-o", tmp_path / "m") == f"{path}: no array 'X'; it holds 'y'"


def test_output_that_is_an_input(
    tmp_path: Path, trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = trained.read_bytes(), flowers.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(flowers)
    for output in (flowers, link):
        assert "is the input" in refusal(capsys, "train", flowers, "-o", output)
        assert "is the input" in refusal(capsys, "predict", trained, flowers, "-o", output)
    assert "is the input" in refusal(capsys, "predict", trained, flowers, "-o", trained)
    assert contents == (trained.read_bytes(), flowers.read_bytes())


@pytest.mark.parametrize("what", ["parameters", "loss"])
def test_a_diverged_model_is_not_saved(
    tmp_path: Path, flowers: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = normcore.Trainer.fit

    def diverge(self: normcore.Trainer, *arguments: Any, **options: Any) -> normcore.History:
        history = fit(self, *arguments, **options)
        if what == "parameters":
            self.model.parameters()["b1"][0] = np.inf
        else:
            history.loss[-1] = np.nan
        return history

    monkeypatch.setattr(normcore.Trainer, "fit", diverge)
    model = tmp_path / "m.safetensors"
    message = refusal(capsys, "train", flowers, "-o", model, *QUICK)
    assert ("b1 of the model" if what == "parameters" else "the loss is nan") in message
    assert not model.exists()


# ------------------------------------------------------------ predict


def predictions(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_to_standard_output(trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "predict", trained, flowers)
    assert code == 0
    assert [row["class"] for row in predictions(out)] == [row[3] for row in flower_rows()]
    assert err == "accuracy 100.0 % (90 of 90 rows)\n"


def test_predict_probabilities_to_a_file(
    tmp_path: Path, trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.csv"
    code, out, err = run(capsys, "predict", trained, flowers, "--proba", "--output", output)
    assert code == 0
    assert err == ""
    assert out == f"90 predictions in {output}\naccuracy 100.0 % (90 of 90 rows)\n"
    model = MLP.load(trained)
    probabilities = model.predict_proba(read_table(flowers).features)
    rows = predictions(output.read_text())
    assert list(rows[0]) == ["class", "p(east)", "p(north)", "p(south)"]
    for row, expected in zip(rows, probabilities, strict=True):
        # The text reads back as exactly the number the model gave.
        assert [np.float32(row[f"p({name})"]) for name in model.class_names or ()] == list(expected)
        assert row["class"] == (model.class_names or ())[int(np.argmax(expected))]


def test_predict_finds_columns_by_name(
    tmp_path: Path, trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = run(capsys, "predict", trained, flowers, "--proba")[1]
    shuffled = [["note", row[2], row[1], row[0]] for row in flower_rows()]
    path = write_csv(tmp_path / "shuffled.csv", shuffled, ["remark", "unit", "height", "width"])
    code, out, err = run(capsys, "predict", trained, path, "--proba")
    assert (code, out, err) == (0, expected, "")


def test_predict_by_position(tmp_path: Path, trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = run(capsys, "predict", trained, flowers)[1]
    with_target = write_csv(tmp_path / "with.csv", flower_rows())
    without = write_csv(tmp_path / "without.csv", [row[:3] for row in flower_rows()])
    assert run(capsys, "predict", trained, with_target) == (0, expected, "accuracy 100.0 % (90 of 90 rows)\n")
    assert run(capsys, "predict", trained, without) == (0, expected, "")


def test_predict_by_position_with_the_target_in_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "front.csv", [[row[3], *row[:3]] for row in flower_rows()])
    model = tmp_path / "m.safetensors"
    assert run(capsys, "train", path, "-o", model, "--target", 0, *QUICK)[0] == 0
    assert "accuracy 100.0 % (90 of 90 rows)" in run(capsys, "predict", model, path)[2]


def test_predict_counts_missing_and_unknown_labels(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = flower_rows(10)
    rows[0][3], rows[1][3] = "", "west"
    path = write_csv(tmp_path / "some.csv", rows, ["width", "height", "unit", "species"])
    err = run(capsys, "predict", trained, path)[2]
    assert err == "accuracy 88.9 % (8 of 9 rows; 1 row of a class the model does not know)\n"


def test_predict_with_a_model_saved_from_python(
    tmp_path: Path, flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = MLP([3, 5, 4], norm="layer", seed=1)
    model.save(tmp_path / "plain.safetensors")
    code, out, _ = run(capsys, "predict", tmp_path / "plain.safetensors", flowers)
    assert code == 0
    features = read_table(flowers).features.astype(np.float32)
    assert [row["class"] for row in predictions(out)] == [str(k) for k in model.predict(features)]


def test_predict_refusals(tmp_path: Path, trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrow = write_csv(tmp_path / "narrow.csv", [row[:2] for row in flower_rows()])
    assert "2 columns, but the model takes 3" in refusal(capsys, "predict", trained, narrow)
    other = write_csv(tmp_path / "other.csv", flower_rows(), ["width", "depth", "unit", "species"])
    assert "the model needs 'height'" in refusal(capsys, "predict", trained, other)
    assert "flowers.csv" in refusal(capsys, "predict", flowers, flowers)
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(trained.read_bytes())
    content[-3] ^= 1
    damaged.write_bytes(content)
    assert "damaged.safetensors: damaged" in refusal(capsys, "predict", damaged, flowers)
    archive = good_npz(tmp_path / "d.npz", X=np.ones((90, 7)))
    assert "7 features a row, but the model takes 3" in refusal(capsys, "predict", trained, archive)
    assert "no such folder" in refusal(capsys, "predict", trained, flowers, "-o", tmp_path / "absent" / "p.csv")
    far = write_csv(tmp_path / "far.csv", [["1e300", "0", "0"]], ["width", "height", "unit"])
    assert "too far from the training rows" in refusal(capsys, "predict", trained, far)


def test_the_target_stays_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model trained with names and its target in front predicts for a file without names."""
    rows = [[row[3], *row[:3]] for row in flower_rows()]
    named = write_csv(tmp_path / "named.csv", rows, ["species", "width", "height", "unit"])
    bare = write_csv(tmp_path / "bare.csv", rows)
    model = tmp_path / "m.safetensors"
    assert run(capsys, "train", named, "-o", model, "--target", "species", *QUICK)[0] == 0
    assert load_model(model)[1]["target_position"] == 0
    expected = run(capsys, "predict", model, named)
    assert expected[2] == "accuracy 100.0 % (90 of 90 rows)\n"
    assert run(capsys, "predict", model, bare) == expected
    # The same with labels that are numbers, where the wrong column would be read without complaint.
    for row in rows:
        row[0] = str(CLASSES.index(row[0]))
    named = write_csv(tmp_path / "named.csv", rows, ["species", "width", "height", "unit"])
    bare = write_csv(tmp_path / "bare.csv", rows)
    assert run(capsys, "train", named, "-o", model, "--target", "species", *QUICK)[0] == 0
    assert run(capsys, "predict", model, bare)[2] == "accuracy 100.0 % (90 of 90 rows)\n"


def test_labels_of_another_problem(tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[*row[:3], "7"] for row in flower_rows()]
    message = refusal(capsys, "predict", trained, write_csv(tmp_path / "other.csv", rows))
    assert "other.csv: no label in column 4 is a class of the model (east, north, south)" in message


def test_predict_refuses_a_model_that_is_not_finite(
    tmp_path: Path, trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("w2", "running_mean1"):
        model, extra = load_model(trained)
        {**model.parameters(), **model.buffers()}[name][0] = np.nan
        path = tmp_path / "broken.safetensors"
        # Whichever refuses it, the writer, the reader or the command: no prediction comes of it.
        try:
            save_model(path, model, extra)
        except ValueError:
            continue
        assert "broken.safetensors" in refusal(capsys, "predict", path, flowers)


BAD_EXTRAS: dict[str, tuple[str, Any]] = {
    "no target": ("target", None),
    "target": ("target", 3),
    "position": ("target_position", 4),
    "position of truth": ("target_position", True),
}


@pytest.mark.parametrize(("key", "value"), BAD_EXTRAS.values(), ids=BAD_EXTRAS.keys())
def test_bad_descriptions(
    tmp_path: Path, trained: Path, flowers: Path, key: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model, extra = load_model(trained)
    if value is None:
        del extra[key]
    else:
        extra[key] = value
    path = tmp_path / "described.safetensors"
    save_model(path, model, extra)
    message = refusal(capsys, "predict", path, flowers)
    assert "described.safetensors" in message
    assert repr(key) in message


def test_predict_refuses_a_model_without_classes(
    tmp_path: Path, flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MLP([3, 1], loss="squared_error").save(tmp_path / "m")
    assert "m: the loss of the model is squared_error; it predicts no classes" in refusal(
        capsys, "predict", tmp_path / "m", flowers
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whoever_loads_a_model_predicts_what_the_command_predicts(
    dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the same raw rows, bit for bit: the scale, the names and the loss are the model's."""
    iris = pytest.importorskip("sklearn.datasets").load_iris()
    rows = [[*map(str, row), iris.target_names[label]] for row, label in zip(iris.data, iris.target, strict=True)]
    table = write_csv(tmp_path / "iris.csv", rows, [*iris.feature_names, "species"])
    out = run(capsys, "train", table, "-o", tmp_path / "m", "--dtype", dtype, *QUICK)
    assert out[0] == 0
    model = MLP.load(tmp_path / "m")
    assert model.feature_names == tuple(iris.feature_names)
    assert model.class_names == tuple(iris.target_names)
    assert model.score(iris.data, iris.target) > 0.95
    # Without its scale the same network knows nothing.
    config = model.config() | {"feature_mean": None, "feature_scale": None}
    plain = MLP.from_config(config)
    plain.parameters_flat[...], plain.buffers_flat[...] = model.parameters_flat, model.buffers_flat
    assert plain.score(iris.data, iris.target) < 0.7

    text = run(capsys, "predict", tmp_path / "m", table, "--proba")[1]
    found = predictions(text)
    probabilities = model.predict_proba(iris.data)
    for name, column in zip(iris.target_names, probabilities.T, strict=True):
        assert np.array([row[f"p({name})"] for row in found]).astype(dtype).tobytes() == column.tobytes()
    assert [row["class"] for row in found] == [iris.target_names[k] for k in model.predict(iris.data)]


# ------------------------------------------------------------ info


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "info", "--json")
    assert code == 0
    assert err == ""
    facts = json.loads(out)
    assert facts["version"] == normcore.__version__
    assert facts["contract"] == normcore.CONTRACT
    assert facts["isa"] in facts["available_isas"]
    assert facts["available_isas"] == list(normcore.available_isas())
    assert facts["selftest"] == "passed"
    assert facts["threads"] == normcore.get_num_threads()
    assert facts["numpy"] == np.__version__
    text = run(capsys, "info")[1]
    assert len(text.splitlines()) == len(facts)
    assert normcore.get_isa() in text


def test_info_of_a_file(tmp_path: Path, trained: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "info", trained)
    assert (code, err) == (0, "")
    model, extra = load_model(trained)
    for part in (
        "kind                 model\n",
        f"digest               {model.digest()}\n",
        "feature names        width, height, unit\n",
        "class names          east, north, south\n",
        'loss                 {"name": "cross_entropy"}\n',
        "weight scale         none\n",
        "feature mean         ",
        model.summary(),
    ):
        assert part in out
    facts = json.loads(run(capsys, "info", trained, "--json")[1])
    assert facts | model.config() == facts
    assert facts["extra"] == extra
    assert (
        hashlib.sha256(trained.read_bytes().replace(facts["sha256"].encode(), b"0" * 64)).hexdigest() == facts["sha256"]
    )

    assert run(capsys, "train", flowers, "-o", tmp_path / "m", "--checkpoint", tmp_path / "c", *QUICK)[0] == 0
    facts = json.loads(run(capsys, "info", tmp_path / "c", "--json")[1])
    assert facts["kind"] == "checkpoint"
    assert facts["state"]["epoch"] == 30
    assert facts["trainer"]["betas"] == [0.9, 0.999]
    assert facts["digest"] == MLP.load(tmp_path / "m").digest()

    assert "takes no FILE" in refusal(capsys, "info", trained, "--verify")
    assert "absent: No such file" in refusal(capsys, "info", tmp_path / "absent")
    assert "t.csv: " in refusal(capsys, "info", write_csv(tmp_path / "t.csv", flower_rows()))
    content = bytearray(trained.read_bytes())
    content[-1] ^= 1
    trained.write_bytes(content)
    assert "damaged: the SHA-256" in refusal(capsys, "info", trained)


def test_info_exits_1_when_the_selftest_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("selftest: layer_norm_f32\non avx2")

    monkeypatch.setattr(normcore, "selftest", fail)
    code, out, err = run(capsys, "info")
    assert code == 1
    assert "failed: selftest: layer_norm_f32 on avx2" in out
    assert err == "normcore: error: the self-test failed: selftest: layer_norm_f32 on avx2\n"


# ------------------------------------------------------------ the whole command


@pytest.mark.parametrize("command", ["", "reproduce", "train", "predict", "info"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *command.split(), "--help")
    assert code == 0
    assert err == ""
    assert out.startswith("usage: normcore")
    # Each command's help ends with examples of it; that of the whole names the commands.
    assert f"normcore {command}".strip() in out.partition("examples:" if command else "options:")[2]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"normcore {normcore.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["trian"], ["info", "--yaml"], ["train"], ["predict", "only-one"]])
def test_bad_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--help" in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("k"), "KeyError: 'k' (NORMCORE_TRACEBACK=1 shows where)"),
        (ValueError("two\n lines"), "two lines"),
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device", "here.csv"), "here.csv: No space left on device"),
        (
            ModuleNotFoundError("x", name="matplotlib.axes"),
            "matplotlib is not installed; pip install 'normcore[experiments]'",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_no_error_is_a_traceback(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(normcore, "selftest", fail)
    monkeypatch.delenv("NORMCORE_TRACEBACK", raising=False)
    assert refusal(capsys, "info") == message
    monkeypatch.setenv("NORMCORE_TRACEBACK", "1")
    with pytest.raises(type(error)):
        main(["info"])


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(normcore, "selftest", interrupt)
    assert run(capsys, "info") == (130, "", "normcore: interrupted\n")


def module(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "normcore", *arguments], stderr=subprocess.PIPE, text=True, check=False, **options
    )


def test_module_runs_the_command() -> None:
    done = module("--version", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"normcore {normcore.__version__}\n", "")
    done = module("info", "--yaml", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("normcore: error: ")


def test_reader_that_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = module("info", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_full_disk_on_standard_output(tmp_path: Path) -> None:
    # The same as a full disk, wherever the tests run: standard output can be read but not written.
    path = tmp_path / "read-only"
    path.touch()
    with path.open() as unwritable:
        done = module("info", stdout=unwritable)
    assert done.returncode == 2
    assert done.stderr.startswith("normcore: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("absent", ["matplotlib", "sklearn"])
def test_missing_extra(absent: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None; from normcore.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "reproduce", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"normcore: error: {absent} is not installed; pip install 'normcore[experiments]'\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(redirection: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m normcore info {redirection}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_text_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [[*row[:3], row[3] + "\xe9"] for row in flower_rows()])
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    model = str(tmp_path / "m.safetensors")
    done = module("train", str(path), "-o", model, *QUICK, stdout=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "north\\xe9" in done.stdout
    done = module("predict", str(tmp_path / "\xe9.safetensors"), "x", stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 2
    assert "\\xe9.safetensors" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["train", "t.csv", "-o", "m", "--epochs", "x"], "'x' must be a whole number"),
        (["train", "t.csv", "-o", "m", "--epochs", "1_0"], "'1_0' must be a whole number"),
        (["train", "t.csv", "-o", "m", "--held-out", "x"], "'x' must be a number"),
        (["train", "t.csv", "-o", "m", "--ep", "3"], "--ep"),
        (["train", "t.csv", "--out", "m"], "--output"),
        (["reproduce", "--first-seed", str(1 << 64)], "[0, 2**64)"),
        (["reproduce", "--first-seed", "-1"], "[0, 2**64)"),
        (["--vers"], "normcore --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_option_messages(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in refusal(capsys, *arguments)


def test_help_tells_what_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(run(capsys, "predict", "--help")[1].split())
    assert "--delimiter and --header are not kept in the model: repeat here" in text
    assert "the last column if that is unknown" in text
    assert "without that file" in " ".join(run(capsys, "reproduce", "--help")[1].split())


def test_termination_in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(normcore, "selftest", lambda: signal.raise_signal(signal.SIGTERM))
    assert run(capsys, "info") == (143, "", "normcore: terminated\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("command", ["info", "--help"])
def test_a_bad_environment_is_one_line(command: str) -> None:
    environment = {**os.environ, "NORMCORE_NUM_THREADS": "abc"}
    done = subprocess.run(
        [sys.executable, "-m", "normcore", command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("normcore: error: the environment variable NORMCORE_NUM_THREADS is 'abc'")
    assert done.stderr.count("\n") == 1
