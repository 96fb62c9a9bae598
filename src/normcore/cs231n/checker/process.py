"""A process that runs somebody's code, with a limit for time and for memory."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from normcore.cs231n.checker.wire import WireError, receive, send

__all__ = ["CodeProcess", "EndedError", "TimeUpError"]

_START = 60.0  # seconds for the interpreter and NumPy, which are not the code's
# One thread: what is computed is small, and limits of memory count the stacks of idle threads.
_ENVIRONMENT = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class TimeUpError(Exception):
    """The code did not come to an end within its time."""


class EndedError(Exception):
    """The code has ended its process, in the way that the text says."""


class CodeProcess:
    """Runs commands in a process of its own; after TimeUpError or EndedError it is gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "normcore.cs231n.checker.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
        self._answers: queue.Queue[Any] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                self._answers.put(receive(self._process.stdout))
        except (WireError, OSError, ValueError) as error:
            self._answers.put(WireError(str(error)))

    def load(self, files: Sequence[str], memory: int | None, limit: float) -> dict[str, Any]:
        """Import the files: the functions found, with the file of each, or the error."""
        self.ask({"do": "start"}, time.monotonic() + _START)
        return self.ask({"do": "load", "files": list(files), "memory": memory}, time.monotonic() + limit)

    def ask(self, command: dict[str, Any], deadline: float) -> dict[str, Any]:
        """The answer to a command, which is to come before the deadline."""
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, command)
        except OSError:
            self._raise_ended()
        try:
            answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self.close()
            raise TimeUpError from None
        if not isinstance(answer, dict):
            self._raise_ended()
        found: dict[str, Any] = answer
        return found

    def _raise_ended(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        self.close()
        if code is None:
            raise EndedError("closes the streams of its process")
        if code < 0:
            with contextlib.suppress(ValueError):
                raise EndedError(f"ends its process with signal {signal.Signals(-code).name}")
        raise EndedError(f"ends its process with status {code}")

    def close(self) -> None:
        """End the process and what it has started."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
        self._process.wait()
        self._reader.join(1.0)  # a process that the code has started may hold the stream
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
