"""CIFAR-10 from a folder, under the names of ``cs231n.data_utils``.

Of CIFAR-10's Python version (pickles) as well as of its binary version, with any number of images a file. Nothing is
downloaded, and pickles may hold arrays, numbers and text only: another one is refused before it does anything.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from normcore._checks import check_integer
from normcore.cs231n._arrays import Array

__all__ = ["get_CIFAR10_data", "load_CIFAR10", "load_CIFAR_batch"]

_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_PIXELS = 3 * 32 * 32
_CLASSES = 10

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]  # (N, 3072), each image red, green, blue; and (N,)


def get_CIFAR10_data(  # noqa: N802
    num_training: int = 49000, num_validation: int = 1000, num_test: int = 1000, subtract_mean: bool = True
) -> dict[str, Array]:
    """Images to train, validate and test with, as the notebooks use them.

    The folder is ``cs231n/datasets/cifar-10-batches-py`` below the current folder, or ``datasets/...`` in the folder of
    the package ``cs231n`` that is imported; ``cifar-10-batches-bin``, the binary version, serves as well.

    Parameters
    ----------
    num_training, num_validation : int
        The first images of the training set, and those that follow.
    num_test : int
        The first images of the test set.
    subtract_mean : bool
        Subtract the mean of the images to train with from all of them.

    Returns
    -------
    data : dict
        ``X_train``, ``X_val``, ``X_test``: float64 (N, 3, 32, 32), pixels of 0 to 255, less the mean; ``y_train``,
        ``y_val``, ``y_test``: labels (N,).

    Raises
    ------
    FileNotFoundError
        There is no such folder; the message says where it may be.
    ValueError
        There are fewer images than asked for, or a file holds something else.

    Examples
    --------
    >>> from normcore.cs231n.data_utils import get_CIFAR10_data
    >>> get_CIFAR10_data()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: get_CIFAR10_data: CIFAR-10 is in none of cs231n/datasets/cifar-10-batches-py, ...
    """
    name = "get_CIFAR10_data"
    sizes = [
        check_integer(size, name, argument, 0)
        for argument, size in (
            ("num_training", num_training),
            ("num_validation", num_validation),
            ("num_test", num_test),
        )
    ]
    places = [base / folder for base in _bases() for folder in _FOLDERS]
    found = [place for place in places if place.is_dir()]
    if not found:
        raise FileNotFoundError(
            f"{name}: CIFAR-10 is in none of {', '.join(map(str, places))}; "
            "put the unpacked folder there (https://www.cs.toronto.edu/~kriz/cifar.html), or a link to it"
        )
    (train, train_labels), (test, test_labels) = _load(found[0], name)
    wanted = sizes[0] + sizes[1]
    if len(train) < wanted or len(test) < sizes[2]:
        raise ValueError(
            f"{name}: {found[0]} has {len(train)} images to train and {len(test)} to test with; num_training + "
            f"num_validation is {wanted} and num_test is {sizes[2]}"
        )
    parts = {
        "train": (train[: sizes[0]], train_labels[: sizes[0]]),
        "val": (train[sizes[0] : wanted], train_labels[sizes[0] : wanted]),
        "test": (test[: sizes[2]], test_labels[: sizes[2]]),
    }
    data: dict[str, Array] = {}
    for part, (pixels, labels) in parts.items():
        data[f"X_{part}"] = pixels.reshape(-1, 3, 32, 32).astype(np.float64)
        data[f"y_{part}"] = labels
    if subtract_mean and sizes[0]:
        # An integer sum and one division, so that the mean has the same bits on every machine.
        mean = (parts["train"][0].sum(axis=0, dtype=np.int64) / sizes[0]).reshape(3, 32, 32)
        for part in parts:
            data[f"X_{part}"] -= mean
    return data


def load_CIFAR10(ROOT: str | os.PathLike[str]) -> tuple[Array, Array, Array, Array]:  # noqa: N802
    """All images of a folder: ``X_train`` (N, 32, 32, 3) float64, ``y_train`` (N,), ``X_test``, ``y_test``.

    Examples
    --------
    >>> from normcore.cs231n.data_utils import load_CIFAR10
    >>> load_CIFAR10("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: load_CIFAR10: nowhere: no such folder
    """
    folder = Path(ROOT)
    if not folder.is_dir():
        raise FileNotFoundError(f"load_CIFAR10: {folder}: no such folder")
    (train, train_labels), (test, test_labels) = _load(folder, "load_CIFAR10")
    return _channels_last(train), train_labels, _channels_last(test), test_labels


def load_CIFAR_batch(filename: str | os.PathLike[str]) -> tuple[Array, Array]:  # noqa: N802
    """The images of one file: X (N, 32, 32, 3) float64, y (N,).

    Examples
    --------
    >>> import pickle
    >>> from normcore.cs231n.data_utils import load_CIFAR_batch
    >>> batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [3, 7]}
    >>> with open("data_batch_1", "wb") as file:
    ...     pickle.dump(batch, file)
    >>> X, y = load_CIFAR_batch("data_batch_1")
    >>> X.shape, y
    ((2, 32, 32, 3), array([3, 7]))
    """
    pixels, labels = _read(Path(filename), "load_CIFAR_batch")
    return _channels_last(pixels), labels


def _bases() -> list[Path]:
    """Folders that may hold the data's folder."""
    bases = [Path("cs231n", "datasets")]
    for folder in getattr(sys.modules.get("cs231n"), "__path__", []):
        if Path(folder, "datasets").absolute() != bases[0].absolute():
            bases.append(Path(folder, "datasets"))
    return bases


