"""Model and checkpoint files: safetensors with a SHA-256 of everything in them, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from normcore import _core
from normcore.mlp import MLP

__all__ = ["load_model", "read_archive", "save_model", "write_archive"]

FORMAT_VERSION = "1"
_FORMAT = "normcore {}"
_MODEL = "model"
_MAX_HEADER = 100_000_000  # the limit of the safetensors format
_KEYS = {"format", "format_version", "contract", "config", "extra", "sha256"}

Tensors = Mapping[str, npt.NDArray[Any]]


def _digest(metadata: Mapping[str, str], tensors: Tensors) -> str:
    """SHA-256 over metadata (but for the digest itself), names, dtypes, shapes and bytes, in an order of our own.

    It does not cover the safetensors header as such, whose layout may differ between versions of that library.
    """
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    head = [
        sorted((key, value) for key, value in metadata.items() if key != "sha256"),
        [(name, array.dtype.name, array.shape) for name, array in arrays.items()],
    ]
    digest = hashlib.sha256(json.dumps(head, separators=(",", ":")).encode())
    for array in arrays.values():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def path_name(path: str | bytes | os.PathLike[Any], operation: str) -> str:
    """Return the name of a file, or raise a TypeError which names the operation."""
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(
            f"{operation}: path is a {type(path).__name__}; it must be a str or an os.PathLike object"
        ) from None


def _dumps(value: Any, name: str, operation: str) -> str:
    # Pure ASCII without control characters: the header then holds no escape that two spellings could stand for.
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{operation}: {name} cannot be written as JSON: {error}") from None


# ---------------------------------------------------------------------- writing


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name into an OSError that came from a descriptor, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror or os.strerror(error.errno), str(path)) from error


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # there is no descriptor of a folder, and renames are journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems cannot sync a folder. The file itself is complete.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file `path` by `data`, such that at any moment it is either the old file or the whole new one.

    A temporary in the same folder is written, flushed, synced and renamed, then the folder is synced. On failure the
    temporary is removed and the old file is untouched. A symbolic link is followed; the mode of an old file is kept.
    `OSError` for a path that is there and no regular file: a rename would put a file in a device's place.
    """
    target = Path(os.path.realpath(os.fspath(path)))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(target))
    temporary = target.parent / f".normcore-{secrets.token_hex(8)}.tmp"
    with _naming(target):
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            descriptor = os.open(temporary, flags, 0o666)
        except OSError as error:
            # The user knows the file, not the temporary.
            raise OSError(error.errno, error.strerror, str(target)) from None
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):
                os.chmod(temporary, target.stat().st_mode & 0o7777)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)


