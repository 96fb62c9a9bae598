"""Any view that NumPy can make: the bits of contiguous copies, or refused with nothing written."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from layouts import trial


@given(st.integers(0, 2**64 - 1))
def test_random_views_of_one_buffer(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(8):
        trial(random)


def test_both_outcomes_are_met() -> None:
    random = np.random.default_rng(0)
    met = Counter(trial(random) for _ in range(800))
    assert min(met["computed"], met["refused"]) > 100
