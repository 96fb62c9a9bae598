"""The experiments: definitions, data sets, runner, timing, figures, report, and the command that runs them all."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore
from normcore import plots
from normcore.cli import main
from normcore.cli import reproduce as command
from normcore.experiments import backward, figures, report, runner
from normcore.experiments.datasets import Dataset, DatasetError, load_cifar10, load_digits, load_noisy_digits
from normcore.experiments.definitions import (
    BACKWARD_SHAPES,
    EXPERIMENTS,
    LEARNING_RATES,
    SMALL_LEARNING_RATE,
    WEIGHT_SCALES,
    Run,
    parse_selection,
    runs_of,
)
from normcore.experiments.numbers import table
from normcore.experiments.page import to_html
from normcore.experiments.reproduction import reproduce
from normcore.experiments.results import Results, Summary, Training, by_setting, rounded, summary
from normcore.experiments.runner import ExperimentError, run_all, train_run

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
    counts = [len(experiment.runs) for experiment in EXPERIMENTS.values()]
    assert counts == [2, 60, 10, 10, 0, 3, 48, 3, 39]
    e1, e2, e3, e4 = (EXPERIMENTS[id].runs for id in ("E1", "E2", "E3", "E4"))
    assert [run.norm for run in e1] == [None, "batch"]
    assert {(run.hidden, run.batch_size, run.weight_scale, run.learning_rate) for run in e1} == {
        ((100,) * 5, 50, 0.02, 0.001)
    }
    assert {(run.hidden, run.batch_size, run.learning_rate) for run in e2} == {((50,) * 7, 50, 0.001)}
    for norm in (None, "batch", "layer"):
        assert tuple(run.weight_scale for run in e2 if run.norm == norm) == WEIGHT_SCALES
    for runs, norm in ((e3, "batch"), (e4, "layer")):
        assert [(run.norm, run.batch_size) for run in runs] == [
            (which, size) for which in (None, norm) for size in (2, 5, 10, 50, 200)
        ]
        assert {(run.hidden, run.weight_scale, run.learning_rate) for run in runs} == {
            ((100,) * 5, 0.02, SMALL_LEARNING_RATE)
        }
    assert all(run.epochs == 10 for run in (*e1, *e2, *e3, *e4))
    assert {len(run.hidden) for run in EXPERIMENTS["E7"].runs} == {5, 10, 20, 50}
    assert {run.epochs for run in EXPERIMENTS["E7"].runs} == {0}
    for id in ("E6", "E8", "E9"):
        assert {(run.hidden, run.batch_size, run.weight_scale) for run in EXPERIMENTS[id].runs} == {
            ((100,) * 5, 50, 0.02)
        }
    assert (min(LEARNING_RATES), max(LEARNING_RATES)) == (1e-5, 10.0)
    assert all(run.experiment == experiment.id for experiment in EXPERIMENTS.values() for run in experiment.runs)


def test_quick_runs_are_some_of_all_runs() -> None:
    for experiment in EXPERIMENTS.values():
        assert set(experiment.quick_runs) <= set(experiment.runs)
        assert {run.norm for run in experiment.quick_runs} in (set(), {run.norm for run in experiment.runs})


def test_written_out_powers() -> None:
    np.testing.assert_allclose(WEIGHT_SCALES, np.logspace(-4, 0, 20), rtol=1e-15)
    assert math.isclose(SMALL_LEARNING_RATE, 10**-3.5, rel_tol=1e-15)


def test_selection() -> None:
    assert parse_selection(None) == ("E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9")
    assert parse_selection(" e3,E1 ,") == ("E1", "E3")
    with pytest.raises(ValueError, match="E0, EX is no experiment; there are E1, E2"):
        parse_selection("E1,EX,E0")
    with pytest.raises(ValueError, match="no experiment is named"):
        parse_selection(",")
    runs = runs_of(["E1", "E3"], seeds=(7, 9))
    assert [run.experiment for run in runs] == ["E1"] * 4 + ["E3"] * 20
    assert [run.seed for run in runs] == [7, 9] * 12
    assert len(runs_of(["E2"], quick=True)) < len(runs_of(["E2"]))
    assert runs_of(["E1"], quick=True) == runs_of(["E1"])


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


def test_noisy_digits() -> None:
    data, clean = load_noisy_digits(), load_digits()
    assert (data.x_train.dtype, data.x_train.shape, data.x_val.shape) == (np.uint8, (1000, 64), (797, 64))
    np.testing.assert_array_equal(data.y_train, clean.y_train)
    for noisy, images in ((data.x_train, clean.x_train), (data.x_val, clean.x_val)):
        noise = noisy.astype(float) - images
        assert abs(noise.mean() - 64.0) < 0.1
        assert abs(noise.std() - 6.0) < 0.1
        assert noise.min() > 64 - 40
    assert np.abs(np.corrcoef((data.x_train[:797].astype(float) - clean.x_train[:797]).ravel(),
                              (data.x_val.astype(float) - clean.x_val).ravel())[0, 1]) < 0.02  # fmt: skip
    # The same on every machine.
    assert data.sha256() == "0f267dec32914879b3ab06d6624084c65c6c10074369501a3b1582934dda6dee"


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
    return Dataset(data.name, data.description, data.x_train[:count], data.y_train[:count], data.x_val, data.y_val)


def test_results_do_not_depend_on_the_executor(tiny: Dataset) -> None:
    runs = [tiny_run(norm, batch_size=size) for norm in (None, "batch", "layer") for size in (5, 60)]
    runs += [
        tiny_run(measure="distributions"),
        tiny_run("layer", measure="smoothness"),
        tiny_run(None, epochs=0, measure="gradients"),
    ]
    alone = run_all(runs, tiny, jobs=1)
    assert [record.run for record in alone] == runs
    assert run_all(runs, tiny, jobs=2) == alone
    with ThreadPoolExecutor(3) as threads:
        assert run_all(runs, tiny, executor=threads) == alone
    one, two = (train_run(tiny_run(seed=seed), tiny) for seed in (1, 2))
    assert isinstance(one, Training)
    assert isinstance(two, Training)
    assert one.loss != two.loss


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
    runs = [tiny_run(None), tiny_run("batch"), replace(tiny_run(None), experiment="E4")]
    executor = Recorder()
    records = run_all(runs, tiny, executor=executor)
    assert len(executor.submitted) == 2
    assert [record.run for record in records] == runs
    assert records[0] == replace(records[2], run=runs[0])
    shared = runs_of(["E3", "E4"], seeds=[0])
    assert shared[0].training == shared[10].training, "E3 and E4 share the plain networks"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_is_named(tiny: Dataset, jobs: int) -> None:
    runs = [tiny_run(), tiny_run(None, learning_rate=-1.0), tiny_run("layer")]
    before = multiprocessing.active_children()
    with pytest.raises(ExperimentError, match=r"E1 \(no norm, 1 hidden layers, batch 20, .*learning_rate"):
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


def test_interrupt_ends_the_workers(tiny: Dataset) -> None:
    def interrupt(run: Run, next_run: Run | None) -> None:
        raise KeyboardInterrupt

    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        run_all([tiny_run(seed=seed) for seed in range(8)], tiny, jobs=2, done=interrupt)
    assert multiprocessing.active_children() == before


def test_progress_is_quiet_unless_asked(tiny: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce(["E1"], tiny, seeds=[0], jobs=1)
    assert capsys.readouterr() == ("", "")
    reproduce(["E1", "E6"], tiny, seeds=[0], jobs=1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "E1" in err
    assert "E6" in err
    assert "left" in err


def test_jobs_are_checked(tiny: Dataset) -> None:
    with pytest.raises(ValueError, match="jobs is 0"):
        run_all([tiny_run()], tiny, jobs=0)


def test_without_tqdm_there_is_no_bar(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    reproduce(["E1"], tiny, seeds=[0], jobs=1, progress=True)
    assert capsys.readouterr() == ("", "")


def test_executors_are_checked(tiny: Dataset) -> None:
    with pytest.raises(ValueError, match="executor is 'cloud'; there are local"):
        run_all([tiny_run()], tiny, executor="cloud")


def test_normalisation_trains_where_a_plain_network_does_not() -> None:
    """E2 in two runs on real images: small weights leave the plain network at chance, batch norm does not mind."""
    data = load_digits()
    chance = max(data.chance())
    runs = [run for run in runs_of(["E2"], [0]) if run.weight_scale == WEIGHT_SCALES[4] and run.norm != "layer"]
    plain, batch = run_all(runs, data, jobs=1)
    assert isinstance(plain, Training)
    assert isinstance(batch, Training)
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
        for quartiles in (row.graph_seconds, row.fused_seconds, row.speedup):
            assert 0.0 < quartiles[0] <= quartiles[1] <= quartiles[2] < 1000.0
        assert 0.0 <= row.max_relative_difference < 1e-12
        assert (row.samples, row.threads, row.dtype) == (30, 1, "float64")
        assert row.fused_operations < row.graph_operations
        assert row.fused_bytes < row.graph_bytes
    assert backward.SAMPLES >= 30
    assert {(100, 500), (1000, 1000), (10, 100), (10000, 100)} <= set(BACKWARD_SHAPES)


def test_operations_and_bytes_are_counted() -> None:
    x, dy = np.arange(12.0).reshape(4, 3), np.ones((4, 3))
    cache = backward.numpy_cache(x, np.ones(3))

    def two(dy: Any, cache: Any) -> Any:
        total = np.sum(dy * cache.xmu, axis=0)  # 12 products of 3 x 12 numbers, 3 sums of 4
        return np.ones_like(dy) - total, total, total  # 12 written, 12 + 3 read and 12 written

    assert backward.counted(two, dy, cache) == (12 + 9 + 12, 8 * (36 + 15 + 12 + 27))
    assert type(backward.numpy_graph(dy, cache)[0]) is np.ndarray


# ------------------------------------------------------------ results


@pytest.fixture(scope="module")
def tiny_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Everything, on very little."""
    data = load_cifar10(
        write(tmp_path_factory.mktemp("cifar"), data_batch_1=records(60), test_batch=records(20, first=60))
    )
    return reproduce(tuple(EXPERIMENTS), data, seeds=(3, 4), quick=True, jobs=2)