def _serialize(arrays: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> bytes:
    """Safetensors bytes with the header's keys in order: that library writes the metadata in a random one."""
    data = safetensors.numpy.save(arrays, metadata)
    (length,) = struct.unpack_from("<Q", data)
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((struct.pack("<Q", len(header)), header, memoryview(data)[8 + length :]))


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    config: Mapping[str, Any],
    tensors: Tensors,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays and two JSON objects to the safetensors file `path`, atomically; see `read_archive`.

    Raises TypeError if `config` or `extra` cannot be written as JSON, and OSError, naming the file, if it cannot be
    written; then an older file of that name is still there.
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
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    metadata["sha256"] = _digest(metadata, arrays)
    write_atomically(name, _serialize(arrays, metadata))


# ---------------------------------------------------------------------- reading


def _read_header(file: Any, name: str) -> tuple[bytes, dict[str, str]]:
    """Return the raw header with its length and the metadata in it, before anything large is read."""
    prefix = file.read(8)
    if len(prefix) < 8:
        raise ValueError(f"{name}: truncated: {len(prefix)} bytes are no safetensors file")
    (length,) = struct.unpack("<Q", prefix)
    if length > _MAX_HEADER:
        raise ValueError(f"{name}: not a safetensors file: it claims a header of {length} bytes")
    header = file.read(length)
    if len(header) < length:
        raise ValueError(f"{name}: truncated in its header, or not a safetensors file")
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: not a safetensors file, or damaged: its header is no JSON") from None
    metadata = parsed.get("__metadata__") if isinstance(parsed, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        metadata = {}
    return prefix + header, metadata


def _json_object(text: str, key: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name}: its {key} is no JSON object")
    return value


def read_archive(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]], dict[str, Any], str]:
    """Read and verify what `write_archive` wrote: (config, tensors, extra, numeric contract of the writer).

    Raises OSError if the file cannot be read, and ValueError, naming the file, if it is truncated or damaged in any
    bit of its content, is some other safetensors file, or is of another kind or version.
    """
    name = path_name(path, f"load_{kind}")
    expected = _FORMAT.format(kind)
    with _naming(Path(name)), open(name, "rb") as file:
        head, metadata = _read_header(file, name)
        if not metadata.get("format", "").startswith(_FORMAT.format("")):
            raise ValueError(f"{name}: not a {expected}: no normcore program wrote this safetensors file")
        body = file.read()
    if metadata["format"] != expected:
        raise ValueError(f"{name}: this is a {metadata['format']!r} file; expected is {expected!r}")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{name}: format version {metadata.get('format_version')!r}; this normcore reads {FORMAT_VERSION!r}"
        )
    if set(metadata) != _KEYS:
        difference = ", ".join(sorted(set(metadata) ^ _KEYS))
        raise ValueError(f"{name}: damaged: metadata entries missing or unknown: {difference}")
    try:
        tensors = safetensors.numpy.load(head + body)
    except Exception as error:  # the parser meets arbitrary bytes here and documents no exceptions
        raise ValueError(f"{name}: truncated or damaged: {error}") from None
    if _digest(metadata, tensors) != metadata["sha256"]:
        raise ValueError(f"{name}: damaged: the SHA-256 of its content is not the one it was written with")
    config = _json_object(metadata["config"], "config", name)
    extra = _json_object(metadata["extra"], "extra", name)
    return config, tensors, extra, metadata["contract"]


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


def model_from_tensors(config: Mapping[str, Any], tensors: Tensors, name: str) -> MLP:
    """Return the model of that configuration with those parameters; ValueError naming the file if they do not fit."""
    try:
        # Shapes first: sizes that belong to no array in the file must not allocate anything.
        shapes = _expected_shapes(config)
        if set(shapes) != set(tensors):
            raise ValueError(f"arrays missing or unknown: {', '.join(sorted(set(shapes) ^ set(tensors)))}")
        for key, shape in shapes.items():
            if tensors[key].shape != shape or tensors[key].dtype.name != config["dtype"]:
                found = f"{tensors[key].dtype.name} {tensors[key].shape}"
                raise ValueError(f"{key} is {found}; its configuration says {config['dtype']} {shape}")
        model = MLP.from_config(config)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{name}: no sound model: {detail}") from None
    for key, array in model_tensors(model).items():
        array[...] = tensors[key]
    return model


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
    OSError
        The file cannot be written; then no part of it is left, and an older one is untouched.
    """
    if not isinstance(model, MLP):
        raise TypeError(f"save_model: model is a {type(model).__name__}; it must be an MLP")
    write_archive(path, _MODEL, model.config(), model_tensors(model), extra)


def load_model(path: str | os.PathLike[str]) -> tuple[MLP, dict[str, Any]]:
    """Read a file of `save_model`: (model, extra).

    Raises OSError if it cannot be read, and ValueError, naming the file and what is wrong, if it is truncated, damaged
    in any bit of its content, no normcore model, or of an unknown version. Nothing in a file is ever executed.
    """
    config, tensors, extra, _ = read_archive(path, _MODEL)
    return model_from_tensors(config, tensors, path_name(path, "load_model")), extra
