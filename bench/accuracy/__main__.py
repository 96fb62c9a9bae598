"""Prints the error of every operation on every class of data, and whether it meets the goal.

    python -m bench.accuracy [--quick] [--dtype float32 | float64] [--seed N] [WORD ...]

Words choose tables whose titles hold one of them. The status is 1 if a goal is missed by more than is known.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys

import numpy as np

import normcore

from .libraries import installed
from .tables import TABLES, Line, Setting


def figure(error: float | None) -> str:
    """Three digits."""
    if error is None:
        return "-"
    if error == 0 or not math.isfinite(error):
        return f"{error:g}"
    return f"{error:.2f}" if 0.01 <= error < 10 else f"{error:.3g}".replace("e+0", "e").replace("e+", "e")


def show(line: Line, width: int) -> str:
    """One line of a table."""
    goal, verdict = ("-", "") if line.goal is None else (f"{line.goal:.4g}", "met" if line.met else "MISSED")
    ours, *others = map(figure, line.errors)
    return f"{line.data:{width}} {goal:>6} {ours:>9}  {verdict:6}" + "".join(f"{e:>15}" for e in others)


def main() -> int:
    """Everything asked for, and how many goals were met."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only tables whose titles hold one of the words")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller data: some seconds, not minutes")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="only this type of data")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()

    libraries = installed()
    print(
        f"normcore {normcore.__version__} ({normcore.CONTRACT}, {normcore.get_isa()}), NumPy {np.__version__}, "
        f"Python {platform.python_version()}, seed {chosen.seed}{', quick' if chosen.quick else ''}"
    )
    lines: list[tuple[str, Line]] = []
    for dtype in [chosen.dtype] if chosen.dtype else ["float32", "float64"]:
        setting = Setting(libraries, np.dtype(dtype), chosen.quick, chosen.seed)
        for operation, (what, measure) in TABLES.items():
            title = f"{operation}, {dtype}"
            if chosen.words and not any(word in title for word in chosen.words):
                continue
            names = "".join(
                f"{library.name:>15}" if i else f" {library.name:>8}" + " " * 8 for i, library in enumerate(libraries)
            )
            print(f"\n{f'{title}: {what}':44}\n{'':32} {'goal':>6}{names}")
            for line in measure(setting):
                lines.append((title, line))
                print(show(line, 32), flush=True)
    goals = sum(line.goal is not None for _, line in lines)
    missed = [(title, line) for title, line in lines if not line.met]
    unexpected = sum(not line.expected for _, line in lines)
    print()
    for title, line in missed:
        known = f", known up to {line.known:g}" if line.expected else ""
        print(f"{title}, {line.data}: {figure(line.errors[0])}, goal {line.goal:g}{known}")
    print(f"{goals - len(missed)} of {goals} goals met, {unexpected} missed by more than is known")
    return 1 if unexpected or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
