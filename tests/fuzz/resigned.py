"""Hostile model files and checkpoints whose SHA-256 fits.

Usage: python tests/fuzz/resigned.py [seconds] [seed] [folder for findings]. Begins with every file of the corpus beside
it, then changes sound files at random (their JSON, their arrays, their headers), signs them anew and reads them, in a
limited memory. Right is a sound object, ValueError or OSError, in one line without control characters, within five
seconds of the processor and 1 GiB; anything else is a fault: it is shown, its file is kept, and the exit status is 1.
Half are checkpoints, with which training goes on.
"""

from __future__ import annotations

import collections
import json
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import archives
import normcore as nc
from normcore._text import is_printable
from normcore.serialization import load_model, read_archive

CORPUS = Path(__file__).parent / "corpus" / "resigned"

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e308, float("inf"), float("nan"), 1 << 31, 1 << 63, 1 << 64, -(1 << 63),
    10**30, "", "batch", "layer", "\ud800", "\x1b[2J", "\x9b\u202e", "x" * 1000, [], [1], [3, 5, 2], [3.0, 5.0, 2.0],
    [True, 5, 2], {}, {"kind": "cosine"}, [[1]], [1] * 50, [1] * 100_000, "float64", "float16", "adamw",
]  # fmt: skip
DTYPES = (np.float64, np.float16, np.int64, np.uint8)
SHAPES: tuple[tuple[int, ...], ...] = ((0,), (1,), (), (2, 2), (1, 1, 3))
NAMES = ("model.", ".", "", "model.w9", "optimizer.", "best.x", "class_weight.x", "history.loss.x", 'q"\\')


def seeds(folder: Path) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """Kind, metadata and arrays of a checkpoint and of two models."""
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    trainer = nc.Trainer(
        nc.MLP([3, 5, 2], norm="batch", dropout=0.1, rng=1),
        epochs=2,
        batch_size=10,
        restore_best=True,
        monitor="train_loss",
        class_weight=[1.0, 2.0],
        learning_rate=nc.CosineSchedule(1e-2, 10),
    )
    trainer.fit(X, y)
    trainer.epochs = 4
    path = folder / "seed"
    made = []
    for kind, write in (
        ("checkpoint", trainer.save_checkpoint),
        ("model", nc.MLP([3, 5, 2], norm="batch").save),
        ("model", nc.MLP([3, 2]).save),
    ):
        write(path)
        raw = path.read_bytes()
        (length,) = struct.unpack_from("<Q", raw)
        metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
        made.append((kind, metadata, read_archive(path, kind)[1]))
    return made


def mutated(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key, choice = rng.choice(list(value)), rng.random()
        if choice < 0.08:
            del value[key]
        elif choice < 0.12:
            value[rng.choice(["x", "", "self", "__class__", "rng", "sizes", "model", "\x1b"])] = rng.choice(VALUES)
        else:
            value[key] = mutated(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.6:
        value[rng.randrange(len(value))] = mutated(value[rng.randrange(len(value))], rng)
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice([value + 1, value - 1, -value, value * 2, value / 3, value * 10**6])
    return rng.choice(VALUES)


def made(seed: tuple[str, dict[str, str], dict[str, Any]], rng: random.Random) -> bytes | None:
    """A changed file; None where the change cannot be written."""
    _, metadata, arrays = seed[0], dict(seed[1]), dict(seed[2])
    config = json.loads(metadata["config"])
    for _ in range(rng.randint(0, 3)):
        config = mutated(config, rng)
    for _ in range(rng.randint(0, 2) if rng.random() < 0.5 else 0):
        name, choice = rng.choice(list(arrays)), rng.random()
        array = arrays[name]
        if choice < 0.3:
            with np.errstate(all="ignore"):
                arrays[name] = array.astype(rng.choice(DTYPES))
        elif choice < 0.5:
            arrays[name] = np.resize(array, rng.choice(SHAPES)).copy()
        elif choice < 0.7:
            arrays[name] = np.full_like(array, rng.choice([np.nan, np.inf, -1.0, 1e38]))
        elif choice < 0.85 and len(arrays) > 1:
            del arrays[name]
        else:
            arrays[rng.choice(NAMES)] = array
    try:
        metadata["config"] = json.dumps(config)
        if rng.random() < 0.1:
            metadata["extra"] = json.dumps(mutated({}, rng))
        if rng.random() < 0.1:
            metadata[rng.choice(list(metadata))] = str(rng.choice(VALUES))
        del metadata["sha256"]
        data = bytearray(archives.archive(metadata, arrays))
    except (KeyError, TypeError, ValueError):
        return None
    if rng.random() < 0.15:  # not signed any more
        (length,) = struct.unpack_from("<Q", data)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(min(len(data), 8 + length))] = rng.randrange(256)
    return bytes(data)


def try_out(path: Path, kind: str, counts: collections.Counter[str]) -> None:
    """Read the file and use what it holds; raises where that goes wrong."""
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    start = time.process_time()
    try:
        if kind == "model":
            model = load_model(path)[0]
            counts["model accepted"] += 1
        else:
            trainer = nc.Trainer.resume(path)
            model = trainer.model
            counts["checkpoint accepted"] += 1
    except (ValueError, OSError) as error:
        counts["refused"] += 1
        if not is_printable(str(error)):
            raise AssertionError(f"control characters in {str(error)!r}") from error
        return
    finally:
        if time.process_time() - start > 5.0:
            raise AssertionError("more than five seconds")
    if model.sizes[0] == 3 and model.dtype == np.float32:
        model.predict(X)
    if kind == "checkpoint" and trainer.epochs < 8 and trainer.batch_size < 1000:
        try:
            trainer.fit(X, y)
            counts["and trained"] += 1
        except (ValueError, FloatingPointError):
            counts["not trained"] += 1


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    findings = Path(sys.argv[3] if len(sys.argv) > 3 else ".")
    warnings.simplefilter("ignore")
    counts: collections.Counter[str] = collections.Counter()
    faults: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        sound = seeds(Path(folder))
        # So that a claim of much memory fails here instead of taking it.
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        corpus = sorted(CORPUS.iterdir())
        end = time.monotonic() + seconds
        while corpus or time.monotonic() < end:
            if corpus:
                source = corpus.pop()
                kind, data = source.name.partition("-")[0], source.read_bytes()
            else:
                seed = rng.choice([sound[0], *sound])
                kind, changed = seed[0], made(seed, rng)
                if changed is None:
                    continue
                data = changed
            path.write_bytes(data)
            counts["files"] += 1
            try:
                try_out(path, kind, counts)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                place = traceback.extract_tb(error.__traceback__)[-1]
                key = f"{type(error).__name__}: {str(error)[:90]!r} at {Path(place.filename).name}:{place.lineno}"
                if key not in faults:
                    faults[key] = f"{kind}-{len(faults)}"
                    (findings / faults[key]).write_bytes(data)
                counts["FAULTS"] += 1
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    for key, name in faults.items():
        print(f"{findings / name}: {key}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
