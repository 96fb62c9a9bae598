"""Interleaved timing: the machine's speed drifts, so two things are compared only within one run, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Median times of one call, in seconds; `peer` is None where there is no peer."""

    name: str
    ours: float
    peer: float | None
    peer_name: str

    @property
    def ratio(self) -> float | None:
        """The peer's time over ours: above 1, normcore is faster."""
        return None if self.peer is None else self.peer / self.ours


def _repetitions(work: Work, seconds: float) -> int:
    """Calls that take about `seconds` together."""
    work()
    start = time.perf_counter()
    work()
    return max(1, int(seconds / max(time.perf_counter() - start, 1e-9)))


def _time(work: Work, repetitions: int) -> float:
    start = time.perf_counter()
    for _ in range(repetitions):
        work()
    return (time.perf_counter() - start) / repetitions


def compare(name: str, ours: Work, peer: Work | None, peer_name: str = "", *, seconds: float = 0.3) -> Comparison:
    """Median of short slices, ours and the peer's in turn, for about `seconds` in all (at least 7 slices)."""
    our_repetitions = _repetitions(ours, 0.001)
    peer_repetitions = _repetitions(peer, 0.001) if peer else 0
    our_times: list[float] = []
    peer_times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(our_times) < 7:
        our_times.append(_time(ours, our_repetitions))
        if peer:
            peer_times.append(_time(peer, peer_repetitions))
    return Comparison(
        name, statistics.median(our_times), statistics.median(peer_times) if peer else None, peer_name if peer else ""
    )
