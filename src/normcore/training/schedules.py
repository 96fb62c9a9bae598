"""Learning-rate schedules. A schedule maps the number of optimisation steps done so far to a learning rate.

They use + - * / on Python floats and a cosine of their own: the same bits on every machine, which `math.cos` and `**`
do not promise.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

from normcore._checks import check_integer, check_number

__all__ = ["ConstantSchedule", "CosineSchedule", "ExponentialSchedule", "Schedule", "StepSchedule"]

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
    """learning_rate, for ever."""

    def _rate(self, step: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """learning_rate * factor ** (step // every): a drop after each `every` steps. `factor` is in [0, 1]."""

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
    """learning_rate * factor ** step. `factor`, the decay of one step, is in [0, 1]."""

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
        # (1 + cos a) / 2 = cos(a/2)**2 = sin((pi - a)/2)**2. The squares lose nothing near the end, where 1 + cos a
        # cancels, and either angle is at most pi/4 in its half, so that no range reduction is needed.
        left = self.steps - step
        root = _cos(math.pi * (step / (2 * self.steps))) if step <= left else _sin(math.pi * (left / (2 * self.steps)))
        return self.final + (self.learning_rate - self.final) * (root * root)


_SCHEDULES: dict[str, type[Schedule]] = {
    schedule.__name__: schedule for schedule in (ConstantSchedule, StepSchedule, ExponentialSchedule, CosineSchedule)
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
