"""Checks files: runs their functions on the cases and judges what comes out."""

from __future__ import annotations

import ast
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Case, Function
from normcore.cs231n.checker.judge import Run, Verdict, judge
from normcore.cs231n.checker.process import CodeProcess, EndedError, TimeUpError
from normcore.cs231n.checker.report import Report
from normcore.cs231n.checker.tables import affine, dropout, losses, norms, optimizers

__all__ = ["FUNCTIONS", "CannotRunError", "check", "known_mistakes"]

_FIRST, _LAST = 2015, 2100
_SEED = 231


class CannotRunError(Exception):
    """The files cannot be run; the text says why."""


_BEFORE_DROPOUT = (*affine.FUNCTIONS, *losses.FUNCTIONS, *norms.FUNCTIONS)
_DROPOUT = {drops: dropout.functions(drops) for drops in (False, True)}


def _table(edition: int) -> tuple[Function, ...]:
    return (*_BEFORE_DROPOUT, *_DROPOUT[edition < 2018], *optimizers.FUNCTIONS)


FUNCTIONS = tuple(function.name for function in _table(2019))


def known_mistakes(edition: int = 2019) -> dict[str, list[str]]:
    """The sentences for known mistakes, by function.

    Examples
    --------
    >>> from normcore.cs231n.checker import known_mistakes
    >>> known_mistakes()["relu_forward"][0]
    'negative inputs become positive, not 0: out is |x|'
    """
    return {function.name: list(function.mistakes.values()) for function in _table(edition)}


