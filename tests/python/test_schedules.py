"""Learning-rate schedules: values, warm-up, bits, validation; and the encoding of labels."""

from __future__ import annotations

import itertools
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

from normcore.labels import encode_labels
from normcore.training.schedules import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    Schedule,
    StepSchedule,
    schedule_from_dict,
)

ALL = [
    ConstantSchedule(1e-3),
    ConstantSchedule(1e-3, warmup=4),
    StepSchedule(0.1, 10, 0.5, warmup=3),
    ExponentialSchedule(0.1, 0.99),
    CosineSchedule(3e-3, 100, 1e-5, warmup=10),
    OneCycleSchedule(3e-3, 100, final=1e-6),
    PlateauSchedule(0.1, "train_accuracy", 3, 0.5, 1e-3, 1e-4, warmup=3),
]


def test_constant() -> None:
    assert [ConstantSchedule(0.25)(step) for step in (0, 1, 10**12)] == [0.25] * 3


def test_step() -> None:
    schedule = StepSchedule(0.5, every=10, factor=0.5)
    assert [schedule(step) for step in (0, 9, 10, 19, 20, 39)] == [0.5, 0.5, 0.25, 0.25, 0.125, 0.0625]


def test_exponential() -> None:
    schedule = ExponentialSchedule(2.0, 0.5)
    assert [schedule(step) for step in range(5)] == [2.0, 1.0, 0.5, 0.25, 0.125]
    assert ExponentialSchedule(0.1, 0.999)(1000) == pytest.approx(0.1 * 0.999**1000, rel=1e-13)
    assert ExponentialSchedule(0.1, 0.0)(3) == 0.0
    assert ExponentialSchedule(0.1, 1.0)(10**9) == 0.1
    assert ExponentialSchedule(0.1, 0.5)(10**6) == 0.0


def test_cosine_is_the_cosine_to_double_precision() -> None:
    schedule = CosineSchedule(1.0, 1000)
    for step in range(1001):
        # sin**2 rather than (1 + cos)/2, which has no digits left near the end
        expected = math.sin(math.pi * (1000 - step) / 2000) ** 2
        assert schedule(step) == pytest.approx(expected, rel=1e-15, abs=0.0)
    assert schedule(0) == 1.0
    assert schedule(500) == pytest.approx(0.5, rel=4e-16)
    assert schedule(1000) == schedule(10**9) == 0.0


def test_cosine_falls_from_the_rate_to_the_final_one() -> None:
    schedule = CosineSchedule(3e-3, 77, final=1e-4)
    rates = [schedule(step) for step in range(80)]
    assert rates[0] == 3e-3
    assert rates[77:] == [1e-4] * 3
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[:78]))
    rising = CosineSchedule(0.0, 10, final=1.0)
    assert rising(9) < rising(10) == 1.0


def test_cosine_bits() -> None:
    # Checked once against 200-bit arithmetic (2.3 ULP at most); the bits must never move.
    schedule = CosineSchedule(3e-3, 100, 1e-5, warmup=10)
    expected = {
        0: "0x1.3a92a30553262p-12",
        9: "0x1.89374bc6a7efap-9",
        10: "0x1.89374bc6a7efap-9",
        11: "0x1.891e8b0c3c572p-9",
        35: "0x1.4fd2a30e4eb39p-9",
        59: "0x1.96d6360e606e6p-10",
        60: "0x1.8a86d71f36265p-10",
        61: "0x1.7e3778300bde2p-10",
        85: "0x1.d5a1a0873b94fp-12",
        109: "0x1.684c12f9cf17cp-17",
        110: "0x1.4f8b588e368f1p-17",
    }
    assert {step: schedule(step).hex() for step in expected} == expected
    assert ExponentialSchedule(0.1, 0.999)(1000).hex() == "0x1.2d3751cdb248ap-5"


def test_one_cycle_rises_and_falls() -> None:
    schedule = OneCycleSchedule(1.0, 1000, rise=0.25)
    assert [schedule(step) for step in (0, 250, 1000, 10**9)] == pytest.approx([0.04, 1.0, 4e-6, 4e-6], rel=1e-14)
    for step in range(1000):
        if step < 250:
            expected = 1.0 - 0.96 * math.sin(math.pi * (250 - step) / 500) ** 2
        else:
            expected = 4e-6 + (1.0 - 4e-6) * math.sin(math.pi * (1000 - step) / 1500) ** 2
        assert schedule(step) == pytest.approx(expected, rel=1e-13)
    assert OneCycleSchedule(1.0, 10, rise=0.0)(0) == 1.0
    assert OneCycleSchedule(1.0, 10, rise=1.0, initial=0.5, final=0.0)(10) == 0.0
    assert [OneCycleSchedule(1.0, 1)(step) for step in (0, 1)] == [1.0, 4e-6]


