"""``normcore info``: what a bug report should hold."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import normcore
from normcore.cli.common import add_command, import_modules, say

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "info",
        run,
        lambda options: (
            import_modules("normcore.verification", optional=("sklearn.datasets",)) if options.verify else None
        ),
        "show version, instruction sets, threads and the self-test's result",
        "Show what a bug report should hold, and run the self-test. Exit code 1 if the\n"
        "self-test or the verification fails.",
        ["info", "info --json", "info --verify"],
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="also compute the digests of every operation on every instruction set here, and of three training runs, "
        "and compare them with those of the numeric contract (some seconds each; training needs scikit-learn)",
    )


def run(options: argparse.Namespace) -> int:
    try:
        normcore.selftest()
        failure = None
    except RuntimeError as error:
        failure = " ".join(str(error).split()) or "no reason given"
    facts: dict[str, Any] = {
        "version": normcore.__version__,
        "contract": normcore.CONTRACT,
        "cpu_features": normcore.cpu_features(),
        "available_isas": list(normcore.available_isas()),
        "isa": normcore.get_isa(),
        "threads": normcore.get_num_threads(),
        "selftest": "passed" if failure is None else f"failed: {failure}",
        "include_dir": _folder(normcore.get_include),
        "library_dir": _folder(normcore.get_library_dir),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    differences = None
    if options.verify:
        checks = _verify()
        differences = sum(check["equal"] is False for check in checks)
        left_out = sum(check["equal"] is None for check in checks)
        equal = len(checks) - differences - left_out
        facts["verification"] = (
            checks if options.json else f"{equal} equal, {differences} with other bits, {left_out} not compared"
        )
    if options.json:
        print(
            json.dumps(facts, indent=2).replace("\x7f", "\\u007f")
        )  # the one control character that JSON lets through
    else:
        for name, fact in facts.items():
            shown = ", ".join(fact) if isinstance(fact, list) else "not installed" if fact is None else fact
            say(f"{name.replace('_', ' '):<15} {shown}")
    if failure is not None:
        say(f"normcore: error: the self-test failed: {failure}", sys.stderr)
        return 1
    if differences:
        say(f"normcore: error: {differences} checks give other bits than the contract", sys.stderr)
        return 1
    return 0


def _verify() -> list[dict[str, Any]]:
    """Every check as it is made, on standard error; then all of them."""
    from normcore import verification  # it imports the experiments

    checks = []
    for check in verification.verify():
        checks.append({"name": check.name, "equal": check.equal, "text": check.text})
        verdict = {True: "equal", False: "DIFFERENT", None: "not compared"}[check.equal]
        say(f"{check.name}: {verdict} ({check.text})", sys.stderr)
    return checks


def _folder(find: Callable[[], str]) -> str | None:
    """A folder of the C library, or None where the package runs from a source tree that was never installed."""
    try:
        return find()
    except FileNotFoundError:
        return None
