#!/usr/bin/env python3
"""Count the instructions of every operation under callgrind and compare them with the committed baseline.

Usage: compare.py [--update] [--tolerance PERCENT] PROGRAM...

Counts do not depend on the clock or on what else the machine does, so that CI can hold them to 5 %, in either
direction: what has become cheaper needs a new baseline, or the next regression would hide behind it. --update writes
it. The instruction set is capped at AVX2, which valgrind can run on any x86-64 machine that has it.

Counts do depend on the compiler. The baseline names the one it was made with, by its major version; with another one
the counts are shown, nothing is compared, and the last line of the output says so. Exit status: 0, or 1 if a count is
off, an operation is missing, or nothing could be counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BASELINE = Path(__file__).with_name("baseline.json")
HEADER = Path(__file__).parents[3] / "include" / "normcore.h"
ISA = "avx2"


def count(program: str) -> tuple[str, dict[str, int]]:
    """The program's compiler, and the instructions of each of its operations."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program]
        done = subprocess.run(command, env={**os.environ, "NORMCORE_ISA": ISA}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        facts = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        if facts["isa"] != ISA:
            sys.exit(f"{program} ran with {facts['isa']}, not {ISA}")
        counts = {}
        for dump in Path(folder).iterdir():
            text = dump.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
            if name and total:
                counts[name[1]] = int(total[1])
    return facts["compiler"], dict(sorted(counts.items()))


def uncounted(counts: dict[str, int]) -> list[str]:
    """Functions of the header with a context and a dtype that no program calls."""
    functions = set(re.findall(r"normcore_(\w+_f(?:32|64))\(normcore_context \*ctx", HEADER.read_text()))
    return sorted(functions - {name.split()[0] for name in counts})


def compare(counts: dict[str, int], expected: dict[str, int], tolerance: float) -> int:
    """Print what is off; how many."""
    off = 0
    for name in sorted(counts.keys() | expected.keys()):
        ours, theirs = counts.get(name), expected.get(name)
        if ours is None or theirs is None:
            print(f"{name:44} {'not counted any more' if ours is None else 'not in the baseline'}")
            off += 1
        elif abs(change := 100.0 * (ours / theirs - 1.0)) > tolerance:
            print(f"{name:44} {theirs:10} -> {ours:10}  {change:+.1f} %")
            off += 1
    return off


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the baseline")
    parser.add_argument("--tolerance", type=float, default=5.0, metavar="PERCENT")
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()

    compilers, counts = set(), {}
    for program in arguments.program:
        compiler, of_program = count(program)
        compilers.add(compiler)
        counts.update(of_program)
    (compiler,) = compilers
    if missing := uncounted(counts):
        print("operations of normcore.h that are not counted:", *missing)
        return 1
    if arguments.update:
        BASELINE.write_text(json.dumps({"compiler": compiler, "isa": ISA, "instructions": counts}, indent=1) + "\n")
        print(f"{len(counts)} counts of {compiler} written to {BASELINE}")
        return 0

    baseline = json.loads(BASELINE.read_text())
    if compiler != baseline["compiler"]:
        for name, instructions in counts.items():
            print(f"{name:44} {instructions:10}  (baseline {baseline['instructions'].get(name, 'none')})")
        print(f"NOT COMPARED: the baseline was made with {baseline['compiler']}, this is {compiler}")
        return 0
    if off := compare(counts, baseline["instructions"], arguments.tolerance):
        print(
            f"{off} of {len(counts)} counts are off by more than {arguments.tolerance:g} %: --update if that is meant"
        )
        return 1
    print(f"{len(counts)} counts within {arguments.tolerance:g} % of the baseline ({compiler}, {ISA})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
