"""The numeric contract checked on this machine: ``normcore info --verify``.

In the package lie `NC1.sha256`, the digests of the contract, and the program that computes those of every operation in
C alone, on any instruction set: ``python -m normcore.verification operations`` is the C library's ``normcore-digests``.
The digests of three training runs on scikit-learn's digits, whose names begin with ``digits/``, are computed here,
through the trainer: ``python -m normcore.verification digits`` prints them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import MLP, Trainer, _core, available_isas, get_isa
from .experiments.datasets import load_digits

__all__ = ["Check", "digits_digests", "verify"]

_DIGESTS = Path(__file__).parent / "NC1.sha256"


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
    model = MLP([data.features, 100, 100, 10], norm=norm, dropout=dropout, dtype=dtype, seed=0)  # type: ignore[arg-type]
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


def _committed() -> dict[str, str]:
    """Digest by name, of the file; ValueError where it is not such a file."""
    try:
        lines = [line.split() for line in _DIGESTS.read_text("ascii").splitlines()]
    except UnicodeDecodeError:
        lines = [[]]
    if not lines or any(len(line) != 2 or len(line[1]) != 64 for line in lines):
        raise ValueError(f"verify: {_DIGESTS} does not hold a name and a SHA-256 a line: it is damaged")
    return {name: digest for name, digest in lines}


def _operations(isa: str) -> Check:
    """What the program says in a process of its own, whose exit status 1 alone means other bits."""
    environment = {name: value for name, value in os.environ.items() if name != "NORMCORE_ISA"}
    command = [sys.executable, "-m", "normcore.verification", "operations", "--isa", isa, str(_DIGESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    said = (done.stdout + done.stderr).strip().splitlines() or [f"the program ended with {done.returncode}"]
    equal = {0: True, 1: False}.get(done.returncode)
    return Check(f"operations, {isa}", equal, said[-1] if equal else "; ".join([said[-1], *said[:-1]]))


def _digits(committed: dict[str, str]) -> Iterator[Check]:
    try:
        for name, digest in digits_digests():
            expected = committed.get(name)
            text = digest if expected else f"{digest}, of which the file has nothing"
            yield Check(f"{name}, {get_isa()}", digest == expected if expected else None, text)
    except ImportError:
        yield Check("digits", None, "needs scikit-learn: pip install 'normcore[experiments]'")


def verify() -> Iterator[Check]:
    """Every operation on every instruction set this machine runs, then training on the one in use.

    Raises
    ------
    ValueError
        The package is not whole: the digests are missing or damaged.
    """
    if not _DIGESTS.is_file():
        raise ValueError(f"verify: {_DIGESTS} is missing; it comes with an installed package")
    committed = _committed()
    for isa in available_isas():
        yield _operations(isa)
    yield from _digits(committed)


def main(arguments: list[str]) -> int:
    """The lines of the runs on the digits, or of the operations, for the file of digests; the exit status."""
    if arguments[:1] == ["operations"]:
        return _core._digests_main([os.fsencode(argument) for argument in arguments[1:]])
    if arguments != ["digits"]:
        print(
            "usage: python -m normcore.verification {digits | operations [options of normcore-digests]}",
            file=sys.stderr,
        )
        return 2
    for name, digest in digits_digests():
        print(name, digest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
