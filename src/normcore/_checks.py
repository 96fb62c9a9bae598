"""Checks of single arguments: each returns the value in its one type, or raises an error of the caller's.

`operation` is what the caller is called, `name` what it calls the argument; every message begins with the two:
``Trainer: batch_size is 0; it must be at least 1``. A wrong type is a TypeError, a wrong value a ValueError.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, SupportsIndex, TypeVar

import numpy as np

__all__ = [
    "UINT64_END",
    "check_choice",
    "check_dtype",
    "check_flag",
    "check_integer",
    "check_number",
    "check_real",
    "check_shape",
    "check_uint64",
    "with_hints",
]

UINT64_END = 1 << 64

Choice = TypeVar("Choice", bound=str)
P = ParamSpec("P")
R = TypeVar("R")


def _index(value: SupportsIndex, operation: str, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{operation}: {name} must be an integer, not {type(value).__name__}") from None


def check_integer(value: SupportsIndex, operation: str, name: str, low: int) -> int:
    """Return `value` as an int of at least `low`.

    >>> check_integer(0, "Trainer", "batch_size", 1)
    Traceback (most recent call last):
    ValueError: Trainer: batch_size is 0; it must be at least 1
    """
    number = _index(value, operation, name)
    if number < low:
        raise ValueError(f"{operation}: {name} is {number}; it must be at least {low}")
    return number


def check_uint64(value: SupportsIndex, operation: str, name: str) -> int:
    """Return `value` as an int in [0, 2**64)."""
    number = _index(value, operation, name)
    if not 0 <= number < UINT64_END:
        raise ValueError(f"{operation}: {name} is {number}; it must be in [0, 2**64)")
    return number


def check_real(value: Any, operation: str, name: str) -> float:
    """Return `value` as a float of any value. Text is no number."""
    try:
        if not isinstance(value, (str, bytes, bytearray)):
            return float(value)
    except OverflowError:  # an integer beyond all doubles, which no range admits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{operation}: {name} must be a number, not {type(value).__name__}")


def check_number(
    value: Any,
    operation: str,
    name: str,
    low: float = 0.0,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
    wanted: str | None = None,
) -> float:
    """Return `value` as a finite float in [low, high], or without the ends that are open.

    `wanted` is what the message says must be, if not the range in numbers.

    >>> check_number(1, "MLP", "dropout", 0.0, 1.0, open_high=True)
    Traceback (most recent call last):
    ValueError: MLP: dropout is 1.0; it must be in [0, 1)
    """
    number = check_real(value, operation, name)
    above = low < number if open_low else low <= number
    below = number < high if open_high else number <= high
    if above and below and math.isfinite(number):
        return number
    if wanted is None:
        ends = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        wanted = "finite and not negative" if high == math.inf else f"in {ends}"
    raise ValueError(f"{operation}: {name} is {number!r}; it must be {wanted}")


def check_flag(value: Any, operation: str, name: str) -> bool:
    """Return `value` as a bool, which it must be: the text "no" would count as true.

    >>> check_flag("no", "Trainer", "restore_best")
    Traceback (most recent call last):
    TypeError: Trainer: restore_best is 'no'; it must be a bool
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{operation}: {name} is {value!r}; it must be a bool")
    return bool(value)


def check_choice(value: Choice, choices: Sequence[str], operation: str, name: str) -> Choice:
    """Return `value`, which is one of the texts `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{operation}: {name} is {value!r}; accepted are {', '.join(map(repr, choices))}")
    return value


def check_dtype(dtype: Any, operation: str) -> np.dtype[Any]:
    """Return float32 or float64 in native byte order; TypeError for all else, None (NumPy's float64) included."""
    checked: np.dtype[Any] | None = None
    try:
        if dtype is not None:
            checked = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):
        pass
    if checked is None or checked not in (np.dtype(np.float32), np.dtype(np.float64)):
        found = repr(dtype) if checked is None else checked.name
        raise TypeError(f"{operation}: dtype is {found}; accepted are float32 and float64")
    return checked


def with_hints(operation: str, hints: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function say what is meant here by keyword arguments of other libraries, by name.

    >>> @with_hints("train", {"lr": "learning_rate"})
    ... def train(learning_rate=0.1): ...
    >>> train(lr=1.0)
    Traceback (most recent call last):
    TypeError: train: there is no argument lr; here it is learning_rate
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name in hints:
                    raise TypeError(f"{operation}: there is no argument {name}; here it is {hints[name]}")
            return function(*args, **kwargs)

        return checked

    return decorate


def check_shape(size: SupportsIndex | Sequence[SupportsIndex], operation: str) -> tuple[int, ...]:
    """Return `size`, an integer or a sequence of them, as the shape of an array that could exist."""
    try:
        entries = tuple(size) if isinstance(size, Sequence) else (size,)
        shape = tuple(operator.index(entry) for entry in entries)
    except TypeError:
        raise TypeError(f"{operation}: size must be an integer or a tuple of integers, not {size!r}") from None
    if any(entry < 0 for entry in shape):
        raise ValueError(f"{operation}: size is {size!r}; it must not be negative")
    if math.prod(max(entry, 1) for entry in shape) > sys.maxsize // 8:
        raise ValueError(f"{operation}: size is {size!r}; no array can be that large")
    return shape
