"""The container of models and checkpoints: a safetensors file with a SHA-256 of all of it, read strictly.

It holds flat strings, the metadata, and arrays in an order that the writer chooses. What they mean is not known here.
docs/model-format.md specifies it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._atomic import naming, write_atomically
from normcore._text import printable

__all__ = ["Archive", "open_archive", "path_name", "read_archive", "read_extra", "unsigned_header", "write_archive"]

FORMAT_VERSION = "2"
_FORMAT = "normcore {}"
_OWN_KEYS = {"format", "format_version", "contract", "extra", "sha256"}

# What bounds the memory of reading a stranger's header, of which each byte may become 25 bytes of Python's objects.
_MAX_HEADER = (1 << 20) - 8  # bytes, so that the data begin at most 1 MiB into the file
_MAX_TENSORS = 4096
_MAX_METADATA = 256  # entries
_MAX_NESTED = 10_000  # lists and objects in `extra`
_ALIGNMENT = 64  # of the first byte of the data in the file
_PIECE = 1 << 18  # bytes read and hashed at a time: they stay in the cache

_DTYPES = {
    "F16": "float16", "F32": "float32", "F64": "float64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
}  # fmt: skip
_CODES = {name: code for code, name in _DTYPES.items()}
_NAME = rb"[A-Za-z0-9_.]{1,64}"  # of an array, and key of the metadata
_NO_DIGEST = "0" * 64

Tensors = Mapping[str, npt.NDArray[Any]]
Spec = tuple[str, tuple[int, ...]]  # dtype and shape of a tensor


def path_name(path: str | bytes | os.PathLike[Any], operation: str) -> str:
    """Return the name of a file, or raise a TypeError which names the operation."""
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(
            f"{operation}: path is a {type(path).__name__}; it must be a str or an os.PathLike object"
        ) from None


def _bytes(spec: Spec) -> int:
    return math.prod(spec[1]) * np.dtype(spec[0]).itemsize


def _flat(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


# ---------------------------------------------------------------------- writing


def _header(metadata: Mapping[str, str], specs: Mapping[str, Spec]) -> bytes:
    """The one header of that content: keys in order, no blanks but at the end, which is where the data are aligned."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, spec in specs.items():
        begin, end = end, end + _bytes(spec)
        entries[name] = {"data_offsets": [begin, end], "dtype": _CODES[spec[0]], "shape": spec[1]}
    header = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode("ascii")
    return header + b" " * (-(8 + len(header)) % _ALIGNMENT)


def _nested(text: str) -> int:
    """The number of lists and objects in a JSON text, or more where brackets stand in strings."""
    return text.count("[") + text.count("{")


