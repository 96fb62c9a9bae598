"""The numeric contract checked on this machine: ``normcore info --verify``.

Beside the package lie `NC1.sha256`, the digests of the contract, and the program that computes those of every operation
without Python, on any instruction set. The digests of three training runs on scikit-learn's digits, whose names begin
with ``digits/``, are computed here, through the trainer: ``python -m normcore.verification`` prints them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import MLP, Trainer, available_isas, get_isa
from .experiments.datasets import load_digits

__all__ = ["Check", "digits_digests", "verify"]

_FOLDER = Path(__file__).parent
_DIGESTS = _FOLDER / "NC1.sha256"
_PROGRAM = _FOLDER / "bin" / ("normcore-digests.exe" if os.name == "nt" else "normcore-digests")


@dataclass(frozen=True)
class Check:
    """What was compared, whether it was equal (None: it could not be compared), and what there is to say about it."""

    name: str
    equal: bool | None
    text: str


def _trained(dtype: str, norm: str, dropout: float) -> str:
    """SHA-256 of parameters, running statistics and losses, little-endian, after three epochs on the digits."""
    data = load_digits()
    x_train, _ = data.arrays()
    model = MLP([data.features, 100, 100, 10], norm=norm, dropout=dropout, dtype=dtype, rng=0)  # type: ignore[arg-type]
    trainer = Trainer(model, optimizer="adam", learning_rate=1e-3, batch_size=50, epochs=3, progress=False, seed=0)
    history = trainer.fit(x_train.astype(dtype), data.y_train)
    digest = hashlib.sha256()
    arrays = [*model.parameters().values(), *model.buffers().values(), np.array(history.loss, dtype=np.float64)]
    for array in arrays:
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def digits_digests() -> Iterator[tuple[str, str]]:
    """Name and digest of each training run on the digits.

    Raises
    ------
    ImportError
        scikit-learn, which carries the digits, is not installed.
    """
    yield "digits/batch_norm/f32", _trained("float32", "batch", 0.0)
    yield "digits/layer_norm_dropout/f32", _trained("float32", "layer", 0.2)
    yield "digits/batch_norm/f64", _trained("float64", "batch", 0.0)


def verify() -> Iterator[Check]:
    """Every operation on every instruction set this machine runs, then training on the one in use.

    Raises
    ------
    FileNotFoundError
        The package was not installed whole: the digests or their program are missing.
    """
    for path in (_DIGESTS, _PROGRAM):
        if not path.exists():
            raise FileNotFoundError(f"verify: {path} is missing; it comes with an installed package")
    environment = {name: value for name, value in os.environ.items() if name != "NORMCORE_ISA"}
    for isa in available_isas():
        done = subprocess.run(
            [_PROGRAM, "--isa", isa, _DIGESTS], env=environment, capture_output=True, text=True, errors="replace"
        )
        lines = (done.stdout + done.stderr).strip().splitlines() or [f"ended with {done.returncode}"]
        yield Check(f"operations, {isa}", done.returncode == 0, lines[-1])
    expected = dict(line.split() for line in _DIGESTS.read_text().splitlines() if line.startswith("digits/"))
    try:
        for name, digest in digits_digests():
            yield Check(f"{name}, {get_isa()}", digest == expected.get(name), digest)
    except ImportError:
        yield Check("digits", None, "needs scikit-learn: pip install 'normcore[experiments]'")


if __name__ == "__main__":
    for name, digest in digits_digests():
        print(name, digest)
