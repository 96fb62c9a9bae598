"""The command and its tables under hostile input, signals and kills."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archives
from normcore import MLP, Trainer, _text
from normcore import archive as files
from normcore.cli import main, predict
from normcore.mlp import load_model, save_model
from normcore.tables.reading import DataError, read_table

LINUX = sys.platform == "linux"
EVIL = "\x1b]0;owned\x07\x9b2J\u202eab\u2028\x7f"


def rows(count: int = 60, classes: tuple[str, ...] = ("a", "b", "c")) -> str:
    return "".join(
        f"{10 * (i % len(classes)) + i * 7 % 5},{i * 11 % 13},{classes[i % len(classes)]}\n" for i in range(count)
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("x,y,z\n" + rows())
    return path


# ---------------------------------------------------------------------- Ctrl-C

# Runs the command in this process as its script does, with a signal at the n-th module that is looked for once the
# package's first line has run; without n it prints how many there are.
STARTED = """
import os, signal, sys
number, at, *arguments = sys.argv[1:]
sys.argv = ["normcore", *arguments]
count = 0


class Counter:
    def find_spec(self, name, path=None, target=None):
        global count
        if getattr(signal.getsignal(signal.SIGTERM), "__name__", "") == "end_at_once":
            count += 1
            if count == int(at):
                os.kill(os.getpid(), int(number))
        return None


sys.meta_path.insert(0, Counter())
from normcore.cli import main, predict
code = main()
if at == "0":
    print(count, file=sys.stderr)
