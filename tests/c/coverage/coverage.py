#!/usr/bin/env python3
"""Lines and branches of the C core that its C tests run, as clang counts them in the source.

    coverage.py [--work DIR] [--clang VERSION] [--mcdc]

Every function counts once for each dtype that it is compiled for: what only float32 takes is not taken. Arithmetic
(kernels, SIMD layers, the emulated fma) is left out. What no test takes is listed with its reason in uncovered.txt; the
exit status is 0 only if that list is exact (nothing taken is in it, nothing else is left out) and at least 97 % of the
branches are taken. Counts are written into the files as they are made, so that a forked child's are there however it
ends. ``--mcdc`` prints modified condition/decision coverage instead and asserts nothing; its counts are lost in
children that do not return from main.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CORE = ROOT / "src" / "normcore" / "core"
LIST = Path(__file__).with_name("uncovered.txt")
LEAST_BRANCHES = 97.0
# Tests of other things than the core's own code: they take long and reach nothing that the rest does not.
LEFT_OUT = ("digests", "files", "functions", "header", "includes", "symbols", "spills", "stack", "writable")
# Tested bit for bit on every instruction set instead, each copy of which would count apart.
ARITHMETIC = ("kernels/", "simd/", "numeric/exact_fma.h")
CODE_REGION = 0


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def tested(build: Path, version: str, mcdc: bool) -> Path:
    """Compile with counters, run the tests; the merged counts."""
    flags = ["-fprofile-instr-generate", "-fcoverage-mapping", f"-fprofile-list={LIST.with_name('profile.list')}"]
    # Threads count at the same time. A file that counters are mapped to cannot hold those of MC/DC.
    flags += ["-fcoverage-mcdc"] if mcdc else ["-fprofile-update=atomic", "-mllvm", "-runtime-counter-relocation"]
    if not (build / "build.ninja").exists():
        environment = {**os.environ, "CC": f"clang-{version}"}
        options = ["-Dpython=disabled", "--buildtype=release", f"-Dc_args={' '.join(flags)}"]
        run("meson", "setup", build, ROOT, *options, "-Dc_link_args=-fprofile-instr-generate", env=environment)
    run("meson", "compile", "-C", build)
    counts = build / "counts"
    counts.mkdir(exist_ok=True)
    for old in counts.iterdir():
        old.unlink()
    names = run("meson", "test", "-C", build, "--list").splitlines()
    names = [name.split(":")[-1].split(" / ")[-1].strip() for name in names if "normcore" in name]
    names = [name for name in names if not name.startswith(LEFT_OUT)]
    environment = {**os.environ, "LLVM_PROFILE_FILE": f"{counts}/%p.profraw" if mcdc else f"{counts}/%c%p.profraw"}
    run("meson", "test", "-C", build, "--print-errorlogs", "--timeout-multiplier", "4", *names, env=environment)
    merged = build / "merged.profdata"
    run(f"llvm-profdata-{version}", "merge", "-o", merged, *counts.iterdir())
    return merged


def programs(build: Path) -> list[str | Path]:
    """Arguments that name every program whose tests ran."""
    found = sorted(path for path in (build / "tests" / "c").glob("test_*") if path.is_file())
    return [found[0], *(argument for path in found[1:] for argument in ("-object", path))]


@cache
def source(path: Path) -> list[str]:
    return path.read_text().splitlines()


def text_between(path: Path, line: int, column: int, last_line: int, last_column: int) -> str:
    lines = source(path)[line - 1 : last_line]
    lines[-1] = lines[-1][: last_column - 1]
    lines[0] = lines[0][column - 1 :]
    return " ".join(" ".join(lines).split())


@dataclass
class Counts:
    """Of one file: how many there are, and those that are not taken."""

    lines: int = 0
    branches: int = 0
    missed_lines: collections.Counter[str] = field(default_factory=collections.Counter)
    missed_branches: collections.Counter[str] = field(default_factory=collections.Counter)


def count(export: dict) -> dict[str, Counts]:
    """Of the copies of a function those for one dtype are one: a header's in every file, a test's of a core file."""
    branches: dict[tuple, list[int]] = {}
    regions: dict[tuple, dict[tuple[int, ...], int]] = collections.defaultdict(lambda: collections.defaultdict(int))
    names: dict[tuple, str] = {}
    seen = set()
    for function in export["data"][0]["functions"]:
        path = Path(function["filenames"][0])
        # Each program has a record of each function, with the counts of all programs in which it looks the same.
        same = (function["name"], tuple(tuple(region[:4]) + tuple(region[5:]) for region in function["regions"]))
        if same in seen or not path.is_relative_to(CORE):
            continue
        seen.add(same)
        if path.relative_to(CORE).as_posix().startswith(ARITHMETIC):
            continue
        dtype = re.search(r"^\w+_f(\d\d)\.c:|_f(\d\d)$", function["name"])
        plain = [region for region in function["regions"] if region[7] == CODE_REGION and not region[5]]
        key = (path, tuple(plain[0][:2]), (dtype[1] or dtype[2]) if dtype else "")
        names.setdefault(key, re.sub(r"_f\d\d$", "", function["name"].split(":")[-1]))
        for *span, true, false, file_id, _, _ in function["branches"]:
            if not file_id:  # not inside a macro, whose constants are not the tests' to change
                taken = branches.setdefault((key, *span), [0, 0])
                taken[0] += true
                taken[1] += false
        for *span, times, _, _, _ in plain:
            regions[key][tuple(span)] += times

    # A header's function in a file without a dtype says nothing more than those in files with one, which use it.
    for key in [(*key[:2], "") for key in regions if key[0].suffix == ".h" and key[2]]:
        if regions.pop(key, None):
            branches = {place: taken for place, taken in branches.items() if place[0] != key}

    files: dict[str, Counts] = collections.defaultdict(Counts)
    for (key, *span), taken in branches.items():
        place = str(key[0].relative_to(CORE))
        condition = text_between(key[0], *span) or source(key[0])[span[0] - 1].strip()
        files[place].branches += 2
        for outcome, times in zip(("true", "false"), taken, strict=True):
            if not times:
                files[place].missed_branches[f"{place}: {names[key]}: {condition} is never {outcome}"] += 1
    for key, spans in regions.items():
        place = str(key[0].relative_to(CORE))
        for number in range(min(span[0] for span in spans), max(span[2] for span in spans) + 1):
            line = source(key[0])[number - 1]
            start = (number, len(line) - len(line.lstrip()) + 1)
            around = [span for span in spans if span[:2] <= start < span[2:]]
            if not around or not line.strip() or line.lstrip().startswith(("/*", "*", "#", "}", "//")):
                continue
            files[place].lines += 1
            if not spans[max(around)]:
                files[place].missed_lines[f"{place}: {names[key]}: {line.strip()} is never run"] += 1
    return files


def listed() -> tuple[set[str], list[str]]:
    """The entries of uncovered.txt, which are indented, and what is wrong with the file itself."""
    entries: set[str] = set()
    wrong = []
    reason = False
    for number, line in enumerate(LIST.read_text().splitlines(), 1):
        if line.startswith("    "):
            if not reason:
                wrong.append(f"{LIST.name}:{number}: no reason above")
            if line.strip() in entries:
                wrong.append(f"{LIST.name}:{number}: twice")
            entries.add(line.strip())
        else:
            reason = bool(line.strip()) and not line.startswith("#")
    return entries, wrong


def percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 100.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="keep the build in this folder")
    parser.add_argument("--clang", default="19", metavar="VERSION")
    parser.add_argument("--mcdc", action="store_true", help="print modified condition/decision coverage instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        build = (arguments.work or Path(temporary) / "build").resolve()
        merged = tested(build, arguments.clang, arguments.mcdc)
        cov, left_out = f"llvm-cov-{arguments.clang}", "-ignore-filename-regex=/(kernels|simd|tests|include)/"
        if arguments.mcdc:
            options = ["-show-mcdc-summary", "-show-region-summary=false", left_out, "-instr-profile", merged]
            print(run(cov, "report", *options, *programs(build)))
            return 0
        files = count(json.loads(run(cov, "export", "-instr-profile", merged, *programs(build))))

    print(f"{'file':24} {'lines':>15} {'branches':>15}")
    total = Counts()
    for name, counts in sorted(files.items()):
        lines, branches = counts.missed_lines.total(), counts.missed_branches.total()
        print(f"{name:24} {counts.lines - lines:7}/{counts.lines:7} {counts.branches - branches:7}/{counts.branches:7}")
        total.lines += counts.lines
        total.branches += counts.branches
        total.missed_lines += counts.missed_lines
        total.missed_branches += counts.missed_branches
    missed = total.missed_lines + total.missed_branches
    lines = percent(total.lines - total.missed_lines.total(), total.lines)
    branches = percent(total.branches - total.missed_branches.total(), total.branches)

    entries, wrong = listed()
    wrong += [f"not taken, not in {LIST.name}: {entry}" for entry in sorted(missed.keys() - entries)]
    wrong += [f"taken, but in {LIST.name}: {entry}" for entry in sorted(entries - missed.keys())]
    if branches < LEAST_BRANCHES:
        wrong.append(f"branches: {branches:.1f} %, less than {LEAST_BRANCHES} %")
    print("\n".join(wrong))
    print(f"C core: {lines:.2f} % of {total.lines} lines, {branches:.2f} % of {total.branches} branches")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
