"""What the checker and the process that runs somebody's code say to each other.

A message is a length, a JSON text and the bytes of its arrays. Unlike pickles such messages hold nothing but data: what
comes out of the process cannot run anything here.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any, NamedTuple

import numpy as np

__all__ = ["LARGEST", "Opaque", "Reference", "WireError", "receive", "send"]

LARGEST = 1 << 20  # elements of an array; more are told by their shape alone
_DEEPEST = 8
_LENGTHS = struct.Struct("<QQ")


class WireError(Exception):
    """The other side has ended, or has sent what is not a message."""


class Opaque(NamedTuple):
    """A value that is not sent, such as a cache: only what kind of thing it is."""

    kind: str


class Reference(NamedTuple):
    """An output of an earlier call: where it returns a tuple, that of this index."""

    call: int
    output: int


def send(stream: IO[bytes], message: Any) -> None:
    """Write a message: None, bools, numbers, texts, arrays, and tuples, lists and dicts of them."""
    arrays: list[bytes] = []
    text = json.dumps(_encode(message, arrays, 0)).encode()
    stream.write(_LENGTHS.pack(len(text), sum(map(len, arrays))) + text + b"".join(arrays))
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read a message; tuples and lists come as lists."""
    text_length, data_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if text_length > 1 << 28 or data_length > 1 << 30:
        raise WireError("a message of impossible length")
    text, data = _exactly(stream, text_length), _exactly(stream, data_length)
    try:
        return _decode(json.loads(text), data)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise WireError(f"not a message: {error}") from None


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if data is None or len(data) < count:
        raise WireError("the other side has ended")
    return data


def _encode(value: Any, arrays: list[bytes], depth: int) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Opaque):
        return {"opaque": value.kind}
    if isinstance(value, Reference):
        return {"reference": list(value)}
    if type(value) in (int, float):
        return value if type(value) is float or abs(value) < 1 << 63 else {"opaque": "int"}
    if isinstance(value, (np.ndarray, np.generic)) and depth <= _DEEPEST:
        return _encode_array(np.asarray(value), arrays)
    if isinstance(value, (tuple, list)) and len(value) <= 1000 and depth < _DEEPEST:
        return [_encode(entry, arrays, depth + 1) for entry in value]
    if isinstance(value, dict) and len(value) <= 1000 and depth < _DEEPEST:
        return {"dict": [[str(key), _encode(entry, arrays, depth + 1)] for key, entry in value.items()]}
    return {"opaque": type(value).__name__}


def _encode_array(array: np.ndarray[Any, Any], arrays: list[bytes]) -> Any:
    if array.dtype.kind not in "biuf" or array.size > LARGEST:
        return {"opaque": f"array of {array.dtype} and shape {array.shape}"}
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).reshape(array.shape)
    offset = sum(map(len, arrays))
    arrays.append(array.tobytes())
    return {"array": [array.dtype.str, list(array.shape), offset]}


def _decode(value: Any, data: bytes) -> Any:
    if isinstance(value, list):
        return [_decode(entry, data) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, what),) = value.items()
    if kind == "dict":
        return {key: _decode(entry, data) for key, entry in what}
    if kind == "array":
        dtype, shape, offset = np.dtype(what[0]), tuple(map(int, what[1])), int(what[2])
        if dtype.kind not in "biuf":
            raise ValueError(f"an array of {dtype}")
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(data, dtype, count, offset).reshape(shape).astype(dtype.newbyteorder("="))
    if kind == "opaque":
        return Opaque(str(what))
    if kind == "reference":
        return Reference(*map(int, what))
    raise ValueError(f"unknown kind {kind!r}")