def test_results_are_the_same_from_the_file(tiny_results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(tiny_results.to_json())
    assert Results.read(path) == tiny_results
    document = json.loads(path.read_text())
    assert list(document) == [
        "format",
        "normcore",
        "started",
        "seconds",
        "settings",
        "data",
        "machine",
        "experiments",
    ]
    assert document["normcore"] == {"version": normcore.__version__, "contract": normcore.CONTRACT}
    assert document["settings"]["seeds"] == [3, 4]
    assert len(document["data"]["sha256"]) == 64
    path.write_text(json.dumps(document | {"format": 2}))
    with pytest.raises(ValueError, match="not of format 1"):
        Results.read(path)
    broken = replace(tiny_results, seconds=math.nan)
    with pytest.raises(ValueError, match="Out of range float"):
        broken.to_json()


def test_records(tiny_results: Results) -> None:
    for experiment in tiny_results.experiments:
        assert experiment.title == EXPERIMENTS[experiment.id].title
        if experiment.id == "E5":
            assert experiment.softmax_deviation is None
            continue
        assert {record.run.seed for record in experiment.records} == {3, 4}
        assert experiment.softmax_deviation is not None
        assert 0.0 <= experiment.softmax_deviation < 1e-6
    for record in tiny_results.experiment("E6").records:
        assert record.steps[0] == 0
        for values in (record.mean, record.spread, record.quantiles, record.dead, record.shift):
            assert len(values) == len(record.steps)
            assert {len(row) for row in values} == {5}
        if record.run.norm is not None:
            np.testing.assert_allclose(record.spread[0], 1.0, atol=0.05)
        assert all(list(row) == sorted(row) for step in record.quantiles for row in step)
    for record in tiny_results.experiment("E7").records:
        assert len(record.norms) == len(record.run.hidden) + 1
    for record in tiny_results.experiment("E8").records:
        assert len(record.steps) == len(record.loss) == len(record.lowest) == len(record.highest) == len(record.turn)
        assert all(low <= high for low, high in zip(record.lowest, record.highest, strict=True))
    for id in ("E3", "E4"):
        for record in tiny_results.experiment(id).records:
            if record.company_effect is not None and record.run.norm != "batch":
                assert record.company_effect == 0.0, "a row through layer norm is the same alone and in company"
    with pytest.raises(KeyError):
        replace(tiny_results, experiments=()).experiment("E1")


def test_a_run_that_diverges(tiny: Dataset) -> None:
    record = train_run(tiny_run(None, learning_rate=1e30, epochs=4), tiny)
    assert isinstance(record, Training)
    assert record.diverged_at is not None
    assert len(record.loss) == record.diverged_at < 12
    assert len(record.train_accuracy) == len(record.val_accuracy) == 5
    assert record.val_accuracy[-1] == tiny.chance()[1]
    assert record.softmax_deviation is record.company_effect is None


def test_summaries() -> None:
    assert summary([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0, seeds=3)
    assert rounded([[1 / 3, 2.0], [np.float32(0.1)]]) == ((0.3333333, 2.0), (0.1,))
    made = [Training(tiny_run(seed=seed), (), (0.1,), (0.1,), None, None, None) for seed in (5, 6)]
    assert by_setting(made) == {tiny_run(): made}
    assert by_setting(made, key=lambda run: run.norm) == {"batch": made}


@pytest.mark.parametrize("id", EXPERIMENTS)
def test_figures(id: str, tiny_results: Results) -> None:
    figure = figures.draw(id, tiny_results)
    found = tiny_results.experiment(id)
    texts = [text.get_text() for text in figure.texts]
    assert texts[0] == f"{id}   {found.title}"
    assert " ".join(texts[1].split()) == " ".join(found.findings[0].text.split()), "the answer stands under the title"
    assert texts[2] == figures.settings_line(found, tiny_results.data)
    assert len(plots.alt_text(figure)) > 50
    for kind, start in (("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml")):
        first, second = (plots.render(figures.draw(id, tiny_results), kind) for _ in range(2))
        assert first.startswith(start)
        assert first == second, "the same each time"


@pytest.mark.parametrize("id", EXPERIMENTS)
def test_nothing_in_a_figure_is_cut_off_or_covered(id: str, tiny_results: Results) -> None:
    figure = figures.draw(id, tiny_results)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    whole = figure.bbox
    headings = [*figure.texts, *(text for ax in figure.axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label))]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in headings if text.get_text()]
    boxes += [("legend", legend.get_window_extent(renderer)) for legend in figure.legends]
    for text, box in boxes:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, f"{text} leaves the figure"
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, f"{text} leaves the figure"
    for (text, box), (other, other_box) in itertools.combinations(boxes, 2):
        assert not box.overlaps(other_box), f"{text} lies on {other}"


