"""Model and checkpoint files: safetensors with a SHA-256 of everything in them, written whole or not at all."""

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
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._atomic import naming, write_atomically
from normcore._text import printable
from normcore.mlp import MLP

__all__ = ["load_model", "read_archive", "save_model", "write_archive"]

FORMAT_VERSION = "1"
_FORMAT = "normcore {}"
_MODEL = "model"
_KEYS = {"format", "format_version", "contract", "config", "extra", "sha256"}

# What bounds the memory of reading a stranger's header, of which each byte may become 25 bytes of Python's objects.
_MAX_HEADER = 1 << 20
_MAX_TENSORS = 4096
_MAX_NESTED = 10_000  # lists and objects in `config` and in `extra`
_PIECE = 1 << 18  # bytes read and hashed at a time: they stay in the cache

_DTYPES = {
    "F16": "float16", "F32": "float32", "F64": "float64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
}  # fmt: skip
_CODES = {name: code for code, name in _DTYPES.items()}

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


# ---------------------------------------------------------------------- the layout of a file


def _bytes(spec: Spec) -> int:
    return math.prod(spec[1]) * np.dtype(spec[0]).itemsize


def _layout(specs: Mapping[str, Spec]) -> dict[str, tuple[int, int]]:
    """Where each tensor begins and ends: the largest elements first, so that all are aligned, then by name."""
    offsets: dict[str, tuple[int, int]] = {}
    end = 0
    for name in sorted(specs, key=lambda name: (-np.dtype(specs[name][0]).itemsize, name)):
        offsets[name] = (end, end := end + _bytes(specs[name]))
    return offsets


def _header(metadata: Mapping[str, str], specs: Mapping[str, Spec]) -> bytes:
    """The one header of that content: keys in order, no blanks but at the end, which is at a multiple of 8 bytes."""
    entries: dict[str, Any] = {
        name: {"data_offsets": offsets, "dtype": _CODES[specs[name][0]], "shape": specs[name][1]}
        for name, offsets in _layout(specs).items()
    }
    entries["__metadata__"] = dict(metadata)
    header = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def _digest_head(metadata: Mapping[str, str], specs: Mapping[str, Spec]) -> bytes:
    """What the SHA-256 begins with: metadata (but for the digest itself), names, dtypes and shapes; then the bytes of
    the tensors follow in the order of their names."""
    head = [
        sorted((key, value) for key, value in metadata.items() if key != "sha256"),
        [(name, *specs[name]) for name in sorted(specs)],
    ]
    return json.dumps(head, separators=(",", ":")).encode()