def _extra_text(extra: Mapping[str, Any] | None, operation: str) -> str:
    """`extra` as it stands in a file."""
    if not isinstance(extra, Mapping | None):
        raise TypeError(f"{operation}: extra is a {type(extra).__name__}; it must be a mapping")
    try:
        text = json.dumps(dict(extra or {}), sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{operation}: extra cannot be written as JSON: {error}") from None
    if _nested(text) > _MAX_NESTED:
        raise ValueError(f"{operation}: extra has more than {_MAX_NESTED} lists, objects and brackets in its JSON")
    return text.replace("\x7f", "\\u007f")  # the one control character that json.dumps lets through


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    metadata: Mapping[str, str],
    tensors: Tensors,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays, in their order, and strings to the safetensors file `path`, atomically; see `read_archive`.

    Keys of metadata and names of arrays are 1 to 64 of the characters ``A-Z a-z 0-9 _ .``, metadata are printable
    ASCII, and `extra` is anything fit for JSON.

    Raises TypeError if `extra` cannot be written as JSON, ValueError if there is too much of anything (all of the
    header may have 1 MiB, `extra` 10 000 lists and objects, a file 4096 arrays), and OSError, naming the file, if it
    cannot be written; see `normcore._atomic.write_atomically` for what is left then.
    """
    name = path_name(path, f"save_{kind}")
    arrays = {
        # Not ascontiguousarray, which gives a scalar an axis.
        name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        for name, array in tensors.items()
    }
    header = unsigned_header(kind, metadata, arrays, extra)
    data = [_flat(array) for array in arrays.values()]
    digest = hashlib.sha256(header)
    for piece in data:
        digest.update(piece)
    place = f'"sha256":"{_NO_DIGEST}"'.encode()  # in a string the quotation marks would be escaped
    header = header.replace(place, f'"sha256":"{digest.hexdigest()}"'.encode())
    write_atomically(name, [header, *data])


def unsigned_header(
    kind: str, metadata: Mapping[str, str], tensors: Tensors, extra: Mapping[str, Any] | None = None
) -> bytes:
    """What a file of `write_archive` begins with, its length included, zeros for the digest.

    Raises TypeError and ValueError as `write_archive`.
    """
    operation = f"save_{kind}"
    whole = {
        **metadata,
        "contract": _core.CONTRACT,
        "extra": _extra_text(extra, operation),
        "format": _FORMAT.format(kind),
        "format_version": FORMAT_VERSION,
        "sha256": _NO_DIGEST,
    }
    for entries, what, most in ((whole, "entries", _MAX_METADATA), (tensors, "arrays", _MAX_TENSORS)):
        if len(entries) > most:
            raise ValueError(f"{operation}: {len(entries)} {what}; a file holds at most {most}")
        for name in entries:
            if not re.fullmatch(_NAME, name.encode()):
                raise ValueError(f"{operation}: {name!r} cannot be the name of anything in a file")
    for name, text in whole.items():
        if not re.fullmatch("[ -~]*", text):
            raise ValueError(f"{operation}: {name} is not printable ASCII")
    header = _header(whole, {name: (array.dtype.name, array.shape) for name, array in tensors.items()})
    if len(header) > _MAX_HEADER:
        raise ValueError(
            f"{operation}: names, extra and all else that is no array take {len(header)} bytes of a file; accepted are "
            f"{_MAX_HEADER}"
        )
    return struct.pack("<Q", len(header)) + header


# ---------------------------------------------------------------------- reading

_NUMBER = rb"(?:0|[1-9][0-9]{0,15})"
# Every string is ASCII with no escapes but of the quotation mark and of the escape itself. The possessive quantifiers
# make one that does not end cost no memory and linear time.
_PAIR = re.compile(rb'"(%b)":"((?:[^"\\\x00-\x1f\x7f-\xff]++|\\["\\])*+)"' % _NAME)
_TENSOR = re.compile(
    rb'"(%b)":\{"data_offsets":\[(%b),(%b)\],"dtype":"([A-Z0-9]{2,3})","shape":\[((?:%b(?:,%b){0,7})?)\]\}'
    % (_NAME, _NUMBER, _NUMBER, _NUMBER, _NUMBER)
)
_METADATA = b'"__metadata__":'
_VERSION = re.compile(rb'[{,]"format_version":"([^"\\]{0,20})"')


def _members(header: bytes, position: int, member: Callable[[int], tuple[bytes, int]]) -> int:
    """Read an object from its opening brace on, whose keys are in order, and return where it ends.

    `member` reads the one that begins at a position, and returns its key and where it ends.
    """
    if header[position : position + 1] != b"{":
        raise ValueError(f"no object at its byte {position}")
    before = b""
    position += 1
    if header[position : position + 1] == b"}":
        return position + 1
    while True:
        key, end = member(position)
        if key <= before:
            raise ValueError(f"the order of the entry at its byte {position}")
        before, position = key, end + 1
        if header[end : end + 1] == b"}":
            return position
        if header[end : end + 1] != b",":
            raise ValueError(f"no end of an entry at its byte {end}")


def _parse_header(header: bytes) -> tuple[dict[str, str], dict[str, Spec], int]:
    """Metadata, tensors in the order of their data, and the place of the digest, of a header as `_header` writes it.

    In memory of little more than the header's size: json.loads would make 25 bytes of objects of a byte before one
    could look at them. ValueError for anything else than the one spelling of a content.
    """
    metadata: dict[str, str] = {}
    found: list[tuple[int, int, str, Spec]] = []
    place = 0

    def pair(position: int) -> tuple[bytes, int]:
        nonlocal place
        match = _PAIR.match(header, position)
        if match is None or len(metadata) == _MAX_METADATA:
            raise ValueError(f"the metadata at its byte {position}")
        key, text = match.groups()
        if key == b"sha256":
            place = match.start(2)
        metadata[key.decode("ascii")] = re.sub(rb"\\(.)", rb"\1", text).decode("ascii")
        return key, match.end()

    def entry(position: int) -> tuple[bytes, int]:
        if header.startswith(_METADATA, position):
            return b"__metadata__", _members(header, position + len(_METADATA), pair)
        match = _TENSOR.match(header, position)
        if match is None or len(found) == _MAX_TENSORS:
            raise ValueError(f"the entry at its byte {position}")
        name, begin, end, code, shape = match.groups()
        if code.decode("ascii") not in _DTYPES:
            raise ValueError(f"the dtype {code.decode('ascii')}")
        spec = (_DTYPES[code.decode("ascii")], tuple(int(size) for size in shape.split(b",") if size))
        found.append((int(begin), int(end), name.decode("ascii"), spec))
        return name, match.end()

    stop = _members(header, 0, entry)
    if header[stop:] != b" " * (-(8 + stop) % _ALIGNMENT):
        raise ValueError(f"what follows its byte {stop}")
    at = 0
    for begin, end, name, spec in sorted(found):
        if begin != at or end - begin != _bytes(spec):
            raise ValueError(f"the place of {name}")
        at = end
    return metadata, {name: spec for _, _, name, spec in sorted(found)}, place


class Archive:
    """A file open for reading, of which the header has been read and checked, and no tensor yet.

    Attributes
    ----------
    name : str
        Of the file, fit for a message.
    kind : str
        "model" or "checkpoint".
    contract : str
        The numeric contract of the writer.
    sha256 : str
        The digest that stands in the file.
    metadata : dict of str
        All but what is the same in every kind of file.
    specs : dict of (dtype, shape)
        Of the tensors, in the order of their data.
    """

    def __init__(self, file: io.RawIOBase, name: str, kind: str | None) -> None:
        self.name = name
        self._file: io.RawIOBase | io.BytesIO = file
        header = self._read_header()
        texts, self.specs, place = self._checked(header, kind)
        self.kind = texts["format"].removeprefix(_FORMAT.format(""))
        self.contract, self.sha256, self._extra = (texts[key] for key in ("contract", "sha256", "extra"))
        self.metadata = {key: text for key, text in texts.items() if key not in _OWN_KEYS}
        self._digest = hashlib.sha256(struct.pack("<Q", len(header)))
        for piece in (header[:place], _NO_DIGEST.encode(), header[place + 64 :]):
            self._digest.update(piece)
        size = sum(map(_bytes, self.specs.values()))
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            self._begin = 8 + len(header)
            if status.st_size != self._begin + size:
                raise ValueError(
                    f"{name}: truncated or damaged: it has {status.st_size} bytes; by its header there are "
                    f"{self._begin + size}"
                )
            return
        # A pipe: what it only claims to hold may not be allocated.
        self._begin = 0
        body = io.BytesIO()
        while piece := file.read(_PIECE):
            body.write(piece)
            if body.tell() > size:
                break
        if body.tell() != size:
            raise ValueError(f"{name}: truncated or damaged: by its header {size} bytes follow")
        self._file = body

    def _read_header(self) -> bytes:
        name = self.name
        prefix = bytearray(8)
        found = self._fill(memoryview(prefix))
        if found < 8:
            raise ValueError(f"{name}: truncated: {found} bytes are no safetensors file")
        (length,) = struct.unpack("<Q", prefix)
        if length > _MAX_HEADER:
            raise ValueError(
                f"{name}: not a safetensors file of normcore, or damaged: it claims a header of {length} bytes; "
                f"accepted are {_MAX_HEADER}"
            )
        header = bytearray(length)
        if self._fill(memoryview(header)) < length:
            raise ValueError(f"{name}: truncated in its header, or not a safetensors file")
        return bytes(header)

    def _checked(self, header: bytes, kind: str | None) -> tuple[dict[str, str], dict[str, Spec], int]:
        """The content of the header, of a file of this kind and version, and the place of the digest in it."""
        name, expected = self.name, _FORMAT.format("file" if kind is None else kind)
        if b'"format":"' + _FORMAT.format("").encode() not in header:
            if not (header.startswith(b"{") and header.rstrip().endswith(b"}")):
                raise ValueError(f"{name}: not a safetensors file, or damaged: its header is no JSON object")
            raise ValueError(f"{name}: not a {expected}: no normcore program wrote this safetensors file")
        # Before what follows, which is this version's.
        version = None if (match := _VERSION.search(header)) is None else match[1].decode("ascii", "replace")
        if version == "1":
            raise ValueError(
                f"{name}: written in format 1, which was never released and is not read any more: train or save it anew"
            )
        if version != FORMAT_VERSION:
            raise ValueError(f"{name}: format version {printable(repr(version))}; this normcore reads '2'")
        try:
            metadata, specs, place = _parse_header(header)
        except ValueError as error:
            raise ValueError(f"{name}: damaged: its header is not as normcore writes it ({error})") from None
        if missing := _OWN_KEYS - set(metadata):
            raise ValueError(f"{name}: damaged: no metadata entry {min(missing)}")
        if kind is not None and metadata["format"] != expected:
            raise ValueError(f"{name}: this is a {metadata['format']!r} file; expected is {expected!r}")
        if not re.fullmatch("[0-9a-f]{64}", metadata["sha256"]):
            raise ValueError(f"{name}: damaged: its SHA-256 is {metadata['sha256'][:80]!r}")
        if not re.fullmatch(r"NC[0-9]{1,9}", metadata["contract"]):
            raise ValueError(f"{name}: damaged: its numeric contract is {metadata['contract'][:80]!r}")
        return metadata, specs, place

    def _fill(self, view: memoryview) -> int:
        """Read until `view` is full or the file ends, and return the number of bytes."""
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        return done

    def extra(self) -> dict[str, Any]:
        """What the writer's caller wanted to keep; ValueError if it is no JSON object."""
        try:
            value = json.loads(self._extra) if _nested(self._extra) <= _MAX_NESTED else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ValueError(
                f"{self.name}: its extra is no JSON object, or has more than {_MAX_NESTED} lists and objects"
            )
        return value

    def read(self, arrays: Tensors) -> None:
        """Fill the arrays, contiguous ones of the file's dtypes and shapes, and verify all of the file.

        A tensor without an array is verified too. ValueError if anything in the file is not as it was written: then
        the arrays hold anything.
        """
        digest = self._digest.copy()
        scratch = memoryview(bytearray(_PIECE))
        self._file.seek(self._begin)
        for name, spec in self.specs.items():
            array, stop = arrays.get(name), _bytes(spec)
            whole = None if array is None else _flat(array)
            for position in range(0, stop, _PIECE):
                size = min(_PIECE, stop - position)
                piece = scratch[:size] if whole is None else whole[position : position + size]
                if self._fill(piece) < size:
                    raise ValueError(f"{self.name}: truncated while it was read")
                digest.update(piece)
            if array is not None and sys.byteorder == "big":
                array.byteswap(inplace=True)
        if digest.hexdigest() != self.sha256:
            raise ValueError(f"{self.name}: damaged: the SHA-256 of its content is not the one it was written with")

    @contextlib.contextmanager
    def damage_first(self) -> Iterator[None]:
        """Say of a file that was changed that it is damaged, rather than what that does to its meaning."""
        try:
            yield
        except ValueError:
            self.read({})
            raise


@contextlib.contextmanager
def open_archive(path: str | os.PathLike[str], kind: str | None) -> Iterator[Archive]:
    """Open a file of `write_archive`, of one kind or of any; raises as `read_archive`."""
    name = path_name(path, f"load_{kind or 'file'}")
    with naming(name), open(name, "rb", buffering=0) as file:
        yield Archive(file, printable(name), kind)


def read_archive(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, str], dict[str, npt.NDArray[Any]], dict[str, Any], str]:
    """Read and verify what `write_archive` wrote: (metadata, tensors, extra, numeric contract of the writer).

    Raises OSError if the file cannot be read, and ValueError, naming the file, if it is truncated or damaged in any
    bit, is some other safetensors file, or is of another kind or version. Whatever the file is, memory is taken for its
    tensors and little more than another 1 MiB, and nothing for what it only claims to hold.
    """
    with open_archive(path, kind) as archive:
        with archive.damage_first():
            extra = archive.extra()
        try:
            tensors = {name: np.empty(shape, dtype) for name, (dtype, shape) in archive.specs.items()}
        except ValueError:  # no element, and more of them than can be counted
            raise ValueError(f"{archive.name}: damaged: it claims a tensor larger than any memory") from None
        archive.read(tensors)
    return archive.metadata, tensors, extra, archive.contract


def read_extra(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """`extra` of a file, to see whether it is the one wanted; nothing is verified before the file is read as a whole.

    Raises as `read_archive`.
    """
    with open_archive(path, kind) as archive:
        return archive.extra()