class Links(HTMLParser):
    """What a page refers to, its text, and that each element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.alternatives: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.targets += [str(found[name]) for name in ("href", "src") if name in found]
        if tag == "img":
            self.alternatives.append(found.get("alt"))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page(tiny_results: Results) -> None:
    alternatives = {id: f'"{id}" <in words> & more' for id in EXPERIMENTS}
    page = Links()
    page.feed(to_html(tiny_results, alternatives))
    assert page.open == []
    assert page.alternatives == list(alternatives.values())
    files = {f"{id}.{kind}" for id in EXPERIMENTS for kind in ("png", "svg")} | {"results.json"}
    assert set(page.targets) == files | {f"#{id}" for id in EXPERIMENTS}, "nothing from elsewhere"
    for found in tiny_results.experiments:
        for text in (found.title, found.claim, figures.HOW_TO_READ[found.id], *(f.text for f in found.findings)):
            assert text in page.text
    for fact in (tiny_results.data.sha256, tiny_results.started, normcore.__version__, normcore.CONTRACT, "3, 4"):
        assert fact in page.text


def test_tables_of_numbers(tiny_results: Results) -> None:
    for found in tiny_results.experiments:
        head, *rows = table(found)
        settings = {getattr(record, "run", record) for record in found.records}
        assert len(rows) == len({replace(run, seed=0) if isinstance(run, Run) else run for run in settings})
        assert all(len(row) == len(head) for row in rows)
        varied = next(i for i, name in enumerate(head) if any("[" in row[i] for row in rows))
        assert len({tuple(row[:varied]) for row in rows}) == len(rows), "rows can be told apart"
    [_, plain, _] = table(tiny_results.experiment("E1"))
    accuracies = [100 * r.val_accuracy[-1] for r in tiny_results.experiment("E1").records if r.run.norm is None]
    low, high = sorted(accuracies)
    middle = (low + high) / 2
    assert plain[0] == "no norm"
    assert plain[2] == (f"{middle:.3g}" if low == high else f"{middle:.3g} [{low:.3g} … {high:.3g}]")


def changed(results: Results, id: str, **changes: Any) -> Results:
    """Results with another experiment of that id."""
    experiments = [replace(e, **changes) if e.id == id else e for e in results.experiments]
    return replace(results, experiments=tuple(experiments))


def test_a_table_with_runs_that_diverged(tiny_results: Results) -> None:
    found = tiny_results.experiment("E1")
    plain = [record for record in found.records if record.run.norm is None]
    for count, cell in ((1, f"diverged at step 7, {np.mean(plain[1].loss[-100:]):.3g}"), (2, "diverged at step 7")):
        gone = {record.run.seed for record in plain[:count]}
        records = [
            replace(record, diverged_at=7) if record.run.norm is None and record.run.seed in gone else record
            for record in found.records
        ]
        head, row, other = table(replace(found, records=tuple(records)))
        assert row[head.index("loss, last 100 steps")] == cell
        assert "diverged" not in " ".join(other)


@pytest.mark.parametrize("accuracy", [0.5, 1.0])
def test_a_figure_says_how_no_error_is_drawn_where_there_is_none(accuracy: float, tiny_results: Results) -> None:
    records = tuple(
        replace(record, train_accuracy=(*record.train_accuracy[:-1], accuracy))
        for record in tiny_results.experiment("E3").records
    )
    figure = figures.draw("E3", changed(tiny_results, "E3", records=records))
    notes = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert ("no error is drawn as 0.833333 %" in notes) is (accuracy == 1.0)


def test_a_page_with_nothing_but_the_answer(tiny_results: Results) -> None:
    found = tiny_results.experiment("E1")
    results = changed(tiny_results, "E1", findings=found.findings[:1], softmax_deviation=None)
    page = to_html(replace(results, experiments=results.experiments[:1]), {"E1": "in words"})
    assert found.findings[0].text in page
    assert "<ul>" not in page


def test_report(tiny_results: Results) -> None:
    text = report.to_text(tiny_results)
    for experiment in EXPERIMENTS.values():
        assert f"{experiment.id}  {experiment.title}" in text
    assert "60 training and 20 validation images, 3072 pixels, 10 classes" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


# ------------------------------------------------------------ normcore reproduce


def test_durations_in_words() -> None:
    said = [command._duration(seconds) for seconds in (0.1, 17.0, 89.0, 90.0, 600.0)]
    assert said == ["5 seconds", "15 seconds", "90 seconds", "2 minutes", "10 minutes"]


def test_reproduce_all(cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "results"
    assert main(["reproduce", "--data", str(cifar), "--output", str(output), "--jobs", "2", "--quick"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("E1, E2, E3, E4, E5, E6, E7, E8, E9 with 2 seeds: about ")
    for experiment in EXPERIMENTS.values():
        assert f"{experiment.id}  {experiment.title}" in out
    files = {f"{id}.{kind}" for id in EXPERIMENTS for kind in ("png", "svg")} | {"index.html", "results.json"}
    assert {path.name for path in output.iterdir()} == files
    results = Results.read(output / "results.json")
    assert [experiment.id for experiment in results.experiments] == list(EXPERIMENTS)
    assert results.settings["quick"]


def test_reproduce_a_part(cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = []
    for jobs in ("1", "2"):
        output = tmp_path / jobs
        arguments = ["reproduce", "--data", str(cifar), "--only", "e1", "--output", str(output), "--jobs", jobs]
        assert main([*arguments, "--first-seed", "3", "--seeds", "2"]) == 0
        contents.append(Results.read(output / "results.json").experiments)
    assert contents[0] == contents[1], "the number of workers changes no number"
    assert [record.run.seed for record in contents[0][0].records] == [3, 4, 3, 4]
    assert "E2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--only", "E10"], "E10 is no experiment"),
        (["--seeds", "0"], "--seeds"),
        (["--first-seed", str(2**64 - 4)], "--first-seed"),
        (["--executor", "cloud"], "local"),
        (["--data", "/nonexistent"], "/nonexistent: no such folder"),
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "many"], "--jobs"),
    ],
    ids=["experiment", "seeds 0", "last seed", "executor", "data", "jobs 0", "jobs many"],
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
    assert (main_process.returncode, err) == (130, "normcore: interrupted\n")
    assert re.fullmatch(r"(E2 with 5 seeds: about \d+ \w+\.\n\n)?", out)
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
