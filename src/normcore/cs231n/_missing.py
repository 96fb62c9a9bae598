"""What the course has and normcore has not: the names are there, so that imports succeed, and say so when called."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

__all__ = ["WHY", "missing"]

WHY = "normcore has affine maps and normalisation, no convolutions and no pooling"


def missing(name: str) -> Callable[..., NoReturn]:
    """A function of that name that raises `NotImplementedError`.

    >>> missing("conv_forward_naive")(1, 2)
    Traceback (most recent call last):
    NotImplementedError: conv_forward_naive: normcore has affine maps and normalisation, no convolutions and no pooling
    """

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(f"{name}: {WHY}")

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = f"Not here: raises `NotImplementedError`, as {WHY}."
    return refuse
