"""Run a block of code with another instruction set or number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["use_isa", "use_num_threads"]


@contextmanager
def use_isa(name: str | None) -> Iterator[None]:
    """Use instruction set `name` (one of ``normcore.available_isas()``; None: the best) inside the block.

    The setting is that of the whole process, and the one found is put back.

    Examples
    --------
    >>> from normcore.testing import use_isa
    >>> with use_isa("scalar"):
    ...     print(nc.get_isa())
    scalar
    """
    from .. import get_isa, set_isa

    before = get_isa()
    set_isa(name)
    try:
        yield
    finally:
        set_isa(before)


@contextmanager
def use_num_threads(count: int) -> Iterator[None]:
    """Let calls use up to `count` threads inside the block; the number found is put back.

    Examples
    --------
    >>> from normcore.testing import use_num_threads
    >>> with use_num_threads(3):
    ...     print(nc.get_num_threads())
    3
    """
    from .. import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)
