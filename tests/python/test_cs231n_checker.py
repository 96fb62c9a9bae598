"""The checker for students: every faulty file is named as its first line says, and no right one is faulted."""

from __future__ import annotations

import ast
import fnmatch
from pathlib import Path

import pytest

from normcore.cs231n.checker import check

HERE = Path(__file__).parent
FAULTY = sorted((HERE / "cs231n_mistakes").glob("*.py"))
RIGHT = sorted((HERE / "cs231n_right").glob("*.py"))


def docstring(path: Path) -> list[str]:
    """The lines that the checker is to print; a star stands for any text, such as numbers of lines."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()


def findings(path: Path) -> list[str]:
    report = check(path)
    found = [(v, finding) for kind in ("mistakes", "remarks") for v in report.verdicts for finding in getattr(v, kind)]
    return [f"{verdict.function}: {finding.text}" for verdict, finding in found]


def same(expected: str, line: str) -> bool:
    return fnmatch.fnmatchcase(line, expected.replace("[", "[[]"))


@pytest.mark.parametrize("path", FAULTY, ids=[path.stem for path in FAULTY])
def test_a_mistake_is_named(path: Path) -> None:
    expected, found = docstring(path), findings(path)
    assert len(found) == len(expected), found
    for wanted, line in zip(expected, found, strict=True):
        assert same(wanted, line), found


def test_there_are_forty_mistakes() -> None:
    assert len(FAULTY) >= 40
