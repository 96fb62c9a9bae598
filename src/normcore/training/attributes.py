"""Attributes of trainers and optimisers that may be set at any time: checked then, and obeyed from the next step on."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["read_only", "setting"]


def setting(
    name: str, check: Callable[[Any, Any], Any], *, between: Literal["steps", "epochs", "fits"] = "steps"
) -> Any:
    """A property whose values are what ``check(owner, value)`` returns.

    In the middle of an epoch a setting that decides which rows are left is refused, and during a fit one that decides
    what its data mean.
    """
    slot = f"_set_{name}"

    def store(owner: Any, value: Any) -> None:
        checked = check(owner, value)
        done = vars(owner).get("_batch", 0)
        if between == "fits" and "_claimed" in vars(owner):
            raise RuntimeError(f"{type(owner).__name__}: {name} cannot be set during a fit")
        if between == "epochs" and done and checked != vars(owner)[slot]:
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
