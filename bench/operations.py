"""The operations beside PyTorch's kernels (below autograd) and NumPy's; each side allocates its own results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import normcore as nc

from .limits import Limits
from .table import Goal, Line, against, alone, geometric_means
from .timing import Work, medians, statement

DType = Literal["float32", "float64"]

AFFINE_SHAPES = [(32, 128, 128), (64, 512, 512), (256, 1024, 1024), (128, 3072, 100), (1024, 100, 100)]
ROW_SHAPES = [(32, 128), (64, 512), (256, 1024)]
LARGE = (4096, 1024)
CUBE = 2048


@dataclass(frozen=True)
class Goals:
    """Least ratio of each line and least geometric mean."""

    least: float
    mean: float | None


AFFINE_GOALS = {"float32": Goals(1.0, 1.2), "float64": Goals(1.0, None)}
ROW_GOALS = {"float32": Goals(1.1, 2.0), "float64": Goals(1.0, None)}


def normal(dtype: DType, *shape: int) -> Any:
    """Normal deviates, the same at each call."""
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


# ---------------------------------------------------------------------------------------------------- affine


def affine(torch: Any, dtype: DType) -> Iterator[Line]:
    """Forward without and with ReLU, and backward (dx, dw, db), of every shape n x k x m."""
    lines: list[Line] = []
    for shape in AFFINE_SHAPES:
        lines += _affine(torch, dtype, *shape)
    yield from lines
    yield from geometric_means(lines, AFFINE_GOALS[dtype].mean)


def affine_works(dtype: DType, n: int, k: int, m: int) -> dict[str, Work]:
    """normcore's side."""
    x, w, b, dy = normal(dtype, n, k), normal(dtype, k, m), normal(dtype, m), normal(dtype, n, m)
    return {
        "forward": lambda: nc.affine_forward(x, w, b),
        "forward, ReLU": lambda: nc.affine_forward(x, w, b, relu=True),
        "backward": lambda: nc.affine_backward(dy, x, w),
    }


def _affine(torch: Any, dtype: DType, n: int, k: int, m: int) -> Iterator[Line]:
    x, w, b, dy = normal(dtype, n, k), normal(dtype, k, m), normal(dtype, m), normal(dtype, n, m)

    def numpy_forward() -> Any:
        y = x @ w
        y += b
        return y

    def numpy_relu() -> Any:
        y = numpy_forward()
        return np.maximum(y, 0, out=y)

    peers: dict[str, dict[str, Work]] = {}
    if torch is not None:
        tx, tw, tb, tdy = (torch.from_numpy(a) for a in (x, np.ascontiguousarray(w.T), b, dy))
        linear = torch.nn.functional.linear
        peers["PyTorch"] = {
            "forward": lambda: linear(tx, tw, tb),
            "forward, ReLU": lambda: linear(tx, tw, tb).relu_(),
            "backward": lambda: (tdy @ tw, tdy.T @ tx, tdy.sum(0)),
        }
    if dtype == "float32":
        peers["NumPy"] = {
            "forward": numpy_forward,
            "forward, ReLU": numpy_relu,
            "backward": lambda: (dy @ w.T, x.T @ dy, dy.sum(0)),
        }
    for name, ours in affine_works(dtype, n, k, m).items():
        times = medians([ours, *(theirs[name] for theirs in peers.values())])
        for peer_name, peer in zip(peers, times[1:], strict=True):
            yield against(f"{name} {n}x{k}x{m}", peer_name, times[0], peer, AFFINE_GOALS[dtype].least)
        if not peers:
            yield alone(f"{name} {n}x{k}x{m}", times[0])


def peak(torch: Any, dtype: DType, limits: Limits) -> Iterator[Line]:
    """A large product against the peak of the registers and against PyTorch's."""
    flops = 2.0 * CUBE**3
    works = [affine_works(dtype, CUBE, CUBE, CUBE)["forward"]]
    if torch is not None:
        x, w, b = (torch.from_numpy(normal(dtype, *shape)) for shape in ((CUBE, CUBE), (CUBE, CUBE), (CUBE,)))
        works.append(lambda: torch.nn.functional.linear(x, w, b))
    fma = limits.fma_work(dtype, flops)
    ours, *others = medians([*works, fma] if fma else works, seconds=2.0)
    name, goal = f"forward {CUBE}x{CUBE}x{CUBE}", Goal(0.9) if dtype == "float32" else None
    rate = flops / ours / 1e9
    if fma:
        best = flops / others.pop() / 1e9
        yield Line(name, f"FMA peak, {limits.isa}", rate, best, rate / best, goal=goal, unit="GFLOP/s")
    else:
        yield Line(name, f"FMA peak not measured: {limits.problem}", rate, goal=goal, unit="GFLOP/s")
    if others:
        yield against(name, "PyTorch", ours, others[0], 1.0 if dtype == "float64" else None)


# ---------------------------------------------------------------------------------------------------- rows


def rows(torch: Any, dtype: DType) -> Iterator[Line]:
    """ReLU, the norms, softmax and cross-entropy with gradient at every shape n x d."""
    lines: list[Line] = []
    for n, d in ROW_SHAPES:
        data = RowData(dtype, n, d)
        theirs = _torch_rows(torch, data) if torch is not None else {}
        for name, work in row_works(data).items():
            if name in theirs:
                ours, peer = medians([work, theirs[name]])
                lines.append(against(f"{name} {n}x{d}", "PyTorch", ours, peer, ROW_GOALS[dtype].least))
            else:
                lines.append(alone(f"{name} {n}x{d}", medians([work])[0]))
    yield from lines
    yield from geometric_means(lines, ROW_GOALS[dtype].mean)


