"""Hypothesis profiles, and fixtures that put the process-wide settings back."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import normcore
from normcore.testing import register_profiles, use_isa, use_num_threads

register_profiles()


@pytest.fixture(autouse=True)
def _settings_put_back() -> Iterator[None]:
    """Whatever a test does, the next one starts with the instruction set and the number of threads it found."""
    with use_isa(normcore.get_isa()), use_num_threads(normcore.get_num_threads()):
        yield


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Matplotlib warns, which is an error here, where many figures are open."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(params=normcore.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once with each instruction set of this machine (not for use with @given)."""
    with use_isa(request.param):
        yield request.param


@pytest.fixture
def threads() -> Iterator[None]:
    """For tests that set the number of threads: the one found is put back."""
    with use_num_threads(normcore.get_num_threads()):
        yield
