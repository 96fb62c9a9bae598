"""Coverage of the Python package: the Cython files of `_core` by line, everything else by line and branch.

    python tests/coverage/python.py [--work DIR] [--jobs N] [pytest arguments]

Builds the package with line tracing into an environment of its own (what is installed here serves it: pytest, NumPy,
meson), runs the suite there in `--jobs` processes and compares what was not reached with `uncovered.txt` beside this
file. It fails if

* branches of src/normcore/**/*.py are covered below the bound,
* a line or branch was not reached and the list does not say why, or
* the list names something that was reached, or that is not there.

With pytest arguments only these tests run and nothing is judged: what they leave uncovered is printed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PACKAGE = ROOT / "src" / "normcore"
LIST = HERE / "uncovered.txt"
BRANCHES = 98.0  # percent, of src/normcore/**/*.py

RC = """\
[run]
branch = true
parallel = true
core = ctrace
patch = subprocess, _exit
data_file = {work}/data/coverage
source_pkgs = normcore
plugins = cython_lines
disable_warnings = no-data-collected, module-not-measured, module-not-imported

[cython_lines]
sources = {package}/_core
generated = {generated}

[paths]
source =
    {package}
    {installed}

[report]
exclude_also =
    if TYPE_CHECKING:
"""


def run(*command: str | Path, **options: object) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)  # type: ignore[call-overload]


def build(work: Path) -> tuple[Path, Path]:
    """Python of the environment with the traced package, and coverage's configuration for it."""
    venv.create(work / "venv", symlinks=True, clear=True)
    python = work / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(work / "venv"), "platbase": str(work / "venv")}))
    # A folder named in a .pth file serves its packages, but its own .pth files (an editable normcore) do not count.
    here = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    start = ["import coverage; coverage.process_startup()", "import raw_threads"]
    (site / "tests.pth").write_text("\n".join([*here, str(HERE), *start, ""]))
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-build-isolation"),
        *(f"--config-settings=build-dir={work / 'build'}", "--config-settings=setup-args=-Dlinetrace=true"),
        *("--config-settings=setup-args=-Dbuildtype=debugoptimized", ROOT),
    )
    (generated,) = (work / "build").rglob("_core.pyx.c")
    rc = work / "coveragerc"
    rc.write_text(RC.format(work=work, package=PACKAGE, generated=generated, installed=site / "normcore"))
    return python, rc


