"""The command ``normcore``: reproduce the experiments, train on a table, predict with a saved model, show set-up."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TextIO

from normcore import __version__, _interrupt
from normcore.cli import cs231n, info, predict, reproduce, train
from normcore.cli.common import CommandError, Parser, say

__all__ = ["main"]

_LONGEST = 2000  # characters of an error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 for success, 1 where ``info`` finds a failed self-test, 2 for an error (one line on standard error), 130 after
    Ctrl-C and 143 after SIGTERM (one line too), 141 where the reader of a pipe has gone.
    """
    _prepare_streams()
    terminated: list[int] = []
    try:
        try:
            options = _parser().parse_args(argv)
            # What a command needs is imported before signals raise exceptions.
            options.prepare(options)
            with _raising(terminated):
                code: int = options.command(options)
                sys.stdout.flush()
        except SystemExit as end:  # --help and --version
            code = end.code if isinstance(end.code, int) else 0
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _silence_if_broken(sys.stdout)
        number = signal.SIGTERM if terminated else signal.SIGINT
        say(f"normcore: {_interrupt.WORDS[number]}", sys.stderr)
        return 128 + number
    except BrokenPipeError:
        _silence(sys.stdout)
        return 141
    except Exception as error:
        _silence_if_broken(sys.stdout)
        if os.environ.get("NORMCORE_TRACEBACK") == "1":
            raise
        say(f"normcore: error: {_one_line(error)}", sys.stderr)
        return 2


@contextlib.contextmanager
def _raising(received: list[int]) -> Iterator[None]:
    """Meanwhile have Ctrl-C raise KeyboardInterrupt, so that files and worker processes are cleared away.

    So has SIGTERM, in the same way, also where Ctrl-C is held back while a step is done; it is put into `received` too.
    A second SIGTERM ends the process. A handler that a program has installed is left alone.
    """
    interrupt, termination = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def terminate(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    own = termination in (signal.SIG_DFL, _interrupt.end_at_once)
    try:
        try:
            if own:
                signal.signal(signal.SIGTERM, terminate)
            if interrupt is _interrupt.end_at_once:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        except ValueError:  # not the main thread, which alone gets signals
            own, interrupt = False, None
        yield
    finally:
        if interrupt is _interrupt.end_at_once:
            signal.signal(signal.SIGINT, interrupt)
        if own:
            signal.signal(signal.SIGTERM, termination)


def _prepare_streams() -> None:
    """Have streams that take every text: a closed one is None, and another's encoding may lack some characters."""
    # They live as long as the process.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _one_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{str(error.name).partition('.')[0]} is not installed; pip install 'normcore[experiments]'"
    if isinstance(error, OSError) and error.strerror:
        # What has no name is standard output: all else is opened by name.
        text = f"{'standard output' if error.filename is None else error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"out of memory ({error})" if str(error) else "out of memory"
    elif isinstance(error, (CommandError, ValueError, TypeError, ArithmeticError, RuntimeError, ImportError)):
        text = str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error} (NORMCORE_TRACEBACK=1 shows where)"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _silence(stream: TextIO) -> None:
    """Point a stream that can no longer be written to nowhere, so that the interpreter's last flush says nothing."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _silence_if_broken(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        _silence(stream)


def _parser() -> Parser:
    parser = Parser(
        prog="normcore",
        description="Multilayer perceptrons with batch and layer normalisation: the same bits on every machine.",
        epilog="normcore COMMAND --help explains a command. Errors are one line and exit code 2; NORMCORE_TRACEBACK=1 "
        "shows where one arose. Ctrl-C and SIGTERM end a command with one line, no half-written file, and 130 or 143.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"normcore {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    reproduce.add(commands)
    train.add(commands)
    predict.add(commands)
    info.add(commands)
    cs231n.add(commands)
    return parser
