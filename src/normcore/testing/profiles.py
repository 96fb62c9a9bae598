"""Profiles of hypothesis: how thoroughly properties are tested."""

from __future__ import annotations

import os

try:
    from hypothesis import HealthCheck, settings
except ImportError as _error:
    raise ImportError("normcore.testing.profiles needs hypothesis: pip install 'normcore[testing]'") from _error

__all__ = ["PROFILES", "register_profiles"]

# Examples are drawn from seeds, so that generation is quick and its speed says nothing; a slow machine is no failure.
_QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)

PROFILES: dict[str, settings] = {
    # while writing code: a few fresh examples each time
    "dev": settings(max_examples=20, deadline=None, suppress_health_check=_QUIET),
    # before merging: the same examples everywhere, so that a failure is a failure of the change
    "ci": settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        print_blob=True,
        suppress_health_check=_QUIET,
    ),
    # overnight: as many as hypothesis cares to make
    "soak": settings(
        max_examples=20_000,
        deadline=None,
        print_blob=True,
        suppress_health_check=_QUIET,
    ),
}


def register_profiles(load: str | None = None) -> str:
    """Register the profiles ``dev``, ``ci`` and ``soak`` with hypothesis, and load one of them.

    `load`, or else the environment variable ``NORMCORE_PROFILE``, or else ``dev`` names it; the name is returned.
    Call it from ``conftest.py``. Hypothesis has them as ``normcore-dev`` and so on, beside profiles of your own. Any
    other name is a ValueError.

    Examples
    --------
    >>> from normcore.testing import register_profiles
    >>> register_profiles("dev")
    'dev'
    """
    for name, profile in PROFILES.items():
        settings.register_profile(f"normcore-{name}", profile)
    chosen = load or os.environ.get("NORMCORE_PROFILE") or "dev"
    if chosen not in PROFILES:
        source = "" if load else "NORMCORE_PROFILE: "
        raise ValueError(f"{source}no profile {chosen!r}; there are {', '.join(PROFILES)}")
    settings.load_profile(f"normcore-{chosen}")
    return chosen
