"""Hostile model files and checkpoints whose SHA-256 fits.

Usage: python tests/fuzz/resigned.py [seconds] [seed] [folder for findings]. Begins with every file of the corpus beside
it, then changes sound files at random (their metadata, their arrays, their headers), signs them anew and reads them, in
a limited memory. Right is a sound object, ValueError or OSError, in one line without control characters, within five
seconds of the processor and 1 GiB; anything else is a fault: it is shown, its file is kept, and the exit status is 1.
Half are checkpoints, with which training goes on.
"""

from __future__ import annotations

import collections
import contextlib
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
from normcore.archive import read_archive
from normcore.mlp import load_model

CORPUS = Path(__file__).parent / "corpus" / "resigned"

VALUES: list[str] = [
    "none", "true", "false", "0", "1", "-1", "2", "0x1.c000000000000p+1", "-0x0.0p+0", "0x1.1ccf385ebc8a0p+1023", "inf",
    "nan", str(1 << 31), str(1 << 63), str(1 << 64), str(-(1 << 63)), str(10**30), "9" * 5000, "", "batch", "layer",
    "\ud800", "\x1b[2J", "\x9b\u202e", "x" * 1000, "3,5,2", "3,5,2,", ",", ",".join(["1"] * 50),
    ",".join(["1"] * 100_000),
    "float64", "float16", "adamw", "huber", "poisson", "0x1.0000000000000p+0,0x1.0000000000000p-1", '["a","b"]',
    '["a","b","c"]', '["a","a"]', '["\\ud800","b"]', '["\\u001b[2J","\\u009b"]', "[" * 10_000,
    '[""' + ',""' * 100_000 + "]",
]  # fmt: skip
DTYPES = (np.float64, np.float16, np.int64, np.uint8)
SHAPES: tuple[tuple[int, ...], ...] = ((0,), (1,), (), (2, 2), (1, 1, 3))
NAMES = ("w", ".", "", "w9", "optimizer.", "best.x", "class_weight.x", "history.loss.x", "feature_mean", 'q"\\')
KEYS = (
    "x",
    "",
    "self",
    "loss.tau",
    "loss.delta",
    "trainer.x",
    "trainer.seed.x",
    "state.x",
    "trainer.learning_rate.x",
    "\x1b",
)


def seeds(folder: Path) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """Kind, metadata and arrays of a checkpoint and of three models."""
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    trainer = nc.Trainer(
        nc.MLP([3, 5, 2], norm="batch", dropout=0.1, seed=1),
        epochs=2,
        batch_size=10,
        restore_best=True,
        monitor="train_loss",
        class_weight=[1.0, 2.0],
        learning_rate=nc.CosineSchedule(1e-2, 10),
    )
    trainer.fit(X, y)
    trainer.epochs = 4
    described = nc.MLP(
        [3, 5, 2],
        norm="layer",
        loss=nc.losses.huber(0.5),
        feature_names=["a", "\x1b", "\U0001f600"],
        class_names=['"', "\\"],
        feature_mean=[1.0, 2.0, 3.0],
        feature_scale=[0.5, 1.0, 2.0],
    )
    path = folder / "seed"
    made = []
    for kind, write in (
        ("checkpoint", trainer.save_checkpoint),
        ("model", nc.MLP([3, 5, 2], norm="batch").save),
        ("model", nc.MLP([3, 2]).save),
        ("model", described.save),
    ):
        write(path)
        raw = path.read_bytes()
        (length,) = struct.unpack_from("<Q", raw)
        metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
        made.append((kind, metadata, read_archive(path, kind)[1]))
    return made


def mutated(text: str, rng: random.Random) -> str:
    """Another value of the same entry: near it, with parts of it, or of another kind."""
    choice = rng.random()
    parts = text.split(",")
    if choice < 0.3 and len(parts) > 1:
        parts[rng.randrange(len(parts))] = rng.choice([*parts, mutated(rng.choice(parts), rng)])
        return ",".join(parts)
    with contextlib.suppress(ValueError, OverflowError):
        if choice < 0.5 and text.startswith("0x"):
            number = float.fromhex(text)
            return rng.choice([number + 1.0, number - 1.0, -number, number * 2.0, number / 3.0, number * 1e6]).hex()
        if choice < 0.5:
            whole = int(text)
            return str(rng.choice([whole + 1, whole - 1, -whole, whole * 2, whole // 3, whole * 10**6]))
    if choice < 0.6:
        at = rng.randrange(len(text) + 1)
        return text[:at] + chr(rng.randrange(32, 127)) + text[at + rng.randrange(2) :]
    return rng.choice(VALUES)


def made(seed: tuple[str, dict[str, str], dict[str, Any]], rng: random.Random) -> bytes | None:
    """A changed file; None where the change cannot be written."""
    _, metadata, arrays = seed[0], dict(seed[1]), dict(seed[2])
    for _ in range(rng.randint(0, 3)):
        key, choice = rng.choice(list(metadata)), rng.random()
        if choice < 0.08:
            metadata.pop(key)
        elif choice < 0.14:
            metadata[rng.choice(KEYS)] = rng.choice(VALUES)
        else:
            metadata[key] = mutated(metadata[key], rng)
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
        metadata.pop("sha256", None)
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
    model.summary()
    if model.sizes[0] == 3 and model.dtype == np.float32 and model.outputs > 1:
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
