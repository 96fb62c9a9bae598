"""Attributes of trainers and optimisers that may be set at any time: checked then, and obeyed from the next step on."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

__all__ = ["read_only", "setting"]


def setting(name: str, check: Callable[[Any, Any], Any], *, between_epochs: bool = False) -> Any:
    """A property whose values are what ``check(owner, value)`` returns.

    `between_epochs`: in the middle of an epoch, where it would decide which rows are left, it is refused.
    """
    slot = f"_set_{name}"

    def store(owner: Any, value: Any) -> None:
        checked = check(owner, value)
        done = vars(owner).get("_batch", 0)
        if between_epochs and done and checked != vars(owner)[slot]:
            raise ValueError(
                f"{type(owner).__name__}: {name} cannot be set in the middle of an epoch ({done} steps of it are done)"
            )
        vars(owner)[slot] = checked

    return property(operator.attrgetter(slot), store)  # the getter is compiled: each step asks a dozen of them


def read_only(name: str, instead: str) -> Any:
    """A property that is set once, by `__init__`; `instead` says what to do later."""
    slot = f"_set_{name}"

    def store(owner: Any, value: Any) -> None:
        if slot in vars(owner):
            raise AttributeError(f"{type(owner).__name__}: {name} cannot be set; {instead}")
        vars(owner)[slot] = value

    return property(operator.attrgetter(slot), store)
