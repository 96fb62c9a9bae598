"""Random views of one buffer as inputs and outputs of every Python function, for as long as one likes.

python tests/fuzz/layouts.py [SECONDS [SEED]]

60 seconds and seed 0 by default; with "soak" for SECONDS 8 hours from a seed of its own. What holds is said in
tests/python/layouts.py.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from layouts import trial


def main() -> int:
    soak = sys.argv[1:2] == ["soak"]
    seconds = 8 * 3600.0 if soak else float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(64) if soak else 0
    end = time.monotonic() + seconds
    met: Counter[str] = Counter()
    number = 0
    while time.monotonic() < end:
        try:
            met[trial(np.random.default_rng([seed, number]))] += 1
        except AssertionError as error:
            print(f"seed {seed}, trial {number}: {error}")
            return 1
        number += 1
    print(f"seed {seed}: {number} trials, {met['computed']} computed, {met['refused']} refused, none wrong")
    if not met["computed"] or not met["refused"]:
        print("one of the two outcomes was never met")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