@pytest.mark.parametrize(
    ("values", "drops"),
    [
        ([], 0),
        ([1.0], 0),
        ([1.0, 0.9, 0.8, 0.7], 0),
        ([1.0, 1.1], 0),
        ([1.0, 1.1, 1.0], 1),
        ([1.0, 1.1, 1.0, 1.0], 1),
        ([1.0, 1.1, 1.0, 1.0, 1.0], 2),
        ([1.0, 1.1, 1.0, 0.5, 0.6], 1),
        ([1.0, 0.95, 0.95], 1),  # within min_delta
        ([math.nan, math.nan], 1),
        ([1.0, math.nan, 0.5, 0.6, math.nan], 1),
    ],
)
def test_plateau_drops_when_nothing_improves(values: list[float], drops: int) -> None:
    schedule = PlateauSchedule(1.0, patience=2, factor=0.5, min_delta=0.1)
    assert schedule.after(7, values) == 0.5**drops
    accuracy = PlateauSchedule(1.0, "val_accuracy", 2, 0.5, 0.1)
    assert accuracy.after(7, [-value for value in values]) == 0.5**drops
    assert PlateauSchedule(1.0, patience=2, factor=0.5, min_delta=0.1, minimum=0.4).after(7, values) == max(
        0.5**drops, 0.4
    )
    assert schedule(7) == 1.0


def test_plateau_warms_up() -> None:
    schedule = PlateauSchedule(1.0, patience=1, factor=0.5, minimum=0.5, warmup=4)
    assert [schedule.after(step, [1.0]) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert schedule.after(1, [1.0, 1.0]) == 0.5


def test_warm_up_rises_in_equal_parts_and_shifts_the_rest() -> None:
    schedule = ExponentialSchedule(1.0, 0.5, warmup=4)
    assert [schedule(step) for step in range(7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_schedules_are_values(schedule: Schedule) -> None:
    assert schedule_from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedule(np.int64(20)) == schedule(20)
    assert type(schedule(20)) is float
    with pytest.raises(AttributeError):
        schedule.learning_rate = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConstantSchedule(-1.0), ValueError, "ConstantSchedule: learning_rate is -1.0; it must be finite"),
        (lambda: ConstantSchedule(math.nan), ValueError, "learning_rate is nan"),
        (lambda: ConstantSchedule(math.inf), ValueError, "learning_rate is inf"),
        (lambda: ConstantSchedule("fast"), TypeError, "learning_rate must be a number, not str"),
        (lambda: ConstantSchedule(0.1, warmup=-1), ValueError, "warmup is -1; it must be at least 0"),
        (lambda: ConstantSchedule(0.1, warmup=1.5), TypeError, "warmup must be an integer, not float"),
        (lambda: StepSchedule(0.1, 0), ValueError, "StepSchedule: every is 0; it must be at least 1"),
        (lambda: StepSchedule(0.1, 5, 1.5), ValueError, r"factor is 1.5; it must be in \[0, 1\]"),
        (lambda: ExponentialSchedule(0.1, -0.5), ValueError, "ExponentialSchedule: factor is -0.5"),
        (lambda: CosineSchedule(0.1, 0), ValueError, "CosineSchedule: steps is 0"),
        (lambda: CosineSchedule(0.1, 10, final=-0.1), ValueError, "final is -0.1"),
        (lambda: OneCycleSchedule(0.1, 10, warmup=2), ValueError, "OneCycleSchedule: warmup is 2; it must be 0"),
        (lambda: OneCycleSchedule(0.1, 10, rise=2.0), ValueError, r"rise is 2.0; it must be in \[0, 1\]"),
        (
            lambda: PlateauSchedule(0.1, "loss"),
            ValueError,
            "PlateauSchedule: curve is 'loss'; accepted are 'train_loss",
        ),
        (lambda: PlateauSchedule(0.1, patience=0), ValueError, "patience is 0; it must be at least 1"),
        (lambda: ConstantSchedule(0.1)(-1), ValueError, "step is -1; it must be at least 0"),
        (lambda: ConstantSchedule(0.1)(0.5), TypeError, "step must be an integer, not float"),
        (lambda: schedule_from_dict({"schedule": "Mystery"}), ValueError, "'Mystery' is no schedule"),
        (lambda: schedule_from_dict({"schedule": "StepSchedule", "odd": 1}), ValueError, "StepSchedule: .*odd"),
    ],
)
def test_wrong_parameters(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        (np.array(["dog", "cat", "dog"]), ["cat", "dog"]),
        (np.array([30, 10, 20, 10], dtype=np.uint8), [10, 20, 30]),
        (np.array([2.5, -1.0], dtype=np.float32), [-1.0, 2.5]),
        (np.array([True, False]), [False, True]),
        ([("x", 1), ("a", 2), ("x", 1)], [("a", 2), ("x", 1)]),
        ([1, "a", None, 1], [1, "a", None]),
        (np.array(["b", None, "b"], dtype=object), ["b", None]),
        (iter("cab"), ["a", "b", "c"]),
        ([np.int64(4), 3], [3, 4]),
        ([], []),
    ],
)
def test_labels_are_numbered(y: Any, classes: list[Any]) -> None:
    y = y if isinstance(y, (list, np.ndarray)) else list(y)
    codes, found = encode_labels(y)
    assert codes.dtype == np.int64
    assert codes.shape == (len(y),)
    assert found == classes
    assert not any(isinstance(value, np.generic) for value in found)
    assert [found[code] for code in codes] == list(y)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([1.0, math.nan], ValueError, "label of row 1 is NaN"),
        (np.array([math.nan]), ValueError, "label of row 0 is NaN"),
        ([[1], [2]], TypeError, "label of row 0 is not hashable"),
        (np.zeros((2, 2)), ValueError, r"y is \(2, 2\); it must have one axis"),
        ("abc", TypeError, "y is one str"),
        (np.ma.masked_array([1, 2], [0, 1]), TypeError, "masked"),
    ],
)
def test_labels_that_cannot_be_numbered(y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode_labels(y)
