"""``normcore info``: what a bug report should hold, or what is in a file."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import normcore
from normcore.cli.common import CommandError, add_command, import_modules, say

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "info",
        run,
        _prepare,
        "show version, instruction sets, threads and the self-test's result, or what is in a file",
        "Show what a bug report should hold, and run the self-test. Exit code 1 if the\n"
        "self-test or the verification fails.\n\n"
        "With FILE, a model or a checkpoint: verify it and show its network, what its\n"
        "inputs and outputs mean, and the SHA-256 of its parameters.",
        ["info", "info --json", "info --verify", "info iris.safetensors"],
    )
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="model or checkpoint")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="also compute the digests of every operation on every instruction set here, and of three training runs, "
        "and compare them with those of the numeric contract (some seconds each; training needs scikit-learn)",
    )


def _prepare(options: argparse.Namespace) -> None:
    if options.file is not None:
        import_modules("normcore.mlp")
    elif options.verify:
        import_modules("normcore.verification", optional=("sklearn.datasets",))


def run(options: argparse.Namespace) -> int:
    if options.file is None:
        return _installation(options)
    if options.verify:
        raise CommandError("--verify is about this machine and takes no FILE, which is always verified")
    facts, summary = _contents(options.file)
    if options.json:
        _print_json(facts)
        return 0
    width = max(map(len, facts))
    for name, fact in facts.items():
        say(f"{name.replace('_', ' '):<{width}} {_in_words(fact)}")
    say("")
    for line in summary.splitlines():
        say(line)
    return 0


def _in_words(fact: Any) -> str:
    if fact is None:
        return "none"
    if isinstance(fact, Sequence) and not isinstance(fact, str):
        first = ", ".join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in fact[:8])
        return first + (f", ... ({len(fact)})" if len(fact) > 8 else "")
    return json.dumps(fact) if isinstance(fact, dict) else str(fact)


def _contents(path: Path) -> tuple[dict[str, Any], str]:
    """The facts about a model or checkpoint, all of which has been verified, and the summary of its network."""
    from normcore._fields import Fields
    from normcore.archive import open_archive
    from normcore.mlp import check_read, model_arrays, model_in

    with open_archive(path, None) as archive:
        with archive.damage_first():
            fields, extra = Fields(archive.metadata), archive.extra()
            model = model_in(archive, fields)
            training = {group: fields.values(group) for group in ("trainer", "state")}
        archive.read(model_arrays(model))
        check_read(model, archive.name)
    facts: dict[str, Any] = {"file": str(path), "kind": archive.kind, "contract": archive.contract}
    facts |= {"sha256": archive.sha256, "digest": model.digest(), **model.config()}
    facts |= {group: values for group, values in training.items() if values}
    return {**facts, "extra": extra}, model.summary()


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=2).replace("\x7f", "\\u007f"))  # the one control character that JSON lets through


def _installation(options: argparse.Namespace) -> int:
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
        _print_json(facts)
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
