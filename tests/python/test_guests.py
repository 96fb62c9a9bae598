"""The command inside a process that is not its own: in a thread, beside other handlers, with other streams."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normcore import _interrupt, cli
from normcore.cli import main
from normcore.tables.reading import DataError, read_table

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture
def put_back() -> Iterator[None]:
    before = handlers()
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def in_a_thread(work: Callable[[], object]) -> Any:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    (result,) = results
    return result


# ---------------------------------------------------------------------- threads and handlers


def test_a_command_outside_the_main_thread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It works there, and leaves signals to the program that it is in."""
    (tmp_path / "t.csv").write_text("".join(f"{i % 2},{i},{'ab'[i % 2]}\n" for i in range(20)))
    before = handlers()
    seen: list[list[Any]] = []

    def look(options: object) -> int:
        seen.append(handlers())
        return 0

    arguments = ["train", str(tmp_path / "t.csv"), "-o", str(tmp_path / "m"), "--epochs", "1"]
    assert in_a_thread(lambda: main(arguments)) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.info, "run", look)
        assert in_a_thread(lambda: main(["info"])) == 0
    assert seen == [before]
    assert handlers() == before
    assert (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["default", "end_at_once"])
def test_the_main_thread_alone_gets_signals(kind: str, monkeypatch: pytest.MonkeyPatch, put_back: None) -> None:
    """Also where the guard is up: it stays as it is."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/normcore"])
    if kind == "end_at_once":
        _interrupt.guard()
        assert handlers() == [_interrupt.end_at_once] * 2
    before = handlers()

    def work() -> list[Any]:
        _interrupt.guard()
        with cli._raising([]):
            return handlers()

    assert in_a_thread(work) == before
    assert handlers() == before


def test_handlers_of_a_program_are_left_alone(put_back: None, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []

    def own(number: int, frame: object) -> None:
        received.append(number)

    for number in SIGNALS:
        signal.signal(number, own)
    monkeypatch.setattr(sys, "argv", ["normcore"])
    _interrupt.guard()
    terminated: list[int] = []
    with cli._raising(terminated):
        assert handlers() == [own, own]
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]
    assert terminated == []
    assert handlers() == [own, own]


def test_the_guard_is_down_during_a_command_and_up_again_after_it(
    put_back: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["normcore"])
    _interrupt.guard()

    def interrupted() -> None:
        with cli._raising([]):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert handlers() == [_interrupt.end_at_once] * 2


def test_sigterm_where_ctrl_c_is_ignored(put_back: None) -> None:
    """As in the background of a shell: there is no handler that SIGTERM could go through."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminated: list[int] = []

    def end() -> None:
        with cli._raising(terminated):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    before = handlers()
    with pytest.raises(KeyboardInterrupt):
        end()
    assert terminated == [signal.SIGTERM]
    assert handlers() == before


# ---------------------------------------------------------------------- whose process it is


