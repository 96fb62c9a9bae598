#!/usr/bin/env python3
"""The digests of NC1.sha256 on every build and machine there is, as one table.

    matrix.py [--work DIR] [--jobs N] [--few] [--large] [NAME ...]

NAME is a build (``gcc-O2``, ``clang-Os``), a target (``aarch64``, ``nehalem``, ``wasm32``, ...), or one of the groups
``native``, ``foreign``, ``ci`` and ``all`` (the default); ``--list`` prints them. Native builds run with 1, 2, 3, 5
and 16 threads, at several alignments, with random row strides and random splits of the rows. Targets that this machine
cannot run itself run under an emulator, which the table says; they leave out the shapes that are there to occupy
several threads, unless ``--large`` is given. Needs meson, ninja and what the files of ``cross/`` name. The exit status
is 0 only if all digests are equal and nothing was left out.
"""

import argparse
import concurrent.futures
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = ROOT / "digests" / "NC1.sha256"
COMPILERS = ("gcc", "clang")
LEVELS = ("0", "1", "2", "3", "s")

# How the same results are computed differently. Shapes called large are the only ones that reach several threads.
PLAIN: tuple[tuple[str, ...], ...] = ((),)
THREADS = tuple(("--threads", str(n), "--filter", "/large/") for n in (2, 3, 5, 16))
LAYOUTS = (
    *(("--quick", "--offset", str(offset)) for offset in (4, 8, 20, 56)),
    *(("--quick", "--strides", str(seed)) for seed in (1, 2)),
    *(("--quick", "--splits", str(seed)) for seed in (1, 2)),
    ("--quick", "--threads", "3", "--offset", "12", "--strides", "3", "--splits", "3"),
    ("--threads", "5", "--offset", "44", "--strides", "4", "--splits", "4", "--filter", "/large/"),
)
# All of it at once, and the operations with the most to do for several threads: --few.
FEW = (
    (),
    ("--threads", "16", "--offset", "44", "--strides", "4", "--splits", "4"),
    *(("--threads", str(n), "--filter", "batch_norm") for n in (2, 3, 5)),
)
EMULATED = (("--quick",), ("--quick", "--threads", "3", "--offset", "12", "--strides", "3", "--splits", "3"))


@dataclass(frozen=True)
class Target:
    """A build, and the machine it runs on."""

    name: str
    options: tuple[str, ...]  # of meson
    compiler: str = "gcc"
    runner: tuple[str, ...] = ()
    build: str = ""  # the build folder, where it is not the name: several machines can run one build
    isas: tuple[str, ...] = ()  # that it must have, exactly; nothing: no matter
    emulated: bool = False
    variations: tuple[tuple[str, ...], ...] = EMULATED


def cross(name: str, *runner: str, isas: tuple[str, ...] = ("scalar",), emulated: bool = True) -> Target:
    options = ("--cross-file", str(ROOT / "cross" / f"{name}.ini"), "-Doptimization=2", "-Ddebug=false")
    variations = EMULATED if emulated else PLAIN + LAYOUTS
    return Target(name, options, "", runner, isas=isas, emulated=emulated, variations=variations)


def old_cpu(name: str, model: str, *isas: str) -> Target:
    options = ("-Doptimization=2", "-Ddebug=false")
    return Target(name, options, "gcc", ("qemu-x86_64-static", "-cpu", model), "gcc-O2", isas, emulated=True)


NATIVE = [
    Target(
        f"{compiler}-O{level}",
        (f"-Doptimization={level}", "-Ddebug=false"),
        compiler,
        variations=PLAIN + THREADS + LAYOUTS,
    )
    for compiler in COMPILERS
    for level in LEVELS
]
NODE = ("node", "--no-warnings", str(ROOT / "cross" / "wasi.mjs"))
FOREIGN = [
    cross("aarch64", "qemu-aarch64-static", isas=("neon", "scalar")),
    cross("riscv64", "qemu-riscv64-static"),
    cross("s390x", "qemu-s390x-static"),
    cross("ppc64le", "qemu-ppc64le-static"),
    cross("armhf", "qemu-arm-static"),
    cross("i686", "qemu-i386-static"),
    old_cpu("nehalem", "Nehalem", "scalar"),
    old_cpu("haswell", "Haswell", "avx2", "scalar"),
    cross("musl", isas=(), emulated=False),
    cross("wasm32", *NODE, emulated=False),
]
TARGETS = {target.name: target for target in NATIVE + FOREIGN}
GROUPS = {
    "native": [target.name for target in NATIVE],
    "foreign": [target.name for target in FOREIGN],
    "ci": ["gcc-O0", "gcc-O3", "clang-O2", "aarch64", "s390x"],
    "all": list(TARGETS),
}


@dataclass
class Outcome:
    """What one instruction set of one target gave."""

    isa: str
    runs: int = 0
    digests: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class MatrixError(Exception):
    """A build or a run that did not come to an answer."""


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    except FileNotFoundError as error:
        raise MatrixError(f"{error.filename} is not here") from error


