"""The pytest plugin of the checker for students: ``pytest --normcore-cs231n layers.py`` has a test for each function.

pytest loads it wherever normcore is installed, so it imports neither NumPy nor normcore, whose package it is not in for
this reason, before its option is given. docs/cs231n-checker.md says what it offers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from normcore.cs231n.checker import Report, Verdict

__all__: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("normcore-cs231n", "check of the functions of the course CS231n (normcore)")
    group.addoption(
        "--normcore-cs231n",
        metavar="FILE",
        action="append",
        default=[],
        help="check the layers and update rules in this file, or in layers.py and optim.py of this folder: a test for "
        "each function. Runs the code, in a process of its own. May be given several times.",
    )
    group.addoption(
        "--normcore-cs231n-edition",
        metavar="YEAR",
        type=int,
        default=2019,
        help="year of the course: before 2018 dropout's p is the probability to drop (2019)",
    )
    group.addoption(
        "--normcore-cs231n-time-limit", metavar="S", type=float, default=10.0, help="seconds for each function (10)"
    )


@pytest.hookimpl(tryfirst=True)  # before -k selects
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test for each function, before all others; the files are checked when the first of them runs."""
    files = config.getoption("--normcore-cs231n")
    if not files:
        return
    from normcore.cs231n.checker import FUNCTIONS

    files = [str(config.invocation_params.dir / file) for file in files]
    absent = [file for file in files if not Path(file).exists()]
    if absent:
        raise pytest.UsageError(f"--normcore-cs231n: {absent[0]}: no such file")
    edition, limit = (config.getoption(f"--normcore-cs231n-{name}") for name in ("edition", "time-limit"))
    checks = _Checks(files, edition, limit)
    for name in reversed(FUNCTIONS):
        node = f"{Path(files[0]).name}::{name}"
        items.insert(0, CheckItem.from_parent(session, name=name, nodeid=node, function=name, checks=checks))


class _Checks:
    """The check of all functions, made once."""

    def __init__(self, files: list[str], edition: int, time_limit: float) -> None:
        self.files, self._edition, self._time_limit = files, edition, time_limit
        self._found: Report | Exception | None = None

    def verdict(self, function: str) -> Verdict:
        from normcore.cs231n.checker import CannotRunError, check

        if self._found is None:
            try:
                self._found = check(*self.files, edition=self._edition, time_limit=self._time_limit)
            except (CannotRunError, ValueError) as error:
                self._found = error
        if isinstance(self._found, Exception):
            raise Mistakes(str(self._found))
        return next(verdict for verdict in self._found.verdicts if verdict.function == function)


class Mistakes(Exception):  # noqa: N818
    """What is wrong with a function, a line for each mistake."""


class CheckItem(pytest.Item):
    """The test of one function: fails with its mistakes, is skipped where there is nothing to judge."""

    def __init__(self, *, function: str, checks: _Checks, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._function, self._checks = function, checks

    def runtest(self) -> None:
        verdict = self._checks.verdict(self._function)
        for remark in verdict.remarks:
            self.add_report_section("call", "normcore", f"{self._function}: {remark.text}")
        if verdict.mistakes:
            raise Mistakes("\n".join(f"{self._function}: {finding.text}" for finding in verdict.mistakes))
        if verdict.status == "unjudged":
            pytest.skip(f"{self._function}: not judged: {verdict.note}")
        if verdict.status != "right":
            where = {"missing": "not in the file", "unwritten": "not written yet"}[verdict.status]
            pytest.skip(f"{self._function}: {where}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Mistakes):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, int | None, str]:
        return self._checks.files[0], None, self.name
