"""docs/model-format.md and its test vector: what is written there is what is written, read and computed.

The vector is read here after the document alone, without the package.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from normcore import MLP
from normcore.mlp import load_model, save_model

DOCUMENT = Path(__file__).parents[2] / "docs" / "model-format.md"

pytestmark = pytest.mark.skipif(not DOCUMENT.exists(), reason="the tests without the documents")


def blocks() -> dict[str, str]:
    """The text of the vector's four parts by the word that their fences have."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def vector() -> bytes:
    """The file in the document: the lines of its header joined, blanks up to a multiple of 64, the data."""
    parts = blocks()
    header = parts["header"].replace("\n", "").encode("ascii")
    header += b" " * (-(8 + len(header)) % 64)
    return struct.pack("<Q", len(header)) + header + bytes.fromhex(parts["data"])


def numbers(text: str) -> np.ndarray:
    return np.array([[float.fromhex(word) for word in line.split()] for line in text.splitlines()])


def described() -> MLP:
    """The model in the document."""
    model = MLP(
        [2, 3, 2],
        norm="batch",
        dropout=0.25,
        feature_names=["mass", 'naïve "\\\U0001f600'],
        class_names=["no", "yes"],
        feature_mean=[10.0, -0.1],
        feature_scale=[4.0, 0.3],
    )
    model.parameters_flat[...] = (np.arange(23) * 5 % 17 - 8) / 8
    model.buffers_flat[...] = (np.arange(6) + 1) / 8
    return model


def test_the_vector_is_what_is_written(tmp_path: Path) -> None:
    save_model(tmp_path / "m", described(), {"note": "a test"})
    assert (tmp_path / "m").read_bytes() == vector()
    (tmp_path / "v").write_bytes(vector())
    model, extra = load_model(tmp_path / "v")
    assert model.config() == described().config()
    assert extra == {"note": "a test"}


def test_the_vector_by_the_rules_of_the_document() -> None:
    content, parts = vector(), blocks()
    (length,) = struct.unpack_from("<Q", content)
    header, data = content[8 : 8 + length], content[8 + length :]
    assert (8 + length) % 64 == 0
    entries = json.loads(header)
    metadata = entries.pop("__metadata__")
    assert hashlib.sha256(content.replace(metadata["sha256"].encode(), b"0" * 64)).hexdigest() == metadata["sha256"]
    assert parts["sha256"].strip() == hashlib.sha256(content).hexdigest()
    names = json.loads(metadata["feature_names"])
    assert names == list(described().feature_names or ())

    arrays = {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        dtype = {"F32": "<f4", "F64": "<f8"}[entry["dtype"]]
        arrays[name] = np.frombuffer(data[begin:end], dtype).reshape(entry["shape"])
    order = sorted(entries, key=lambda name: entries[name]["data_offsets"])
    assert order == [
        "w1", "b1", "gamma1", "beta1", "w2", "b2", "running_mean1", "running_var1", "feature_mean", "feature_scale",
    ]  # fmt: skip

    # What it computes, in float64, to the rounding of float32.
    a = {name: array.astype(np.float64) for name, array in arrays.items()}
    x = (numbers(parts["rows"]) - a["feature_mean"]) / a["feature_scale"]
    h = x @ a["w1"] + a["b1"]
    h = (h - a["running_mean1"]) / np.sqrt(a["running_var1"] + float.fromhex(metadata["eps"]))
    h = np.maximum(h * a["gamma1"] + a["beta1"], 0.0)
    y = h @ a["w2"] + a["b2"]
    np.testing.assert_allclose(numbers(parts["outputs"]), y, rtol=1e-5, atol=1e-6)


def test_the_outputs_of_the_vector(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(vector())
    parts = blocks()
    outputs = MLP.load(tmp_path / "v").forward(numbers(parts["rows"]))
    assert outputs.tobytes() == numbers(parts["outputs"]).astype(np.float32).tobytes()


def test_every_entry_is_in_the_document(tmp_path: Path) -> None:
    """And every one of those in its tables is in the file, or is a loss's."""
    text = DOCUMENT.read_text("utf-8")
    table = text[text.index("## A model") : text.index("**Arrays**")]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)}
    metadata = json.loads(vector()[8 : 8 + struct.unpack_from("<Q", vector())[0]])["__metadata__"]
    assert listed == {*metadata, "loss.delta", "loss.tau"}


if __name__ == "__main__":  # prints the vector for the document
    import sys
    import tempfile
    import textwrap

    rows = np.array([[10.0, 0.2], [2.5, -0.7], [1e3, 1.0 / 3.0]])
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "m", described(), {"note": "a test"})
        raw = (Path(folder) / "m").read_bytes()
    begin = 8 + struct.unpack_from("<Q", raw)[0]
    shown = re.sub(
        r'(?<=[",}]),(?!"shape")(?="[a-z0-9_]+":)|(?<=\{)(?="class)',
        lambda found: found[0] + "\n",
        raw[8:begin].decode(),
    )
    data = "\n".join(textwrap.wrap(raw[begin:].hex(), 112))
    for name, part in (
        ("header", shown.rstrip()),
        ("data", data),
        ("sha256", hashlib.sha256(raw).hexdigest()),
        ("rows", "\n".join(" ".join(value.hex() for value in row) for row in rows.tolist())),
        ("outputs", "\n".join(" ".join(value.hex() for value in row) for row in described().forward(rows).tolist())),
    ):
        sys.stdout.write(f"```{name}\n{part}\n```\n\n")
