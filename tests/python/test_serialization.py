"""Model files: what is read is what was written, damage is found, and nothing half-written is left."""

from __future__ import annotations

import _thread
import errno
import hashlib
import itertools
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import archives
from archives import arrays_of, metadata_of
from check_points import interrupted_everywhere
from normcore import MLP, Generator, _atomic, losses
from normcore import archive as files
from normcore.archive import read_archive, read_extra, write_archive
from normcore.mlp import load_model, save_model

EXTRA = {"texts": ["naïve", "b\x7f", None], "numbers": [1.5, -2.0], "columns": {"x": 1}}
NAMES = ["a", 'naïve "x"\\', "\x7f\n\x9b\U0001f600"]


def make_model(norm: Any = "batch", dtype: str = "float32", **more: Any) -> MLP:
    model = MLP([3, 4, 2], norm=norm, dropout=0.25, dtype=dtype, weight_scale=0.3, seed=5, **more)
    rng = Generator(8)
    model.parameters_flat[...] = rng.normal(model.parameters_flat.size, dtype=dtype)
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
    assert loaded.parameters_flat.tobytes() == model.parameters_flat.tobytes()
    assert loaded.buffers_flat.tobytes() == model.buffers_flat.tobytes()
    assert loaded.parameters_flat.flags.writeable
    X = Generator(1).normal((5, 3), dtype=dtype)
    assert loaded.forward(X).tobytes() == model.forward(X).tobytes()


def test_methods_of_the_model(tmp_path: Path) -> None:
    model = make_model()
    model.save(str(tmp_path / "a"))
    model.save(tmp_path / "b", extra={"k": 1})
    assert MLP.load(tmp_path / "a").parameters_flat.tobytes() == model.parameters_flat.tobytes()
    assert load_model(tmp_path / "b")[1] == {"k": 1}
    assert load_model(tmp_path / "a")[1] == {}


