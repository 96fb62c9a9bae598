"""The operations, float32, each beside PyTorch's own kernel or, without PyTorch, NumPy where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import normcore as nc

from .timing import Comparison, Work, compare

AFFINE_SHAPES = [(32, 128, 128), (64, 512, 512), (256, 1024, 1024), (128, 3072, 100), (1024, 100, 100)]
SHAPES = [(32, 128), (64, 512), (256, 1024)]


def _normal(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def affine(torch: Any) -> Iterator[Comparison]:
    """Forward with bias and backward (dx, dw, db) of every shape n x k x m."""
    for n, k, m in AFFINE_SHAPES:
        yield from _affine(torch, n, k, m)


def _affine(torch: Any, n: int, k: int, m: int) -> Iterator[Comparison]:
    x, w, b, dy, y = _normal(n, k), _normal(k, m), _normal(m), _normal(n, m), np.empty((n, m), np.float32)
    title = f"{n}x{k}x{m}"

    def forward() -> None:
        nc.affine_forward(x, w, b, out=y)

    def numpy_forward() -> None:
        np.matmul(x, w, out=y)
        np.add(y, b, out=y)

    yield compare(f"affine forward {title}", forward, numpy_forward, "NumPy")
    if torch is None:
        return
    tx, tw, tb, tdy = (torch.from_numpy(a) for a in (x, np.ascontiguousarray(w.T), b, dy))
    yield compare(f"affine forward {title}", forward, lambda: torch.nn.functional.linear(tx, tw, tb), "PyTorch")
    yield compare(
        f"affine backward {title}",
        lambda: nc.affine_backward(dy, x, w),
        lambda: (tdy @ tw, tdy.T @ tx, tdy.sum(0)),
        "PyTorch",
    )


def rows(torch: Any) -> Iterator[Comparison]:
    """ReLU, the norms, softmax and cross-entropy at every shape n x d; without PyTorch the times alone."""
    for n, d in SHAPES:
        yield from _rows(torch, n, d)


def _rows(torch: Any, n: int, d: int) -> Iterator[Comparison]:
    x, gamma, beta, dy, y = _normal(n, d), _normal(d), _normal(d), _normal(n, d), np.empty((n, d), np.float32)
    labels = np.random.default_rng(1).integers(0, d, n)
    running = np.zeros(d, np.float32), np.ones(d, np.float32)
    _, mean, rstd = nc.batch_norm_forward(x, gamma, beta)
    _, row_mean, row_rstd = nc.layer_norm_forward(x, gamma, beta)
    ours: dict[str, Work] = {
        "relu": lambda: nc.relu_forward(x, out=y),
        "batch norm training": lambda: nc.batch_norm_forward(x, gamma, beta, *running, out=y),
        "batch norm evaluation": lambda: nc.batch_norm_forward(x, gamma, beta, *running, training=False, out=y),
        "batch norm backward": lambda: nc.batch_norm_backward(dy, x, gamma, mean, rstd),
        "layer norm forward": lambda: nc.layer_norm_forward(x, gamma, beta, out=y),
        "layer norm backward": lambda: nc.layer_norm_backward(dy, x, gamma, row_mean, row_rstd),
        "softmax": lambda: nc.softmax(x, out=y),
        "cross-entropy with gradient": lambda: nc.softmax_cross_entropy(x, labels),
    }
    theirs: dict[str, Work] = {}
    if torch is not None:
        theirs = _torch_rows(torch, x, gamma, beta, dy, labels, mean, rstd, row_mean, row_rstd)
    for name, work in ours.items():
        yield compare(f"{name} {n}x{d}", work, theirs.get(name), "PyTorch")


def _torch_rows(
    torch: Any, x: Any, gamma: Any, beta: Any, dy: Any, labels: Any, mean: Any, rstd: Any, row_mean: Any, row_rstd: Any
) -> dict[str, Work]:
    """PyTorch's kernels, below autograd where they can be called there."""
    functional, aten, d = torch.nn.functional, torch.ops.aten, x.shape[1]
    tx, tg, tb, tdy, tl = (torch.from_numpy(a) for a in (x, gamma, beta, dy, labels))
    running = torch.zeros(d), torch.ones(d)
    saved = [torch.from_numpy(a.astype(np.float32)) for a in (mean, rstd)]
    row_saved = [torch.from_numpy(a.astype(np.float32)).reshape(-1, 1) for a in (row_mean, row_rstd)]

    def cross_entropy() -> None:
        with torch.enable_grad():
            logits = tx.detach().requires_grad_()
            functional.cross_entropy(logits, tl).backward()

    return {
        "relu": lambda: torch.relu(tx),
        "batch norm training": lambda: functional.batch_norm(tx, *running, tg, tb, True, 0.1, 1e-5),
        "batch norm evaluation": lambda: functional.batch_norm(tx, *running, tg, tb, False, 0.1, 1e-5),
        "batch norm backward": lambda: aten.native_batch_norm_backward(
            tdy, tx, tg, *running, *saved, True, 1e-5, [True] * 3
        ),
        "layer norm forward": lambda: functional.layer_norm(tx, (d,), tg, tb),
        "layer norm backward": lambda: aten.native_layer_norm_backward(tdy, tx, [d], *row_saved, tg, tb, [True] * 3),
        "softmax": lambda: torch.softmax(tx, 1),
        "cross-entropy with gradient": cross_entropy,
    }


def calls() -> Iterator[Comparison]:
    """What a call costs from Python: arrays of eight elements."""
    x, w, v, y = _normal(1, 8), _normal(8, 8), _normal(8), np.empty((1, 8), np.float32)
    yield compare("relu, 8 elements", lambda: nc.relu_forward(x, out=y), None)
    yield compare("affine, 8 elements", lambda: nc.affine_forward(x, w, v), None)
    yield compare("layer norm, 8 elements", lambda: nc.layer_norm_forward(x, v, v), None)