def _flat(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


# ---------------------------------------------------------------------- writing


def _dumps(value: Any, name: str, operation: str) -> str:
    # Pure ASCII without control characters: the header then holds no escape that two spellings could stand for.
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{operation}: {name} cannot be written as JSON: {error}") from None
    if _nested(text) > _MAX_NESTED:
        raise ValueError(f"{operation}: {name} has more than {_MAX_NESTED} lists, objects and brackets in its JSON")
    return text


def _nested(text: str) -> int:
    """The number of lists and objects in a JSON text, or more where brackets stand in strings."""
    return text.count("[") + text.count("{")


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    config: Mapping[str, Any],
    tensors: Tensors,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays and two JSON objects to the safetensors file `path`, atomically; see `read_archive`.

    Raises TypeError if `config` or `extra` cannot be written as JSON, ValueError if they are too large (all of the
    header may have 1 MiB, each of the two 10 000 lists and objects), and OSError, naming the file, if it cannot be
    written; see `normcore._atomic.write_atomically` for what is left then.
    """
    operation = f"save_{kind}"
    name = path_name(path, operation)
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"{operation}: extra is a {type(extra).__name__}; it must be a mapping")
    metadata = {
        "format": _FORMAT.format(kind),
        "format_version": FORMAT_VERSION,
        "contract": _core.CONTRACT,
        "config": _dumps(dict(config), "config", operation),
        "extra": _dumps({} if extra is None else dict(extra), "extra", operation),
    }
    arrays = {
        # Not ascontiguousarray, which gives a scalar an axis.
        name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        for name, array in tensors.items()
    }
    write_atomically(name, _signed(metadata, arrays, operation))


def check_extra(extra: Mapping[str, Any]) -> None:
    """Raise what `write_archive` would because of such an `extra`, as far as can be said without the rest."""
    text = _dumps(dict(extra), "extra", "save_model")
    _check_header(len(json.dumps(text)), "save_model")


def _check_header(size: int, operation: str) -> None:
    if size > _MAX_HEADER:
        raise ValueError(
            f"{operation}: configuration and extra take {size} bytes of a file; accepted are {_MAX_HEADER}"
        )


def _signed(metadata: dict[str, str], arrays: Tensors, operation: str) -> list[bytes | memoryview]:
    """A file of that content, which is given its SHA-256, as pieces: the large ones are the arrays themselves."""
    specs = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    if len(specs) > _MAX_TENSORS:
        raise ValueError(f"{operation}: {len(specs)} arrays; a file holds at most {_MAX_TENSORS}")
    digest = hashlib.sha256(_digest_head(metadata, specs))
    for name in sorted(arrays):
        digest.update(_flat(arrays[name]))
    header = _header({**metadata, "sha256": digest.hexdigest()}, specs)
    _check_header(len(header), operation)
    return [struct.pack("<Q", len(header)), header, *(_flat(arrays[name]) for name in _layout(specs))]


# ---------------------------------------------------------------------- reading

# Every string is ASCII with no escapes but of the quote and of the escape itself. The possessive quantifiers make one
# that does not end cost no memory and linear time.
_STRING = rb'"((?:[^"\\\x00-\x1f\x7f-\xff]++|\\["\\])*+)"'
_PAIR = re.compile(_STRING + b":" + _STRING)
_METADATA = re.compile(rb'"__metadata__":\{')
_NUMBERS = rb"((?:[0-9]{1,16}(?:,[0-9]{1,16}){0,7})?)"
_TENSOR = re.compile(
    _STRING + rb':\{"data_offsets":\[' + _NUMBERS + rb'\],"dtype":"([A-Z0-9]+)","shape":\[' + _NUMBERS + rb"\]\}"
)


def _parse_header(header: bytes) -> tuple[dict[str, str], dict[str, Spec]]:
    """Metadata and tensors of a header as `_header` writes it, in memory of little more than its size.

    ValueError for anything else: json.loads would make 25 bytes of objects of a byte before one could look at them.
    """
    metadata: dict[str, str] = {}
    specs: dict[str, Spec] = {}

    def text(raw: bytes) -> str:
        return re.sub(rb"\\(.)", rb"\1", raw).decode("ascii")

    def members(position: int, member: Any) -> int:
        """Read what stands between braces, separated by commas, and return where it ends."""
        while header[position : position + 1] != b"}":
            position = member(position)
            if header[position : position + 1] == b",":
                position += 1
        return position + 1

    def pair(position: int) -> int:
        found = _PAIR.match(header, position)
        if found is None or len(metadata) > len(_KEYS):
            raise ValueError("its metadata")
        metadata[text(found[1])] = text(found[2])
        return found.end()

    def entry(position: int) -> int:
        if found := _METADATA.match(header, position):
            return members(found.end(), pair)
        found = _TENSOR.match(header, position)
        if found is None or found[3].decode() not in _DTYPES or len(specs) == _MAX_TENSORS:
            raise ValueError(f"its entry {len(specs) + 1}")
        shape = tuple(int(size) for size in found[4].split(b",") if size)
        specs[text(found[1])] = (_DTYPES[found[3].decode()], shape)
        return found.end()

    if header[:1] != b"{":
        raise ValueError("its beginning")
    members(1, entry)
    # Order, offsets, escapes, keys that stand twice: there is one header of a content.
    if _header(metadata, specs) != header:
        raise ValueError("its layout")
    return metadata, specs


def _json_object(text: str, key: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if _nested(text) <= _MAX_NESTED else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name}: its {key} is no JSON object, or has more than {_MAX_NESTED} lists and objects")
    return value


class _Archive:
    """A file open for reading, of which the header has been read and checked, and no tensor yet."""

    def __init__(self, file: io.RawIOBase, name: str, kind: str) -> None:
        self.name = name
        self._file: io.RawIOBase | io.BytesIO = file
        header = self._read_header(kind)
        metadata, self.specs = self._checked(header, kind)
        self._texts = metadata
        self.contract = metadata["contract"]
        self._offsets = _layout(self.specs)
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
        # A pipe, which is read in another order than it comes in.
        self._begin = 0
        body = io.BytesIO()
        while piece := file.read(_PIECE):
            body.write(piece)
            if body.tell() > size:
                break
        if body.tell() != size:
            raise ValueError(f"{name}: truncated or damaged: by its header {size} bytes follow")
        self._file = body

    def _read_header(self, kind: str) -> bytes:
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

    def _checked(self, header: bytes, kind: str) -> tuple[dict[str, str], dict[str, Spec]]:
        """The content of the header, of a file of this kind and version."""
        name, expected = self.name, _FORMAT.format(kind)
        if b'"format":"' + _FORMAT.format("").encode() not in header:
            if not (header.startswith(b"{") and header.rstrip().endswith(b"}")):
                raise ValueError(f"{name}: not a safetensors file, or damaged: its header is no JSON object")
            raise ValueError(f"{name}: not a {expected}: no normcore program wrote this safetensors file")
        try:
            metadata, specs = _parse_header(header)
        except ValueError as error:
            raise ValueError(f"{name}: damaged: its header is not as normcore writes it ({error})") from None
        form, version = metadata.get("format"), metadata.get("format_version")
        if form != expected:
            raise ValueError(f"{name}: this is a {form!r} file; expected is {expected!r}")
        if version != FORMAT_VERSION:
            raise ValueError(f"{name}: format version {version!r}; this normcore reads {FORMAT_VERSION!r}")
        if set(metadata) != _KEYS:
            difference = ", ".join(printable(key) for key in sorted(set(metadata) ^ _KEYS))
            raise ValueError(f"{name}: damaged: metadata entries missing or unknown: {difference}")
        if not re.fullmatch(r"NC[0-9]{1,9}", metadata["contract"]):
            raise ValueError(f"{name}: damaged: its numeric contract is {metadata['contract']!r}")
        return metadata, specs

    def _fill(self, view: memoryview) -> int:
        """Read until `view` is full or the file ends, and return the number of bytes."""
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        return done

    def objects(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`config` and `extra`."""
        config, extra = (_json_object(self._texts[key], key, self.name) for key in ("config", "extra"))
        return config, extra

    def read(self, arrays: Tensors) -> None:
        """Fill the arrays, contiguous ones of the file's dtypes and shapes, and verify all of the file.

        A tensor without an array is verified too. ValueError if anything in the file is not as it was written: then
        the arrays hold anything.
        """
        digest = hashlib.sha256(_digest_head(self._texts, self.specs))
        scratch = memoryview(bytearray(_PIECE))
        for name in sorted(self.specs):
            start, stop = self._offsets[name]
            array = arrays.get(name)
            whole = None if array is None else _flat(array)
            self._file.seek(self._begin + start)
            for position in range(0, stop - start, _PIECE):
                size = min(_PIECE, stop - start - position)
                piece = scratch[:size] if whole is None else whole[position : position + size]
                if self._fill(piece) < size:
                    raise ValueError(f"{self.name}: truncated while it was read")
                digest.update(piece)
            if array is not None and sys.byteorder == "big":
                array.byteswap(inplace=True)
        if digest.hexdigest() != self._texts["sha256"]:
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
def open_archive(path: str | os.PathLike[str], kind: str) -> Iterator[_Archive]:
    name = path_name(path, f"load_{kind}")
    with naming(name), open(name, "rb", buffering=0) as file:
        yield _Archive(file, printable(name), kind)


def read_archive(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]], dict[str, Any], str]:
    """Read and verify what `write_archive` wrote: (config, tensors, extra, numeric contract of the writer).

    Raises OSError if the file cannot be read, and ValueError, naming the file, if it is truncated or damaged in any
    bit of its content, is some other safetensors file, or is of another kind or version. Whatever the file is, memory
    is taken for its tensors and little more than another 1 MiB, and nothing for what it only claims to hold.
    """
    with open_archive(path, kind) as archive:
        with archive.damage_first():
            config, extra = archive.objects()
        try:
            tensors = {name: np.empty(shape, dtype) for name, (dtype, shape) in archive.specs.items()}
        except ValueError:  # no element, and more of them than can be counted
            raise ValueError(f"{archive.name}: damaged: it claims a tensor larger than any memory") from None
        archive.read(tensors)
    return config, tensors, extra, archive.contract


