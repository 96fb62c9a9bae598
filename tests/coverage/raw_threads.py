"""Lets coverage follow threads that `_thread` starts, as it does those of `threading`.

Before Python 3.12 a thread is traced only if something in it says so; `threading` does that, for its own.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

_start = _thread.start_new_thread


def _start_traced(
    function: Callable[..., object], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> int:
    def traced() -> None:
        sys.settrace(threading.gettrace())
        function(*args, **(kwargs or {}))

    return _start(traced, ())


_thread.start_new_thread = _start_traced
