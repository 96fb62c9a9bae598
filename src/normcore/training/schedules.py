"""Learning-rate schedules. A schedule maps the number of optimisation steps done so far to a learning rate.

They use + - * / on Python floats and a cosine of their own: the same bits on every machine, which `math.cos` and `**`
do not promise.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

from normcore._checks import check_choice, check_integer, check_number
from normcore.training.history import CURVES, Curve, is_better

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "OneCycleSchedule",
    "PlateauSchedule",
    "Schedule",
    "StepSchedule",
]

# Minimax coefficients of sin and cos on [-pi/4, pi/4], within 2**-58 (Sun Microsystems' fdlibm, k_sin.c and k_cos.c).
_SIN = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
_COS = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)


def _horner(z: float, coefficients: tuple[float, ...]) -> float:
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * z + coefficient
    return total


def _sin(x: float) -> float:
    """Sine for |x| <= pi/4, within 1 ULP."""
    z = x * x
    return x + x * (z * _horner(z, _SIN))


def _cos(x: float) -> float:
    """Cosine for |x| <= pi/4, within 1 ULP."""
    z = x * x
    half = 0.5 * z
    leading = 1.0 - half
    # (1 - leading) - half is exactly what the subtraction above rounded away.
    return leading + (((1.0 - leading) - half) + z * (z * _horner(z, _COS)))


def _power(base: float, exponent: int) -> float:
    """base**exponent by repeated squaring, the lowest bit of the exponent first."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        exponent >>= 1
        if exponent:
            base *= base
    return result


