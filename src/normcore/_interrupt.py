"""How a command ends on Ctrl-C and on SIGTERM before it has begun: one line on standard error, and 130 or 143.

The first module that the package imports, and so as short as can be: an interrupt before `guard` is Python's to answer.
"""

# `signal` without its enumerations, of which there are no stubs.
import _signal  # type: ignore[import-not-found]
import os
import sys

__all__ = ["WORDS", "end_at_once", "guard", "is_command"]

WORDS = {_signal.SIGINT: "interrupted", _signal.SIGTERM: "terminated"}


def is_command() -> bool:
    """Whether this process runs one of the commands, by its script or by ``python -m normcore``."""
    if "--multiprocessing-fork" in sys.orig_argv:  # a worker, which has its parent's argv
        return False
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    if name != "-m":  # which stands there while Python looks for normcore.__main__
        return name in ("normcore", "normcore-config")
    options = sys.orig_argv[1:]
    return "-mnormcore" in options or any(
        options[i].startswith("-") and options[i].endswith("m") and options[i + 1] == "normcore"
        for i in range(len(options) - 1)
    )


def end_at_once(number: int, frame: object) -> None:
    """A signal's handler for as long as nothing is there that would have to be cleared away.

    No exception: in an import one can get lost, or come out as another.
    """
    try:  # noqa: SIM105 - contextlib is slow to import
        os.write(2, f"normcore: {WORDS[number]}\n".encode())
    except OSError:
        pass
    os._exit(128 + number)


def guard() -> None:
    """Have a command end at once on Ctrl-C and SIGTERM: while it imports its modules, and again once it is done."""
    if not is_command():
        return
    try:
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            _signal.signal(_signal.SIGINT, end_at_once)
        if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
            _signal.signal(_signal.SIGTERM, end_at_once)
    except ValueError:  # not the main thread, which alone gets signals
        pass
