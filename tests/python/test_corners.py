"""Branches that ordinary use does not meet: what is missing on this machine, what is empty, what was stopped."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore as nc
from normcore import _config, verification
from normcore.cli import main
from normcore.experiments import progress, runner
from normcore.experiments.datasets import DatasetError, load_cifar10
from normcore.testing import check_gradients, contract, reference

# ---------------------------------------------------------------------- the package and its commands


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as it lies in a source tree that was never installed."""
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    return tmp_path


@pytest.mark.parametrize("find", [nc.get_include, nc.get_library_dir])
def test_folders_of_a_package_that_was_not_installed(find: Any, nowhere: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"normcore: {nowhere}/.* comes with an installed normcore only"):
        find()


@pytest.mark.parametrize("option", ["--cflags", "--libs", "--pkgconfigdir"])
def test_config_command_without_an_installation(option: str, nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _config.main([option])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith(f"normcore: {nowhere}")
    assert printed.err.count("\n") == 1


def test_show_config_says_what_it_cannot_find(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nc.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(None, 1)[1] for line in lines if line.startswith(("include", "library"))] == [
        "not installed"
    ] * 2


def test_show_config_with_a_bad_instruction_set() -> None:
    """The function that a bug report begins with must not end with the bug."""
    done = python("-c", "import normcore; normcore.show_config()", NORMCORE_ISA="nonsense")
    assert done.returncode == 0, done.stderr
    assert "NORMCORE_ISA is 'nonsense'" in done.stdout


def test_config_as_a_module() -> None:
    done = python("-m", "normcore._config", "--version")
    assert (done.returncode, done.stdout) == (0, f"{nc.__version__}\n"), done.stderr


def test_main_module_runs_nothing_when_it_is_imported() -> None:
    """A spawned worker process imports it again."""
    done = python("-c", "import sys, normcore.__main__; print('normcore.cli' in sys.modules)")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_info_of_a_package_that_was_not_installed(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert str(nowhere) not in capsys.readouterr().out


TABLE = "".join(f"{10 * (i % 2)},{i % 5},{'ab'[i % 2]}\n" for i in range(20))
QUICK = ["--epochs", "1", "--hidden", "4", "--batch-size", "8"]


def test_a_line_of_numbers_and_the_name_of_the_target_is_a_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("2020,2021,kind\n" + TABLE)
    model = tmp_path / "m.safetensors"
    assert main(["train", str(tmp_path / "x.csv"), "--target", "kind", "-o", str(model), *QUICK]) == 0
    assert "20 rows, 2 features, 2 classes (a, b)" in capsys.readouterr().out
    assert nc.MLP.load(model).feature_names == ("2020", "2021")


def test_predictions_beside_labels_that_are_all_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("u,v,kind\n" + TABLE)
    (tmp_path / "new.csv").write_text("u,v,kind\n1,2,NaN\n3,4,\n5,6, nan \n")
    model = tmp_path / "m.safetensors"
    assert main(["train", str(tmp_path / "x.csv"), "-o", str(model), *QUICK]) == 0
    capsys.readouterr()
    assert main(["predict", str(model), str(tmp_path / "new.csv")]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 4
    assert printed.err == "accuracy unknown: no row has a label\n"


def test_a_folder_that_may_not_be_written_is_found_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of the system by name; the superuser, whom it lets write anywhere, runs this test as well."""
    (tmp_path / "x.csv").write_text(TABLE)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert main(["train", str(tmp_path / "x.csv"), "-o", str(tmp_path / "m.safetensors"), *QUICK]) == 2
    assert capsys.readouterr().err == f"normcore: error: {tmp_path}: cannot be written to\n"


# ---------------------------------------------------------------------- experiments


@pytest.mark.parametrize(
    ("name", "hint"),
    [("train.bin", "this looks like CIFAR-100"), ("cifar-10-binary.tar.gz", "unpack the archive first")],
)
def test_hints_in_a_folder_that_is_not_cifar10(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=hint):
        load_cifar10(tmp_path)


def test_jobs_where_the_system_knows_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert runner.default_jobs() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert runner.default_jobs() == 1


def test_interrupts_outside_the_main_thread() -> None:
    """signal.signal() is the main thread's; another one that starts workers must do without."""
    seen: list[Any] = []

    def work() -> None:
        with runner._interrupts_held():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]

    def interrupted() -> None:
        with runner._interrupts_held():
            signal.raise_signal(signal.SIGINT)
            seen.append("went on")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen[1:] == ["went on"]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_main_process_waits_for_no_parent() -> None:
    runner._end_with_the_parent()


def test_runs_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with progress.progress_bar(3.0, True) as bar:
        bar.running("E1")
        bar.done(1.0)


# ---------------------------------------------------------------------- verification


def test_verification_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError("sklearn")

    monkeypatch.setattr(verification, "load_digits", missing)
    (check,) = verification._digits({})
    assert check.equal is None
    assert "pip install 'normcore[experiments]'" in check.text


def test_verification_as_a_module_prints_the_lines_of_the_file() -> None:
    committed = Path(__file__).parents[2] / "digests" / "NC1.sha256"
    done = python("-m", "normcore.verification", "digits")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        line for line in committed.read_text().splitlines() if line.startswith("digits/")
    ]


# ---------------------------------------------------------------------- models


def test_masked_weights_are_refused() -> None:
    model = nc.MLP([3, 4, 2], seed=0)
    x, y = np.zeros((5, 3), np.float32), np.zeros(5, int)
    with pytest.raises(TypeError, match=r"sample_weight is a masked array"):
        model.loss_and_grads(x, y, sample_weight=np.ma.ones(5))


def test_errors_that_are_not_the_cores_own_keep_their_text() -> None:
    from normcore import mlp

    error = ValueError("something else")
    assert mlp._renamed(error, "Network.loss_and_grads", "fit") is error
    renamed = mlp._renamed(ValueError("Network.step: labels overlaps labelsx"), "Network.step", "fit", labels="y")
    assert str(renamed) == "fit: y overlaps labelsx"


# ---------------------------------------------------------------------- reference and contract on nothing


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_rows_and_no_columns(dtype: type) -> None:
    """The reference, the contract in NumPy and the library agree on what comes of nothing."""
    x, v = np.zeros((0, 3), dtype), np.ones(3, dtype)
    mean = np.zeros(3)
    for norm in (reference, contract, nc):
        y, *_ = norm.batch_norm_forward(x, v, v)
        assert np.shape(y) == (0, 3)
        dx, dgamma, dbeta, *_ = norm.batch_norm_backward(x, x, v, mean, mean)
        assert np.shape(dx) == (0, 3)
        assert np.array_equal(dgamma, mean)
        assert np.array_equal(dbeta, mean)
        assert np.shape(norm.softmax(x)) == (0, 3)
    none = np.zeros((4, 0), dtype)
    for norm in (reference, nc):
        dx, *_ = norm.layer_norm_backward(none, none, none[0], np.zeros(4), np.zeros(4))
        assert np.shape(dx) == (4, 0)
    assert np.shape(reference.log_softmax(none)) == (4, 0)


def test_contract_knows_no_other_optimizer() -> None:
    p = np.ones(3)
    with pytest.raises(ValueError, match="no optimizer is called 'lion'"):
        contract.optimizer_update("lion", p, p.copy(), None, None, learning_rate=0.1)


def test_gradients_of_nothing_are_right() -> None:
    nothing = np.zeros((0, 2))
    check_gradients(lambda x: x * 2, {"x": nothing}, {"x": nothing})
    with pytest.raises(AssertionError, match="shape"):
        check_gradients(lambda x: x * 2, {"x": nothing}, {"x": np.zeros((0, 3))})


def test_reference_network_without_layers_is_its_input() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(reference.mlp_forward(x, []), x)
