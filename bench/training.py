"""Whole training steps (Adam) and one-row inference, beside PyTorch eager with its fused Adam."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

import normcore as nc

from .timing import Comparison, compare

NETS = [([3072, 100, 100, 100, 100, 100, 10], 50), ([784, 256, 128, 10], 128), ([64, 64, 64, 10], 32)]


def _torch_net(torch: Any, sizes: list[int], norm: str) -> Any:
    layers: list[Any] = []
    for width, out in itertools.pairwise(sizes[:-1]):
        kind = torch.nn.BatchNorm1d if norm == "batch" else torch.nn.LayerNorm
        layers += [torch.nn.Linear(width, out), kind(out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-2], sizes[-1]))


def steps(torch: Any) -> Iterator[Comparison]:
    """Every network with each norm."""
    for sizes, batch in NETS:
        for norm in ("batch", "layer"):
            yield from _step(torch, sizes, batch, norm)


def _step(torch: Any, sizes: list[int], batch: int, norm: Literal["batch", "layer"]) -> Iterator[Comparison]:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(batch, sizes[0])).astype(np.float32), random.integers(0, 10, batch)
    model = nc.MLP(sizes, norm=norm)
    trainer = nc.Trainer(model, optimizer="adam", batch_size=batch)
    step_name = f"step [{', '.join(map(str, sizes))}] {norm} norm, batch {batch}"
    row_name = step_name.replace("step", "one row").replace(f", batch {batch}", "")
    if torch is None:
        yield compare(step_name, lambda: trainer.step(X, y), None)
        yield compare(row_name, lambda: model.forward(X[:1]), None)
        return
    net = _torch_net(torch, sizes, norm)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    tx, ty = torch.from_numpy(X), torch.from_numpy(y)

    def torch_step() -> None:
        with torch.enable_grad():
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(tx), ty).backward()
        optimizer.step()

    yield compare(step_name, lambda: trainer.step(X, y), torch_step, "PyTorch", seconds=0.6)
    net.eval()
    row, torch_row = X[:1], tx[:1]
    yield compare(row_name, lambda: model.forward(row), lambda: net(torch_row), "PyTorch")
