"""The experiments: definitions, data sets, runner, timing, figures, report, and the command that runs them all."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore
from normcore.cli import main
from normcore.experiments import backward, figures, report, runner
from normcore.experiments.backward import BackwardRow
from normcore.experiments.datasets import Dataset, DatasetError, load_cifar10, load_digits
from normcore.experiments.definitions import (
    EXPERIMENTS,
    SMALL_LEARNING_RATE,
    WEIGHT_SCALES,
    Run,
    parse_selection,
    runs_of,
)
from normcore.experiments.runner import ExperimentError, Result, run_all, train_run

RECORD = 3073


def records(count: int, first: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """CIFAR-10 records, each unlike the others: label i mod 10, pixels a pattern with a bright channel by class."""
    index = np.arange(first, first + count)[:, None]
    made = ((index * 37 + np.arange(RECORD) * 11) % 97).astype(np.uint8)
    made[:, 0] = index[:, 0] % 10
    for k in range(10):
        made[made[:, 0] == k, 1 + 300 * k : 1 + 300 * (k + 1)] += 120
    return made


def write(folder: Path, **files: np.ndarray[Any, np.dtype[np.uint8]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.bin").write_bytes(content.tobytes())
    return folder


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    return write(tmp_path / "cifar", data_batch_1=records(60), test_batch=records(20, first=60))


@pytest.fixture
def tiny(cifar: Path) -> Dataset:
    return load_cifar10(cifar)


def tiny_run(norm: Any = "batch", **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "hidden": (8,),
        "batch_size": 20,
        "weight_scale": 0.01,
        "learning_rate": 1e-3,
        "epochs": 2,
    }
    return Run("E1", norm, **(settings | changes))


# ------------------------------------------------------------ definitions


def test_runs_are_those_of_the_exercise() -> None:
    assert [len(EXPERIMENTS[id].runs) for id in ("E1", "E2", "E3", "E4", "E5")] == [2, 60, 4, 4, 0]
    e1, e2, e3, e4 = (EXPERIMENTS[id].runs for id in ("E1", "E2", "E3", "E4"))
    assert [run.norm for run in e1] == [None, "batch"]
    assert {(run.hidden, run.batch_size, run.weight_scale, run.learning_rate) for run in e1} == {
        ((100,) * 5, 50, 0.02, 0.001)
    }
    assert {(run.hidden, run.batch_size, run.learning_rate) for run in e2} == {((50,) * 7, 50, 0.001)}
    for norm in (None, "batch", "layer"):
        assert tuple(run.weight_scale for run in e2 if run.norm == norm) == WEIGHT_SCALES
    for runs, norm in ((e3, "batch"), (e4, "layer")):
        assert [(run.norm, run.batch_size) for run in runs] == [(None, 5), (norm, 5), (norm, 10), (norm, 50)]
        assert {(run.hidden, run.weight_scale, run.learning_rate) for run in runs} == {
            ((100,) * 5, 0.02, SMALL_LEARNING_RATE)
        }
    assert all(run.epochs == 10 for run in (*e1, *e2, *e3, *e4))


def test_written_out_powers() -> None:
    np.testing.assert_allclose(WEIGHT_SCALES, np.logspace(-4, 0, 20), rtol=1e-15)
    assert math.isclose(SMALL_LEARNING_RATE, 10**-3.5, rel_tol=1e-15)


def test_selection() -> None:
    assert parse_selection(None) == ("E1", "E2", "E3", "E4", "E5")
    assert parse_selection(" e3,E1 ,") == ("E1", "E3")
    with pytest.raises(ValueError, match="E6, EX is no experiment; there are E1, E2"):
        parse_selection("E1,EX,E6")
    with pytest.raises(ValueError, match="no experiment is named"):
        parse_selection(",")
    runs = runs_of(["E1", "E3"], seed=7)
    assert [run.experiment for run in runs] == ["E1"] * 2 + ["E3"] * 4
    assert {run.seed for run in runs} == {7}


# ------------------------------------------------------------ data sets


def test_digits() -> None:
    from sklearn.datasets import load_digits as original

    data = load_digits()
    assert data.x_train.shape == (1000, 64)
    assert data.x_val.shape == (797, 64)
    assert data.x_train.dtype == np.uint8
    source = original()
    rows = np.column_stack([source.target, source.data]).astype(np.int64)
    ours = np.column_stack([np.concatenate([data.y_train, data.y_val]), np.concatenate([data.x_train, data.x_val])])
    assert not np.array_equal(ours, rows), "they are shuffled"
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, rows.tolist())), "and each image keeps its label"
    assert np.bincount(data.y_train, minlength=10).min() > 70, "every class is in the training images"


def test_pixels_minus_the_mean_training_image(tiny: Dataset) -> None:
    x_train, x_val = tiny.arrays()
    assert x_train.dtype == x_val.dtype == np.float32
    for column in (0, 1500, 3071):
        mean = float(Fraction(int(tiny.x_train[:, column].astype(int).sum()), len(tiny.x_train)))
        assert x_train[3, column] == np.float32(float(tiny.x_train[3, column]) - mean)
        assert x_val[3, column] == np.float32(float(tiny.x_val[3, column]) - mean)


def test_cifar_takes_the_first_records_in_order(tmp_path: Path) -> None:
    everything = records(1100)
    folder = write(
        tmp_path / "c",
        data_batch_10=everything[700:],
        data_batch_2=everything[400:700],
        data_batch_1=everything[:400],
        test_batch=records(1003, first=2000),
    )
    data = load_cifar10(folder)
    np.testing.assert_array_equal(data.x_train, everything[:1000, 1:])
    np.testing.assert_array_equal(data.y_train, everything[:1000, 0])
    np.testing.assert_array_equal(data.x_val, records(1000, first=2000)[:, 1:])
    np.testing.assert_array_equal(data.y_val, records(1000, first=2000)[:, 0])
    assert (data.name, data.features, data.classes) == ("CIFAR-10", 3072, 10)


def test_cifar_without_a_test_batch(tmp_path: Path) -> None:
    everything = records(2100)
    data = load_cifar10(write(tmp_path / "many", data_batch_1=everything[:1500], data_batch_2=everything[1500:]))
    np.testing.assert_array_equal(data.x_train, everything[:1000, 1:])
    np.testing.assert_array_equal(data.x_val, everything[1000:2000, 1:])
    data = load_cifar10(write(tmp_path / "few", data_batch_1=everything[:500]))
    assert (len(data.x_train), len(data.x_val)) == (250, 250)
    np.testing.assert_array_equal(data.x_val, everything[250:500, 1:])


def test_cifar_with_few_records_and_as_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    write(folder, data_batch_1=records(2), test_batch=records(1))
    data = load_cifar10(tmp_path)  # the folder that the archive was unpacked in
    assert (len(data.x_train), len(data.x_val)) == (2, 1)


def test_bad_cifar_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent: no such folder"):
        load_cifar10(tmp_path / "absent")
    with pytest.raises(DatasetError, match=r"no data_batch_\*\.bin in it$"):
        load_cifar10(tmp_path)
    (tmp_path / "data_batch_1").touch()
    with pytest.raises(DatasetError, match="Python version"):
        load_cifar10(tmp_path)
    with pytest.raises(DatasetError, match="not a folder"):
        load_cifar10(tmp_path / "data_batch_1")
    with pytest.raises(DatasetError, match="1 training images, but batch"):
        load_cifar10(write(tmp_path / "one", data_batch_1=records(1), test_batch=records(1)))


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_3", "test_batch"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "no whole number of 3073-byte"),
        (lambda content: content[:100], "no whole number"),
        (lambda content: b"", "empty"),
        (lambda content: content[:RECORD] + b"\x0a" + content[RECORD + 1 :], "record 1 has label 10"),
        (lambda content: b"\xff" * len(content), "record 0 has label 255"),
    ],
    ids=["cut by a byte", "cut", "empty", "one foreign label", "foreign"],
)
def test_bad_cifar_files(tmp_path: Path, name: str, damage: Any, message: str) -> None:
    files = {"data_batch_1": records(30), "data_batch_2": records(30), "data_batch_3": records(30)}
    folder = write(tmp_path / "c", **files, test_batch=records(30))
    load_cifar10(folder)
    path = folder / f"{name}.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=message) as caught:
        load_cifar10(folder)
    assert str(path) in str(caught.value)


def test_a_cut_file_is_found_even_behind_those_needed(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", data_batch_1=records(1000), data_batch_2=records(9), test_batch=records(9))
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="data_batch_2"):
        load_cifar10(folder)


def test_a_folder_in_a_files_place(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", data_batch_1=records(5))
    (folder / "test_batch.bin").mkdir()
    with pytest.raises(DatasetError, match=r"test_batch\.bin: not a file"):
        load_cifar10(folder)


# ------------------------------------------------------------ runner


def test_a_run_and_its_lists(tiny: Dataset) -> None:
    result = train_run(tiny_run(epochs=3), tiny)
    assert len(result.loss) == 3 * (60 // 20)
    assert len(result.train_accuracy) == len(result.val_accuracy) == 1 + 3
    assert all(math.isfinite(loss) for loss in result.loss)
    assert result.train_accuracy[-1] > result.train_accuracy[0]
    assert all(0.0 <= value <= 1.0 for value in result.val_accuracy)
    # A batch larger than the data set is still one step an epoch.
    assert len(train_run(tiny_run(batch_size=50, epochs=3), load_tiny_slice(tiny, 30)).loss) == 3


def load_tiny_slice(data: Dataset, count: int) -> Dataset:
    return Dataset(data.name, data.x_train[:count], data.y_train[:count], data.x_val, data.y_val)


def test_results_do_not_depend_on_the_executor(tiny: Dataset) -> None:
    runs = [tiny_run(norm, batch_size=size) for norm in (None, "batch", "layer") for size in (5, 60)]
    alone = run_all(runs, tiny, jobs=1)
    assert [result.run for result in alone] == runs
    assert run_all(runs, tiny, jobs=2) == alone
    with ThreadPoolExecutor(3) as threads:
        assert run_all(runs, tiny, executor=threads) == alone
    assert run_all([tiny_run(seed=1)], tiny, jobs=1)[0].loss != run_all([tiny_run(seed=2)], tiny, jobs=1)[0].loss


class Recorder(Executor):
    """Runs at once and remembers what it was given."""

    def __init__(self) -> None:
        self.submitted: list[Run] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted.append(args[0])
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_the_same_training_is_done_once(tiny: Dataset) -> None:
    runs = [tiny_run(None), tiny_run("batch"), Run("E4", *tiny_run(None).training[:1], (8,), 20, 0.01, 1e-3, 2)]
    executor = Recorder()
    results = run_all(runs, tiny, executor=executor)
    assert len(executor.submitted) == 2
    assert [result.run.experiment for result in results] == ["E1", "E1", "E4"]
    assert results[0].loss == results[2].loss
    shared = runs_of(["E3", "E4"])
    assert shared[0].training == shared[4].training, "E3 and E4 share the plain network"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_is_named(tiny: Dataset, jobs: int) -> None:
    runs = [tiny_run(), tiny_run(None, learning_rate=-1.0), tiny_run("layer")]
    before = multiprocessing.active_children()
    with pytest.raises(ExperimentError, match=r"E1 \(no norm, batch 20, weight scale 0\.01\): .*learning_rate"):
        run_all(runs, tiny, jobs=jobs)
    assert multiprocessing.active_children() == before


class Broken(Executor):
    """Its first run is lost with its worker; the others never begin."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(Future())
        if len(self.futures) == 1:
            self.futures[0].set_exception(BrokenProcessPool("gone"))
        return self.futures[-1]


