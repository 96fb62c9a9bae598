"""Whole training steps, one-row inference and epochs, beside PyTorch (eager, fused Adam) and scikit-learn."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

import normcore as nc

from .operations import DType
from .table import Line, against, alone, geometric_means
from .timing import Work, medians

# Sizes, batch, goals of a step and of one row.
NETS = [
    ([3072, 100, 100, 100, 100, 100, 10], 50, 2.0, 2.0),
    ([784, 256, 128, 10], 128, 1.6, 2.0),
    ([64, 64, 64, 10], 32, 8.0, 8.0),
]
NORMS: tuple[Literal["batch", "layer"], ...] = ("batch", "layer")
EPOCH_SHAPE, EPOCH_HIDDEN, EPOCH_BATCH = (4096, 784), (256, 128), 128


def _torch_net(torch: Any, sizes: list[int], norm: str, dtype: DType) -> Any:
    layers: list[Any] = []
    for width, out in itertools.pairwise(sizes[:-1]):
        kind = torch.nn.BatchNorm1d if norm == "batch" else torch.nn.LayerNorm
        layers += [torch.nn.Linear(width, out), kind(out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-2], sizes[-1])).to(getattr(torch, dtype))


def _data(dtype: DType, rows: int, features: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.normal(size=(rows, features)).astype(dtype), random.integers(0, 10, rows)


def steps(torch: Any, dtype: DType) -> Iterator[Line]:
    """One optimisation step with Adam, of every network with each norm."""
    lines = [_step(torch, dtype, *net[:3], norm) for net in NETS for norm in NORMS]
    yield from lines
    yield from geometric_means(lines, None)


def _step(torch: Any, dtype: DType, sizes: list[int], batch: int, goal: float, norm: Literal["batch", "layer"]) -> Line:
    X, y = _data(dtype, batch, sizes[0])
    trainer = nc.Trainer(nc.MLP(sizes, norm=norm, dtype=dtype), optimizer="adam", batch_size=batch)
    name = f"step {sizes} {norm} norm, batch {batch}"

    def step() -> float:
        return trainer.step(X, y)

    if torch is None:
        return alone(name, medians([step])[0])
    net = _torch_net(torch, sizes, norm, dtype)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    tx, ty = torch.from_numpy(X), torch.from_numpy(y)

    def torch_step() -> None:
        with torch.enable_grad():
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(tx), ty).backward()
        optimizer.step()

    times = medians([step, torch_step], seconds=0.6)
    return against(name, "PyTorch", times[0], times[1], goal if dtype == "float32" else 1.0)


def inference(torch: Any, dtype: DType) -> Iterator[Line]:
    """One row through every network, called from Python."""
    lines = [_row(torch, dtype, sizes, goal, norm) for sizes, _, _, goal in NETS for norm in NORMS]
    yield from lines
    yield from geometric_means(lines, None)


def _row(torch: Any, dtype: DType, sizes: list[int], goal: float, norm: Literal["batch", "layer"]) -> Line:
    x, _ = _data(dtype, 1, sizes[0])
    model = nc.MLP(sizes, norm=norm, dtype=dtype)
    name = f"one row {sizes} {norm} norm"

    def ours() -> Any:
        return model.forward(x)

    if torch is None:
        return alone(name, medians([ours])[0])
    net, tx = _torch_net(torch, sizes, norm, dtype).eval(), torch.from_numpy(x)
    times = medians([ours, lambda: net(tx)])
    return against(name, "PyTorch", times[0], times[1], goal if dtype == "float32" else 1.0)


def epoch(dtype: DType = "float32") -> Iterator[Line]:
    """One epoch without norm: same data, hidden layers, batch size and Adam as scikit-learn's MLPClassifier."""
    X, y = _data(dtype, *EPOCH_SHAPE)
    model = nc.MLP([EPOCH_SHAPE[1], *EPOCH_HIDDEN, 10], dtype=dtype)
    trainer = nc.Trainer(model, batch_size=EPOCH_BATCH, epochs=0, evaluate_training=False, progress=False)
    name = f"epoch {EPOCH_SHAPE[0]}x{EPOCH_SHAPE[1]}, hidden {EPOCH_HIDDEN}, batch {EPOCH_BATCH}"

    def ours() -> None:
        trainer.epochs += 1
        trainer.fit(X, y)

    theirs = _sklearn_epoch(X, y)
    if theirs is None:
        yield alone(name, medians([ours])[0], "no scikit-learn")
    else:
        times = medians([ours, theirs], seconds=3.0)
        yield against(name, "scikit-learn", times[0], times[1], 2.5)


def _sklearn_epoch(X: Any, y: Any) -> Work | None:
    try:
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        return None
    warnings.filterwarnings("ignore", module="sklearn")
    classifier = MLPClassifier(EPOCH_HIDDEN, batch_size=EPOCH_BATCH, alpha=0.0, learning_rate_init=1e-3)
    classes = np.arange(10)
    return lambda: classifier.partial_fit(X, y, classes=classes)  # one epoch a call, the first call starts it
