"""How ``normcore reproduce`` tells what is running and how long it will still take."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol

__all__ = ["Progress", "progress_bar"]


class Progress(Protocol):
    """Counts expected seconds, so that a long run moves it further than a short one."""

    def running(self, what: str) -> None:
        """Show what is running from now on."""

    def done(self, seconds: float) -> None:
        """Something that was expected to take so long is done."""


class _Quiet:
    """Stands in for a bar that nobody would see."""

    def running(self, what: str) -> None:
        pass

    def done(self, seconds: float) -> None:
        pass


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def running(self, what: str) -> None:
        self._bar.set_description_str(what)

    def done(self, seconds: float) -> None:
        self._bar.update(seconds)


@contextlib.contextmanager
def progress_bar(total: float, wanted: bool | None = None) -> Iterator[Progress]:
    """A bar on standard error for `total` expected seconds; None shows it on a terminal alone, if there is tqdm."""
    try:
        tqdm = importlib.import_module("tqdm").tqdm  # optional, and without type information
    except ImportError:
        yield _Quiet()
        return
    # disable=None is tqdm's "only on a terminal".
    with tqdm(
        total=total,
        bar_format="{desc} {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left",
        leave=False,
        disable=None if wanted is None else not wanted,
        dynamic_ncols=True,
        file=sys.stderr,
    ) as bar:
        yield _Bar(bar)
