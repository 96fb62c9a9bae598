"""E5: the backward pass of batch normalisation, step by step through its graph and in the simplified closed form."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import normcore
from normcore.random import Generator

__all__ = ["SHAPES", "BackwardRow", "measure_backward", "numpy_cache", "numpy_fused", "numpy_graph"]

SHAPES = ((50, 100), (100, 500), (1000, 1000))
SAMPLES = 41
_EPS = 1e-5
_SHORTEST_SAMPLE = 2e-4  # seconds; shorter calls are repeated within a sample, so that the clock does not count

_Array = NDArray[np.float64]
_Gradients = tuple[_Array, _Array, _Array]


@dataclass(frozen=True, slots=True)
class BackwardRow:
    """One implementation at one shape. Seconds are the medians of `samples` interleaved measurements, one thread."""

    n: int
    d: int
    dtype: str
    implementation: Literal["numpy", "normcore"]
    graph_seconds: float
    fused_seconds: float
    speedup: float
    max_relative_difference: float
    samples: int
    threads: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Cache(NamedTuple):
    """What the exercise's forward pass keeps for its backward pass."""

    gamma: _Array
    xmu: _Array
    xhat: _Array
    sqrtvar: _Array
    ivar: _Array


def numpy_cache(x: _Array, gamma: _Array) -> _Cache:
    xmu = x - x.mean(axis=0)
    sqrtvar = np.sqrt(np.mean(xmu**2, axis=0) + _EPS)
    ivar = 1.0 / sqrtvar
    return _Cache(gamma, xmu, xmu * ivar, sqrtvar, ivar)


def numpy_graph(dy: _Array, cache: _Cache) -> _Gradients:
    """dx, dgamma, dbeta node by node, as in the first part of the CS231n exercise: each node's gradient is an array."""
    n, d = dy.shape
    gamma, xmu, xhat, sqrtvar, ivar = cache
    dbeta = np.sum(dy, axis=0)
    dgamma = np.sum(dy * xhat, axis=0)
    dxhat = dy * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / sqrtvar**2 * divar
    dvar = 0.5 / sqrtvar * dsqrtvar
    dsq = np.ones((n, d)) / n * dvar
    dxmu2 = 2.0 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmean = -np.sum(dx1, axis=0)
    dx2 = np.ones((n, d)) / n * dmean
    return dx1 + dx2, dgamma, dbeta


def numpy_fused(dy: _Array, cache: _Cache) -> _Gradients:
    """The closed form of the second part: dx = gamma ivar / n * (n dy - dbeta - xhat dgamma)."""
    n = len(dy)
    dbeta = np.sum(dy, axis=0)
    dgamma = np.sum(dy * cache.xhat, axis=0)
    return (cache.gamma * cache.ivar / n * (n * dy - dbeta - cache.xhat * dgamma), dgamma, dbeta)


def measure_backward(
    shapes: tuple[tuple[int, int], ...] = SHAPES, samples: int = SAMPLES, seed: int = 0
) -> list[BackwardRow]:
    """Time both algorithms, in NumPy and in normcore, in float64 on one thread.

    Within a round the four take turns, so that a change of the machine's speed meets all of them alike. Run it while
    nothing else runs.
    """
    threads = normcore.get_num_threads()
    normcore.set_num_threads(1)
    try:
        return [row for n, d in shapes for row in _measure(n, d, samples, seed)]
    finally:
        normcore.set_num_threads(threads)


def _measure(n: int, d: int, samples: int, seed: int) -> list[BackwardRow]:
    # As in the exercise: data far from standardised, so that the statistics matter.
    draw = Generator(seed)
    x = 5.0 * draw.normal(n * d).reshape(n, d) + 12.0
    dy = draw.normal(n * d).reshape(n, d)
    gamma, beta = draw.normal(d), draw.normal(d)
    cache = numpy_cache(x, gamma)
    _, mean, rstd = normcore.batch_norm_forward(x, gamma, beta, eps=_EPS)
    calls: dict[tuple[str, str], Callable[[], _Gradients]] = {
        ("numpy", "graph"): lambda: numpy_graph(dy, cache),
        ("numpy", "fused"): lambda: numpy_fused(dy, cache),
        ("normcore", "graph"): lambda: normcore.batch_norm_backward(dy, x, gamma, mean, rstd, algorithm="graph"),
        ("normcore", "fused"): lambda: normcore.batch_norm_backward(dy, x, gamma, mean, rstd, algorithm="fused"),
    }
    gradients = {key: call() for key, call in calls.items()}
    repeats = {key: _repeats(call) for key, call in calls.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(samples):
        for key, call in calls.items():
            seconds[key].append(_timed(call, repeats[key]))
    rows = []
    implementations: tuple[Literal["numpy", "normcore"], ...] = ("numpy", "normcore")
    for name in implementations:
        graph, fused = (statistics.median(seconds[name, algorithm]) for algorithm in ("graph", "fused"))
        difference = _relative_difference(gradients[name, "graph"], gradients[name, "fused"])
        rows.append(BackwardRow(n, d, "float64", name, graph, fused, graph / fused, difference, samples, 1))
    return rows


def _timed(call: Callable[[], _Gradients], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Callable[[], _Gradients]) -> int:
    once = min(_timed(call, 1) for _ in range(3))
    return max(1, int(_SHORTEST_SAMPLE / max(once, 1e-9)))


def _relative_difference(a: _Gradients, b: _Gradients) -> float:
    """The largest difference in dx, dgamma and dbeta, each relative to its array's largest magnitude."""
    return max(float(np.abs(left - right).max() / np.abs(right).max()) for left, right in zip(a, b, strict=True))
