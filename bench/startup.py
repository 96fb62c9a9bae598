"""What an import costs, in processes of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator

from .table import Goal, Line

_ROUNDS = 11
_CODE = """
import time
start = time.perf_counter()
import {first}
middle = time.perf_counter()
import {second}
print(middle - start, time.perf_counter() - middle)
"""


def _import(first: str, second: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(first=first, second=second)], capture_output=True, text=True, check=True
    )
    one, two = map(float, done.stdout.split())
    return one, two


def imports(torch: bool) -> Iterator[Line]:
    """normcore's import once NumPy is there, in turns with PyTorch's if that is installed."""
    ours: list[float] = []
    numpy: list[float] = []
    peer: list[float] = []
    for _ in range(_ROUNDS):
        base, over = _import("numpy", "normcore")
        numpy.append(base)
        ours.append(over)
        if torch and len(peer) < 3:
            peer.append(_import("numpy", "torch")[1])
    over = statistics.median(ours)
    goal = Goal(40, at_least=False)
    yield Line("import over NumPy's", "NumPy's own", over, statistics.median(numpy), over * 1e3, "ms", goal)
    if peer:
        yield Line("import over NumPy's", "PyTorch", over, statistics.median(peer))