def archive_extra(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """`extra` of a file, to see whether it is the one wanted; nothing is verified before the file is read as a whole.

    Raises as `read_archive`.
    """
    with open_archive(path, kind) as archive:
        return archive.objects()[1]


# ---------------------------------------------------------------------- models


def model_tensors(model: MLP, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
    """Return parameters and running statistics under the names they have in a file."""
    return {prefix + name: array for name, array in {**model.parameters(), **model.buffers()}.items()}


def _expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    sizes, norm = config["sizes"], config["norm"]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(1, len(sizes)):
        shapes[f"w{layer}"] = (sizes[layer - 1], sizes[layer])
        vectors = ["b"]
        if layer < len(sizes) - 1 and norm is not None:
            vectors += ["gamma", "beta"]
            if norm == "batch":
                vectors += ["running_mean", "running_var"]
        for vector in vectors:
            shapes[f"{vector}{layer}"] = (sizes[layer],)
    return shapes


def new_model(config: Mapping[str, Any], specs: Mapping[str, Spec], name: str) -> MLP:
    """Return a model of that configuration; ValueError, naming the file, if its arrays are not those of `specs`."""
    try:
        # Shapes first: sizes that belong to no array in the file must not allocate anything.
        if len(config["sizes"]) - 1 > len(specs):
            missing = next(key for layer in range(1, len(specs) + 2) if (key := f"w{layer}") not in specs)
            raise ValueError(f"arrays missing or unknown: {missing}")
        shapes = _expected_shapes(config)
        if set(shapes) != set(specs):
            raise ValueError(f"arrays missing or unknown: {', '.join(sorted(set(shapes) ^ set(specs))[:8])}")
        for key, shape in shapes.items():
            if specs[key] != (config["dtype"], shape):
                found = "{} {}".format(*specs[key])
                raise ValueError(f"{key} is {found}; its configuration says {config['dtype']} {shape}")
        return MLP.from_config(config)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{name}: no sound model: {printable(detail[:500])}") from None


def check_statistics(model: MLP, flat: npt.NDArray[Any], name: str, group: str = "") -> None:
    """Refuse what no training gives: the root of a negative variance would be NaN, or, with eps, anything.

    `flat` is laid out as ``model.buffers_flat``. ValueError that names the file `name` and the entry of `group`.
    """
    start = 0
    for key, array in model.buffers().items():
        part = flat[start : start + array.size]
        start += array.size
        if key.startswith("running_var") and (part < 0.0).any():
            index = int(np.flatnonzero(part < 0.0)[0])
            raise ValueError(f"{name}: no sound model: {group}{key}[{index}] is {part[index]}, a negative variance")


def save_model(path: str | os.PathLike[str], model: MLP, extra: Mapping[str, Any] | None = None) -> None:
    """Write `model`, and what the caller wants to keep with it, to a safetensors file.

    Parameters
    ----------
    path : path of the file
        An older file of that name is replaced at the end, and not before the new one is safe on the disk.
    extra : mapping, optional
        Anything fit for JSON, for example class labels and feature scales; covered by the checksum too.

    Raises
    ------
    TypeError
        `extra` is no mapping or cannot be written as JSON.
    ValueError
        `extra` is too large: the header, which it is in, may have 1 MiB, and `extra` 10 000 lists and objects.
    OSError
        The file cannot be written; then no part of it is left, and an older one is untouched. Unless the message says
        that the new file is in place: then only its folder could not be synced, and a loss of power may undo the save.
    """
    if not isinstance(model, MLP):
        raise TypeError(f"save_model: model is a {type(model).__name__}; it must be an MLP")
    write_archive(path, _MODEL, model.config(), model_tensors(model), extra)


def load_model(path: str | os.PathLike[str]) -> tuple[MLP, dict[str, Any]]:
    """Read a file of `save_model`: (model, extra).

    Raises OSError if it cannot be read, and ValueError, naming the file and what is wrong, if it is truncated, damaged
    in any bit of its content, no normcore model, of an unknown version, or holds a negative running variance. Nothing
    in a file is ever executed. Tensors are read into the model's own arrays: beside those, whatever the file is, a
    load takes about 1 MiB of memory, and what the Python objects of `extra` take, whose text has 1 MiB at most.
    """
    with open_archive(path, _MODEL) as archive:
        with archive.damage_first():
            config, extra = archive.objects()
            model = new_model(config, archive.specs, archive.name)
        archive.read(model_tensors(model))
        check_statistics(model, model.buffers_flat, archive.name)
    return model, extra
