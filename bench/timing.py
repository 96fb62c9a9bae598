"""Interleaved timing: the machine's speed drifts, so that things are compared only within one run, in turns."""

from __future__ import annotations

import gc
import statistics
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

Work = Callable[[], object]

_SLICE = 0.001  # seconds: long for the clock, short for the machine's moods
_MIN_ROUNDS = 7


@contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _time(work: Work, repetitions: int) -> float:
    start = time.perf_counter()
    for _ in range(repetitions):
        work()
    return (time.perf_counter() - start) / repetitions


def medians(works: Sequence[Work], *, seconds: float = 0.3, before: Sequence[Work] | None = None) -> list[float]:
    """Median seconds of one call of each work: slices of about a millisecond in turn, for about `seconds` in all.

    Each slice begins with an untimed call, for the work before it has left its own data in the caches; ``before[i]``
    runs ahead of the slices of ``works[i]``.
    """
    times: list[list[float]] = [[] for _ in works]
    repetitions: list[int] = []
    with _no_collector():
        for index, work in enumerate(works):
            if before:
                before[index]()
            work()
            repetitions.append(max(1, round(_SLICE / max(_time(work, 1), 1e-9))))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times[0]) < _MIN_ROUNDS:
            for index, work in enumerate(works):
                if before:
                    before[index]()
                work()
                times[index].append(_time(work, repetitions[index]))
    return [statistics.median(of_work) for of_work in times]


def statement(code: str, names: Mapping[str, object], *, seconds: float = 0.3) -> float:
    """Median seconds of a statement that is too short to be timed through a function call."""
    timer = timeit.Timer(code, globals=dict(names))
    number = max(1, int(_SLICE / max(min(timer.repeat(5, 100)) / 100, 1e-9)))
    return statistics.median(timer.repeat(max(_MIN_ROUNDS, int(seconds / _SLICE)), number)) / number


def latencies(work: Work, calls: int, *, seconds: float = 10.0) -> list[float]:
    """Seconds of each of `calls` calls, sorted; of fewer if `seconds` have passed before."""
    for _ in range(10):
        work()
    times = []
    with _no_collector():
        end = time.perf_counter() + seconds
        for _ in range(calls):
            start = time.perf_counter()
            work()
            stop = time.perf_counter()
            times.append(stop - start)
            if stop > end:
                break
    return sorted(times)