def check(
    *files: str | Path,
    edition: int = 2019,
    only: Sequence[str] | None = None,
    time_limit: float = 10.0,
    memory_limit: int | None = 4 << 30,
) -> Report:
    """Check the functions in files, or in the ``layers.py`` and ``optim.py`` of a folder.

    Parameters
    ----------
    files
        Python files, or folders. Where two have a function, the first file's is checked.
    edition
        Year of the course; before 2018 dropout's p is the probability to drop, from then on that to keep.
    only
        Names of functions to check, by default all of `FUNCTIONS`.
    time_limit
        Seconds that each function may take for all of its cases, and each file to be imported.
    memory_limit
        Bytes that the process may take, None for no limit. Only some systems know such a limit.

    Returns
    -------
    Report

    Raises
    ------
    CannotRunError
        If a file is not there, or cannot be imported.
    ValueError
        For names that are not in `FUNCTIONS`, or limits that are none.

    Notes
    -----
    The code is run in a process of its own, as its user may run it: a sandbox it is not.

    Examples
    --------
    >>> from pathlib import Path
    >>> from normcore.cs231n.checker import check
    >>> code = "import numpy as np\\ndef relu_forward(x):\\n    return np.abs(x), x\\n"
    >>> _ = Path("layers.py").write_text(code)
    >>> print(check("layers.py", only=["relu_forward"]).text())
    relu_forward: negative inputs become positive, not 0: out is |x|
    0 right, 1 wrong
    """
    if not files:
        raise ValueError("no files to check")
    if not _FIRST <= edition <= _LAST:
        raise ValueError(f"edition {edition} is not a year of the course, {_FIRST} or later")
    if not time_limit > 0:
        raise ValueError(f"the time limit must be greater than 0, not {time_limit}")
    unknown = [name for name in only or () if name not in FUNCTIONS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a function that is checked: {', '.join(FUNCTIONS)}")
    paths = _paths(files)
    asked = [function for function in _table(edition) if not only or function.name in only]
    with _Code(paths, time_limit, memory_limit) as code:
        verdicts: dict[str, Verdict] = {}
        for function in _table(edition):
            needed = any(other.forward == function.name for other in asked)
            if function in asked or needed:
                verdicts[function.name] = _check(function, code, verdicts)
        others = sorted(set(code.home) - set(FUNCTIONS))
    return Report([str(path) for path in paths], edition, [verdicts[function.name] for function in asked], others)


def _paths(files: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for file in map(Path, files):
        if file.is_dir():
            inside = [file / name for name in ("layers.py", "optim.py") if (file / name).is_file()]
            if not inside:
                raise CannotRunError(f"{file}: neither layers.py nor optim.py is in this folder")
            found += inside
        elif file.is_file():
            found.append(file)
        else:
            raise CannotRunError(f"{file}: no such file")
    return found


def _stubs(path: Path) -> set[str]:
    """The functions of a file in which nothing stands but a docstring, pass or raise NotImplementedError."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and all(map(_is_empty, node.body))}


def _is_empty(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def _check(function: Function, code: _Code, verdicts: dict[str, Verdict]) -> Verdict:
    if function.name not in code.home:
        return Verdict(function.name, "missing")
    forward = verdicts.get(function.forward) if function.forward else None
    if function.name in code.stubs:
        return Verdict(function.name, "unwritten")
    if function.forward and function.forward not in code.home:
        return Verdict(
            function.name, "unjudged", note=f"its cache comes from {function.forward}, which is not in the file"
        )
    if forward is not None and forward.status == "unwritten":
        return Verdict(
            function.name, "unjudged", note=f"its cache comes from {function.forward}, which is not written yet"
        )
    verdict = judge(function, code.run(function), forward, lambda case: code.gradients(function, case))
    if verdict.status == "right" or not function.otherwise:
        return verdict
    other = dataclasses.replace(function, cases=function.otherwise)
    again = judge(other, code.run(other), forward, lambda case: code.gradients(other, case))
    better = again.status == "wrong" and (verdict.status != "wrong" or len(again.mistakes) < len(verdict.mistakes))
    return again if again.status == "right" or better else verdict


class _Code:
    """The process with the code in it, started again when it has ended."""

    def __init__(self, paths: Sequence[Path], limit: float, memory: int | None) -> None:
        self._paths, self._limit, self._memory = paths, limit, memory
        self._process: CodeProcess | None = None
        self.home: dict[str, str] = {}
        self.stubs = frozenset(name for path in paths for name in _stubs(path))
        self._start()

    def _start(self) -> CodeProcess:
        self._process = CodeProcess()
        try:
            self._load(self._process)
        except BaseException:  # Ctrl-C too
            self._process.close()
            raise
        return self._process

    def _load(self, process: CodeProcess) -> None:
        names = [str(path) for path in self._paths]
        try:
            answer = process.load([str(path.resolve()) for path in self._paths], self._memory, self._limit)
        except TimeUpError:
            raise CannotRunError(f"{', '.join(names)}: cannot be imported within {self._limit:g} s") from None
        except EndedError as end:
            raise CannotRunError(f"{', '.join(names)}: {end} while it is imported") from None
        if "error" in answer:
            error = answer["error"]
            line = f"line {error['line']}: " if error["line"] else ""
            if error["kind"] == "SystemExit":
                raise CannotRunError(f"{answer['file']}: {line}calls sys.exit while it is imported")
            raise CannotRunError(f"{answer['file']}: {line}{error['kind']}: {error['text']}")
        self.home = answer["functions"]

    def run(self, function: Function) -> list[Run]:
        """Run all cases of a function within the limit of time; after the code has ended its process, none more."""
        deadline = time.monotonic() + self._limit
        runs = []
        for index, case in enumerate(function.cases):
            calls = [call.message() for call in function.calls(case)]
            command = {"do": "run", "calls": calls, "seed": _SEED + index}
            failure = ""
            try:
                answer = (self._process or self._start()).ask(command, deadline)
                runs.append(Run(case, answer["calls"]))
            except TimeUpError:
                failure = f"does not come to an end: stopped after {self._limit:g} s"
            except EndedError as end:
                failure = str(end)
            if failure:
                self._process = None
                ordinary = Case(case.given)  # whatever the case shows, the function is wrong
                return [*runs, Run(ordinary, [], failure)]
        return runs

    def gradients(self, function: Function, case: Case) -> dict[str, Any] | None:
        """Gradients of the code's own forward function by finite differences, or None where it gives none."""
        forward = function.calls(case)[0]
        command = {
            "do": "gradients",
            "function": function.forward,
            "arguments": {
                name: value.copy() if isinstance(value, np.ndarray) else value
                for name, value in forward.arguments.items()
            },
            "dout": case.given["dout"],
            "by": sorted(set(function.gradients.values())),
            "seed": _SEED,
        }
        try:
            answer = (self._process or self._start()).ask(command, time.monotonic() + self._limit)
        except (TimeUpError, EndedError):
            self._process = None
            return None
        return answer.get("gradients")

    def __enter__(self) -> _Code:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.close()