@pytest.mark.parametrize(
    ("argv", "original", "expected"),
    [
        (["/usr/bin/normcore", "info"], ["python", "/usr/bin/normcore", "info"], True),
        (["normcore-config"], ["python", "normcore-config"], True),
        (["/usr/bin/pytest", "normcore"], ["python", "/usr/bin/pytest", "normcore"], False),
        (["-m"], ["python", "-m", "normcore", "info"], True),
        (["-m"], ["python", "-mnormcore"], True),
        (["-m"], ["python", "-Im", "normcore"], True),
        (["-m"], ["python", "-X", "dev", "-m", "normcore"], True),
        (["-m"], ["python", "-m", "pytest", "normcore"], False),
        (["-m"], ["python", "-m", "pytest", "-k", "normcore"], False),
        (["-m"], ["python", "-m"], False),
        (["-c"], ["python", "-c", "import normcore"], False),
        ([""], ["python"], False),
        (["/usr/bin/normcore"], ["python", "-c", "spawn", "--multiprocessing-fork"], False),
    ],
)
def test_what_is_a_command(
    argv: list[str], original: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert _interrupt.is_command() is expected


def test_a_process_that_has_no_arguments_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding program may import the package before it sets them."""
    monkeypatch.setattr(sys, "orig_argv", [])
    for argv in ([], None):
        monkeypatch.setattr(sys, "argv", argv)
        assert not _interrupt.is_command()
    monkeypatch.delattr(sys, "argv")
    assert not _interrupt.is_command()


@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGINT, "normcore: interrupted\n"), (signal.SIGTERM, "normcore: terminated\n")]
)
@pytest.mark.parametrize("closed", [False, True])
def test_the_end_of_a_process_that_has_not_begun(number: int, line: str, closed: bool) -> None:
    code = (
        "import os, signal, sys\nsys.argv = ['normcore']\nimport normcore\n"
        + "os.close(2)\n" * closed
        + f"signal.raise_signal({int(number)})\nos.write(1, b'went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "" if closed else line)


# ---------------------------------------------------------------------- streams


def test_streams_that_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    out, error = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    assert main(["--version"]) == 0
    assert main(["nonsense"]) == 2
    assert out.getvalue().startswith("normcore ")
    assert error.getvalue().startswith("normcore: error: ")


def test_streams_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["nonsense"]) == 2
    for stream in (sys.stdout, sys.stderr):
        assert stream.name == os.devnull
        stream.close()


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_an_output_that_breaks_when_the_command_fails(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The failure is what is reported, and nothing is left for the interpreter's last flush to complain of."""
    reader, writer = os.pipe()
    os.close(reader)

    def fail(options: object) -> int:
        sys.stdout.write("a part of the result")
        raise error

    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(cli.info, "run", fail)
        wanted = (
            (130, "normcore: interrupted\n")
            if isinstance(error, KeyboardInterrupt)
            else (2, "normcore: error: wrong\n")
        )
        assert (main(["info"]), capfd.readouterr().err) == wanted
        stream.write("and more")
        stream.flush()


# ---------------------------------------------------------------------- tables of one line


def test_a_single_line_is_data_if_it_has_a_number(tmp_path: Path) -> None:
    """There is no line below that it could stand above."""
    path = tmp_path / "t.csv"
    path.write_text("1,a,2\n")
    found = read_table(path, target="1")
    assert (found.features.tolist(), found.labels, found.names) == ([[1.0, 2.0]], ["a"], None)
    path.write_text("b,a,c\n")
    with pytest.raises(DataError):
        read_table(path, target="1")


def test_the_target_by_name_in_the_header_over_columns_without_names(tmp_path: Path) -> None:
    """A model that was trained on a file without names: its features are read by position, around the target."""
    path = tmp_path / "t.csv"
    path.write_text("kind,u,v\na,1,2\nb,3,4\n")
    found = read_table(path, target="kind", expected_count=2)
    assert (found.features.tolist(), found.labels) == ([[1.0, 2.0], [3.0, 4.0]], ["a", "b"])


# ---------------------------------------------------------------------- archives


def test_an_archive_whose_arrays_are_shorter_than_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zipfile knows the size. But should it give less, there must be no rows of whatever was in memory."""
    path = tmp_path / "t.npz"
    np.savez(path, X=np.ones((8, 2)), y=np.arange(8) % 2)
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: b"" if n == 1 << 16 else read(self, n))
    with pytest.raises(DataError, match="is truncated"):
        read_table(path)


def test_an_archive_on_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, X=np.ones((8, 2)), y=np.arange(8) % 2)

    def fail(self: Any, n: int = -1) -> bytes:
        raise error

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail)
    error: OSError = OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_table(path)
    assert caught.value.filename == str(path)
    error = io.UnsupportedOperation("seek")
    with pytest.raises(DataError, match=r"t.npz: not a readable NPZ file \(seek\)"):
        read_table(path)