def test_same_model_same_bytes(tmp_path: Path) -> None:
    save_model(tmp_path / "a", make_model(), EXTRA)
    save_model(tmp_path / "b", make_model(), dict(reversed(EXTRA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nan_and_infinity_are_kept(tmp_path: Path) -> None:
    model = make_model(None)
    model.parameters_flat[:3] = [np.nan, np.inf, -0.0]
    save_model(tmp_path / "m", model)
    assert load_model(tmp_path / "m")[0].parameters_flat.tobytes() == model.parameters_flat.tobytes()


def test_any_safetensors_reader_can_read_it(saved: Path) -> None:
    tensors = safetensors.numpy.load_file(saved)
    expected = arrays_of(make_model())
    assert list(tensors) == list(expected)  # in the order of the data
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
    metadata = metadata_of(model)
    if change is not None:
        change(metadata)
    path.write_bytes(archives.archive(metadata, arrays_of(model) if tensors is None else tensors))


def test_the_helper_writes_sound_files(tmp_path: Path) -> None:
    archive(tmp_path / "m")
    assert load_model(tmp_path / "m")[0].parameters_flat.tobytes() == make_model().parameters_flat.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("format"), "no normcore program wrote"),
        (lambda m: m.update(format="pt"), "no normcore program wrote"),
        (lambda m: m.update(format="normcore checkpoint"), "this is a 'normcore checkpoint' file"),
        (
            lambda m: m.update(format_version="1"),
            "written in format 1, which was never released and is not read any more",
        ),
        (lambda m: m.update(format_version="3"), "format version '3'; this normcore reads '2'"),
        (lambda m: m.pop("format_version"), "format version None"),
        (lambda m: m.update(contract="x"), "its numeric contract is 'x'"),
        (lambda m: m.update(sha256="0" * 64), "SHA-256 of its content is not"),
        (lambda m: m.update(sha256="0" * 63), "its SHA-256 is '000"),
        (lambda m: m.update(sha256="0" * 100), f"its SHA-256 is '{'0' * 80}'$"),
        (lambda m: m.update(contract="N" * 100), f"its numeric contract is '{'N' * 80}'$"),
        (lambda m: m.update(sha256="F" * 64), "its SHA-256 is 'FFF"),
        (lambda m: m.pop("extra"), "no metadata entry extra"),
        (lambda m: m.update(more="x"), "no sound model: unknown entries: more"),
        (lambda m: m.update(extra="[1]"), "extra is no JSON object"),
        (lambda m: m.update(extra="{"), "extra is no JSON object"),
        (lambda m: m.update(extra="[" * 100_000), "extra is no JSON object"),
        (lambda m: m.pop("sizes"), "no sound model: no entry sizes"),
        (lambda m: m.pop("loss"), "no sound model: no entry loss"),
        (lambda m: m.update(sizes="3,5,2"), r"w1 is float32 \(3, 4\); its configuration says float32 \(3, 5\)"),
        (lambda m: m.update(sizes="3,4"), "unknown arrays: gamma1, beta1, w2, b2"),
        (lambda m: m.update(sizes="3,4,10000000000000000000"), "sizes is"),
        (lambda m: m.update(sizes="3,4,100000000000000000000"), "sizes is .*it must be 1 to 9 integers"),
        (lambda m: m.update(sizes="3, 4,2"), "sizes is '3, 4,2'; it must be 1 to"),
        (lambda m: m.update(sizes="3,04,2"), "sizes is '3,04,2'; it must be 1 to"),
        (lambda m: m.update(sizes=""), "sizes is ''; it must be 1 to"),
        (lambda m: m.update(sizes="7"), "no sound model"),
        (lambda m: m.update(dtype="float64"), "w1 is float32 .* says float64"),
        (lambda m: m.update(norm="group"), "norm is 'group'"),
        (lambda m: m.update(norm="none"), "gamma1 stands where w2 belongs"),
        (lambda m: m.update(norm="layer"), "unknown arrays: running_mean1, running_var1"),
        (lambda m: m.update(dropout="0x1.0000000000000p+1"), "dropout is 2.0"),
        (lambda m: m.update(dropout="0.25"), "dropout is '0.25'; it must be a number in hexadecimal"),
        (lambda m: m.update(dropout="0x1p-2"), "dropout is '0x1p-2'; it must be a number in hexadecimal"),
        (lambda m: m.update(dropout="nan"), "dropout is 'nan'; it must be a number in hexadecimal"),
        (lambda m: m.update(eps="0x1.0000000000000p+9999"), "eps is .*; it must be a number in hexadecimal"),
        (lambda m: m.update(eps="inf"), "eps is inf"),
        (lambda m: m.update(unbiased_running_var="1"), "unbiased_running_var is '1'; it must be true or false"),
        (lambda m: m.update(loss="0-1"), "there is no loss '0-1'"),
        (lambda m: m.update({"loss.tau": "0x1.0000000000000p-1"}), "there is no parameter 'tau'"),
        (lambda m: m.update(loss="quantile", **{"loss.tau": "0x1.0000000000000p+0"}), "tau is 1.0"),
        (lambda m: m.update(class_names="[]"), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a"]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a","b","c"]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a", "b"]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a","b",]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a",7]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a","b"'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a","b"]]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a","\\n"]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a","\\u00EF"]'), "class_names is .*a JSON array of 2 strings"),
        (lambda m: m.update(class_names='["a","\\u0041"]'), "class_names is .*nothing escaped that need not be"),
        (lambda m: m.update(class_names='["a","\\ud83d"]'), "class_names is .*valid Unicode"),
        (lambda m: m.update(class_names='["a","a"]'), "class_names has 'a' twice"),
    ],
)
def test_foreign_and_inconsistent_files(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "odd.safetensors"
    archive(path, change)
    with pytest.raises(ValueError, match=rf"odd\.safetensors: .*{message}"):
        load_model(path)


def test_wrong_arrays(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    good = arrays_of(make_model())
    scale = {"feature_mean": np.zeros(3), "feature_scale": np.ones(3)}
    for tensors, message in (
        (
            {**good, "w1": np.zeros((4, 3), np.float32)},
            r"w1 is float32 \(4, 3\); its configuration says float32 \(3, 4\)",
        ),
        ({**good, "w1": good["w1"].astype(np.float64)}, "w1 is float64"),
        ({**good, "b1": good["b1"].reshape(1, -1)}, r"b1 is float32 \(1, 4\)"),
        ({**good, "w9": good["w1"]}, "unknown arrays: w9"),
        ({name: array for name, array in good.items() if name != "running_var1"}, "arrays missing: running_var1"),
        (dict(reversed(good.items())), "running_var1 stands where w1 belongs"),
        ({"x": np.zeros(2), **good}, "x stands where w1 belongs"),
        ({}, "sizes is '3,4,2'; it must be 1 to 1 integers"),
        ({**good, "feature_mean": np.zeros(3)}, "arrays missing: feature_scale"),
        ({**good, "feature_scale": np.ones(3)}, "arrays missing: feature_mean"),
        ({**good, **scale, "feature_mean": np.zeros(4)}, r"feature_mean is float64 \(4,\)"),
        ({**good, **scale, "feature_mean": np.zeros(3, np.float32)}, r"feature_mean is float32"),
        ({**scale, **good}, "feature_mean stands where w1 belongs"),
        ({**good, **scale, "feature_scale": np.array([1.0, 0.0, 1.0])}, r"feature_scale\[1\] is 0.0"),
        ({**good, **scale, "feature_scale": np.array([1.0, 1.0, np.inf])}, r"feature_scale\[2\] is inf"),
        ({**good, **scale, "feature_mean": np.array([np.nan, 1.0, np.inf])}, r"feature_mean\[0\] is nan"),
    ):
        archive(path, tensors=tensors)
        with pytest.raises(ValueError, match=rf"odd\.safetensors: no sound model: .*{message}"):
            load_model(path)
    archive(path, tensors={**good, **scale})
    assert load_model(path)[0].feature_scale is not None


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
    arrays = {"x": np.arange(3)[::-1], "empty": np.zeros((0, 2)), "a": np.array(7, np.int8), "b": np.zeros(0)}
    write_archive(path, "thing", {"a": '1"\\'}, arrays, {"b": 2})
    metadata, tensors, extra, contract = read_archive(path, "thing")
    assert (metadata, extra, contract) == ({"a": '1"\\'}, {"b": 2}, "NC1")
    assert read_extra(path, "thing") == {"b": 2}
    assert tensors["x"].tolist() == [2, 1, 0]
    assert tensors["empty"].shape == (0, 2)
    assert tensors["a"] == 7
    assert set(safetensors.numpy.load_file(path)) == set(arrays)
    with pytest.raises(ValueError, match="this is a 'normcore thing' file"):
        load_model(path)


def test_only_the_one_layout_of_a_content_is_read(tmp_path: Path) -> None:
    """Where two readers could see two things, none is right."""
    path = tmp_path / "odd.safetensors"
    save_model(path, make_model())
    good = path.read_bytes()
    (length,) = struct.unpack_from("<Q", good)
    header = good[8 : 8 + length].rstrip()

    def write(changed: bytes) -> None:
        changed += b" " * (-(8 + len(changed)) % 64)
        path.write_bytes(struct.pack("<Q", len(changed)) + changed + good[8 + length :])

    write(header)
    assert path.read_bytes() == good
    entries = json.loads(header)
    b1 = header[header.index(b'"b1"') : header.index(b',"b2"')]
    for changed in (
        json.dumps(entries, sort_keys=True).encode(),  # blanks
        json.dumps(dict(reversed(entries.items())), separators=(",", ":")).encode(),
        header[:-1] + b"," + header[1:],  # every key twice
        header.replace(b1, b1 + b"," + b1),
        header.replace(b1 + b",", b1),
        header.replace(b1 + b",", b1 + b",,"),
        header[:-1] + b",}",
        header.replace(b"}}", b"},}", 1),
        header.replace(b"w1", b"\\u0077" + b"1"),
        header.replace(b'"format"', b'"f\\u006frmat"'),
        header.replace(b'"format":"n', b'"format":"\\n'),
        header.replace(b'"extra":"{}"', b'"extra":"{\\/}"'),
        header.replace(b'"extra":"{}"', b'"extra":"{\x7f}"'),
        header.replace(b'"extra":"{}"', b'"extra":{}'),
        header.replace(b'"shape":[', b'"shape":[0', 1),
        header.replace(b'"shape":[4', b'"shape":[-4', 1),
        header.replace(b'"shape":[4]', b'"shape":[4,1,1,1,1,1,1,1,1]', 1),
        header.replace(b'"data_offsets":[', b'"data_offsets":[1', 1),
        header.replace(b'"data_offsets":[0,', b'"data_offsets":[00,', 1),
        header + b" " * 64,
        header + b"x",
        header[:-1],
        header[:-20],
        b" " + header,
        header.replace(b'"b1"', b'"\xe9"'),
        header.replace(b'"b1"', b'"b-1"'),
        header.replace(b'"b1"', b'""'),
        header.replace(b'"b1"', b'"b' + b"1" * 64 + b'"'),
        header.replace(b"F32", b"F99", 1),
        header.replace(b"F32", b"I32", 1),
        header.replace(b'"__metadata__":{', b'"__metadata__":{}', 1),
        header.replace(b'"__metadata__":{', b'"__metadata__":[', 1),
    ):
        assert changed != header
        write(changed)
        with pytest.raises(ValueError, match=r"odd\.safetensors: (damaged|no sound model|not a )"):
            load_model(path)


def test_holes_and_overlaps(tmp_path: Path) -> None:
    """Arrays cover the data, each byte once, whatever their offsets say; their size is that of dtype and shape."""
    path = tmp_path / "odd.safetensors"

    def entry(begin: int, end: int, size: int) -> dict[str, Any]:
        return {"data_offsets": [begin, end], "dtype": "F32", "shape": [size]}

    metadata = metadata_of(make_model()) | {"format": "normcore thing", "sha256": "0" * 64}
    for entries, sound in (
        ({"a": entry(0, 8, 2), "b": entry(8, 16, 2)}, True),
        ({"a": entry(8, 16, 2), "b": entry(0, 8, 2)}, True),
        ({"a": entry(0, 8, 2), "b": entry(8, 8, 0), "c": entry(8, 16, 2)}, True),
        ({"a": entry(4, 12, 2), "b": entry(12, 16, 1)}, False),  # a hole before
        ({"a": entry(0, 8, 2), "b": entry(12, 16, 1)}, False),  # and between
        ({"a": entry(0, 8, 2), "b": entry(4, 16, 3)}, False),  # an overlap
        ({"a": entry(0, 16, 4), "b": entry(0, 16, 4)}, False),
        ({"a": entry(0, 16, 4), "b": entry(4, 8, 1)}, False),
        ({"a": entry(0, 8, 2), "b": entry(4, 12, 2)}, False),  # as many bytes as there are, all the same
        ({"a": entry(0, 8, 3), "b": entry(8, 16, 1)}, False),
        ({"a": entry(0, 16, 3)}, False),
        ({"a": entry(16, 0, 4)}, False),
        ({"a": entry(0, 16, 1 << 53)}, False),
        ({"a": entry(0, 12, 3)}, False),  # something after it
        ({}, False),
    ):
        header = json.dumps({"__metadata__": metadata, **entries}, sort_keys=True, separators=(",", ":")).encode()
        header += b" " * (-(8 + len(header)) % 64)
        unsigned = struct.pack("<Q", len(header)) + header + bytes(16)
        path.write_bytes(unsigned.replace(b"0" * 64, hashlib.sha256(unsigned).hexdigest().encode()))
        if sound:
            assert set(read_archive(path, "thing")[1]) == set(entries)
            continue
        with pytest.raises(ValueError, match=r"odd\.safetensors: (damaged: .*the place of|truncated or damaged)"):
            read_archive(path, "thing")


@pytest.mark.parametrize("entry", [b'"contract":"NC1",', b'"w1":{'])
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, entry: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    model = make_model()
    content = archives.archive({**archives.metadata_of(model), "sha256": "0" * 64}, archives.arrays_of(model))
    length = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + length].rstrip(b" "), content[8 + length :]
    begin = header.index(entry)
    twice = entry if entry.endswith(b",") else header[begin : header.index(b"}", begin)] + b"},"
    header = header[:begin] + twice + header[begin:]
    header += b" " * (-(8 + len(header)) % 64)
    unsigned = struct.pack("<Q", len(header)) + header + data
    path.write_bytes(unsigned.replace(b"0" * 64, hashlib.sha256(unsigned).hexdigest().encode()))
    with pytest.raises(ValueError, match=r"odd\.safetensors: damaged: .*the order of the entry"):
        load_model(path)


def test_a_negative_variance_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    model = make_model()
    for value, sound in ((-0.0, True), (np.nan, True), (-1e-30, False), (-np.inf, False)):
        model.buffers()["running_var1"][2] = value
        save_model(path, model)
        if sound:
            load_model(path)
            continue
        with pytest.raises(ValueError, match=r"odd\.safetensors: no sound model: running_var1\[2\] is -.*variance"):
            load_model(path)


def test_too_much_for_a_header(tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"save_model: names, extra and all else .* accepted are 1048568"):
        save_model(tmp_path / "m", model, {"text": "x" * (1 << 20)})
    with pytest.raises(ValueError, match="save_model: extra has more than 10000 lists"):
        save_model(tmp_path / "m", model, {"lists": [[]] * 10_000})
    with pytest.raises(ValueError, match="save_thing: 4097 arrays"):
        write_archive(tmp_path / "m", "thing", {}, {f"x{i}": np.zeros(0) for i in range(4097)})
    with pytest.raises(ValueError, match="save_thing: 'a-b' cannot be the name"):
        write_archive(tmp_path / "m", "thing", {}, {"a-b": np.zeros(0)})
    with pytest.raises(ValueError, match="save_thing: '' cannot be the name"):
        write_archive(tmp_path / "m", "thing", {"": ""}, {})
    with pytest.raises(ValueError, match="save_thing: a is not printable ASCII"):
        write_archive(tmp_path / "m", "thing", {"a": "\x7f"}, {})
    with pytest.raises(ValueError, match="save_thing: 257 entries"):
        write_archive(tmp_path / "m", "thing", {f"x{i}": "" for i in range(252)}, {})
    assert only(tmp_path)
    save_model(tmp_path / "m", model, {"text": '\\"' * 100_000, "lists": [[]] * 9_000})
    assert load_model(tmp_path / "m")[1]["text"] == '\\"' * 100_000
    write_archive(tmp_path / "n", "thing", {}, {f"x{i}": np.zeros(0) for i in range(4096)})
    assert len(read_archive(tmp_path / "n", "thing")[1]) == 4096


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\u202e"
    path = tmp_path / f"{evil}.safetensors"
    model = make_model()
    metadata, evils = metadata_of(model), json.dumps([evil, "b"], separators=(",", ":"))
    for change in (
        {"format": f"normcore {evil}"},
        {"format_version": evil},
        {"contract": evil},
        {evil: ""},
        {"norm": evil},
        {"dtype": evil},
        {"sizes": evil},
        {"loss": evil},
        {"class_names": evil},
        {"class_names": evils[:-1] + ',"c"]'},
        {"class_names": evils.replace('"b"', evils[1 : evils.index(",")])},
    ):
        # Those that JSON must escape are refused before; \x7f to \x9f and beyond would be those that it need not.
        path.write_bytes(archives.archive(metadata | change, arrays_of(model)))
        with pytest.raises(ValueError, match=r"\\x1b") as caught:
            load_model(path)
        assert str(caught.value).isprintable()


def test_a_model_through_a_pipe(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for data, sound in ((content, True), (content[:-1], False), (content + b"x", False)):
        writer = threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True)
        writer.start()
        if sound:
            assert load_model(pipe)[0].parameters_flat.tobytes() == make_model().parameters_flat.tobytes()
        else:
            with pytest.raises(ValueError, match="pipe: truncated or damaged"):
                load_model(pipe)
        writer.join()


MEMORY = """
import json, os, struct, sys
from collections.abc import Iterator
from pathlib import Path
import numpy as np
import archives
from normcore import MLP, load_model, save_model

path = Path(sys.argv[1]) / "m"


def size(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024


def load(name):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = size("VmHWM")
    try:
        load_model(path)
        result = "loaded"
    except ValueError as error:
        result = "refused"
    peak = size("VmHWM") - before
    print(f"{name}:{result}:{peak}:{os.stat(path).st_size}")


def raw(header, body=b"", length=None):
    header += b" " * (-(8 + len(header)) % 64)
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + body)


MIB = 1 << 20
form = b'"__metadata__":{"format":"normcore model"}'
model = MLP([3, 4, 2], norm="batch")
tensors = archives.arrays_of(model)
save_model(path, model)
load("warm")
load("small")
raw(b"{" + form + b',"a":[' + b"{}," * (48 * MIB // 3) + b"{}]}")
load("48 MiB of objects")
raw(b"{" + form + b',"a":[' + b"{}," * 349_000 + b"{}]}")
load("1 MiB of objects")
raw(b"{" + form + b',"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}")
load("1 MiB of brackets")
raw(b"{" + form + b" " * 1_000_000 + b"}")
load("blanks")
raw(b'{"__metadata__":{"format":"normcore model","x":"' + b'\\\\"' * 500_000)
load("a string without end")
empty = {f"x{i:05}": np.zeros(0, np.float32) for i in range(17_000)}
raw(archives.header(archives.metadata_of(model), empty)[8 : 8 + MIB])
load("17 000 empty tensors")
for name, change in (
    ("one name of brackets", {"class_names": "[" * 900_000}),
    ("half a million names", {"class_names": json.dumps([""] * 340_000, separators=(",", ":"))}),
    ("half a million layers", {"sizes": ",".join(["1"] * 500_000)}),
    ("a million digits", {"sizes": "1" * 1_000_000}),
    ("a thousand entries", {f"x{i:05}": "" for i in range(30_000)}),
):
    path.write_bytes(archives.archive(archives.metadata_of(model) | change, tensors))
    load(name)
extra = '{"a":[' + "[]," * 300_000 + "[]]}"
path.write_bytes(archives.archive({**archives.metadata_of(model), "extra": extra}, tensors))
load("nested extra")
good = archives.archive({**archives.metadata_of(model), "sha256": "0" * 64}, tensors)
path.write_bytes(good)
os.truncate(path, 1 << 30)
load("1 GiB without content")
model = MLP([1 << 10, 1 << 12, 10])
claims = archives.header({**archives.metadata_of(model), "sha256": "0" * 64}, {"w1": np.zeros((1, 3), np.float32)})[8:]
raw(claims.replace(b"[0,12]", b"[0,%d]" % (1 << 42)).replace(b"[1,3]", b"[%d,%d]" % (1 << 20, 1 << 20)).rstrip())
load("a claim of 4 TiB")
save_model(path, model)
del model
load("honest")
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read in /proc")
def test_memory_of_loading(tmp_path: Path) -> None:
    """At most the size of the file and 1 MiB, whatever the file is."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(":") for line in done.stdout.splitlines()]
    assert len(lines) == 17
    for name, result, peak, size in lines:
        assert result == ("loaded" if name in ("warm", "small", "honest") else "refused"), name
        if name != "warm":
            stored = min(int(size), 1 << 26)  # of a file with holes nearly nothing
            assert int(peak) <= (0 if int(size) > 1 << 26 else stored) + (1 << 20), (name, peak, size)


# ---------------------------------------------------------------------- writing


def only(folder: Path, *names: str) -> bool:
    return sorted(entry.name for entry in folder.iterdir()) == sorted(names)


LINUX = sys.platform == "linux"
CALLS = ("stat", "scandir", "open", "fstat", "write", "fchmod", "fsync", "link", "replace", "unlink", "close")


class FaultyOs:
    """The module `os` of which call number `at` fails; from then on `forever`, but for what clears away."""

    def __init__(self, at: int, error: int, forever: bool, named: bool) -> None:
        self.at, self.error, self.forever, self.named = at, error, forever, named
        self.count = 0
        self.failed = ""

    def __getattr__(self, name: str) -> Any:
        if name == "O_TMPFILE" and self.named:
            raise AttributeError(name)
        attribute = getattr(os, name)
        if name not in CALLS:
            return attribute

        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            later = self.forever and self.count > self.at and name not in ("unlink", "close")
            if self.count != self.at and not later:
                return attribute(*arguments, **options)
            self.failed = self.failed or name
            if name == "close":
                os.close(*arguments)  # which it is, whatever close says
            elif name == "write":
                os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise OSError(self.error, os.strerror(self.error))

        return call


@pytest.mark.parametrize("named", [pytest.param(False, marks=pytest.mark.skipif(not LINUX, reason="O_TMPFILE")), True])
@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("existing", [False, True])
def test_a_fault_at_every_system_call_of_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, error: int, forever: bool, named: bool
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, make_model())
    new = path.read_bytes()
    save_model(path, make_model(None))
    old = path.read_bytes() if existing else None
    failures = set()
    for at in range(1, 1000):
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_bytes(old)
        before = descriptors()
        faulty = FaultyOs(at, error, forever, named)
        monkeypatch.setattr(_atomic, "os", faulty)
        try:
            save_model(path, make_model())
            raised = None
        except OSError as caught:
            raised = caught
        monkeypatch.undo()
        assert descriptors() == before, faulty.failed
        found = path.read_bytes() if path.exists() else None
        if raised is None:
            assert found == new, f"returned after a fault of {faulty.failed}"
        else:
            failures.add(faulty.failed)
            assert raised.errno == error
            assert str(path) in str(raised)
            assert found == (new if "the new file is in place" in str(raised) else old), f"{faulty.failed}: {raised}"
        assert only(tmp_path, *([path.name] if found else [])), f"after a fault of {faulty.failed}"
        if not faulty.failed:
            break
    else:
        raise AssertionError("the save does not end")
    assert {"write", "fsync"} <= failures


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
def test_other_exceptions_leave_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """As those of what another library has put in the place of a function of `os`."""
    path = tmp_path / "model.safetensors"
    save_model(path, make_model(None))
    before = path.read_bytes()

    def fail(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(KeyboardInterrupt):
        save_model(path, make_model())
    monkeypatch.undo()
    assert only(tmp_path, path.name)
    assert path.read_bytes() == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


@pytest.mark.parametrize("existing", [False, True])
def test_ctrl_c_at_every_check_point_of_a_save(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "model.safetensors"
    model = make_model()
    save_model(path, model)
    new = path.read_bytes()
    save_model(path, make_model(None))
    old = path.read_bytes() if existing else None

    def prepare() -> None:
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_bytes(old)

    before, places = descriptors(), 0
    for place in interrupted_everywhere(lambda: save_model(path, model), prepare):
        places += 1
        assert (path.read_bytes() if path.exists() else None) in (old, new), place
        assert only(tmp_path, *([path.name] if path.exists() else [])), place
        assert descriptors() == before, place
    assert places > 100


def test_ctrl_c_at_every_check_point_of_a_load(saved: Path) -> None:
    before, places = descriptors(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a file that is closed because nobody has it any more
        for place in interrupted_everywhere(lambda: load_model(saved)):
            places += 1
            assert descriptors() == before, place
    assert places > 100


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the write is given up, for what it writes may change from now on."""
    path = tmp_path / "model.safetensors"
    save_model(path, make_model(None))
    before = path.read_bytes()
    writing, go_on, written = threading.Event(), threading.Event(), threading.Event()
    real_fsync, real_close = os.fsync, os.close

    def fsync(descriptor: int) -> None:
        writing.set()
        go_on.wait(10)
        real_fsync(descriptor)

    def close(descriptor: int) -> None:
        real_close(descriptor)
        written.set()

    def press(times: list[int]) -> None:
        writing.wait(10)
        for _ in range(2):
            time.sleep(0.2)
            times.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "fsync", fsync)
    times: list[int] = []
    presser = threading.Thread(target=press, args=(times,))
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        save_model(path, make_model())
    assert len(times) == 2
    presser.join()
    monkeypatch.setattr(os, "close", close)
    written.clear()
    go_on.set()
    assert written.wait(10)
    assert path.read_bytes() == before
    assert only(tmp_path, path.name)


def test_where_no_thread_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", fail)
    save_model(tmp_path / "m", make_model())
    assert load_model(tmp_path / "m")[0].norm == "batch"
    with pytest.raises(FileNotFoundError, match="absent"):
        save_model(tmp_path / "absent" / "m", make_model())


def test_saving_from_another_thread(tmp_path: Path) -> None:
    thread = threading.Thread(target=save_model, args=(tmp_path / "m", make_model()))
    thread.start()
    thread.join()
    assert load_model(tmp_path / "m")[0].norm == "batch"


@pytest.mark.skipif(not LINUX, reason="flock")
@pytest.mark.parametrize(("age", "locked", "stays"), [(700, False, False), (700, True, True), (30, False, True)])
def test_temporaries_of_killed_processes_are_removed(tmp_path: Path, age: float, locked: bool, stays: bool) -> None:
    import fcntl

    temporary = tmp_path / ".normcore-0123456789abcdef.tmp"
    others = [".normcore-0123456789abcdef.tmp.txt", ".normcore-.tmp", "normcore-0123456789abcdef.tmp"]
    for name in (temporary.name, *others):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, times=(time.time() - age, time.time() - age))
    with temporary.open("rb") as file:
        if locked:
            fcntl.flock(file, fcntl.LOCK_EX)
        save_model(tmp_path / "m", make_model())
    assert only(tmp_path, "m", *others, *([temporary.name] if stays else []))


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("mode", [None, 0o600, 0o640, 0o444, 0o666])
def test_no_more_people_may_read_the_file_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, named: bool
) -> None:
    path = tmp_path / "model.safetensors"
    if mode is not None:
        path.write_bytes(b"old")
        path.chmod(mode)
    seen = []

    def write(descriptor: int, data: Any) -> int:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return os.write(descriptor, data)

    faulty = FaultyOs(0, 0, False, named)
    faulty.write = write  # type: ignore[attr-defined]
    monkeypatch.setattr(_atomic, "os", faulty)
    umask = os.umask(0o022)
    try:
        save_model(path, make_model())
    finally:
        os.umask(umask)
    final = 0o644 if mode is None else mode
    assert stat.S_IMODE(path.stat().st_mode) == final
    assert seen
    assert all(found & ~final == 0 for found in seen)


def test_the_file_is_safe_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    events: list[str] = []
    real_fsync, real_replace, real_link = os.fsync, os.replace, os.link

    def fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("sync folder" if folder else f"sync {os.fstat(descriptor).st_size} bytes")
        real_fsync(descriptor)

    def replace(source: Any, target: Any) -> None:
        assert Path(source).parent == Path(target).parent
        events.append("rename")
        real_replace(source, target)

    def link(source: Any, target: Any, **options: Any) -> None:
        assert Path(target).parent == path.parent
        events.append("name" if Path(target) == path else "temporary name")
        real_link(source, target, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "link", link)
    save_model(path, make_model())
    synced = f"sync {path.stat().st_size} bytes"
    if hasattr(os, "O_TMPFILE"):
        assert events == [synced, "name", "sync folder"]
        events.clear()
    save_model(path, make_model())
    assert events == [synced, *(["temporary name"] if hasattr(os, "O_TMPFILE") else []), "rename", "sync folder"]
    events.clear()
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    save_model(path, make_model())
    assert events == [synced, "rename", "sync folder"]


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


# ---------------------------------------------------------------------- pipes


def through_a_pipe(path: Path, pieces: Iterator[bytes]) -> int:
    """Write pieces to a new pipe until there are no more or nobody reads, and return the number of bytes."""
    written = 0
    try:
        with path.open("wb", buffering=0) as pipe:
            for piece in pieces:
                written += pipe.write(piece)
    except BrokenPipeError:
        pass
    return written


def test_a_large_model_through_a_pipe(tmp_path: Path) -> None:
    """More than is read at a time, and ends at any place in that."""
    model = MLP([300, 300, 2], norm="layer", seed=1)
    save_model(tmp_path / "m", model)
    content = (tmp_path / "m").read_bytes()
    assert len(content) > files._PIECE + 8192
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=through_a_pipe, args=(tmp_path / "pipe", iter([content])), daemon=True)
    writer.start()
    assert load_model(tmp_path / "pipe")[0].parameters_flat.tobytes() == model.parameters_flat.tobytes()
    writer.join(30)
    assert not writer.is_alive()


def test_a_pipe_without_an_end(saved: Path, tmp_path: Path) -> None:
    """It is not read for much longer than its header says."""
    os.mkfifo(tmp_path / "pipe")
    pieces = itertools.chain([saved.read_bytes()], itertools.repeat(bytes(files._PIECE), 1000))
    written: list[int] = []
    writer = threading.Thread(target=lambda: written.append(through_a_pipe(tmp_path / "pipe", pieces)), daemon=True)
    writer.start()
    with pytest.raises(ValueError, match="pipe: truncated or damaged"):
        load_model(tmp_path / "pipe")
    writer.join(30)
    assert not writer.is_alive()
    assert written[0] < 4 * files._PIECE


# ---------------------------------------------------------------------- limits


def test_the_largest_header(tmp_path: Path) -> None:
    """1 MiB with its length just fits, for writer and reader; the next multiple of 64 bytes for neither."""
    model, path = make_model(), tmp_path / "m"

    def header(text: str) -> int:
        save_model(path, model, {"text": text})
        return int(struct.unpack("<Q", path.read_bytes()[:8])[0])

    text = "x" * (files._MAX_HEADER - 64 - header(""))
    while header(text) < files._MAX_HEADER:
        text += "x"
    assert load_model(path)[1] == {"text": text}
    text += "x" * 64
    with pytest.raises(ValueError, match=f"take {files._MAX_HEADER + 64} bytes"):
        save_model(path, model, {"text": text})
    metadata = metadata_of(model) | {"extra": json.dumps({"text": text}, separators=(",", ":"))}
    path.write_bytes(archives.archive(metadata, arrays_of(model)))
    with pytest.raises(ValueError, match=f"it claims a header of {files._MAX_HEADER + 64} bytes"):
        load_model(path)


def test_the_most_lists_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for count, sound in ((files._MAX_NESTED, True), (files._MAX_NESTED + 1, False)):
        text = json.dumps({"lists": [[]] * (count - 2)})
        assert text.count("[") + text.count("{") == count
        path.write_bytes(archives.archive(metadata_of(make_model()) | {"format": "normcore thing", "extra": text}, {}))
        if sound:
            read_archive(path, "thing")
        else:
            with pytest.raises(ValueError, match="its extra is no JSON object, or has more than 10000"):
                read_archive(path, "thing")


def test_the_most_entries_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    metadata = metadata_of(make_model()) | {"format": "normcore thing"}
    for count, sound in ((256, True), (257, False)):
        more = {f"x{i}": "" for i in range(count - len(metadata) - 1)}
        path.write_bytes(archives.archive(metadata | more, {}))
        if sound:
            assert len(read_archive(path, "thing")[0]) == 256 - 5
        else:
            with pytest.raises(ValueError, match=r"not as normcore writes it \(the metadata at its byte"):
                read_archive(path, "thing")


def test_the_most_tensors_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    metadata = metadata_of(make_model()) | {"format": "normcore thing"}
    for count in (4096, 4097):
        path.write_bytes(archives.archive(metadata, {f"x{i:04}": np.zeros(0, np.int8) for i in range(count)}))
        if count == 4096:
            assert len(read_archive(path, "thing")[1]) == count
        else:
            with pytest.raises(ValueError, match=r"not as normcore writes it \(the entry at its byte"):
                read_archive(path, "thing")


# ---------------------------------------------------------------------- what systems differ in


def test_an_array_larger_than_any_memory_that_has_no_element(tmp_path: Path) -> None:
    """Its bytes are all there, and yet NumPy cannot make it."""
    metadata = metadata_of(make_model()) | {"format": "normcore thing", "sha256": "0" * 64}
    head = archives.header(metadata, {"x": np.zeros((0, 1, 1), np.int8)}).rstrip()[8:]
    head = head.replace(b"[0,1,1]", b"[0,%d,%d]" % (1 << 40, 1 << 40))
    head += b" " * (-(8 + len(head)) % 64)
    unsigned = struct.pack("<Q", len(head)) + head
    (tmp_path / "a").write_bytes(unsigned.replace(b"0" * 64, hashlib.sha256(unsigned).hexdigest().encode()))
    with pytest.raises(ValueError, match="a: damaged: it claims a tensor larger than any memory"):
        read_archive(tmp_path / "a", "thing")


def test_a_file_that_is_cut_while_it_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = files.Archive.extra

    def cut(archive: Any) -> Any:
        os.truncate(saved, saved.stat().st_size - 1)
        return extra(archive)

    monkeypatch.setattr(files.Archive, "extra", cut)
    with pytest.raises(ValueError, match="truncated while it was read"):
        load_model(saved)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_folders_that_cannot_be_synced(call: str, error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network and FUSE file systems: the file is there all the same, and nobody can do any more."""
    real_open, real_fsync, folders = os.open, os.fsync, []

    def open_(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if path == str(tmp_path) and flags == os.O_RDONLY:
            folders.append(path)
            if call == "open":
                raise OSError(error, os.strerror(error))
        return real_open(path, flags, *rest, **options)

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)
    before = descriptors()
    save_model(tmp_path / "m", make_model())
    monkeypatch.undo()
    assert folders
    assert descriptors() == before
    assert load_model(tmp_path / "m")[0].parameters_flat.tobytes() == make_model().parameters_flat.tobytes()


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows: then nobody's temporaries are taken for abandoned."""
    old = tmp_path / f".normcore-{'0' * 16}.tmp"
    old.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr(_atomic, "fcntl", None)
    save_model(tmp_path / "m", make_model())
    assert only(tmp_path, "m", old.name)
    monkeypatch.undo()
    save_model(tmp_path / "m", make_model())
    assert only(tmp_path, "m")


# ---------------------------------------------------------------------- what a message says


@pytest.mark.parametrize("size", range(8))
@pytest.mark.parametrize("byte", [b"\0", b"{"])
def test_files_too_short_for_a_length(size: int, byte: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(byte * size)
    with pytest.raises(ValueError, match=f"m: truncated: {size} bytes are no safetensors file"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("header", [b"", b"{", b"}", b'{"a":1', b'"a":1}', b"[]", b'{"a":1}x'])
def test_headers_that_are_no_json_objects(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match="m: not a safetensors file, or damaged: its header is no JSON object"):
        load_model(tmp_path / "m")


def test_more_in_a_pipe_after_a_pause(saved: Path, tmp_path: Path) -> None:
    """Nothing may follow, whenever it comes."""
    os.mkfifo(tmp_path / "pipe")

    def pieces() -> Iterator[bytes]:
        yield saved.read_bytes()
        time.sleep(0.3)
        yield b"x"

    writer = threading.Thread(target=through_a_pipe, args=(tmp_path / "pipe", pieces()), daemon=True)
    writer.start()
    with pytest.raises(ValueError, match="pipe: truncated or damaged"):
        load_model(tmp_path / "pipe")
    writer.join(30)
    assert not writer.is_alive()


def test_the_first_negative_variance_is_named(tmp_path: Path) -> None:
    model = make_model()
    model.buffers()["running_var1"][...] = [0.0, -1.0, -2.0, 0.0]
    arrays = arrays_of(model)
    (tmp_path / "m").write_bytes(archives.archive(metadata_of(model), arrays))
    with pytest.raises(ValueError, match=r"running_var1\[1\] is -1.0, a negative variance"):
        load_model(tmp_path / "m")


def test_eight_names_are_enough(tmp_path: Path) -> None:
    """Of arrays that there should be, and of arrays that there should not."""
    good, many = arrays_of(make_model()), {f"x{i}": np.zeros(1) for i in range(20)}
    metadata = metadata_of(make_model())
    for content, message in ((many, "arrays missing: "), ({**good, **many}, "unknown arrays: ")):
        (tmp_path / "m").write_bytes(archives.archive(metadata, content))
        with pytest.raises(ValueError, match=message) as caught:
            load_model(tmp_path / "m")
        assert len(str(caught.value).rpartition(": ")[2].split(", ")) == 8
    (tmp_path / "m").write_bytes(archives.archive(metadata | {f"x{i}": "" for i in range(20)}, good))
    with pytest.raises(ValueError, match="unknown entries: ") as caught:
        load_model(tmp_path / "m")
    assert len(str(caught.value).rpartition(": ")[2].split(", ")) == 8


def test_long_details_are_cut(tmp_path: Path) -> None:
    model = make_model("layer")
    for change, length in (({"norm": "x" * 5000}, 500), ({"sizes": "x" * 5000}, 200)):
        (tmp_path / "m").write_bytes(archives.archive(metadata_of(model) | change, arrays_of(model)))
        with pytest.raises(ValueError, match="no sound model") as caught:
            load_model(tmp_path / "m")
        assert len(str(caught.value).partition("no sound model: ")[2]) <= length


# ---------------------------------------------------------------------- what a model knows of its data


@pytest.mark.parametrize(
    "loss", ["cross_entropy", "logistic", losses.huber(delta=0.1), losses.quantile(tau=0.9), "squared_error"]
)
def test_loss_names_and_scale_are_kept(tmp_path: Path, loss: Any) -> None:
    model = make_model(
        feature_names=NAMES,
        class_names=["", "b"],
        feature_mean=[0.1, -2, 1e30],
        feature_scale=[5e-324, 1, 1e30],
        loss=loss,
    )
    save_model(tmp_path / "m", model)
    assert (tmp_path / "m").read_bytes() == archives.archive(metadata_of(model), arrays_of(model))
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.config() == model.config()
    assert loaded.loss == losses.get(loss)
    assert loaded.feature_names == tuple(NAMES)
    assert loaded.class_names == ("", "b")
    X = Generator(1).normal((5, 3), dtype="float64") * [1e-320, 1.0, 1.0] + [0.1, 0, 0]
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    for names in (["a", "\ud83d", "c"], ["a", "\ude00\ud83d", "c"]):
        with pytest.raises(ValueError, match=r"save_model: feature_names\[1\] is '.*', which is not valid Unicode"):
            save_model(tmp_path / "m", make_model(feature_names=names))
    assert only(tmp_path)


def test_the_data_in_the_file_are_what_is_digested(tmp_path: Path) -> None:
    for dtype in ("float32", "float64"):
        model = make_model(dtype=dtype)
        save_model(tmp_path / "m", model)
        content = (tmp_path / "m").read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        assert begin % 64 == 0
        assert hashlib.sha256(content[begin:]).hexdigest() == model.digest()
        assert content[begin : begin + model.parameters_flat.nbytes] == model.parameters_flat.tobytes()
