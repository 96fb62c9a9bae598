"""A module of the package imports only what lies below it: no circle, and nothing below knows what is above."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import normcore

PACKAGE = Path(normcore.__file__).parent

# From the bottom up: a module may import what stands in the lines before its own. A package stands for all of its
# modules that have no place of their own. `normcore` itself, which hands on the public names, has none: see below.
LAYERS = (
    ("_checks", "_core", "_interrupt", "_text"),
    ("_atomic", "_config", "_description", "_fields", "_inputs", "_signals", "labels", "losses", "random"),
    ("archive", "model_file"),
    ("mlp",),
    ("diagnostics",),
    ("training.attributes", "training.claims", "training.history"),
    ("training.optimizers", "training.schedules"),
    ("training.batches", "training.callbacks", "training.guard", "training.monitor", "training.weights"),
    ("training.gradients", "training.settings"),
    ("training.state",),
    ("training.checkpoint", "training.fitting"),
    ("training.trainer",),
    ("plots.style",),
    ("plots.curves",),
    ("plots.inside",),
    ("plots",),
    ("tables.reading",),
    ("tables.description", "tables.encoding"),
    ("tables.pipeline",),
    ("testing", "threadpool", "experiments.datasets", "experiments.definitions", "experiments.progress"),
    ("experiments.measurements", "experiments.results"),
    ("experiments.backward", "experiments.findings", "experiments.runner"),
    ("experiments.figures", "experiments.numbers", "experiments.report", "experiments.reproduction"),
    ("experiments.page",),
    ("experiments", "training", "tables"),
    ("cs231n",),
    ("verification",),
    ("cli.common",),
    ("cli.cs231n_check",),
    ("cli.cs231n", "cli.info", "cli.predict", "cli.reproduce", "cli.train"),
    ("cli",),
    ("__main__",),
)

# What every import of a module of the package imports first, and so makes every short command slower.
ALWAYS_IMPORTED = {"_config", "_core", "_interrupt", "_text"}

# Arrows up that are to go: they must be there, so that this list gets shorter when they do.
STILL_UP: set[tuple[str, str]] = set()

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in PACKAGE.rglob("*.py")
    if "lib" not in path.relative_to(PACKAGE).parts
}


def home(name: str) -> str:
    """The module, without "normcore.", of a name that is looked up in the package, as in ``normcore.MLP``."""
    if name in MODULES or name == "_core":
        return name
    if name in normcore._LAZY:
        return normcore._LAZY[name]
    return "_config" if hasattr(normcore._config, name) and not hasattr(normcore._core, name) else "_core"


def targets(module: str, node: ast.AST) -> Iterator[str]:
    """The modules that a statement or expression of `module` needs."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith("normcore."):
                yield alias.name.removeprefix("normcore.")
    elif isinstance(node, ast.ImportFrom):
        source = node.module or ""
        if node.level:
            package = ["normcore", *module.split(".")] if module else ["normcore"]
            up = node.level - (MODULES[module].name == "__init__.py")
            source = ".".join([*package[: len(package) - up], *filter(None, [source])])
        if source == "normcore":
            yield from (home(alias.name) for alias in node.names)
        elif source.startswith("normcore."):
            source = source.removeprefix("normcore.")
            for alias in node.names:
                yield f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "normcore":
        yield home(node.attr)


def imports(module: str) -> set[str]:
    """All that a module imports from the package, in functions and for type checkers alone too."""
    tree = ast.parse(MODULES[module].read_text())
    return {target for node in ast.walk(tree) for target in targets(module, node)} - {module}


def place(module: str) -> tuple[int, str]:
    """The line of LAYERS that a module stands in, and what stands for it there."""
    name = module
    while name:
        for line, names in enumerate(LAYERS):
            if name in names:
                return line, name
        name = name.rpartition(".")[0]
    raise AssertionError(f"{module} has no place in LAYERS")


GRAPH = {module: imports(module) for module in MODULES if module}


def test_everything_has_a_place() -> None:
    known = {*MODULES, "_core"}
    assert not {name for names in LAYERS for name in names} - known
    assert all(target in known for found in GRAPH.values() for target in found)
    assert "mlp" in GRAPH["training.trainer"]  # an absolute import
    assert "_core" in GRAPH["_config"]  # a relative one
    assert "mlp" in GRAPH["verification"]  # a public name of the package
    assert "verification" in GRAPH["cli.info"]  # one in a function


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_no_arrow_points_up(module: str) -> None:
    line, own = place(module)
    up = {target for target in GRAPH[module] if place(target)[0] >= line and place(target)[1] != own}
    assert up == {target for source, target in STILL_UP if source == module}


def test_there_is_no_circle() -> None:
    graph = {module: {t for t in found if (module, t) not in STILL_UP} for module, found in GRAPH.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_what_the_package_itself_imports() -> None:
    tree = ast.parse(MODULES[""].read_text())
    later = [node for node in tree.body if isinstance(node, (ast.If, ast.FunctionDef))]
    late = {id(inner) for node in later for inner in ast.walk(node)}
    at_once = {target for node in ast.walk(tree) if id(node) not in late for target in targets("", node)}
    assert at_once == ALWAYS_IMPORTED
    assert {place(module) for module in normcore._LAZY.values()}  # they exist
