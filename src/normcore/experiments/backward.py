"""E5: the backward pass of batch normalisation, step by step through its graph and in the simplified closed form."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import normcore
from normcore.experiments.definitions import BACKWARD_SHAPES
from normcore.experiments.results import Row, Timing, rounded
from normcore.random import Generator

__all__ = ["SAMPLES", "counted", "measure_backward", "numpy_cache", "numpy_fused", "numpy_graph"]

SAMPLES = 31
_EPS = 1e-5
_SHORTEST_SAMPLE = 2e-4  # seconds; shorter calls are repeated within a sample, so that the clock does not count

_Array = NDArray[np.float64]
_Gradients = tuple[_Array, _Array, _Array]


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
    n = len(dy)
    gamma, xmu, xhat, sqrtvar, ivar = cache
    dbeta = np.sum(dy, axis=0)
    dgamma = np.sum(dy * xhat, axis=0)
    dxhat = dy * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / sqrtvar**2 * divar
    dvar = 0.5 / sqrtvar * dsqrtvar
    dsq = np.ones_like(dy) / n * dvar
    dxmu2 = 2.0 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmean = -np.sum(dx1, axis=0)
    dx2 = np.ones_like(dy) / n * dmean
    return dx1 + dx2, dgamma, dbeta


def numpy_fused(dy: _Array, cache: _Cache) -> _Gradients:
    """The closed form of the second part: dx = gamma ivar / n * (n dy - dbeta - xhat dgamma)."""
    n = len(dy)
    dbeta = np.sum(dy, axis=0)
    dgamma = np.sum(dy * cache.xhat, axis=0)
    return (cache.gamma * cache.ivar / n * (n * dy - dbeta - cache.xhat * dgamma), dgamma, dbeta)


class _Counting(np.ndarray[Any, Any]):
    """An array that counts what is done with it: see `counted`."""

    operations = 0
    bytes = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(value) for value in inputs]
        result = np.asarray(getattr(ufunc, method)(*plain, **options))
        # A reduction does one operation for each element but the first of each sum.
        _Counting.operations += result.size if method == "__call__" else plain[0].size - result.size
        _Counting.bytes += sum(array.nbytes for array in plain if array.ndim) + result.nbytes
        return result.view(_Counting)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is not np.ones_like:
            return super().__array_function__(function, types, args, kwargs)
        result = np.ones_like(np.asarray(args[0]))
        _Counting.bytes += result.nbytes
        return result.view(_Counting)


def counted(backward: Callable[[_Array, _Cache], _Gradients], dy: _Array, cache: _Cache) -> tuple[int, int]:
    """Operations of a backward pass in NumPy, and bytes of the arrays that they read and write.

    Counted while it runs, one operation for each element of a result (``2.0 * x * y`` are two), so that nobody need
    believe a formula.
    """
    _Counting.operations = _Counting.bytes = 0
    backward(dy.view(_Counting), _Cache(*(array.view(_Counting) for array in cache)))
    return _Counting.operations, _Counting.bytes


# Of normcore's kernels, for each element of dy in double: (operations, reads and writes). Both begin with dgamma and
# dbeta, which read dy and x, for xhat (2), dgamma (2) and dbeta (1).
_NORMCORE_COUNTS = {
    # inner (reads dy, x, writes xmu, dxhat): 4; middle (reads both, writes dx1): 5; outer (reads dx1, writes dx): 1
    "graph": (5 + 4 + 5 + 1, 2 + 4 + 3 + 2),
    # dx (reads dy, x, writes dx): xhat again (2) and two fused multiply-adds (4)
    "fused": (5 + 6, 2 + 3),
}


def measure_backward(
    shapes: Sequence[tuple[int, int]] = BACKWARD_SHAPES,
    samples: int = SAMPLES,
    seed: int = 0,
    measured: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time both algorithms, in NumPy and in normcore, in float64 on one thread.

    Within a round the four take turns, so that a change of the machine's speed meets all of them alike. Run it while
    nothing else runs. `measured` is called after each shape.
    """
    threads = normcore.get_num_threads()
    normcore.set_num_threads(1)
    rows = []
    try:
        for n, d in shapes:
            rows += _measure(n, d, samples, seed)
            measured()
    finally:
        normcore.set_num_threads(threads)
    return rows


def _measure(n: int, d: int, samples: int, seed: int) -> list[Timing]:
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
    counts: dict[tuple[str, str], tuple[int, int]] = {
        ("numpy", "graph"): counted(numpy_graph, dy, cache),
        ("numpy", "fused"): counted(numpy_fused, dy, cache),
    }
    for algorithm, (operations, words) in _NORMCORE_COUNTS.items():
        counts["normcore", algorithm] = (operations * n * d, words * n * d * dy.itemsize)
    gradients = {key: call() for key, call in calls.items()}
    repeats = {key: _repeats(call) for key, call in calls.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(samples):
        for key, call in calls.items():
            seconds[key].append(_timed(call, repeats[key]))
    rows = []
    implementations: tuple[Literal["numpy", "normcore"], ...] = ("numpy", "normcore")
    for name in implementations:
        graph, fused = seconds[name, "graph"], seconds[name, "fused"]
        (graph_operations, graph_bytes), (fused_operations, fused_bytes) = counts[name, "graph"], counts[name, "fused"]
        rows.append(
            Timing(
                n=n,
                d=d,
                dtype=dy.dtype.name,
                implementation=name,
                graph_seconds=_quartiles(graph),
                fused_seconds=_quartiles(fused),
                speedup=_quartiles([one / other for one, other in zip(graph, fused, strict=True)]),
                graph_operations=graph_operations,
                fused_operations=fused_operations,
                graph_bytes=graph_bytes,
                fused_bytes=fused_bytes,
                max_relative_difference=_relative_difference(gradients[name, "graph"], gradients[name, "fused"]),
                samples=samples,
                threads=1,
            )
        )
    return rows


def _quartiles(values: Sequence[float]) -> Row:
    quartiles: Row = rounded(statistics.quantiles(values, n=4, method="inclusive"))
    return quartiles


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
