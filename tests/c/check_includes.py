#!/usr/bin/env python3
"""Look at the includes of the core: no file may include one of a higher shelf, and none goes round in a circle.

Usage: check_includes.py CORE
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SHELVES = ("numeric", "runtime", "simd", "kernels", "ops", "network", "selftest")
# The public header, which stands below all, and what the build writes: a line per target.
FROM_ELSEWHERE = {"normcore.h", "isa_targets.h"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.MULTILINE)


def circle(file: str, included: dict[str, list[str]], path: tuple[str, ...], good: set[str]) -> tuple[str, ...]:
    """The files of a circle that can be reached from here; () if there is none."""
    if file in path:
        return (*path[path.index(file) :], file)
    if file not in good:
        for other in included.get(file, []):
            if found := circle(other, included, (*path, file), good):
                return found
        good.add(file)
    return ()


def main() -> int:
    core = Path(sys.argv[1])
    files = sorted(path for path in core.rglob("*") if path.suffix in {".c", ".h", ".def"})
    names = {path.relative_to(core).as_posix(): path for path in files}
    included = {name: INCLUDE.findall(path.read_text(encoding="utf-8")) for name, path in names.items()}
    wrong = []
    for name, others in included.items():
        shelf = name.split("/")[0]
        if shelf not in SHELVES:
            wrong.append(f"{name} is on none of the shelves {', '.join(SHELVES)}")
            continue
        for other in others:
            above = other.split("/")[0]
            if other in FROM_ELSEWHERE:
                continue
            if other not in names:
                wrong.append(f"{name} includes {other}, which is not the name of a file with its shelf")
            elif above in SHELVES and SHELVES.index(above) > SHELVES.index(shelf):
                wrong.append(f"{name} includes {other}: {shelf} is below {above}")
    good: set[str] = set()
    for name in names:
        if found := circle(name, included, (), good):
            wrong.append(f"a circle: {' includes '.join(found)}")
            break
    if len(files) < 40:
        wrong.append(f"{len(files)} files in {core}: is this the core?")
    print(*wrong, sep="\n")
    count = sum(len(others) for others in included.values())
    print(f"{len(files)} files with {count} includes among them, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
