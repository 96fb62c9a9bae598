#!/usr/bin/env python3
"""Look at the object code of the matrix product: its inner loops must keep every accumulator in a register.

Usage: check_spills.py OBJDUMP LIBRARY

An accumulator too many and the compiler silently keeps some on the stack: no result changes, and a third of the speed
is gone. A loop counts as an inner loop of the product if it is in a function of `gemm`, has no loop inside and adds to
MIN_ACCUMULATORS registers or more. In it no vector instruction may name a place on the stack. Every x86 instruction
set in the library must have such a loop, with TILE_ACCUMULATORS, in both dtypes. Exit status 77 (skipped) if the
library has no x86 instruction set.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

MIN_ACCUMULATORS = 6
TILE_ACCUMULATORS = 12  # an FMA's latency times its throughput is 8 to 10

MEMBER = re.compile(r"^(?:.*[/(])?(\S*kernels_(f32|f64)_(avx\w*)\.c\.o)\)?:\s+file format")
FUNCTION = re.compile(r"^[0-9a-f]+ <(\S+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(?:(?:rep|lock|notrack|bnd)\s+)*(\S+)\s*(.*)$")
JUMP = re.compile(r"^([0-9a-f]+)\b")
PACKED_FMA = re.compile(r"^vfn?m(?:add|sub)\d{3}p[sd]$")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str


@dataclass(frozen=True)
class Function:
    member: str
    dtype: str
    isa: str
    name: str
    code: list[Instruction]

    def inner_loops(self) -> Iterator[list[Instruction]]:
        """Code between a jump backwards and its target, of loops without loops inside."""
        places = {instruction.address: index for index, instruction in enumerate(self.code)}
        loops = []
        for end, instruction in enumerate(self.code):
            target = JUMP.match(instruction.operands) if instruction.name.startswith("j") else None
            start = places.get(int(target[1], 16)) if target else None
            if start is not None and start <= end:
                loops.append((start, end))
        for start, end in loops:
            if not any((start, end) != other and start <= other[0] and other[1] <= end for other in loops):
                yield self.code[start : end + 1]

    def stack(self) -> re.Pattern[str]:
        """What names a place on the stack. With an index it would be an array; %rbp is the frame's only if set so."""
        framed = any(i.name == "mov" and i.operands.replace(" ", "") == "%rsp,%rbp" for i in self.code)
        return re.compile(r"\(%r[sb]p\)" if framed else r"\(%rsp\)")


def gemm_functions(listing: str) -> Iterator[Function]:
    """Functions with gemm in their names, of the members compiled for an x86 instruction set."""
    member: re.Match[str] | None = None
    function: Function | None = None
    for line in listing.splitlines():
        if "file format" in line:
            member, function = MEMBER.match(line), None
        elif head := FUNCTION.match(line):
            function = None
            if member and "gemm" in head[1]:
                function = Function(member[1], member[2], member[3], head[1], [])
                yield function
        elif function and (parts := INSTRUCTION.match(line)):
            function.code.append(Instruction(int(parts[1], 16), parts[2], parts[3].split("#")[0].strip()))


def main() -> int:
    objdump, library = sys.argv[1:]
    if not objdump:
        print("no objdump")
        return 77
    listing = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", library], check=True, capture_output=True, text=True
    ).stdout
    rows = {(match[2], match[3]) for match in map(MEMBER.match, listing.splitlines()) if match}
    if not rows:
        print("no x86 instruction set in", library)
        return 77

    most = dict.fromkeys(sorted(rows), 0)
    loops = spills = 0
    for function in list(gemm_functions(listing)):
        stack = function.stack()
        for loop in function.inner_loops():
            sums = {i.operands.rsplit(",", 1)[-1] for i in loop if PACKED_FMA.match(i.name)}
            if len(sums) < MIN_ACCUMULATORS:
                continue
            loops += 1
            row = function.dtype, function.isa
            most[row] = max(most[row], len(sums))
            for i in loop:
                if i.name.startswith("v") and stack.search(i.operands):
                    spills += 1
                    print(
                        f"{function.member}, {function.name} at {i.address:#x}, {len(sums)} sums: {i.name} {i.operands}"
                    )
    small = [f"{dtype} {isa}: {count}" for (dtype, isa), count in most.items() if count < TILE_ACCUMULATORS]
    if small:
        print(f"no inner loop with {TILE_ACCUMULATORS} accumulators: is this the product? {'; '.join(small)}")
    if spills:
        print(f"{spills} vector instructions use the stack in inner loops")
    if small or spills:
        return 1
    print(
        f"{loops} inner loops, none uses the stack; most accumulators:",
        *(f"{d} {i}: {n};" for (d, i), n in most.items()),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
