"""Files written by hand after docs/model-format.md: whatever is in them, their SHA-256 fits unless it is given."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from normcore import MLP

Arrays = Mapping[str, np.ndarray[Any, Any]]
CODES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
}  # fmt: skip
DIGITS = "0" * 64


def header(metadata: Mapping[str, str], arrays: Arrays) -> bytes:
    """The header, length included, of arrays one after the other."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        entries[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    while (8 + len(text)) % 64:
        text += b" "
    return struct.pack("<Q", len(text)) + text


def archive(metadata: Mapping[str, str], arrays: Arrays) -> bytes:
    """A file with that metadata, signed unless there is a ``sha256`` in it."""
    data = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays.values())
    if "sha256" not in metadata:
        unsigned = header({**metadata, "sha256": DIGITS}, arrays) + data
        metadata = {**metadata, "sha256": hashlib.sha256(unsigned).hexdigest()}
    return header(metadata, arrays) + data


def arrays_of(model: MLP) -> dict[str, Any]:
    """The arrays of a model's file."""
    arrays: dict[str, Any] = {**model.parameters(), **model.buffers()}
    if model.feature_mean is not None:
        arrays |= {"feature_mean": model.feature_mean, "feature_scale": model.feature_scale}
    return arrays


def metadata_of(model: MLP) -> dict[str, str]:
    """The metadata of a model's file, but for the digest."""

    def number(value: float | None) -> str:
        return "none" if value is None else value.hex()

    def names(value: list[str] | None) -> str:
        if value is None:
            return "none"
        text = json.dumps(value, separators=(",", ":"))
        return text.replace("\\n", "\\u000a").replace("\x7f", "\\u007f")

    config = model.config()
    loss = {f"loss.{key}": value.hex() for key, value in config["loss"].items() if key != "name"}
    return {
        "format": "normcore model",
        "format_version": "2",
        "contract": "NC1",
        "sizes": ",".join(map(str, config["sizes"])),
        "norm": config["norm"] or "none",
        "activation": config["activation"],
        "dtype": config["dtype"],
        "loss": config["loss"]["name"],
        **loss,
        **{key: number(config[key]) for key in ("dropout", "eps", "momentum", "weight_scale")},
        "unbiased_running_var": str(config["unbiased_running_var"]).lower(),
        "feature_names": names(config["feature_names"]),
        "class_names": names(config["class_names"]),
        "extra": "{}",
    }
