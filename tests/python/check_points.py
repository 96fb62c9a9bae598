"""Ctrl-C at every place at which Python looks for signals, one after another."""

from __future__ import annotations

import dis
import gc
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FrameType
from typing import Any


@cache
def _offsets(code: CodeType) -> frozenset[int]:
    """The instructions before which a signal's handler may run: Python looks after calls, and where it jumps back."""
    instructions = list(dis.get_instructions(code))
    return frozenset(
        after.offset
        for before, after in itertools.pairwise(instructions)
        if before.opname.startswith("CALL") or before.opname in ("RESUME", "JUMP_BACKWARD")
    )


def _run(call: Callable[[], object], wanted: int) -> str | None:
    """Call with a SIGINT at the `wanted`-th place, and return where that was; None if there are not so many."""
    count, place = 0, None

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count, place
        if frame.f_code.co_filename == __file__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_lasti in _offsets(frame.f_code):
            count += 1
            if count == wanted:
                place = f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    gc.disable()  # what it calls, such as hypothesis's clock, drops exceptions: no place to notice Ctrl-C at
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
        gc.enable()
    return place


def interrupted_everywhere(call: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Interrupt `call` at its first place, then at its second and so on; yields the place after each.

    Only Python code is stopped in, also the standard library's; a thread that `call` starts is not: handlers run in the
    main thread, and so must the caller.
    """
    assert threading.current_thread() is threading.main_thread()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    number = 0
    while True:
        number += 1
        prepare()
        place = _run(call, number)
        if place is None:
            return
        yield place
