"""Attributes of trainers and optimisers that may be set at any time: checked then, and obeyed from the next step on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

__all__ = ["read_only", "setting"]


class _Attribute:
    """Says what is done when an attribute is set. Reading is Python's own, out of the object's dict: there is no
    ``__get__``, for a step asks a dozen of them."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class _Setting(_Attribute):
    def __init__(self, check: Callable[[Any, Any], Any], between: str, discards: str | None) -> None:
        self.check = check
        self.between = between
        self.discards = () if discards is None else (discards,)

    def __set__(self, owner: Any, value: Any) -> None:
        name, values = self.name, vars(owner)
        checked = self.check(owner, value)
        done = values.get("_batch", 0)
        if self.between == "fits" and "_claimed" in values:
            raise RuntimeError(f"{type(owner).__name__}: {name} cannot be set during a fit")
        if self.between == "epochs" and done and checked != values[name]:
            raise ValueError(
                f"{type(owner).__name__}: {name} cannot be set in the middle of an epoch ({done} steps of it are done)"
            )
        values.update({name: checked, **dict.fromkeys(self.discards)})  # one call, which no signal divides


class _ReadOnly(_Attribute):
    def __init__(self, instead: str) -> None:
        self.instead = instead

    def __set__(self, owner: Any, value: Any) -> None:
        if self.name in vars(owner):
            raise AttributeError(f"{type(owner).__name__}: {self.name} cannot be set; {self.instead}")
        vars(owner)[self.name] = value


def setting(
    check: Callable[[Any, Any], Any],
    *,
    between: Literal["steps", "epochs", "fits"] = "steps",
    discards: str | None = None,
) -> Any:
    """An attribute whose values are what ``check(owner, value)`` returns.

    In the middle of an epoch a setting that decides which rows are left is refused, and during a fit one that decides
    what its data mean. `discards` is an attribute that was made from the setting: it becomes None.
    """
    return _Setting(check, between, discards)


def read_only(instead: str) -> Any:
    """An attribute that is set once, by `__init__`; `instead` says what to do later."""
    return _ReadOnly(instead)