sys.exit(code)
"""


def start(number: int, at: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STARTED, str(int(number)), str(at), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("number", "line"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_while_the_modules_are_imported(table: Path, number: int, line: str) -> None:
    arguments = ("train", table, "-o", table.parent / "m", "--epochs", 1)
    whole = start(number, 0, *arguments)
    assert whole.returncode == 0, whole.stderr
    modules = int(whole.stderr)
    assert modules > 100
    (table.parent / "m").unlink()
    for at in (1, 2, *range(7, modules, modules // 8), modules - 1, modules):
        done = start(number, at, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"normcore: {line}\n"), at
    assert [path.name for path in table.parent.iterdir()] == ["t.csv"]


@pytest.mark.skipif(not LINUX, reason="waits for what /proc shows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.15, 0.8])
def test_a_signal_during_training(table: Path, number: int, delay: float) -> None:
    """Anywhere in it: one line, and no file. (The first moments are Python's own, before any line of ours.)"""
    out = table.parent / "m"
    command = [sys.executable, "-c", STARTED, "0", "-1", "train", table, "-o", out, "--epochs", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while process.poll() is None and maps.exists() and "_core." not in maps.read_text():
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(number)
        try:
            output, error = process.communicate(timeout=60)
        finally:
            process.kill()  # which Popen would wait for without end
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, output, error) == (128 + number, "", f"normcore: {word}\n")
    assert os.listdir(table.parent) == ["t.csv"]


def test_handlers_are_put_back(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["train", str(table), "-o", str(table.parent / "m"), "--epochs", "1"]) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_sigterm_waits_for_the_end_of_a_step(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Ctrl-C does, because both are the same to the trainer."""
    counts: list[tuple[int, int]] = []
    training_pass, fit = MLP._training_pass, Trainer.fit

    def terminated(self: MLP, *arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return training_pass(self, *arguments)

    def noting(self: Trainer, *arguments: Any, **options: Any) -> Any:
        try:
            return fit(self, *arguments, **options)
        finally:
            counts.append((self.step_count, self.optimizer.updates))

    monkeypatch.setattr(MLP, "_training_pass", terminated)
    monkeypatch.setattr(Trainer, "fit", noting)
    assert main(["train", str(table), "-o", str(table.parent / "m")]) == 143
    assert capsys.readouterr() == ("", "normcore: terminated\n")
    assert counts == [(1, 1)]


# ---------------------------------------------------------------------- terminals


def test_printable() -> None:
    assert _text.printable(EVIL) == r"\x1b]0;owned\x07\x9b2J\u202eab\u2028\x7f"
    assert not _text.is_printable(EVIL)
    for plain in ("a b", "Zürich", "\u00a0", "\u200d", "名", "\U0001f600"):
        assert _text.printable(plain) == plain
        assert _text.is_printable(plain)
    assert _text.printable("\udc80") == r"\udc80"


def assert_harmless(text: str) -> None:
    for line in text.split("\n"):
        assert _text.is_printable(line), ascii(line)


odd = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(EVIL + "\r\t\0\n=")), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=st.lists(odd, min_size=3, max_size=3, unique=True), data=st.data())
def test_no_control_characters_whatever_is_in_tables_and_models(
    names: list[str], data: st.DataObject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    def call(*arguments: object) -> int:
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert_harmless(out)
        assert_harmless(err)
        assert "Traceback" not in err
        return code

    name = data.draw(odd).replace("/", "").replace("\0", "")[:20].strip(".") or "t"
    path, model = tmp_path / f"{name}.csv", tmp_path / f"{name}.model"
    labels = tuple(quoted(text) for text in names)
    path.write_text(",".join(map(quoted, [*names[:2], "y"])) + "\n" + rows(30, labels), encoding="utf-8", newline="")
    for target in ((), ("--target", data.draw(odd).replace("\0", "") or "x")):
        call("train", path, "-o", model, "--epochs", 1, *target)
    call("train", path, "-o", model, "--epochs", 1, data.draw(odd).replace("\0", ""))
    call("train", path, "-o", model, "--epochs", 1, "--no-header")
    # A model from a stranger: anything may be in it.
    extra = {"format": "normcore-table-2", "target": data.draw(odd), "target_position": 2}
    net = MLP([2, 3], class_names=names, feature_names=names[:2], feature_mean=[0.0, 0.0], feature_scale=[1.0, 1.0])
    save_model(model, net, extra)
    net = MLP([2, 3])
    call("predict", model, path)
    call("predict", model, path, "-o", tmp_path / name)
    metadata = archives.metadata_of(net)
    metadata[data.draw(st.sampled_from(list(metadata)))] = data.draw(odd)
    with contextlib.suppress(UnicodeEncodeError):
        model.write_bytes(archives.archive(metadata, archives.arrays_of(net)))
        call("predict", model, path)


@pytest.mark.parametrize("option", [[], ["--proba"]])
def test_classes_that_only_a_file_may_have(table: Path, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    model, out = table.parent / "m", table.parent / "out.csv"
    table.write_text("x,y,z\n" + rows(classes=("a", "\x1b[2J")))
    assert main(["train", str(table), "-o", str(model), "--epochs", "1"]) == 0
    assert r"(\x1b[2J, a)" in capsys.readouterr().out
    assert main(["predict", str(model), str(table), *option]) == 2
    error = capsys.readouterr().err
    assert r"the class '\x1b[2J' has control characters: say --output FILE" in error
    assert main(["predict", str(model), str(table), "-o", str(out), *option]) == 0
    assert "\x1b[2J" in out.read_text()


def test_environment_in_one_harmless_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "normcore", "info"],
        env={**os.environ, "NORMCORE_NUM_THREADS": "\x1b[2J\u202e"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert_harmless(done.stderr)


def test_long_messages_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = MLP([2, 3])
    metadata = archives.metadata_of(net)
    metadata["norm"] = "x" * 500_000
    (tmp_path / "m").write_bytes(archives.archive(metadata, archives.arrays_of(net)))
    (tmp_path / "t.csv").write_text("1,2\n")
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "t.csv")]) == 2
    assert len(capsys.readouterr().err) < 2100


# ---------------------------------------------------------------------- spreadsheets

FORMULAS = ("=1+1", "+x", "-x", "@SUM(1)", "\uff1dx", " =x")


def test_labels_that_a_spreadsheet_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "t.csv", tmp_path / "m"
    classes = ("=1+1", "+x", "-x", "@SUM(1)", "a=b", "-1", "+2.5")
    path.write_text("x,y,z\n" + rows(140, classes))
    assert main(["train", str(path), "-o", str(model), "--epochs", "300", "--hidden", "32"]) == 0
    capsys.readouterr()
    assert main(["predict", str(model), str(path)]) == 0
    plain = set(capsys.readouterr().out.splitlines()[1:])
    assert plain <= set(classes)
    assert len(plain) >= 6
    for option in ([], ["--proba"]):
        assert main(["predict", str(model), str(path), "--safe-csv", *option]) == 0
        safe = {line.partition(",")[0] for line in capsys.readouterr().out.splitlines()[1:]}
        assert safe == {text if text in ("a=b", "-1", "+2.5") else "'" + text for text in plain}


def test_inert_texts() -> None:
    for text in (*FORMULAS, "\t=x", "\rx", "\nx", "-1-1", "+1+cmd|' /C calc'!A0"):
        assert predict._inert(text) == "'" + text
    for text in ("", "a", "1", "-1", "+1e5", "-inf", "a=1", "'=1"):
        assert predict._inert(text) == text


# ---------------------------------------------------------------------- checkpoints


def train(table: Path, out: Path, checkpoint: Path | None, *more: object) -> list[str]:
    common = ["train", table, "-o", out, "--epochs", 40, "--dropout", 0.2, "--schedule", "cosine", *more]
    return list(map(str, [*common, *(["--checkpoint", checkpoint] if checkpoint else [])]))


@pytest.mark.parametrize("options", [[], ["--early-stopping", "3", "--learning-rate", "0.1"], ["--held-out", "0"]])
def test_a_checkpoint_changes_nothing(table: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = table.parent
    assert main(train(table, folder / "a", None, *options)) == 0
    plain = capsys.readouterr().out
    for _ in range(2):  # the second time everything is done already
        assert main(train(table, folder / "b", folder / "c", *options)) == 0
        out = capsys.readouterr().out
        assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
        assert plain.replace(f"{folder / 'a'}", "") == "".join(
            line for line in out.replace(f"{folder / 'b'}", "").splitlines(True) if not line.startswith("resumed")
        )
    assert "resumed" in out


def test_a_killed_training_goes_on_with_the_same_bits(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = table.parent
    assert main(train(table, folder / "a", None)) == 0
    command = [sys.executable, "-c", STARTED, "0", "-1", *train(table, folder / "b", folder / "c")]
    kills = 0
    while not (folder / "b").exists():
        assert kills < 200
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            seen = (folder / "c").stat().st_mtime_ns if (folder / "c").exists() else 0
            deadline = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < deadline:
                if (folder / "c").exists() and (folder / "c").stat().st_mtime_ns != seen and kills < 3:
                    time.sleep(0.003 * kills)
                    process.kill()
                    kills += 1
                    break
                time.sleep(0.001)
            _, error = process.communicate(timeout=30)
        assert process.returncode in (0, -signal.SIGKILL), error
        files.read_archive(folder / "c", "checkpoint")
    assert kills == 3
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--epochs", "41"], "--epochs 40, not 41"),
        (["--norm", "layer"], "--norm batch, not layer"),
        (["--hidden", "8"], "--hidden [64, 64], not [8]"),
        (["--seed", "1"], "other data|--seed 0, not 1"),
        (["--target", "x"], "other data"),
    ],
)
def test_a_checkpoint_of_another_training(
    table: Path, options: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = table.parent
    table.write_text("x,y,z\n" + "".join(f"{i % 2},{i},{i % 2}\n" for i in range(40)))
    assert main(train(table, folder / "a", folder / "c")) == 0
    before = (folder / "c").read_bytes()
    capsys.readouterr()
    assert main(train(table, folder / "b", folder / "c", *options)) == 2
    error = capsys.readouterr().err
    assert any(f"begun with {text}" in error for text in part.split("|"))
    assert error.count("\n") == 1
    assert not (folder / "b").exists()
    assert (folder / "c").read_bytes() == before


def test_what_is_no_checkpoint_of_the_command(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = table.parent
    path = folder / "c"

    def refused(checkpoint: Path) -> str:
        assert main(train(table, folder / "m", checkpoint)) == 2
        assert not (folder / "m").exists()
        return capsys.readouterr().err

    path.write_text("x")
    assert "no safetensors file" in refused(path)
    MLP([2, 3]).save(path)
    assert "this is a 'normcore model' file" in refused(path)
    Trainer(MLP([2, 3])).save_checkpoint(path)
    assert "none of normcore train" in refused(path)
    Trainer(MLP([2, 3])).save_checkpoint(path, extra={"format": "normcore-table-2", "settings": {EVIL: 1}})
    assert_harmless(refused(path))
    assert "would be lost" in refused(table)
    assert "the same file" in refused(folder / "m")
    assert "no such folder" in refused(folder / "absent" / "c")


# ---------------------------------------------------------------------- tables


def test_many_columns(tmp_path: Path) -> None:
    """100 000 names, in time linear in them: five seconds are many times that, and a small part of the square."""
    path = tmp_path / "wide.csv"
    names = [f"c{i}" for i in range(100_000)]
    path.write_text(",".join(names) + ",label\n" + "".join("1," * 100_000 + f"{k}\n" for k in "ab"))
    start = time.process_time()
    assert read_table(path).features.shape == (2, 100_000)
    assert read_table(path, expected_names=names[::-1], expected_count=100_000, target="label").labels == ["a", "b"]
    assert time.process_time() - start < 5.0
    path.write_text(",".join([*names, "c7"]) + "\n")
    with pytest.raises(DataError, match="two columns are called 'c7'"):
        read_table(path)


MEMORY = """
import io, os, sys, zipfile
from pathlib import Path
import numpy as np
from normcore.tables.reading import DataError, read_table

path = Path(sys.argv[1]) / "t.npz"
MIB = 1 << 20


def size(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024


def read(name, file=path):
    Path("/proc/self/clear_refs").write_text("5")
    before = size("VmHWM")
    try:
        read_table(file)
        result = "read"
    except DataError as error:
        result = "refused"
        assert str(file) in str(error), error
    print(f"{name}:{result}:{size('VmHWM') - before}:{file.stat().st_size}")


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


y = np.arange(90) % 3
np.savez(path, X=np.ones((90, 3)), y=y)
read("warm")
read("small")
for claimed in (1 << 34, 1 << 62):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = npy(np.zeros((90, 3)))[:128].replace(b"(90, 3)", b"(%d,)" % (claimed // 8)).rstrip(b" \\n")
        archive.writestr("X.npy", header[:128].ljust(127) + b"\\n" + bytes(200 * MIB))
        archive.writestr("y.npy", npy(y))
    read("bomb")
with zipfile.ZipFile(path, "w") as archive:
    for i in range(40_000):
        archive.writestr(f"{i}", b"")
read("40 000 members")
csv = Path(sys.argv[1]) / "t.csv"
with csv.open("w") as file:
    file.write("a,b\\n1,")
    for _ in range(200):
        file.write("x" * MIB)
read("a cell of 200 MiB", csv)
with csv.open("w") as file:
    file.write('a,b\\n1,"')
    for _ in range(200 * 1024):
        file.write("x" * 1023 + "\\n")
read("an open quote", csv)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read in /proc")
def test_memory_of_hostile_tables(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(":") for line in done.stdout.splitlines()]
    assert len(lines) == 7
    for name, result, peak, size in lines:
        assert result == ("read" if name in ("warm", "small") else "refused"), name
        if name != "warm":
            assert int(peak) <= int(size) + (1 << 20), (name, peak, size)


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


GOOD = {"X.npy": npy(np.arange(180.0).reshape(90, 2)), "y.npy": npy(np.arange(90) % 3)}


def test_archives_are_read(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for X in (np.arange(180.0).reshape(90, 2), np.asfortranarray(np.arange(180).reshape(90, 2))):
            write_zip(path, {**GOOD, "X.npy": npy(X)}, method)
            np.testing.assert_array_equal(read_table(path).features, X)
    assert read_table(path).labels == [str(i % 3) for i in range(90)]


def test_every_fault_of_an_archive_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.npz"

    def refused() -> str:
        assert main(["train", str(path), "-o", str(tmp_path / "m"), "--epochs", "1"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"normcore: error: {path}: "), err
        assert err.count("\n") == 1
        assert_harmless(err)
        return err

    write_zip(path, {"X": b"abc", "y.npy": GOOD["y.npy"]})
    assert "no array 'X'" in refused()
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write_zip(path, GOOD, method)
        assert "is compressed by method" in refused()
    good = write_zip(path, GOOD)
    at = good.index(b"PK\x01\x02")
    path.write_bytes(good[: at + 8] + b"\x01" + good[at + 9 :])
    assert "is encrypted" in refused()
    path.write_bytes(good[: at + 10] + b"\x63" + good[at + 11 :])
    assert "method 99" in refused()
    path.write_bytes(good[:60] + bytes(40) + good[100:])
    refused()
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of the writer
        for name in ("X.npy", "y.npy", "X.npy"):
            archive.writestr(name, GOOD[name])
    assert "two arrays are called 'X'" in refused()
    for content in (
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x07\x00" + GOOD["X.npy"][8:],
        GOOD["X.npy"][:-1],
        GOOD["X.npy"] + b"x",
        GOOD["X.npy"].replace(b"(90, 2)", b"(-9,20)"),
        GOOD["X.npy"].replace(b"'<f8'", b"'|O' "),
        GOOD["X.npy"].replace(b"'<f8'", b"'\\d' "),
        GOOD["X.npy"].replace(b"'<f8'", b"'V0' "),
    ):
        write_zip(path, {**GOOD, "X.npy": content})
        refused()
    write_zip(path, {**GOOD, "X.npy": GOOD["X.npy"].replace(b"(90, 2)", b"(90L,2)")})  # of Python 2: NumPy warns
    assert main(["train", str(path), "-o", str(tmp_path / "m"), "--epochs", "1"]) == 0
    assert capsys.readouterr().err == ""
    for position in range(0, len(good), 3):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :])
        if main(["train", str(path), "-o", str(tmp_path / "m"), "--epochs", "1"]) == 0:
            capsys.readouterr()  # nothing of it matters to the arrays
            continue
        err = capsys.readouterr().err
        assert err.startswith(f"normcore: error: {path}: "), err
        assert err.count("\n") == 1


def test_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "big.npz"
    write_zip(path, GOOD)

    def fail(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("normcore.tables.reading._read_array", fail)
    assert main(["train", str(path), "-o", str(tmp_path / "m")]) == 2
    assert f"out of memory ({path}" in capsys.readouterr().err


def test_too_many_columns_for_a_model_are_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.csv"
    names = ",".join(f"a column of its own, the {i}th".replace(",", ";") for i in range(60_000))
    path.write_text(f"{names},label\n" + "".join(",".join([str(i % 7 / 3)] * 60_000) + f",{i % 2}\n" for i in range(6)))
    monkeypatch.delattr(Trainer, "fit")
    assert main(["train", str(path), "-o", str(tmp_path / "m"), "--hidden", "none"]) == 2
    assert "accepted are 1048568" in capsys.readouterr().err


def test_model_of_a_stranger_loads(tmp_path: Path) -> None:
    """The helper that signs by hand agrees with the writer."""
    net = MLP([2, 3], seed=4)
    save_model(tmp_path / "a", net)
    (tmp_path / "b").write_bytes(archives.archive(archives.metadata_of(net), archives.arrays_of(net)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_model(tmp_path / "b")[0].parameters_flat.tobytes() == net.parameters_flat.tobytes()
