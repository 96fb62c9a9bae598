"""Model files signed by hand: whatever is in them, their SHA-256 fits."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from normcore import MLP
from normcore import serialization as files

Arrays = Mapping[str, np.ndarray[Any, Any]]


def digest(metadata: Mapping[str, str], arrays: Arrays) -> str:
    """The SHA-256 as the format has it, written down a second time."""
    head = [
        sorted((key, value) for key, value in metadata.items() if key != "sha256"),
        [(name, arrays[name].dtype.name, arrays[name].shape) for name in sorted(arrays)],
    ]
    content = b"".join(_little(arrays[name]) for name in sorted(arrays))
    return hashlib.sha256(json.dumps(head, separators=(",", ":")).encode() + content).hexdigest()


def _little(array: np.ndarray[Any, Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def archive(metadata: Mapping[str, str], arrays: Arrays) -> bytes:
    """A file with that metadata, signed unless there is a ``sha256`` in it."""
    signed = {"sha256": digest(metadata, arrays), **metadata}
    specs = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    header = files._header(signed, specs)
    content = b"".join(
        arrays[name].astype(arrays[name].dtype.newbyteorder("<")).tobytes() for name in files._layout(specs)
    )
    return struct.pack("<Q", len(header)) + header + content


def metadata_of(model: MLP) -> dict[str, str]:
    return {
        "format": "normcore model",
        "format_version": "1",
        "contract": "NC1",
        "config": json.dumps(model.config()),
        "extra": "{}",
    }
