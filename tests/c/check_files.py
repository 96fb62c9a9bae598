#!/usr/bin/env python3
"""Compile every file of the core by itself: each must begin with the headers that it needs.

Usage: check_files.py CORE GENERATED INCLUDE [--target NAME=FLAGS]... --once FILE ... -- COMPILER...

A file is looked at as the library compiles it: those named by --once plainly, the arithmetic (simd/, kernels/) for
every target and dtype, everything else for both dtypes. A header of simd/ for another machine is named and left out.
Nothing is linked or run, and what a file defines may remain unused.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FLAGS = ("-std=c99", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused", "-x", "c")
DTYPES = ("32", "64")
GENERAL = {"simd.h", "vmath.h"}  # of simd/: not the layer of one target


def forms(file: Path, once: set[str], targets: dict[str, list[str]]) -> Iterator[list[str]]:
    """The options with which this file is compiled, one list for each object that it gets into."""
    if str(file) in once:
        yield []
    elif file.parts[0] not in {"simd", "kernels"}:
        yield from ([f"-DNORMCORE_DTYPE={dtype}"] for dtype in DTYPES)
    else:
        for name, flags in targets.items():
            if file.parts[0] == "simd" and file.name not in GENERAL and file.stem != name:
                continue
            isa = [f"-DNORMCORE_ISA={name}", f'-DNORMCORE_ISA_HEADER="{name}.h"']
            yield from ([*flags, *isa, f"-DNORMCORE_DTYPE={dtype}"] for dtype in DTYPES)


def main() -> int:
    ours, compiler = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs=3, type=Path)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--once", nargs="+", default=[])
    options = parser.parse_args(ours)
    core = options.folders[0]
    targets = {name: shlex.split(flags) for name, _, flags in (target.partition("=") for target in options.target)}
    include = [f"-I{folder}" for folder in options.folders]

    def compile_one(job: tuple[Path, list[str]]) -> str:
        file, form = job
        command = [*compiler, *FLAGS, *form, *include, str(core / file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"{file} {' '.join(form)}\n{done.stderr}" if done.returncode else ""

    files = sorted(path.relative_to(core) for pattern in ("*/*.c", "*/*.h") for path in core.glob(pattern))
    jobs = [(file, form) for file in files for form in forms(file, set(options.once), targets)]
    elsewhere = sorted({str(file) for file in files} - {str(file) for file, _ in jobs})
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        wrong = [said for said in pool.map(compile_one, jobs) if said]
    print(*wrong, sep="\n")
    missing = sorted(set(options.once) - {str(file) for file in files})
    if missing or len(files) < 40:
        wrong.append("")
        print(f"{len(files)} files in {core}, none of which is {' or '.join(missing)}: is this the core?")
    print(f"{len(files)} files in {len(jobs)} forms, {len(wrong)} wrong; for other machines: {', '.join(elsewhere)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
