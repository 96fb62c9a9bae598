"""Tests of numerical code against a reference: your own layers, or anything that computes with arrays of floats.

`reference` is a naive NumPy version of every operation of normcore, `contract` a slow one that gives its bits.
`assert_ulp` and `within_ulp` compare results in units in the last place, `assert_same_bits` bit for bit, and
`check_gradients` gradients with finite differences. `check_layouts` calls a function with arrays of every layout in
memory, `apply_layout` makes them; `special_values`, `sprinkle_special` and `fill` make values that are hard on it.
`use_isa` and `use_num_threads` change the environment of a block. These need NumPy alone.

`strategies` (arrays of every layout, special values, whole problems) and `register_profiles` are for hypothesis, which
the extra ``normcore[testing]`` installs, with pytest. docs/testing.md is a tour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import contract, reference
from .comparison import assert_same_bits, assert_ulp, same_bits, ulp, ulp_error, within_ulp
from .environment import use_isa, use_num_threads
from .gradients import check_gradients, numerical_gradient
from .layouts import LAYOUTS, VECTOR_LAYOUTS, apply_layout, check_layouts, plain
from .values import FILLS, fill, special_values, sprinkle_special

if TYPE_CHECKING:
    from . import profiles, strategies
    from .profiles import register_profiles

__all__ = [
    "FILLS",
    "LAYOUTS",
    "VECTOR_LAYOUTS",
    "apply_layout",
    "assert_same_bits",
    "assert_ulp",
    "check_gradients",
    "check_layouts",
    "contract",
    "fill",
    "numerical_gradient",
    "plain",
    "profiles",
    "reference",
    "register_profiles",
    "same_bits",
    "special_values",
    "sprinkle_special",
    "strategies",
    "ulp",
    "ulp_error",
    "use_isa",
    "use_num_threads",
    "within_ulp",
]


def __getattr__(name: str) -> Any:
    # What needs hypothesis is imported when it is asked for, so that the rest works without it.
    from importlib import import_module

    if name in ("profiles", "strategies"):
        return import_module(f"{__name__}.{name}")
    if name == "register_profiles":
        return import_module(f"{__name__}.profiles").register_profiles
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
