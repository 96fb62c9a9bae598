"""The pytest plugin that comes with normcore: it explains comparisons in ULP and has Hypothesis profiles and a fixture.

pytest loads it wherever normcore is installed, so it imports neither NumPy nor normcore, whose package it is not in for
this reason, before a suite uses them. docs/testing.md says what it offers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_PROFILES = "normcore-"


@pytest.hookimpl(tryfirst=True)  # before Hypothesis loads the profile
def pytest_configure(config: pytest.Config) -> None:
    """``--hypothesis-profile=normcore-ci`` and the like, without a line in the suite's conftest.py."""
    profile = config.getoption("--hypothesis-profile", default=None)
    if isinstance(profile, str) and profile.startswith(_PROFILES):
        from normcore.testing import register_profiles

        try:
            register_profiles(profile.removeprefix(_PROFILES))
        except ValueError as error:
            raise pytest.UsageError(f"--hypothesis-profile: {error}") from None


def pytest_assertrepr_compare(op: str, left: Any, right: Any) -> list[str] | None:
    """The worst elements, where ``assert y == within_ulp(exact, 2)`` fails."""
    comparison = sys.modules.get("normcore.testing.comparison")
    if comparison is None or op != "==":
        return None
    for expected, actual in ((right, left), (left, right)):
        if isinstance(expected, comparison.within_ulp):
            return [f"results within {expected.limit:g} ULP", *expected.explain(actual)]
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that uses `normcore_isa` runs once for each instruction set."""
    if "normcore_isa" in metafunc.fixturenames:
        from normcore import available_isas

        metafunc.parametrize("normcore_isa", available_isas(), indirect=True)


@pytest.fixture
def normcore_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once with each instruction set of normcore that the machine has, and gives its name."""
    from normcore.testing import use_isa

    with use_isa(request.param):
        yield request.param
