"""What the checker knows of a function: how to call it, what is right, and what comes out of known mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcore.cs231n.checker.wire import Opaque, Reference

__all__ = ["Array", "Call", "Case", "Function", "MalformedError", "Outcome", "Wrong", "outputs_of"]

Array = NDArray[Any]
Wrong = frozenset[str]  # names of mistakes
Outcome = Mapping[str, Any]  # outputs by name: arrays, or None where one is missing


class MalformedError(Exception):
    """What a function returns has not the form it should have; the text is the end of a sentence about the function."""


@dataclass(frozen=True, eq=False)
class Case:
    """What a function is called with. Ordinary cases have no tag; others show what only some inputs show."""

    given: Mapping[str, Any]
    tag: str = ""


@dataclass(frozen=True, eq=False)
class Call:
    """A call of one of the code's functions. `watched` arguments must be left as they are, `opaque` outputs unread."""

    function: str
    arguments: Mapping[str, Any]
    watched: Sequence[str] = ()
    opaque: Sequence[int] = ()

    def message(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "arguments": dict(self.arguments),
            "watched": list(self.watched),
            "opaque": list(self.opaque),
        }


@dataclass(frozen=True, eq=False)
class Function:
    """One function of the course.

    `reference(case, wrong, seen)` gives the right outputs of a case, computed in the type of its arrays, or with names
    of mistakes in `wrong` those that a code with these mistakes gives. `seen` is what the code gave, for functions that
    draw random numbers. `terms` splits outputs into summands with names, so that a wrong coefficient can be told.
    """

    name: str
    outputs: Sequence[str]
    cases: Sequence[Case]
    calls: Callable[[Case], list[Call]]
    reference: Callable[[Case, Wrong, Outcome], dict[str, Any]]
    mistakes: Mapping[str, str]
    observed: Callable[[Case, list[dict[str, Any]]], dict[str, Any]]
    forward: str | None = None
    terms: Callable[[Case], dict[str, dict[str, Array]]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)  # words for tags
    remarks: Mapping[str, str] = field(default_factory=dict)  # tags and mistakes whose findings are "right, but"
    otherwise: Sequence[Case] = ()  # cases that count instead where they fit better: shapes that editions differ in
    steps: bool = False  # whether the first axis of outputs counts calls that follow each other
    words: Mapping[str, str] = field(default_factory=dict)  # for outputs that have no name in the code
    shapeless: Sequence[str] = ()  # outputs of which only the number of elements counts
    gradients: Mapping[str, str] = field(default_factory=dict)  # outputs that are gradients, and of which argument
    lossy: Callable[[Case], tuple[str, float]] | None = None


def outputs_of(call: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The outputs of a call by name; MalformedError unless there are as many, and each is an array, number or None."""
    result = call["result"]
    if len(names) == 1:
        if call["tuple"] and isinstance(result, list):
            raise MalformedError(f"returns {len(result)} values instead of {names[0]} alone")
        values = [result]
    else:
        wanted = f"{', '.join(names[:-1])} and {names[-1]}"
        if result is None:
            raise MalformedError(f"returns None instead of {wanted}: its return statement is missing")
        if not call["tuple"]:
            raise MalformedError(f"returns a single value instead of {wanted}")
        if len(result) != len(names):
            raise MalformedError(f"returns {len(result)} values instead of {wanted}")
        values = result
    found = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, list):
            value = np.asarray(value) if all(isinstance(entry, (int, float)) for entry in value) else Opaque("list")
        if isinstance(value, (Opaque, str, dict)) and name not in ("cache", "config"):
            raise MalformedError(
                f"returns {value.kind if isinstance(value, Opaque) else type(value).__name__} as {name}"
            )
        found[name] = np.asarray(value) if isinstance(value, (bool, int, float)) else value
    return found


def cache_of(call: int) -> Reference:
    """The cache that an earlier forward call gave."""
    return Reference(call, 1)
