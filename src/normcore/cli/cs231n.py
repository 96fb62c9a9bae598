"""``normcore cs231n``: the course's package over normcore, and what is wrong with somebody's own functions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from normcore.cli import cs231n_check
from normcore.cli.common import CommandError, Parser, add_command, import_modules, say, whole_number

__all__ = ["add", "init"]


def add(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "cs231n",
        help="the modules of the course CS231n with normcore's functions behind their names; check one's own functions",
        description="For the notebooks of Stanford's course CS231n.",
        epilog="normcore cs231n COMMAND --help explains a command.",
        allow_abbrev=False,
    )
    group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_init(group)
    cs231n_check.add(group)


def _add_init(group: Any) -> None:
    parser = add_command(
        group,
        "init",
        init,
        _prepare_init,
        "lay a package cs231n into a folder, whose modules take their functions from normcore",
        "Lay a package cs231n into the folder DIR, beside the notebooks. Its modules have\n"
        "the names that the course's have and take every function from normcore; a\n"
        "function that is defined below the import takes the place of normcore's.\n"
        "Where DIR/cs231n exists, nothing is written.",
        ["cs231n init .", "cs231n init assignment2 --edition 2017"],
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of the notebooks; it is made if need be")
    parser.add_argument(
        "--edition",
        metavar="YEAR",
        type=whole_number,
        help="year of the course, 2017 to 2026, where editions differ: dropout's p is the probability to drop in "
        "2017 and the one to keep later (the newest)",
    )


def _prepare_init(options: argparse.Namespace) -> None:
    import_modules("normcore.cs231n")


def init(options: argparse.Namespace) -> int:
    from normcore import cs231n

    edition = cs231n.EDITIONS[-1] if options.edition is None else options.edition
    try:
        package = cs231n.init(options.folder, edition=edition)
    except (FileExistsError, NotADirectoryError) as error:
        raise CommandError(str(error)) from None
    say(f"{package}: edition {edition} of the course's modules over normcore")
    return 0
