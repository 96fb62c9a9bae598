"""``normcore cs231n check``: says in words what is wrong in somebody's own layers and update rules."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from normcore.cli.common import CommandError, add_command, import_modules, say, whole_number

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
        run,
        _prepare,
        "run your own layers and update rules against the reference and say in words what is wrong",
        "Run the functions of the course in FILE, whatever of them it has, against the\n"
        "reference and say in words what is wrong: one line for each mistake, which\n"
        "begins with the function's name. What is right but inexact is told as well.\n"
        "Functions that are not there, or not written yet, are listed.\n\n"
        "The code is run, in a process of its own with a limit of time and memory. That\n"
        "is no sandbox: it may do whatever you may do. Check only code that you would run.\n\n"
        "Exit code 0 if nothing is wrong, 1 if something is, 2 if FILE cannot be run.",
        [
            "cs231n check layers.py",
            "cs231n check cs231n/ --json",
            "cs231n check layers.py --only batchnorm_backward --examples",
        ],
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="Python file, or folder with layers.py and optim.py"
    )
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", action="extend", help="functions to check, separated by spaces or commas"
    )
    parser.add_argument(
        "--edition",
        metavar="YEAR",
        type=whole_number,
        default=2019,
        help="year of the course: before 2018 dropout's p is the probability to drop, later the one to keep (2019)",
    )
    parser.add_argument(
        "--time-limit",
        metavar="S",
        type=_seconds,
        default=10.0,
        help="seconds for each function, and for the import (10)",
    )
    parser.add_argument(
        "--memory-limit", metavar="MIB", type=whole_number, default=4096, help="of the process, 0 for none (4096)"
    )
    parser.add_argument(
        "--complete", action="store_true", help="exit code 1 too if a function is missing, not written or not judged"
    )
    parser.add_argument("--examples", action="store_true", help="below each line the inputs of a case that shows it")
    parser.add_argument("--json", action="store_true", help="as JSON, for graders")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _prepare(options: argparse.Namespace) -> None:
    import_modules("normcore.cs231n.checker")


def run(options: argparse.Namespace) -> int:
    from normcore.cs231n.checker import CannotRunError, check

    only = [name for text in options.only or () for name in text.split(",") if name]
    if options.memory_limit < 0:
        raise CommandError(f"argument --memory-limit: {options.memory_limit} is less than 0")
    try:
        report = check(
            *options.files,
            edition=options.edition,
            only=only or None,
            time_limit=options.time_limit,
            memory_limit=options.memory_limit << 20 or None,
        )
    except CannotRunError as error:
        if options.json:
            print(json.dumps({"files": [str(file) for file in options.files], "error": str(error)}, indent=2))
            say(f"normcore: error: {error}", sys.stderr)
            return 2
        raise CommandError(str(error)) from None
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        for line in report.lines(options.examples):
            say(line)
    complete = not options.complete or len(report.of("right")) == len(report.verdicts)
    return 0 if report.right and complete else 1
