"""What the commands share: arguments, lines for people, and the errors that are for people."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from normcore._text import printable

__all__ = [
    "CommandError",
    "Parser",
    "add_command",
    "add_csv_options",
    "at_least",
    "check_writable",
    "counted",
    "import_modules",
    "say",
    "seed",
    "whole_number",
]


class CommandError(Exception):
    """Something the user can put right; printed as one line."""


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line instead of a usage text and a line."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line for people: whatever is in its names, labels and paths, a terminal gets no control characters."""
    print(printable(line), file=stream or sys.stdout, flush=stream is not None)


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_writable(path: Path, *inputs: Path, option: str = "--output") -> None:
    """Find out before the work whether its result can be saved, and that it would not replace what it is made from."""
    folder = path.parent
    for source in inputs:
        if os.path.realpath(path) == os.path.realpath(source) or (
            path.exists() and source.exists() and path.samefile(source)
        ):
            raise CommandError(f"{path}: {option} is the input {source} itself, which would be lost")
    if path.exists() and not path.is_file():
        # Renaming over a device or a pipe would replace it by a file.
        raise CommandError(f"{path}: exists and is not a regular file")
    if not folder.is_dir():
        raise CommandError(f"{folder}: no such folder")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{folder}: cannot be written to")


def add_command(
    commands: Any,
    name: str,
    command: Callable[[argparse.Namespace], int],
    prepare: Callable[[argparse.Namespace], None],
    help: str,
    text: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    """A parser whose options say what to import (`prepare`) and what to do."""
    epilog = "examples:\n" + "".join(f"  normcore {example}\n" for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=text,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command, prepare=prepare)
    return parser


def import_modules(*modules: str, optional: Sequence[str] = ()) -> None:
    """Import the modules a command needs, and of those that it can do without the ones that are there."""
    for name in modules:
        importlib.import_module(name)
    for name in optional:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def add_csv_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line of a CSV file holds the columns' names (found out by looking)",
    )
    parser.add_argument(
        "--delimiter", metavar="C", type=_delimiter, default=",", help="between the cells of a CSV file (a comma)"
    )


def at_least(least: int) -> Callable[[str], int]:
    def checked(text: str) -> int:
        value = whole_number(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return checked


def whole_number(text: str) -> int:
    # Not more digits than int() reads; no option needs a tenth of them.
    if not re.fullmatch(r"[+-]?[0-9]{1,200}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number")
    return int(text)


def seed(text: str) -> int:
    value = whole_number(text)
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 2**64)")
    return value


def _delimiter(text: str) -> str:
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1 or text in '\r\n"':
        raise argparse.ArgumentTypeError(f"{text!r} is not one character (tab is written 'tab')")
    return text