def _channels_last(pixels: NDArray[np.uint8]) -> Array:
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(np.float64)


def _load(folder: Path, operation: str) -> tuple[Images, Images]:
    """The images to train and to test with, of all files in the order of their numbers."""
    batches = [(re.fullmatch(r"data_batch_(\d+)(\.bin)?", path.name), path) for path in folder.iterdir()]
    train = [path for _, path in sorted((int(match[1]), path) for match, path in batches if match)]
    test = [folder / name for name in ("test_batch", "test_batch.bin") if (folder / name).exists()]
    for name, found in (("data_batch_*", train), ("test_batch", test)):
        if not found:
            raise ValueError(f"{operation}: {folder} is not a folder of CIFAR-10: it has no {name}")
    parts = [_read(path, operation) for path in train]
    joined = np.concatenate([pixels for pixels, _ in parts]), np.concatenate([labels for _, labels in parts])
    return joined, _read(test[0], operation)


def _read(path: Path, operation: str) -> Images:
    if path.suffix == ".bin":
        records = np.fromfile(path, np.uint8)
        if records.size % (1 + _PIXELS):
            raise ValueError(
                f"{operation}: {path}: {records.size} bytes are no whole number of records of {1 + _PIXELS}"
            )
        records = records.reshape(-1, 1 + _PIXELS)
        pixels, labels = records[:, 1:], records[:, 0].astype(np.int64)
    else:
        with path.open("rb") as file:
            pixels, labels = _unpickled(file, path, operation)
    if labels.size and not 0 <= labels.min() <= labels.max() < _CLASSES:
        raise ValueError(f"{operation}: {path}: a label is not in [0, {_CLASSES}): this is not CIFAR-10")
    return pixels, labels


def _unpickled(file: BinaryIO, path: Path, operation: str) -> Images:
    try:
        batch = _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:
        # Damaged pickles raise nearly everything.
        raise ValueError(f"{operation}: {path}: not a file of CIFAR-10's Python version ({error})") from None
    batch = {str(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    pixels, labels = batch.get("data"), np.asarray(batch.get("labels", []))
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape != (len(labels), _PIXELS)
        or (labels.size and labels.dtype.kind not in "iu")
    ):
        raise ValueError(
            f"{operation}: {path}: not a file of CIFAR-10's Python version, a dict of 'data' (N, {_PIXELS}) in uint8 "
            "and 'labels', N integers"
        )
    return pixels, labels.astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of arrays, numbers and text; whatever else a pickle names could run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
            *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
            *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
            *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core") if hasattr(np, "_core") else module, name)