class RowData:
    """Arguments of the row operations."""

    def __init__(self, dtype: DType, n: int, d: int) -> None:
        self.x, self.dy = normal(dtype, n, d), normal(dtype, n, d)
        self.gamma, self.beta = normal(dtype, d), normal(dtype, d)
        self.labels = np.random.default_rng(1).integers(0, d, n)
        self.running = np.zeros(d, dtype), np.ones(d, dtype)
        _, self.mean, self.rstd = nc.batch_norm_forward(self.x, self.gamma, self.beta)
        _, self.row_mean, self.row_rstd = nc.layer_norm_forward(self.x, self.gamma, self.beta)


def row_works(data: RowData, out: Any = None) -> dict[str, Work]:
    """normcore's side; `out` is given to the operations that take it."""
    x, dy, gamma, beta, running = data.x, data.dy, data.gamma, data.beta, data.running
    return {
        "relu": lambda: nc.relu_forward(x, out=out),
        "batch norm training": lambda: nc.batch_norm_forward(x, gamma, beta, *running, out=out),
        "batch norm evaluation": lambda: nc.batch_norm_forward(x, gamma, beta, *running, training=False, out=out),
        "batch norm backward": lambda: nc.batch_norm_backward(dy, x, gamma, data.mean, data.rstd),
        "layer norm forward": lambda: nc.layer_norm_forward(x, gamma, beta, out=out),
        "layer norm backward": lambda: nc.layer_norm_backward(dy, x, gamma, data.row_mean, data.row_rstd),
        "softmax": lambda: nc.softmax(x, out=out),
        "cross-entropy with gradient": lambda: nc.softmax_cross_entropy(x, data.labels),
    }


def _torch_rows(torch: Any, data: RowData) -> dict[str, Work]:
    aten, d = torch.ops.aten, data.x.shape[1]
    x, gamma, beta, dy, labels = (torch.from_numpy(a) for a in (data.x, data.gamma, data.beta, data.dy, data.labels))
    running = torch.zeros(d, dtype=x.dtype), torch.ones(d, dtype=x.dtype)
    saved = [torch.from_numpy(a).to(x.dtype) for a in (data.mean, data.rstd)]
    row_saved = [torch.from_numpy(a).to(x.dtype).reshape(-1, 1) for a in (data.row_mean, data.row_rstd)]
    batch_norm_backward = aten.native_batch_norm_backward.default
    layer_norm_backward = aten.native_layer_norm_backward.default
    nll_forward, nll_backward = aten.nll_loss_forward.default, aten.nll_loss_backward.default
    softmax_backward = aten._log_softmax_backward_data.default
    one = torch.ones((), dtype=x.dtype)

    def cross_entropy() -> Any:
        logs = torch.log_softmax(x, 1)
        loss, weight = nll_forward(logs, labels, None, 1, -100)
        gradient = nll_backward(one, logs, labels, None, 1, -100, weight)
        return loss, softmax_backward(gradient, logs, 1, x.dtype)

    return {
        "relu": lambda: torch.relu(x),
        "batch norm training": lambda: torch.batch_norm(x, gamma, beta, *running, True, 0.1, 1e-5, False),
        "batch norm evaluation": lambda: torch.batch_norm(x, gamma, beta, *running, False, 0.1, 1e-5, False),
        "batch norm backward": lambda: batch_norm_backward(dy, x, gamma, *running, *saved, True, 1e-5, [True] * 3),
        "layer norm forward": lambda: torch.layer_norm(x, (d,), gamma, beta),
        "layer norm backward": lambda: layer_norm_backward(dy, x, [d], *row_saved, gamma, beta, [True] * 3),
        "softmax": lambda: torch.softmax(x, 1),
        "cross-entropy with gradient": cross_entropy,
    }


def memory(limits: Limits, dtype: DType = "float32") -> Iterator[Line]:
    """Out of cache, results written to `out=`: against a copy of the array through ReLU."""
    data, y = RowData(dtype, *LARGE), np.empty(LARGE, dtype)
    works = row_works(data, y)
    copy = limits.relu_copy(data.x, y) or works["relu"]
    peer_name = "ReLU copy" if limits.available else "normcore's ReLU"
    for name, work in works.items():
        ours, peer = medians([work, copy], seconds=0.5)
        goal = 0.85 if name in ("layer norm forward", "softmax") else None
        yield against(f"{name} {LARGE[0]}x{LARGE[1]}", peer_name, ours, peer, goal)


# ---------------------------------------------------------------------------------------------------- calls


def calls() -> Iterator[Line]:
    """What a call costs from Python, with arrays of eight float32."""
    names = {
        "relu": nc.relu_forward,
        "affine": nc.affine_forward,
        "layer_norm": nc.layer_norm_forward,
        "x": normal("float32", 1, 8),
        "w": normal("float32", 8, 8),
        "v": normal("float32", 8),
        "y": np.empty((1, 8), np.float32),
    }
    for code, goal in (("relu(x, out=y)", 120), ("affine(x, w, v)", 300), ("layer_norm(x, v, v)", 450)):
        seconds = statement(code, names)
        yield Line(code, "", seconds, figure=seconds * 1e9, figure_unit="ns", goal=Goal(goal, at_least=False))