def build(target: Target, work: Path) -> Path:
    """Compiles the digest program and gives its path."""
    folder = work / (target.build or target.name)
    if not (folder / "build.ninja").exists():
        command = ["meson", "setup", str(folder), str(ROOT), "-Dpython=disabled", "-Dtests=disabled", *target.options]
        done = run(command, **({"CC": target.compiler} if target.compiler else {}))
        if done.returncode:
            raise MatrixError(f"meson setup: {done.stdout[-1500:]}{done.stderr[-500:]}")
    done = run(["ninja", "-j1", "-C", str(folder), "digests/normcore-digests"])
    if done.returncode:
        raise MatrixError(f"ninja: {done.stdout[-1500:]}")
    return folder / "digests" / "normcore-digests"


def check_isa(target: Target, program: Path, isa: str, few: bool, large: bool) -> Outcome:
    """All variations on one instruction set."""
    outcome = Outcome(isa)
    start = time.monotonic()
    for variation in FEW if few and target in NATIVE else target.variations:
        options = [option for option in variation if not (large and target.emulated and option == "--quick")]
        command = [*target.runner, str(program), "--isa", isa, *options, str(EXPECTED)]
        done = run(command)
        summary = re.search(r"^(\S+), (\S+): (\d+) digests, (\d+) differences$", done.stdout, re.MULTILINE)
        outcome.runs += 1
        if done.returncode or not summary or summary[2] != isa or int(summary[4]):
            said = (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"
            outcome.failures.append(f"{target.name} {isa} {' '.join(options)}\n{said}")
        else:
            outcome.digests = max(outcome.digests, int(summary[3]))
    outcome.seconds = time.monotonic() - start
    return outcome


def isas_of(target: Target, program: Path) -> list[str]:
    """The instruction sets the program finds on the target's machine."""
    done = run([*target.runner, str(program), "--isas"])
    isas = done.stdout.split()
    if done.returncode or not isas:
        raise MatrixError(f"{target.name}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    if target.isas and tuple(isas) != target.isas:
        raise MatrixError(f"{target.name} runs {isas}, not {list(target.isas)}")
    return isas


def line(name: str, isa: str, runs: object, digests: object, result: str, seconds: object) -> None:
    print(f"{name:<10} {isa:<8} {runs!s:>4} {digests!s:>7}  {seconds!s:>6}  {result}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=["all"], help="builds, targets or groups")
    parser.add_argument("--work", type=Path, help="keep the builds in this folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="builds and runs at once")
    parser.add_argument("--few", action="store_true", help="native builds: few runs that vary everything at once")
    parser.add_argument("--large", action="store_true", help="all shapes under the emulators too")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing else")
    arguments = parser.parse_args()
    if arguments.list:
        for group, members in GROUPS.items():
            print(f"{group}: {' '.join(members)}")
        return 0
    names = [member for name in arguments.names for member in GROUPS.get(name, [name])]
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no such build, target or group: {' '.join(unknown)}")
    targets = [TARGETS[name] for name in dict.fromkeys(names)]
    failures: list[str] = []

    with (
        tempfile.TemporaryDirectory() as temporary,
        concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool,
    ):
        work = (arguments.work or Path(temporary)).resolve()
        first = {target.build or target.name: target for target in reversed(targets)}
        builds = {folder: pool.submit(build, target, work) for folder, target in reversed(first.items())}
        line("build", "isa", "runs", "digests", f"against {EXPECTED.name}, on {platform.machine()}", "s")

        def start(target: Target) -> list[concurrent.futures.Future[Outcome]]:
            """All instruction sets of a target; scalar, which takes the longest, first."""
            program = builds[target.build or target.name].result()
            return [
                pool.submit(check_isa, target, program, isa, arguments.few, arguments.large)
                for isa in isas_of(target, program)[::-1]
            ]

        # Those of all targets at once, so that nothing waits for the last of another's.
        started: list[tuple[Target, list[concurrent.futures.Future[Outcome]] | MatrixError]] = []
        for target in targets:
            try:
                started.append((target, start(target)))
            except MatrixError as error:
                started.append((target, error))
        for target, checks in started:
            try:
                if isinstance(checks, MatrixError):
                    raise checks
                outcomes = [check.result() for check in checks[::-1]]
            except MatrixError as error:
                failures.append(f"{target.name}: {error}")
                line(target.name, "", "", "", "FAILED", "")
                continue
            for outcome in outcomes:
                result = "DIFFERENT" if outcome.failures else "equal"
                if target.emulated:
                    result += ", under emulation"
                failures += outcome.failures
                line(target.name, outcome.isa, outcome.runs, outcome.digests, result, f"{outcome.seconds:.0f}")
    for failure in failures:
        print(f"\n{failure}")
    print(f"\n{len(targets)} builds and machines, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
