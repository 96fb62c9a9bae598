"""The images the experiments train on: scikit-learn's digits with noise, or a folder of CIFAR-10's binary layout."""

from __future__ import annotations

import hashlib
import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normcore.random import Generator

__all__ = ["Dataset", "DatasetError", "load_cifar10", "load_digits", "load_noisy_digits"]

TRAIN_IMAGES = 1000
VALIDATION_IMAGES = 1000

_RECORD = 1 + 3 * 32 * 32  # one label byte, then the red, green and blue planes
_CLASSES = 10
_ORDER_STREAM = 1 << 32  # apart from the streams that weights and minibatches of the same seed come from
_NOISE_STREAM = _ORDER_STREAM + 1
_NOISE = 6.0
_OFFSET = 64  # more than any draw is negative, so that noisy pixels are bytes too; the mean image takes it away again


class DatasetError(ValueError):
    """A folder or file that is not the data set it should be; the message names it."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and validation images as they are stored: one byte a pixel, one row an image.

    Bytes, because a data set travels to the worker processes; `arrays` makes what the networks are trained on.
    """

    name: str
    description: str
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_val: NDArray[np.uint8]
    y_val: NDArray[np.int64]
    classes: int = _CLASSES

    @property
    def features(self) -> int:
        return int(self.x_train.shape[1])

    def sha256(self) -> str:
        """Of training pixels, training labels, validation pixels, validation labels, one byte each."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_val, self.y_val):
            digest.update(array.astype(np.uint8).tobytes())
        return digest.hexdigest()

    def chance(self) -> tuple[float, float]:
        """What always answering the most frequent class scores on the training and on the validation images."""
        train, val = (np.bincount(y, minlength=self.classes).max() / len(y) for y in (self.y_train, self.y_val))
        return float(train), float(val)

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Training and validation pixels minus the mean training image, not scaled, in float32.

        The mean is an integer sum and one division, so it has the same bits on every machine.
        """
        mean = self.x_train.sum(axis=0, dtype=np.int64) / len(self.x_train)
        return (self.x_train - mean).astype(np.float32), (self.x_val - mean).astype(np.float32)


def load_digits() -> Dataset:
    """The 1 797 handwritten digits (8x8 pixels of 0 to 16) that scikit-learn carries: 1 000 to train, 797 to validate.

    They come grouped by writer, so they are shuffled first, always in the same order.
    """
    # Imported here and so, because it is optional and without type information.
    digits = importlib.import_module("sklearn.datasets").load_digits()
    order = Generator(0, _ORDER_STREAM).permutation(len(digits.target))
    pixels = digits.data.astype(np.uint8)[order]
    labels = digits.target.astype(np.int64)[order]
    train, val = (slice(TRAIN_IMAGES), slice(TRAIN_IMAGES, TRAIN_IMAGES + VALIDATION_IMAGES))
    return Dataset("digits", "scikit-learn's 8x8 digits", pixels[train], labels[train], pixels[val], labels[val])


def load_noisy_digits() -> Dataset:
    """The digits with noise on every pixel: normal, of standard deviation 6, where the pixels are 0 to 16.

    As they are the digits are too easy: a network of any kind comes to 97 % and more, and what a norm does to it does
    not show. The noise is the same on every machine and for every seed of an experiment; a pixel is rounded to a byte.
    """
    digits = load_digits()

    def noisy(pixels: NDArray[np.uint8], first: int) -> NDArray[np.uint8]:
        noise = _NOISE * Generator(0, _NOISE_STREAM + first).normal(pixels.shape)
        made: NDArray[np.uint8] = np.rint(pixels + noise + _OFFSET).astype(np.uint8)
        return made

    return Dataset(
        "noisy digits",
        f"scikit-learn's 8x8 digits (pixels 0 to 16) with noise of standard deviation {_NOISE:g} on every pixel",
        noisy(digits.x_train, 0),
        digits.y_train,
        noisy(digits.x_val, 1),
        digits.y_val,
    )


def load_cifar10(folder: str | Path) -> Dataset:
    """The first 1 000 training and 1 000 validation images of a folder of CIFAR-10 in the binary layout.

    The layout is records of one label byte and 3 072 channel-first pixel bytes, any number of them a file. Training
    images come from ``data_batch_*.bin`` in the order of their numbers, validation images from ``test_batch.bin``.
    Where that file is missing they are the training records that follow, and of fewer than 2 000 the second half.

    Raises
    ------
    DatasetError
        For a folder without such files, and for a file that is empty, cut off, or holds something else.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    batches = _batches(folder)
    if not batches and _batches(folder / "cifar-10-batches-bin"):
        folder = folder / "cifar-10-batches-bin"
        batches = _batches(folder)
    if not batches:
        raise DatasetError(f"{folder}: no data_batch_*.bin in it{_hint(folder)}")
    test = folder / "test_batch.bin"
    if test.exists():
        x_train, y_train = _first_records(batches, TRAIN_IMAGES)
        x_val, y_val = _first_records([test], VALIDATION_IMAGES)
    else:
        x, y = _first_records(batches, TRAIN_IMAGES + VALIDATION_IMAGES)
        split = min(TRAIN_IMAGES, len(x) // 2)
        x_train, y_train, x_val, y_val = x[:split], y[:split], x[split:], y[split:]
    if len(x_train) < 2:
        raise DatasetError(f"{folder}: {len(x_train)} training images, but batch normalisation needs at least 2")
    return Dataset(
        "CIFAR-10", f"CIFAR-10 (32x32 colour photographs of {_CLASSES} kinds of things)", x_train, y_train, x_val, y_val
    )


def _batches(folder: Path) -> list[Path]:
    """The training files in the order of their numbers, so that 10 comes after 9."""
    numbered = [(re.fullmatch(r"data_batch_(\d+)\.bin", path.name), path) for path in folder.glob("data_batch_*.bin")]
    return [path for match, path in sorted(((int(m[1]), p) for m, p in numbered if m), key=lambda pair: pair[0])]


def _hint(folder: Path) -> str:
    names = {path.name for path in folder.iterdir()}
    if "data_batch_1" in names:
        return "; this is CIFAR-10 in its Python version, and the binary version (cifar-10-binary.tar.gz) is needed"
    if "train.bin" in names:
        return "; this looks like CIFAR-100"
    if any(name.endswith((".tar.gz", ".tgz")) for name in names):
        return "; unpack the archive first"
    return ""


def _first_records(paths: list[Path], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `count` records of the files in turn, or all there are. Every file's size is checked, read or not."""
    records = []
    for path in paths:
        if not path.is_file():
            raise DatasetError(f"{path}: not a file")
        size = path.stat().st_size
        if size == 0:
            raise DatasetError(f"{path}: the file is empty")
        if size % _RECORD:
            raise DatasetError(
                f"{path}: {size} bytes are no whole number of {_RECORD}-byte CIFAR-10 records: cut off, or another file"
            )
        if count == 0:
            continue
        batch = np.fromfile(path, dtype=np.uint8, count=min(count, size // _RECORD) * _RECORD).reshape(-1, _RECORD)
        foreign = np.flatnonzero(batch[:, 0] >= _CLASSES)
        if foreign.size:
            raise DatasetError(
                f"{path}: record {foreign[0]} has label {batch[foreign[0], 0]}, but CIFAR-10 has 0 to 9: another file"
            )
        records.append(batch)
        count -= len(batch)
    joined = np.concatenate(records)
    return np.ascontiguousarray(joined[:, 1:]), joined[:, 0].astype(np.int64)
