"""Model files: what is read is what was written, damage is found, and nothing half-written is left."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from normcore import MLP, Generator
from normcore import serialization as files
from normcore.serialization import load_model, read_archive, save_model, write_archive

EXTRA = {"classes": ["naïve", "b", None], "mean": [1.5, -2.0], "columns": {"x": 1}}


def make_model(norm: Any = "batch", dtype: str = "float32") -> MLP:
    model = MLP([3, 4, 2], norm=norm, dropout=0.25, dtype=dtype, weight_scale=0.3, rng=5)
    rng = Generator(8)
    model.theta[...] = rng.normal(model.theta.size, dtype=dtype)
    model.buffers_flat[...] = rng.uniform(model.buffers_flat.size, 0.5, 2.0, dtype=dtype)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, make_model(), EXTRA)
    return path


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(tmp_path: Path, norm: Any, dtype: str) -> None:
    model = make_model(norm, dtype)
    path = tmp_path / "model.safetensors"
    save_model(path, model, EXTRA)
    loaded, extra = load_model(path)
    assert extra == EXTRA
    assert loaded.config() == model.config()
    assert loaded.theta.tobytes() == model.theta.tobytes()
    assert loaded.buffers_flat.tobytes() == model.buffers_flat.tobytes()
    assert loaded.theta.flags.writeable
    X = Generator(1).normal((5, 3), dtype=dtype)
    assert loaded.forward(X).tobytes() == model.forward(X).tobytes()


def test_methods_of_the_model(tmp_path: Path) -> None:
    model = make_model()
    model.save(str(tmp_path / "a"))
    model.save(tmp_path / "b", extra={"k": 1})
    assert MLP.load(tmp_path / "a").theta.tobytes() == model.theta.tobytes()
    assert load_model(tmp_path / "b")[1] == {"k": 1}
    assert load_model(tmp_path / "a")[1] == {}


def test_same_model_same_bytes(tmp_path: Path) -> None:
    save_model(tmp_path / "a", make_model(), EXTRA)
    save_model(tmp_path / "b", make_model(), dict(reversed(EXTRA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nan_and_infinity_are_kept(tmp_path: Path) -> None:
    model = make_model(None)
    model.theta[:3] = [np.nan, np.inf, -0.0]
    save_model(tmp_path / "m", model)
    assert load_model(tmp_path / "m")[0].theta.tobytes() == model.theta.tobytes()


def test_any_safetensors_reader_can_read_it(saved: Path) -> None:
    tensors = safetensors.numpy.load_file(saved)
    expected = {**make_model().parameters(), **make_model().buffers()}
    assert set(tensors) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array)


# ---------------------------------------------------------------------- damage


def test_every_flipped_byte_is_found(saved: Path) -> None:
    good = saved.read_bytes()
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors: "):
            load_model(saved)
    saved.write_bytes(good)
    load_model(saved)


def test_every_truncation_is_found(saved: Path) -> None:
    good = saved.read_bytes()
    for length in range(0, len(good), 7):
        saved.write_bytes(good[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors: .*(truncated|not a safetensors)"):
            load_model(saved)
    saved.write_bytes(good + b"\0")
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_model(saved)


def archive(path: Path, change: Any = None, tensors: Any = None) -> None:
    """Write a model file of which `change` has altered the metadata, with a checksum that fits."""
    model = make_model()
    metadata = {
        "format": "normcore model",
        "format_version": "1",
        "contract": "NC1",
        "config": json.dumps(model.config()),
        "extra": "{}",
    }
    if change is not None:
        change(metadata)
    arrays = files.model_tensors(model) if tensors is None else tensors
    metadata.setdefault("sha256", files._digest(metadata, arrays))
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def set_config(**changes: Any) -> Any:
    def change(metadata: dict[str, str]) -> None:
        metadata["config"] = json.dumps({**json.loads(metadata["config"]), **changes})

    return change


def test_the_helper_writes_sound_files(tmp_path: Path) -> None:
    archive(tmp_path / "m")
    assert load_model(tmp_path / "m")[0].theta.tobytes() == make_model().theta.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("format"), "no normcore program wrote"),
        (lambda m: m.update(format="pt"), "no normcore program wrote"),
        (lambda m: m.update(format="normcore checkpoint"), "this is a 'normcore checkpoint' file"),
        (lambda m: m.update(format_version="2"), "format version '2'; this normcore reads '1'"),
        (lambda m: m.pop("format_version"), "format version None"),
        (lambda m: m.update(sha256="0" * 64), "SHA-256"),
        (lambda m: m.pop("extra"), "missing or unknown: extra"),
        (lambda m: m.update(more="x"), "missing or unknown: more"),
        (lambda m: m.update(extra="[1]"), "extra is no JSON object"),
        (lambda m: m.update(config="{"), "config is no JSON object"),
        (lambda m: m.update(config="[" * 100_000), "config is no JSON object"),
        (lambda m: m.update(config="{}"), "no sound model: no 'sizes'"),
        (set_config(sizes=[3, 5, 2]), r"w1 is float32 \(3, 4\); its configuration says float32 \(3, 5\)"),
        (set_config(sizes=[3, 4]), "arrays missing or unknown"),
        (set_config(sizes=[3, 4, 10**30]), "w2 is"),
        (set_config(sizes=7), "no sound model"),
        (set_config(dtype="float64"), "w1 is float32 .* says float64"),
        (set_config(norm="group"), "arrays missing or unknown: running_mean1, running_var1|norm is 'group'"),
        (set_config(norm=None), "arrays missing or unknown: beta1, gamma1"),
        (set_config(dropout=2.0), "dropout is 2.0"),
        (set_config(depth=2), "no sound model: .*depth"),
    ],
)
def test_foreign_and_inconsistent_files(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "odd.safetensors"
    archive(path, change)
    with pytest.raises(ValueError, match=rf"odd\.safetensors: .*{message}"):
        load_model(path)


def test_wrong_arrays(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    good = files.model_tensors(make_model())
    for tensors in (
        {**good, "w1": np.zeros((4, 3), np.float32)},
        {**good, "w1": good["w1"].astype(np.float64)},
        {**good, "b1": good["b1"].reshape(1, -1)},
        {**good, "w9": good["w1"]},
        {name: array for name, array in good.items() if name != "running_var1"},
        {},
    ):
        archive(path, tensors=tensors)
        with pytest.raises(ValueError, match=r"odd\.safetensors: no sound model: .*(w1|b1|w9|running_var1)"):
            load_model(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}" + b" " * 200,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**8 + 1) + b"{}",
        struct.pack("<Q", 10**8) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 3) + b"\xff\xfe{",
        struct.pack("<Q", 20) + b'{"__metadata__": 3} ',
        struct.pack("<Q", 31) + b'{"__metadata__": {"format": 3}}',
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
    ids=range(13),
)
def test_what_is_no_safetensors_file_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.safetensors: "):
        load_model(path)


def test_plain_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    safetensors.numpy.save_file({"w1": np.zeros((3, 4), np.float32)}, path)
    with pytest.raises(ValueError, match=r"plain\.safetensors: not a normcore model"):
        load_model(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        load_model(tmp_path / "missing")
    with pytest.raises(OSError, match=str(tmp_path.name)):
        load_model(tmp_path)


def test_archives_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_archive(path, "thing", {"a": 1}, {"x": np.arange(3)[::-1], "empty": np.zeros((0, 2))}, {"b": 2})
    config, tensors, extra, contract = read_archive(path, "thing")
    assert (config, extra, contract) == ({"a": 1}, {"b": 2}, "NC1")
    assert tensors["x"].tolist() == [2, 1, 0]
    assert tensors["empty"].shape == (0, 2)
    with pytest.raises(ValueError, match="this is a 'normcore thing' file"):
        load_model(path)


# ---------------------------------------------------------------------- writing


def only(folder: Path, *names: str) -> bool:
    return sorted(entry.name for entry in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "no"), KeyboardInterrupt()],
)
def test_failures_leave_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, existing: bool, error: BaseException
) -> None:
    path = tmp_path / "model.safetensors"
    old = make_model(None)
    if existing:
        save_model(path, old)

    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)) as caught:
        save_model(path, make_model())
    monkeypatch.undo()
    if isinstance(error, OSError):
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == error.errno
        assert str(path) in str(caught.value)
    if existing:
        assert only(tmp_path, path.name)
        assert load_model(path)[0].theta.tobytes() == old.theta.tobytes()
    else:
        assert only(tmp_path)


def test_a_disk_that_fills_up_during_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, make_model(None))
    before = path.read_bytes()
    real_open = open

    class Full:
        """Takes half of what is written, as a full disk does."""

        def __init__(self, descriptor: int, mode: str) -> None:
            self.file = real_open(descriptor, mode)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *details: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "open", Full, raising=False)
    with pytest.raises(OSError, match=r"No space left on device: .*model\.safetensors") as caught:
        save_model(path, make_model())
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert only(tmp_path, path.name)
    assert path.read_bytes() == before


def test_the_file_is_safe_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    events: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("sync folder" if folder else f"sync {os.fstat(descriptor).st_size} bytes")
        real_fsync(descriptor)

    def replace(source: Any, target: Any) -> None:
        assert Path(source).parent == Path(target).parent
        events.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    save_model(path, make_model())
    assert events == [f"sync {path.stat().st_size} bytes", "rename", "sync folder"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing.model"):
        save_model(tmp_path / "missing" / "model", make_model())
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="folder"):
        save_model(folder, make_model())
    assert only(tmp_path, "folder")
    assert only(folder)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="file"):
        save_model(tmp_path / "file" / "model", make_model())


def test_arguments_of_a_wrong_type(tmp_path: Path) -> None:
    model: Any = make_model()
    wrong: Any
    for wrong in (3, None, 1.5):
        kind = type(wrong).__name__
        with pytest.raises(TypeError, match=f"load_model: path is a {kind}; it must be a str or an os.PathLike"):
            load_model(wrong)
        with pytest.raises(TypeError, match=f"save_model: path is a {kind}; it must be a str or an os.PathLike"):
            save_model(wrong, model)
    for wrong in ([1], 3, "text"):
        with pytest.raises(TypeError, match=f"save_model: extra is a {type(wrong).__name__}; it must be a mapping"):
            save_model(tmp_path / "m", model, wrong)
    wrong = {}
    with pytest.raises(TypeError, match="save_model: model is a dict; it must be an MLP"):
        save_model(tmp_path / "m", wrong)
    assert only(tmp_path)


def test_extra_that_is_no_json(tmp_path: Path) -> None:
    for extra in ({"x": np.zeros(2)}, {"x": {1, 2}}, {("a", 1): 2}):
        with pytest.raises(TypeError, match="save_model: extra cannot be written as JSON"):
            save_model(tmp_path / "m", make_model(), extra)  # type: ignore[arg-type]
    assert only(tmp_path)


def test_links_and_modes(tmp_path: Path) -> None:
    target = tmp_path / "target"
    link = tmp_path / "link"
    save_model(target, make_model(None))
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    target.chmod(0o640)
    link.symlink_to(target)
    save_model(link, make_model())
    assert link.is_symlink()
    assert load_model(target)[0].norm == "batch"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("model", make_model())
    assert only(tmp_path, "model")
    assert load_model("model")[0].norm == "batch"
