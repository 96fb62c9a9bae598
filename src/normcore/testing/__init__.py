"""Property-based testing of numerical code against a reference.

`reference` is a naive NumPy version of every operation of normcore, `contract` a slow one that gives its bits.
`ulp` measures distances in units in the last place and compares bits, `gradients` checks gradients by finite
differences, `use_isa` and `use_num_threads` change the environment of a block. These need NumPy alone.

`strategies` (arrays of every layout, special values, whole problems) and `profiles` are for hypothesis, which the extra
``normcore[test]`` installs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import contract, gradients, reference, ulp
from .environment import use_isa, use_num_threads
from .gradients import check_gradients, numerical_gradient
from .ulp import (
    assert_same_bits,
    assert_ulp,
    column_ulp_error,
    row_ulp_error,
    same_bits,
    ulp_error,
)

if TYPE_CHECKING:
    from . import profiles, strategies
    from .profiles import register_profiles

__all__ = [
    "assert_same_bits",
    "assert_ulp",
    "check_gradients",
    "column_ulp_error",
    "contract",
    "gradients",
    "numerical_gradient",
    "profiles",
    "reference",
    "register_profiles",
    "row_ulp_error",
    "same_bits",
    "strategies",
    "ulp",
    "ulp_error",
    "use_isa",
    "use_num_threads",
]


def __getattr__(name: str) -> Any:
    # What needs hypothesis is imported when it is asked for, so that the rest works without it.
    from importlib import import_module

    if name in ("profiles", "strategies"):
        return import_module(f"{__name__}.{name}")
    if name == "register_profiles":
        return import_module(f"{__name__}.profiles").register_profiles
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
