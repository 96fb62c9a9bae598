"""The process that runs somebody's code: loads the files, calls their functions, and says what came out.

Started by :mod:`normcore.cs231n.checker.process`. It is not a sandbox: the code may do whatever its user may. What is
taken care of are accidents: what the code prints goes nowhere, what it reads is empty, ``sys.exit`` and exceptions are
results like others, memory has a limit where the system knows one.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import sys
import threading
import time
import traceback
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from normcore.cs231n.checker.wire import Opaque, Reference, WireError, receive, send

__all__ = ["main"]

# Modules that the course's files import and that are not needed to check a layer.
_REPLACED = ("cs231n", "future", "past", "six", "matplotlib")


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for modules that are not there: importing them works, using what they lack raises."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in _REPLACED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__all__"] = []
        if module.__name__.startswith(("past", "future", "six")):
            vars(module).update(xrange=range, range=range, basestring=str, zip=zip, map=map)


class _Stub(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*args: Any, **kwargs: Any) -> Any:
            raise ModuleNotFoundError(f"{self.__name__} is not there in the check, which was to give {name}")

        return absent


def main() -> None:
    """Serve commands until the other side ends."""
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    commands, answers = _take_streams()
    files: list[str] = []
    functions: dict[str, Any] = {}
    while True:
        try:
            command = receive(commands)
        except WireError:
            return
        if command["do"] == "start":
            answer: dict[str, Any] = {}
        elif command["do"] == "load":
            _limit_memory(command["memory"])
            files = command["files"]
            answer = _load(files, functions)
        elif command["do"] == "run":
            answer = _run(command["calls"], functions, files, command["seed"])
        else:
            answer = _gradients(command, functions, files)
        send(answers, answer)


def _end_with(parent: int) -> None:
    """End, whatever the code is doing, when whoever started this process has been killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for ourselves; the code gets an empty input and an output that goes nowhere."""
    sys.stdout.flush()
    commands, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    return os.fdopen(commands, "rb"), os.fdopen(answers, "wb")


def _limit_memory(limit: int | None) -> None:
    if limit:
        with contextlib.suppress(ImportError, OSError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _load(files: list[str], functions: dict[str, Any]) -> dict[str, Any]:
    """Import each file as a module of the package cs231n, whose folder is the file's own."""
    sys.meta_path.append(_Stubs())
    sys.dont_write_bytecode = True
    home: dict[str, str] = {}
    for file in files:
        folder = str(Path(file).resolve().parent)
        package = sys.modules.setdefault("cs231n", types.ModuleType("cs231n"))
        package.__path__ = [folder]
        for place in (folder, str(Path(folder).parent)):
            if place not in sys.path:
                sys.path.append(place)
        name = f"cs231n.{Path(file).stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            return {"error": _error_text("ImportError", "not a Python file", None), "file": file}
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            return {"error": _told(error, files), "file": file}
        for key, value in vars(module).items():
            if callable(value) and not isinstance(value, type) and key not in functions:
                functions[key] = value
                home[key] = file
    return {"functions": home}


def _error_text(kind: str, text: str, line: int | None, file: str = "") -> dict[str, Any]:
    return {"kind": kind, "text": " ".join(text.split())[:300], "line": line, "file": file}


def _told(error: BaseException, files: list[str]) -> dict[str, Any]:
    """Kind, text, and the innermost line within the files."""
    line, where = None, ""
    if isinstance(error, SyntaxError) and error.filename in files:
        line, where = error.lineno, Path(error.filename).name
        return _error_text(type(error).__name__, error.msg, line, where)
    with contextlib.suppress(Exception):
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename in files:
                line, where = frame.lineno, Path(frame.filename).name
    try:
        text = str(error)
    except BaseException:
        text = ""
    return _error_text(type(error).__name__, text, line, where)


def _seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)


def _run(calls: list[Any], functions: dict[str, Any], files: list[str], seed: int) -> dict[str, Any]:
    """Call one function after the other; stop where one raises."""
    _seeded(seed)
    kept: list[Any] = []
    told: list[dict[str, Any]] = []
    for call in calls:
        arguments = {name: _resolved(value, kept) for name, value in call["arguments"].items()}
        before = {name: copy.deepcopy(arguments[name]) for name in call["watched"]}
        try:
            with np.errstate(all="ignore"):
                result = functions[call["function"]](*arguments.values())
        except BaseException as error:
            told.append({"error": _told(error, files)})
            break
        kept.append(result)
        try:
            shown = copy.deepcopy(_hidden(result, call["opaque"]))  # as it is now: later calls may change it
            changed = [name for name, value in before.items() if not _same(value, arguments[name])]
            after = {name: copy.deepcopy(value) for name, value in arguments.items() if isinstance(value, dict)}
            told.append(
                {"result": shown, "tuple": isinstance(result, (tuple, list)), "changed": changed, "after": after}
            )
        except BaseException as error:  # an object whose methods raise
            told.append({"error": _told(error, files)})
            break
    return {"calls": told}


def _resolved(value: Any, kept: list[Any]) -> Any:
    if not isinstance(value, Reference):
        return value
    result = kept[value.call]
    return result[value.output] if isinstance(result, (tuple, list)) and value.output < len(result) else result


def _hidden(result: Any, opaque: list[int]) -> Any:
    if not isinstance(result, (tuple, list)):
        return result
    return [
        Opaque(type(entry).__name__) if index in opaque and entry is not None else entry
        for index, entry in enumerate(result)
    ]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        # What is added to a dict of parameters harms nobody.
        return isinstance(b, dict) and all(key in b and _same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return bool(a == b)


def _gradients(command: dict[str, Any], functions: dict[str, Any], files: list[str]) -> dict[str, Any]:
    """Central differences of ``sum(out * dout)`` of the code's own forward function, by each argument asked for."""
    arguments, dout = command["arguments"], command["dout"]
    step = 1e-5

    def objective() -> float:
        _seeded(command["seed"])
        out = functions[command["function"]](*copy.deepcopy(list(arguments.values())))
        return float(np.sum(np.asarray(out[0]) * dout))

    found = {}
    try:
        with np.errstate(all="ignore"):
            for name in command["by"]:
                array = arguments[name]
                slopes = np.zeros(array.shape)
                for index in np.ndindex(array.shape):
                    here = array[index]
                    array[index] = here + step
                    above = objective()
                    array[index] = here - step
                    slopes[index] = (above - objective()) / (2 * step)
                    array[index] = here
                found[name] = slopes
    except BaseException as error:
        return {"error": _told(error, files)}
    return {"gradients": found}


if __name__ == "__main__":
    main()
