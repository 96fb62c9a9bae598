"""The examples of docstrings and docs: each of them runs, and no public function or class is without one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import normcore as nc
from normcore.testing import strategies

DOCS = Path(__file__).resolve().parents[2] / "docs"
# The modules all of whose public functions and classes have an example.
PUBLIC = (
    "normcore",
    "normcore.diagnostics",
    "normcore.losses",
    "normcore.plots",
    "normcore.testing",
    "normcore.testing.strategies",
)
# What strategies draw, whose examples show it.
DRAWN = {"AffineProblem", "CrossEntropyProblem", "LossProblem", "NormProblem"}
# What the package's docstring says that examples take for granted.
GIVEN = {"np": np, "nc": nc}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> Iterator[ModuleType]:
    """The package and all that is in it, but for the command, which would run."""
    yield nc
    for found in pkgutil.walk_packages(nc.__path__, "normcore."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


EXAMPLES = {
    test.name: test
    for module in modules()
    for test in doctest.DocTestFinder().find(module, extraglobs=GIVEN)
    if test.examples
}


def drawn() -> Iterator[doctest.DocTest]:
    """Of strategies, which are wrapped by hypothesis, so that they do not seem to be of their module."""
    for name in strategies.__all__:
        value = getattr(strategies, name)
        if inspect.isroutine(value) and value.__module__ == strategies.__name__:
            yield from doctest.DocTestFinder().find(
                value, f"{strategies.__name__}.{name}", module=False, globs=dict(GIVEN)
            )


EXAMPLES |= {test.name: test for test in drawn() if test.examples}


def page(path: Path) -> doctest.DocTest:
    """The examples of a page, whose code blocks end without a blank line."""
    text = path.read_text(encoding="utf-8").replace("\n```\n", "\n\n")
    return doctest.DocTestParser().get_doctest(text, dict(GIVEN), path.name, str(path), 0)


PAGES = {test.name: test for path in sorted(DOCS.glob("*.md")) if (test := page(path)).examples}
EXAMPLES |= PAGES


def test_pages() -> None:
    assert len(PAGES["testing.md"].examples) > 20


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_what_a_page_quotes_is_there(path: Path) -> None:
    quoted = re.findall(r"^<!-- (\S+) -->\n```\w+\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    for source, text in quoted:
        assert text in (DOCS.parent / source).read_text(encoding="utf-8"), f"{path.name} quotes {source}"
    assert quoted or path.name != "testing.md"


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that examples write
    said: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(EXAMPLES[name], out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_an_example(module: str) -> None:
    home = importlib.import_module(module)
    public = [getattr(home, name) for name in home.__all__ if name not in DRAWN]
    public = [value for value in public if inspect.isroutine(value) or inspect.isclass(value)]
    assert len(public) >= 6
    names = [f"{value.__module__}.{value.__qualname__.rpartition('>.')[2]}" for value in public]
    without = [name for name in names if name not in EXAMPLES]
    assert not without, f"{module}: without an example are {', '.join(without)}"