def test_a_worker_that_dies(tiny: Dataset) -> None:
    executor = Broken()
    with pytest.raises(ExperimentError, match="a worker process died"):
        run_all([tiny_run(), tiny_run(None), tiny_run("layer")], tiny, executor=executor)
    assert [future.cancelled() for future in executor.futures] == [False, True, True]


def test_interrupt_ends_the_workers(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting:
        def update(self) -> None:
            raise KeyboardInterrupt

    @contextmanager
    def bar(total: int, progress: bool | None) -> Iterator[Any]:
        yield Interrupting()

    monkeypatch.setattr(runner, "_progress_bar", bar)
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        run_all([tiny_run(seed=seed) for seed in range(8)], tiny, jobs=2)
    assert multiprocessing.active_children() == before


def test_progress_is_quiet_unless_asked(tiny: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    run_all([tiny_run(), tiny_run(None)], tiny, jobs=1)
    assert capsys.readouterr() == ("", "")
    run_all([tiny_run(), tiny_run(None)], tiny, jobs=1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err
    assert "/2" in err


def test_jobs_are_checked(tiny: Dataset) -> None:
    with pytest.raises(ValueError, match="jobs is 0"):
        run_all([tiny_run()], tiny, jobs=0)


def test_normalisation_trains_where_a_plain_network_does_not() -> None:
    """E2 in two runs on real images: small weights leave the plain network at chance, batch norm does not mind."""
    data = load_digits()
    chance = max(data.chance())
    runs = [run for run in runs_of(["E2"]) if run.weight_scale == WEIGHT_SCALES[4] and run.norm != "layer"]
    plain, batch = run_all(runs, data, jobs=1)
    assert max(plain.train_accuracy) < chance + 0.02
    assert max(batch.val_accuracy) > 3 * chance


# ------------------------------------------------------------ backward


def test_the_two_backward_algorithms_agree() -> None:
    draw = normcore.Generator(5)
    x, dy = 5.0 * draw.normal((40, 7)) + 12.0, draw.normal((40, 7))
    gamma, beta = draw.normal(7), draw.normal(7)
    cache = backward.numpy_cache(x, gamma)
    _, mean, rstd = normcore.batch_norm_forward(x, gamma, beta)
    graph = backward.numpy_graph(dy, cache)
    others = (
        backward.numpy_fused(dy, cache),
        normcore.batch_norm_backward(dy, x, gamma, mean, rstd, algorithm="graph"),
        normcore.batch_norm_backward(dy, x, gamma, mean, rstd, algorithm="fused"),
    )
    for other in others:
        for one, two in zip(graph, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)


def test_measure_backward() -> None:
    threads = normcore.get_num_threads()
    rows = backward.measure_backward(((8, 3), (16, 5)), samples=30)
    assert normcore.get_num_threads() == threads
    assert [(row.n, row.d, row.implementation) for row in rows] == [
        (8, 3, "numpy"),
        (8, 3, "normcore"),
        (16, 5, "numpy"),
        (16, 5, "normcore"),
    ]
    for row in rows:
        assert row.speedup == row.graph_seconds / row.fused_seconds
        assert 0.0 < row.graph_seconds < 1.0
        assert 0.0 <= row.max_relative_difference < 1e-12
        assert (row.samples, row.threads, row.dtype) == (30, 1, "float64")
    assert backward.SAMPLES >= 30
    assert set(backward.SHAPES) == {(100, 500), (50, 100), (1000, 1000)}


# ------------------------------------------------------------ figures and report


def made_up(run: Run, end: float, loss: float = 1.0) -> Result:
    """A result whose accuracy climbs in a straight line from 10 % to `end`."""
    curve = [0.1 + (end - 0.1) * k / 10 for k in range(11)]
    return Result(run, [loss] * 200, curve, [0.5 * value + 0.05 for value in curve])


def made_up_results() -> list[Result]:
    ends: dict[tuple[str, Any, int], float] = {
        ("E1", None, 50): 0.70,
        ("E1", "batch", 50): 0.80,
        ("E3", None, 5): 0.63,
        ("E3", "batch", 5): 0.45,
        ("E3", "batch", 10): 0.65,
        ("E3", "batch", 50): 0.87,
        ("E4", None, 5): 0.63,
        ("E4", "layer", 5): 0.67,
        ("E4", "layer", 10): 0.76,
        ("E4", "layer", 50): 0.85,
    }
    results = []
    for run in runs_of(["E1", "E2", "E3", "E4"]):
        if run.experiment == "E2":
            end = 0.7 if run.norm == "batch" else 0.6 if 0.01 < run.weight_scale < 0.2 else 0.1
        else:
            end = ends[run.experiment, run.norm, run.batch_size]
        results.append(made_up(run, end, loss=2.3 if end == 0.1 else 1.0))
    return results


ROWS = [
    BackwardRow(50, 100, "float64", "numpy", 8e-5, 4e-5, 2.0, 1e-15, 41, 1),
    BackwardRow(50, 100, "float64", "normcore", 2e-5, 1.6e-5, 1.25, 2e-15, 41, 1),
    BackwardRow(100, 500, "float64", "numpy", 4e-4, 1e-4, 4.0, 1e-15, 41, 1),
    BackwardRow(100, 500, "float64", "normcore", 5e-5, 2.5e-5, 2.0, 3e-15, 41, 1),
]


def of(results: list[Result], experiment: str) -> list[Result]:
    return [result for result in results if result.run.experiment == experiment]


def sentences(results: list[Result], data: Dataset, *ids: str) -> str:
    """The report without its line breaks."""
    return " ".join(report.to_text(ids, results, ROWS, data).split())


@pytest.mark.parametrize("experiment", list(EXPERIMENTS))
def test_figures(experiment: str, tiny: Dataset, tmp_path: Path) -> None:
    from matplotlib.image import imread

    own = of(made_up_results(), experiment)
    png = figures.draw(experiment, own, ROWS, tiny)
    assert png == figures.draw(experiment, own, ROWS, tiny), "the same numbers draw the same file"
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1200
    assert height > 500
    (tmp_path / "f.png").write_bytes(png)
    pixels = imread(tmp_path / "f.png")[..., :3].reshape(-1, 3)
    assert 0.02 < (pixels.min(axis=1) < 0.9).mean() < 0.5, "something is drawn, on a white ground"


def test_report_says_what_the_numbers_show(tiny: Dataset) -> None:
    results = made_up_results()
    text = sentences(results, tiny, *EXPERIMENTS)
    assert "Data: CIFAR-10, 60 training and 20 validation images, 3072 pixels, 10 classes." in text
    assert "batch norm stands 10 points above the plain network in training and 5 points above it" in text
    assert "It reaches the plain network's last training accuracy after 9 of 10 epochs." in text
    assert "No norm: best 35.0 % at 0.013; at least 75% of the overall best (40.0 %) at 6 of 20 scales" in text
    assert "at chance up to 7.8e-03 and from 2.3e-01." in text
    assert "Batch norm: best 40.0 % at 0.0001; at least 75% of the overall best (40.0 %) at 20 of 20 scales" in text
    assert (
        "batch norm ends, compared with no norm at batch 5 (63.0 %), 18 points below it at batch 5, "
        "2 points above it at batch 10, 24 points above it at batch 50."
    ) in text
    assert "accuracy of layer norm by -18 points, that of batch norm in E3 by -42 points." in text
    assert "In numpy the closed form is 2.0 to 4.0 times as fast as the graph." in text
    assert "In normcore the closed form is 1.2 to 2.0 times as fast as the graph." in text
    assert "normcore is 2.5 to 4.0 times as fast as numpy. Graph and closed form differ by at most 3e-15" in text
    assert max(map(len, report.to_text(tuple(EXPERIMENTS), results, ROWS, tiny).splitlines())) <= 100


def test_report_follows_other_numbers(tiny: Dataset) -> None:
    """Nothing is said because it was expected: with the numbers turned round, so are the words."""
    e1 = [made_up(run, end) for run, end in zip(runs_of(["E1"]), (0.8, 0.7), strict=True)]
    text = sentences(e1, tiny, "E1")
    assert "10 points below the plain network in training" in text
    assert "It never reaches the plain network's last training accuracy." in text
    e3 = [made_up(run, end) for run, end in zip(runs_of(["E3"]), (0.5, 0.6, 0.5, 0.49), strict=True)]
    text = sentences(e3, tiny, "E3")
    assert "10 points above it at batch 5, level with it at batch 10, 1 point below it at batch 50." in text
    assert "accuracy of batch norm by +11 points." in text
    e2_runs = runs_of(["E2"])
    e4 = [made_up(run, 0.5) for run in runs_of(["E4"])]
    assert "accuracy of layer norm by 0 points." in sentences(e4, tiny, "E4"), "alone, E4 is not told beside E3"
    e2 = [made_up(run, 0.9) for run in e2_runs]
    assert "at chance" not in sentences(e2, tiny, "E2")
    e2 = [made_up(run, 0.1 if run.weight_scale in WEIGHT_SCALES[3:5] + WEIGHT_SCALES[7:8] else 0.9) for run in e2_runs]
    assert "at chance from 4.3e-04 to 7.0e-04 and at 3.0e-03." in sentences(e2, tiny, "E2")
    assert "at chance throughout." in sentences([made_up(run, 0.1) for run in e2_runs], tiny, "E2")


def test_results_json() -> None:
    results = made_up_results()
    document = json.loads(report.to_json(results, ROWS))
    assert list(document) == ["runs", "backward"]
    assert len(document["runs"]) == 70
    keys = [
        "experiment",
        "norm",
        "batch_size",
        "weight_scale",
        "learning_rate",
        "loss",
        "train_accuracy",
        "val_accuracy",
    ]
    assert all(list(run) == keys for run in document["runs"])
    assert document["runs"][0]["norm"] is None
    assert document["runs"][0]["val_accuracy"] == results[0].val_accuracy
    assert document["backward"][1]["implementation"] == "normcore"
    broken = Result(results[0].run, [math.nan], [0.1], [0.1])
    with pytest.raises(ValueError, match="Out of range float"):
        report.to_json([broken], [])


# ------------------------------------------------------------ normcore reproduce


def test_reproduce_all(cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "results"
    assert main(["reproduce", "--data", str(cifar), "--output", str(output), "--jobs", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for experiment in EXPERIMENTS.values():
        assert f"{experiment.id}  {experiment.title}" in out
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [f"{id}.png" for id in EXPERIMENTS] + ["results.json"]
    )
    document = json.loads((output / "results.json").read_text())
    assert len(document["runs"]) == 70
    assert len(document["backward"]) == 6
    for run in document["runs"]:
        assert len(run["loss"]) == 10 * max(1, 60 // run["batch_size"])
        assert len(run["train_accuracy"]) == len(run["val_accuracy"]) == 11
        assert all(math.isfinite(loss) for loss in run["loss"])


def test_reproduce_a_part(cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = []
    for jobs in ("1", "2"):
        output = tmp_path / jobs
        arguments = ["reproduce", "--data", str(cifar), "--only", "e1", "--output", str(output), "--jobs", jobs]
        assert main([*arguments, "--seed", "3"]) == 0
        assert sorted(path.name for path in output.iterdir()) == ["E1.png", "results.json"]
        contents.append([(output / name).read_bytes() for name in ("E1.png", "results.json")])
    assert contents[0] == contents[1], "the number of workers changes no byte"
    assert "E2" not in capsys.readouterr().out
    assert json.loads(contents[0][1])["backward"] == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--only", "E9"], "E9 is no experiment"),
        (["--data", "/nonexistent"], "/nonexistent: no such folder"),
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "many"], "--jobs"),
    ],
    ids=["experiment", "data", "jobs 0", "jobs many"],
)
def test_reproduce_refusals(
    arguments: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["reproduce", "--output", str(output), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("normcore: error: ")
    assert err.count("\n") == 1
    assert part in err
    assert not output.exists()


def test_reproduce_names_a_bad_file(cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cifar / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["reproduce", "--data", str(cifar), "--output", str(tmp_path / "out")]) == 2
    assert str(path) in capsys.readouterr().err


def test_reproduce_output_that_is_a_file(cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["reproduce", "--data", str(cifar), "--output", str(tmp_path / "file")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("normcore: error: ")
    assert "file" in err
    assert err.count("\n") == 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def has_normcore(pid: int) -> bool:
    """Whether a worker has come as far as importing normcore, so that it is no longer reading what it begins with."""
    try:
        return "/_core." in Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_reproduce_leaves_no_worker_behind(number: int, code: int, tmp_path: Path) -> None:
    folder = write(tmp_path / "c", data_batch_1=records(1000), test_batch=records(20))
    arguments = ["reproduce", "--data", str(folder), "--only", "E2", "--jobs", "2", "--output", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-m", "normcore", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as main_process:
        started: list[int] = []
        # The resource tracker of multiprocessing and two workers, which take on the first runs.
        while sum(map(has_normcore, started)) < 2 and main_process.poll() is None:
            started = children(main_process.pid)
            time.sleep(0.01)
        time.sleep(3.0)  # on a busy machine one was not always enough to read what they begin with
        main_process.send_signal(number)
        _, err = main_process.communicate()
    assert main_process.returncode == code
    assert "Traceback" not in err
    for _ in range(3000):
        if not any(map(is_running, started)):
            break
        time.sleep(0.01)
    assert len(started) == 3
    assert not any(map(is_running, started))


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
@pytest.mark.parametrize(("seen", "delay"), [(1, 0.0), (3, 0.0), (3, 0.1), (3, 0.3), (3, 0.6)])
def test_ctrl_c_of_the_terminal_is_one_line(seen: int, delay: float, tmp_path: Path) -> None:
    """It goes to the workers too, while they start and while they train, and only the command answers."""
    folder = write(tmp_path / "c", data_batch_1=records(1000), test_batch=records(20))
    arguments = ["reproduce", "--data", str(folder), "--only", "E2", "--jobs", "2", "--output", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-m", "normcore", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as main_process:
        started: list[int] = []
        # The resource tracker of multiprocessing, then the workers.
        while len(started) < seen and main_process.poll() is None:
            started = [pid for pid in children(main_process.pid) if b"multiprocessing" in command_line(pid)]
        time.sleep(delay)
        os.killpg(main_process.pid, signal.SIGINT)
        out, err = main_process.communicate(timeout=60)
    assert (main_process.returncode, out, err) == (130, "", "normcore: interrupted\n")
    assert list((tmp_path / "out").iterdir()) == []
    for _ in range(3000):
        if not any(map(is_running, started)):
            break
        time.sleep(0.01)
    assert not any(map(is_running, started))


def test_ctrl_c_while_the_workers_start_is_not_lost() -> None:
    before = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    reached = []

    def start() -> None:
        with runner._interrupts_held():
            signal.raise_signal(signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert reached
    assert (signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, [])) == before