def measure(work: Path, python: Path, rc: Path, jobs: int, tests: list[str]) -> dict[str, object]:
    """Run the suite and return coverage's report, as JSON makes it."""
    (work / "data").mkdir(exist_ok=True)
    for old in (work / "data").iterdir():
        old.unlink()
    environment = os.environ | {"PYTHONPATH": "", "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    environment.setdefault("NORMCORE_PROFILE", "dev")
    suite = [python, "-m", "coverage", "run", f"--rcfile={rc}", "-m", "pytest", "-q", "--hypothesis-seed=0"]
    suite += ["-p", "no:cacheprovider"]
    if tests:
        parts = [tests]
    else:  # the largest files first, each to the process with the least so far
        files = sorted(
            (ROOT / "tests" / "python").glob("test_*.py"), key=lambda file: file.stat().st_size, reverse=True
        )
        parts = [[] for _ in range(jobs)]
        for file in files:
            min(parts, key=lambda part: sum(Path(name).stat().st_size for name in part)).append(str(file))
    started = [subprocess.Popen([str(word) for word in [*suite, *part]], cwd=ROOT, env=environment) for part in parts]
    if any(ended := [process.wait() for process in started]):
        raise SystemExit(f"the tests failed under coverage: {ended}")
    coverage = [python, "-m", "coverage"]
    run(*coverage, "combine", f"--rcfile={rc}", "--quiet", env=environment, cwd=ROOT)
    run(*coverage, "json", f"--rcfile={rc}", "--quiet", "-o", work / "coverage.json", env=environment, cwd=ROOT)
    return json.loads((work / "coverage.json").read_text())


def missing(report: dict[str, object]) -> Iterator[tuple[str, str]]:
    """(file, what) of each line and branch not reached; branches of unreached lines are not named again."""
    for path, data in sorted(report["files"].items()):  # type: ignore[attr-defined]
        name = Path(path).resolve().relative_to(PACKAGE).as_posix()
        source = (PACKAGE / name).read_text(encoding="utf-8").splitlines()

        def text(line: int, source: list[str] = source) -> str:
            return " ".join(source[line - 1].split()) if line > 0 else "(end of the function)"

        lines = set(data["missing_lines"])
        for line in sorted(lines):
            yield name, text(line)
        for start, end in data.get("missing_branches", []):
            if start not in lines and end not in lines:
                yield name, f"{text(start)} -> {text(end)}"


def listed() -> dict[tuple[str, str], int]:
    """How often each (file, what) stands in the list: "FILE  WHAT" a line, under comments that say why."""
    known: dict[tuple[str, str], int] = {}
    reason = False
    for number, line in enumerate(LIST.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            reason = False
        elif line.startswith("#"):
            reason = True
        else:
            name, _, what = line.partition("  ")
            if not reason or not what:
                raise SystemExit(f"{LIST}:{number}: not 'FILE  SOURCE LINE' under a comment with the reason")
            known[name, what] = known.get((name, what), 0) + 1
    return known


def has_code(path: Path) -> bool:
    """Whether there is more in a Python file than its docstring."""
    return any(not isinstance(statement, ast.Expr) for statement in ast.parse(path.read_bytes()).body)


def judge(report: dict[str, object]) -> list[str]:
    """What is wrong with the measured coverage."""
    wrong: list[str] = []
    files = report["files"]
    branches = covered = 0
    for path, data in files.items():  # type: ignore[attr-defined]
        if path.endswith(".py"):
            branches += data["summary"]["num_branches"]
            covered += data["summary"]["covered_branches"]
    measured = {Path(path).resolve().relative_to(PACKAGE) for path in files}  # type: ignore[attr-defined]
    cython = [*PACKAGE.glob("_core/*.pyx"), *PACKAGE.glob("_core/*.pxi")]
    there = {path.relative_to(PACKAGE) for path in [*filter(has_code, PACKAGE.rglob("*.py")), *cython]}
    wrong += [f"{path}: not measured" for path in sorted(there - measured)]
    found: dict[tuple[str, str], int] = {}
    for key in missing(report):
        found[key] = found.get(key, 0) + 1
    known = listed()
    for (name, what), count in sorted(found.items()):
        if count > known.get((name, what), 0):
            wrong.append(f"{name}: not reached, and uncovered.txt does not say why: {what}")
    for (name, what), count in sorted(known.items()):
        if count > found.get((name, what), 0):
            wrong.append(f"{name}: uncovered.txt lists what is reached, or is not there: {what}")
    share = 100.0 * covered / branches
    if share < BRANCHES:
        wrong.append(f"branches of src/normcore/**/*.py: {share:.2f} %, below {BRANCHES} %")
    core = [data["summary"] for path, data in files.items() if Path(path).parent.name == "_core"]  # type: ignore[attr-defined]
    reached, lines = (sum(summary[key] for summary in core) for key in ("covered_lines", "num_statements"))
    print(f"_core: {reached} of {lines} lines; branches of the Python files: {covered} of {branches}, {share:.2f} %")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, help="folder for builds and data, kept; a temporary one by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the tests")
    parser.add_argument("--keep-build", action="store_true", help="take the build that --work holds already")
    options, tests = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if options.keep_build:
            python, rc = work / "venv" / "bin" / "python", work / "coveragerc"
        else:
            python, rc = build(work)
        report = measure(work, python, rc, options.jobs, tests)
        if tests:
            for name, what in missing(report):
                print(f"{name}  {what}")
            return 0
        wrong = judge(report)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
