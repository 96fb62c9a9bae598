"""A coverage.py plugin for one Cython module, of one file or more, built with line tracing by meson.

Cython's own plugin looks for the generated C beside the source; meson keeps it in a private folder of the build, and
the paths in it are relative to that build. This one is told both places (options `sources`, the folder of the module's
.pyx and .pxi files, and `generated`) and takes the lines that can be reached from the trace calls in the generated C.
"""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path
from typing import Any

from coverage import CoveragePlugin, FileReporter, FileTracer


def traced_lines(generated: Path, name: str) -> set[int]:
    """The lines of the source file `name` for which the generated C calls the tracer.

    Those in functions: what is at the level of the module runs when it is imported, and in one frame for all files, so
    that its lines are counted in one of them.
    """
    # Heads the copy of each source line: also of declarations and of .pxd files.
    origin = re.compile(r'\s*/\* "(.*)":(\d+)$')
    call = re.compile(r"\s*__Pyx_TraceLine\((\d+),")
    module = re.compile(r"static CYTHON_SMALL_CODE int __pyx_pymod_exec_\w+\(PyObject \*\w+\)$")
    here, lines, traced = "", set(), False
    with generated.open(encoding="utf-8") as text:
        for line in text:
            if module.match(line):
                break
            if match := origin.match(line):
                here = Path(match[1]).name
            elif match := call.match(line):
                traced = True
                if here == name:
                    lines.add(int(match[1]))
    if not traced:
        raise ValueError(f"{generated}: no line is traced: the build needs -Dlinetrace=true")
    return lines


class _Tracer(FileTracer):
    # Called at every line. Compiled, unlike the one it replaces: in that Python would run handlers of signals, and
    # coverage drops what they raise, so that a Ctrl-C in the midst of an operation would be lost.
    line_number_range = attrgetter("f_lineno", "f_lineno")  # type: ignore[assignment]

    def __init__(self, source: Path) -> None:
        self.source = source

    def source_filename(self) -> str:
        return str(self.source)


class _Reporter(FileReporter):
    def __init__(self, source: Path, generated: Path) -> None:
        super().__init__(str(source))
        self.generated = generated

    def lines(self) -> set[int]:
        return traced_lines(self.generated, Path(self.filename).name)


class _Plugin(CoveragePlugin):
    def __init__(self, sources: Path, generated: Path) -> None:
        self.files = {file.name: file for file in sources.iterdir()}
        self.generated = generated

    def file_tracer(self, filename: str) -> _Tracer | None:
        file = self.files.get(Path(filename).name)
        return _Tracer(file) if file and file.suffix in {".pyx", ".pxi"} else None

    def file_reporter(self, filename: str) -> _Reporter:
        return _Reporter(Path(filename), self.generated)


def coverage_init(registry: Any, options: dict[str, str]) -> None:
    registry.add_file_tracer(_Plugin(Path(options["sources"]), Path(options["generated"])))
