"""``python -m bench [WORD ...]``: the tables whose names hold one of the words; all of them without."""

from __future__ import annotations

import argparse
import math
import os
import platform
from typing import Any

import numpy as np

import normcore as nc

from . import operations, training
from .timing import Comparison


def _pin() -> str:
    """One CPU for the whole process: the last of those allowed, as the first gets most interrupts."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned"
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return f"pinned to CPU {cpu}"


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    return torch


def _show(title: str, rows: list[Comparison]) -> None:
    width = max(len(row.name) for row in rows)
    print(f"\n{title}\n{'':{width}}  {'normcore':>12}  {'peer':>12}  ratio")
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer * 1e6:9.2f} us"
        ratio = "" if row.ratio is None else f"{row.ratio:5.2f}  {row.peer_name}"
        print(f"{row.name:{width}}  {row.ours * 1e6:9.2f} us  {peer:>12}  {ratio}")
    for peer_name in sorted({row.peer_name for row in rows if row.ratio}):
        ratios = [row.ratio for row in rows if row.ratio and row.peer_name == peer_name]
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        print(f"{peer_name}: geometric mean {mean:.2f}, least {min(ratios):.2f}, of {len(ratios)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("word", nargs="*", help="tables to make: operations, calls, training")
    words = parser.parse_args().word
    pinned = _pin()
    nc.set_num_threads(1)
    torch = _torch()
    peers = f"NumPy {np.__version__}, " + (f"PyTorch {torch.__version__}" if torch else "no PyTorch")
    print(f"normcore {nc.__version__}, {nc.get_isa()}, one thread, {pinned}; {peers}; {platform.machine()}")
    print("Medians of interleaved slices; ratio = peer's time / normcore's. float32.")
    tables = {
        "operations: affine": lambda: operations.affine(torch),
        "operations: rows": lambda: operations.rows(torch),
        "calls": operations.calls,
        "training": lambda: training.steps(torch),
    }
    for title, make in tables.items():
        if not words or any(word in title for word in words):
            _show(title, list(make()))


if __name__ == "__main__":
    main()
