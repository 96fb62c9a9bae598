"""Work that no signal leaves half done.

Python calls a signal's handler between any two instructions of Python code, and a handler that raises, as Ctrl-C's
does, ends there whatever was being done.
"""

from __future__ import annotations

import importlib
import operator
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import starmap
from types import FrameType, TracebackType
from typing import Any, TypeVar

from normcore import _core

__all__ = ["HeldSignals", "uninterrupted"]

Result = TypeVar("Result")

# Those of `signal` make every handler an enum first, and fail, which takes ten times as long as the system's part.
_signal = importlib.import_module("_signal")

_NUMBERS = tuple(sorted(map(int, signal.valid_signals())))


Call = tuple[Any, ...]
"""A function and its arguments."""


def uninterrupted(calls: Iterable[Call]) -> None:
    """Make all the calls in turn: a handler of a signal finds none of them done, or all.

    The functions must be compiled ones, for Python looks for signals in Python code alone. So no handler, of whatever
    signal, and no thread can get in between.
    """
    deque(starmap(operator.call, calls), maxlen=0)


class HeldSignals:
    """In its ``with`` block all signals wait whose handlers are called from Python, as Ctrl-C's is.

    The handlers are replaced by one that only takes notes. `through` calls a function in which they have their way;
    after it, and at the end of the block, they get what has been noted. Nothing is interrupted but what goes through.
    A handler that is set in such a function is held from its end on, and stays at the end of the block.

    A signal that nobody handles, which ends the process, or that is ignored is left alone. So is what the system does
    with a signal: what others do at once, in C, such as faulthandler's traces, goes on, and so does `siginterrupt`.
    Only the main thread gets signals: in others this does nothing. A block may be within what goes through another
    one. An object is for one block.
    """

    __slots__ = ("_found", "_numbers", "_open", "_pending", "_seen")

    def __init__(self) -> None:
        self._found: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._numbers = _NUMBERS if threading.current_thread() is threading.main_thread() else ()
        self._pending: list[int] = []
        self._open = False
        self._seen: list[Any] = []  # the handlers of all signals, when all were replaced that had to be

    def __enter__(self) -> HeldSignals:
        try:
            self._hold()
        except BaseException:  # by a handler not yet replaced, when others are
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def through(self, function: Callable[..., Result], *args: Any) -> Result:
        """Return ``function(*args)``, with the signals as they are outside; then those that came before have their way.

        The function is always called, whatever waits: it may be what reports the thing that was just done.
        """
        self._open = True
        try:
            result = function(*args)
        finally:
            self._open = False
            self._hold()
        self.deliver()
        return result

    def deliver(self) -> None:
        """Let those signals have their way that have come."""
        if self._pending:
            try:
                self._deliver()
            finally:
                self._open = False

    def _hold(self) -> None:
        """Replace all handlers that are not replaced yet."""
        handlers = list(map(_signal.getsignal, self._numbers))
        if handlers == self._seen:
            return
        for number, handler in zip(self._numbers, handlers, strict=True):
            if callable(handler) and handler != self._handle:
                self._found[number] = handler
                _core.replace_handler(_signal.signal, number, self._handle)
        self._seen = list(map(_signal.getsignal, self._numbers))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._open:
            self._found[number](number, frame)
        elif number not in self._pending:
            self._pending.append(number)

    def _deliver(self) -> None:
        """Call the handlers of all signals noted, in the order in which these came, whatever the others raise.

        From then on they go through. Until nothing is noted any more they do so only in the handlers: what one raises
        leaves the rest to the next turn. There is no place for a signal between a store and what follows it.
        """
        self._open = True
        if self._pending:
            self._open = False
            number = self._pending[0]
            try:
                uninterrupted(
                    (
                        (self._pending.remove, number),
                        (setattr, self, "_open", True),
                        (self._found[number], number, sys._getframe()),
                    )
                )
            finally:
                self._open = False
                self._deliver()

    def _put_back(self) -> None:
        for number, handler in self._found.items():
            if _signal.getsignal(number) == self._handle:
                _core.replace_handler(_signal.signal, number, handler)

    def _end(self) -> None:
        try:
            self._deliver()
        finally:
            # Should a handler of ours be left whatever is done here, it does nothing but call the one it replaced.
            self._open = True
            try:
                self._put_back()
            except BaseException:  # by a handler that was back before the last one
                self._put_back()
                raise
