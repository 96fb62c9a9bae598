"""Two threads against one, and against a process that competes for their CPUs; in a child process that has two CPUs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from . import environment
from .table import Goal, Line, against
from .timing import Work, latencies, medians

LARGE, SMALL = 1.7, 1 / 1.03
_CALLS = 20_000
# Computes for as long as whoever started it lives.
_COMPETITOR = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


def threads() -> Iterator[Line]:
    """Large and small work with two threads; the ratio is the time of one thread over that of two."""
    if len(environment.cpus()) < 2:
        yield Line("two threads need two CPUs", goal=Goal(LARGE))
    for name, one, two, goal in _child("speed"):
        yield against(name, "one thread", two, one, goal)


def contention() -> Iterator[Line]:
    """The slowest hundredth of the calls at two threads while another process computes, over their median."""
    if len(environment.cpus()) < 2:
        yield Line("two threads need two CPUs", goal=Goal(3.0, at_least=False))
    for name, quiet_median, quiet_late, median, late, is_ours in _child("contention"):
        goal = Goal(3.0, at_least=False) if is_ours else None
        note = f"p99 / median; alone {quiet_late * 1e6:.1f} / {quiet_median * 1e6:.1f} us"
        yield Line(name, note, late, median, late / median, goal=goal)


def _child(part: str) -> Any:
    if len(environment.cpus()) < 2:
        return []
    command = [sys.executable, "-m", "bench.threads", part]
    done = subprocess.run(command, env=environment.for_threads(2), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


# ---------------------------------------------------------------------------------------------------- in the child


def _speed() -> list[tuple[str, float, float, float]]:
    import numpy as np

    import normcore as nc

    from .operations import RowData, affine_works, row_works

    works: list[tuple[str, Work, float]] = []
    for shape, goal in (((256, 1024, 1024), LARGE), ((32, 128, 128), SMALL), ((64, 100, 100), SMALL)):
        for name, work in affine_works("float32", *shape).items():
            works.append((f"{name} {'x'.join(map(str, shape))}", work, goal))
    for n, d, goal in ((4096, 1024, LARGE), (32, 128, SMALL), (64, 512, SMALL)):
        for name, work in row_works(RowData("float32", n, d), np.empty((n, d), np.float32)).items():
            works.append((f"{name} {n}x{d}", work, goal))
    before = [lambda: nc.set_num_threads(1), lambda: nc.set_num_threads(2)]
    results = []
    for name, work, goal in works:
        one, two = medians([work, work], seconds=0.5, before=before)
        results.append((name, one, two, goal))
    return results


def _contention() -> list[tuple[str, float, float, float, float, bool]]:
    import numpy as np

    import normcore as nc

    shape = 32, 128, 128
    x, w, b = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in (shape[:2], shape[1:], shape[2]))
    nc.set_num_threads(2)
    contestants: list[tuple[str, Work, bool]] = [
        ("normcore, forward 32x128x128, two threads", lambda: nc.affine_forward(x, w, b), True)
    ]
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(2)
        torch.set_grad_enabled(False)
        tx, tw, tb = torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(w.T)), torch.from_numpy(b)
        name = "PyTorch, forward 32x128x128, two threads"
        contestants.append((name, lambda: torch.nn.functional.linear(tx, tw, tb), False))
    results = []
    for name, work, is_ours in contestants:
        quiet = _median_and_late(work)
        competitor = subprocess.Popen([sys.executable, "-c", _COMPETITOR])
        try:
            median, late = _median_and_late(work)
        finally:
            competitor.kill()
            competitor.wait()
        results.append((name, *quiet, median, late, is_ours))
    return results


def _median_and_late(work: Work) -> tuple[float, float]:
    times = latencies(work, _CALLS)
    return statistics.median(times), times[len(times) * 99 // 100]


if __name__ == "__main__":
    os.sched_setaffinity(0, environment.cpus()[:2])
    print(json.dumps({"speed": _speed, "contention": _contention}[sys.argv[1]]()))