@dataclass(frozen=True)
class Schedule(ABC):
    """Base of the schedules: ``schedule(step)`` is the learning rate of the step after `step` finished ones.

    All take `warmup`, a number of steps (default 0) in which the rate rises in equal parts from learning_rate / warmup
    to learning_rate; only then does the schedule proper begin, at its step 0.

    Examples
    --------
    >>> schedule = nc.ConstantSchedule(0.1, warmup=4)
    >>> [schedule(step) for step in (0, 1, 3, 1000)]
    [0.025, 0.05, 0.1, 0.1]
    >>> schedule.to_dict()
    {'schedule': 'ConstantSchedule', 'learning_rate': 0.1, 'warmup': 4}
    """

    learning_rate: float
    _: dataclasses.KW_ONLY
    warmup: int = 0

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "learning_rate", check_number(self.learning_rate, name, "learning_rate"))
        object.__setattr__(self, "warmup", check_integer(self.warmup, name, "warmup", 0))

    def __call__(self, step: SupportsIndex) -> float:
        """Learning rate after `step` steps, a float; `step` is an integer, not negative."""
        done = check_integer(step, type(self).__name__, "step", 0)
        if done < self.warmup:
            return self.learning_rate * ((done + 1) / self.warmup)
        return self._rate(done - self.warmup)

    @abstractmethod
    def _rate(self, step: int) -> float:
        """Learning rate `step` steps after the warm-up."""

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as a dict fit for JSON; see `schedule_from_dict`."""
        return {"schedule": type(self).__name__, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """learning_rate, for ever.

    Examples
    --------
    >>> nc.ConstantSchedule(0.1)(1000)
    0.1
    """

    def _rate(self, step: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """learning_rate * factor ** (step // every): a drop after each `every` steps. `factor` is in [0, 1].

    Examples
    --------
    >>> schedule = nc.StepSchedule(0.1, every=100, factor=0.5)
    >>> [schedule(step) for step in (0, 99, 100, 200)]
    [0.1, 0.1, 0.05, 0.025]
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "every", check_integer(self.every, "StepSchedule", "every", 1))
        object.__setattr__(self, "factor", check_number(self.factor, "StepSchedule", "factor", 0.0, 1.0))

    def _rate(self, step: int) -> float:
        return self.learning_rate * _power(self.factor, step // self.every)


@dataclass(frozen=True)
class ExponentialSchedule(Schedule):
    """learning_rate * factor ** step. `factor`, the decay of one step, is in [0, 1].

    Examples
    --------
    >>> schedule = nc.ExponentialSchedule(0.5, factor=0.5)
    >>> [schedule(step) for step in range(4)]
    [0.5, 0.25, 0.125, 0.0625]
    """

    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "factor", check_number(self.factor, "ExponentialSchedule", "factor", 0.0, 1.0))

    def _rate(self, step: int) -> float:
        return self.learning_rate * _power(self.factor, step)


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Half a cosine wave from learning_rate down to `final` in `steps` steps, then `final` (arXiv 1608.03983).

    ``final + (learning_rate - final) * (1 + cos(pi * step / steps)) / 2``; `steps` does not count the warm-up.

    Examples
    --------
    >>> schedule = nc.CosineSchedule(0.5, steps=100)
    >>> [round(schedule(step), 3) for step in (0, 25, 50, 100)]
    [0.5, 0.427, 0.25, 0.0]
    """

    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", check_integer(self.steps, "CosineSchedule", "steps", 1))
        object.__setattr__(self, "final", check_number(self.final, "CosineSchedule", "final"))

    def _rate(self, step: int) -> float:
        if step >= self.steps:
            return self.final
        return self.final + (self.learning_rate - self.final) * _half_wave(step, self.steps)


@dataclass(frozen=True)
class OneCycleSchedule(Schedule):
    """Half a cosine wave up from `initial` to learning_rate, then one down to `final` (Smith and Topin, 1708.07120).

    The rate is learning_rate after ``int(rise * steps)`` steps and `final` from `steps` on. `initial` is learning_rate
    / 25 and `final` initial / 10000 unless given. The rise is the warm-up: `warmup` must be 0.

    >>> schedule = OneCycleSchedule(0.1, steps=10)
    >>> [round(schedule(step), 4) for step in (0, 3, 10)]
    [0.004, 0.1, 0.0]
    """

    steps: int
    rise: float = 0.3
    initial: float | None = None
    final: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "OneCycleSchedule"
        if self.warmup:
            raise ValueError(f"{name}: warmup is {self.warmup}; it must be 0, for `rise` is the part that warms up")
        object.__setattr__(self, "steps", check_integer(self.steps, name, "steps", 1))
        object.__setattr__(self, "rise", check_number(self.rise, name, "rise", 0.0, 1.0))
        initial = self.learning_rate / 25.0 if self.initial is None else check_number(self.initial, name, "initial")
        final = initial / 1e4 if self.final is None else check_number(self.final, name, "final")
        object.__setattr__(self, "initial", initial)
        object.__setattr__(self, "final", final)

    def _rate(self, step: int) -> float:
        assert self.initial is not None
        assert self.final is not None
        up = int(self.rise * self.steps)
        if step < up:
            return self.learning_rate + (self.initial - self.learning_rate) * _half_wave(step, up)
        if step >= self.steps:
            return self.final
        return self.final + (self.learning_rate - self.final) * _half_wave(step - up, self.steps - up)


@dataclass(frozen=True)
class PlateauSchedule(Schedule):
    """learning_rate * factor ** n, not below `minimum`: a drop whenever a curve has not improved for `patience` epochs.

    `curve` is one of `History`; an epoch is an improvement if it is better than the best so far by more than
    `min_delta`. The schedule keeps nothing: n is counted from the curve, and so a checkpoint has all there is. Called
    with a step alone, as outside of a `Trainer`, it is learning_rate.

    >>> schedule = PlateauSchedule(0.1, patience=2, factor=0.5)
    >>> schedule.after(9, [1.0, 0.8, 0.9, 0.85, 0.8, 0.9])
    0.025
    """

    curve: Curve = "val_loss"
    patience: int = 10
    factor: float = 0.1
    min_delta: float = 0.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "PlateauSchedule"
        check_choice(self.curve, CURVES, name, "curve")
        object.__setattr__(self, "patience", check_integer(self.patience, name, "patience", 1))
        object.__setattr__(self, "factor", check_number(self.factor, name, "factor", 0.0, 1.0))
        object.__setattr__(self, "min_delta", check_number(self.min_delta, name, "min_delta"))
        object.__setattr__(self, "minimum", check_number(self.minimum, name, "minimum"))

    def _rate(self, step: int) -> float:
        return self.learning_rate

    def after(self, step: int, values: Sequence[float]) -> float:
        """Learning rate after `step` steps when the curve has these values, the first from before training."""
        best, waited, drops = None, 0, 0
        for value in values:
            if is_better(self.curve, value, best, self.min_delta):
                best, waited = value, 0
                continue
            waited += 1
            if waited == self.patience:
                waited, drops = 0, drops + 1
        rate = self(step)
        return max(rate * _power(self.factor, drops), min(rate, self.minimum))


def _half_wave(step: int, steps: int) -> float:
    """(1 + cos(pi * step / steps)) / 2: from 1 to 0."""
    # That is cos(a/2)**2 = sin((pi - a)/2)**2. The squares lose nothing near the end, where 1 + cos a cancels, and
    # either angle is at most pi/4 in its half, so that no range reduction is needed.
    left = steps - step
    root = _cos(math.pi * (step / (2 * steps))) if step <= left else _sin(math.pi * (left / (2 * steps)))
    return root * root


_SCHEDULES: dict[str, type[Schedule]] = {
    schedule.__name__: schedule
    for schedule in (
        ConstantSchedule,
        StepSchedule,
        ExponentialSchedule,
        CosineSchedule,
        OneCycleSchedule,
        PlateauSchedule,
    )
}


def schedule_from_dict(data: Mapping[str, Any]) -> Schedule:
    """Return the schedule whose `to_dict` this is; ValueError if it is none."""
    fields = dict(data)
    name = fields.pop("schedule", None)
    if name not in _SCHEDULES:
        raise ValueError(f"schedule_from_dict: {name!r} is no schedule; known are {', '.join(_SCHEDULES)}")
    try:
        return _SCHEDULES[name](**fields)
    except TypeError as error:
        raise ValueError(f"schedule_from_dict: {name}: {error}") from None


LearningRate = float | Schedule | Callable[[int], float]


def rate_at(rate: Callable[[int], float], step: int, curves: Mapping[str, Sequence[float]]) -> float:
    """The learning rate of a trainer whose history has these curves, after `step` steps."""
    if isinstance(rate, PlateauSchedule):
        return rate.after(step, curves.get(rate.curve, ()))
    return check_number(rate(step), "Trainer", f"learning_rate of step {step}")
