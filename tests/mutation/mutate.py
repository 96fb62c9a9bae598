"""Mutation of what decides whether arguments and files are good: does a test notice every wrong one?

    python tests/mutation/mutate.py [--part K/N] [--only PATTERN] [--jobs N] [--work DIR]

One change at a time is made in

* runtime/{check,context,options}.c, network/mlp_shape.c and ops/scalars.h of src/normcore/core, whole;
* ops/*.c and network/mlp.c there, from the head of each public function to its normcore_call_run, and what is called
  there;
* src/normcore/archive.py, what read_archive needs.

Each comparison loses or gains its boundary or is turned round, && and || change places, a ! falls, the condition of
an if is negated, an integer constant becomes one more and one less. Then the tests of that file run until one fails. C
is built for scalar float32 alone, with AddressSanitizer, so that reading too far is noticed too.

`survivors.txt` beside this file holds the mutants that no test can tell from the code, under the reasons why. It fails
if another one survives, or if one of the list is killed or is not there. --part 1/12 takes every twelfth mutant, chosen
by a hash of its line: the same ones as long as the code stays the same. Without it all are tried.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import copy
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "src" / "normcore" / "core"
TESTS = ROOT / "tests" / "c"
LIST = Path(__file__).resolve().parent / "survivors.txt"

# Tests that want more than the scalar instruction set in the build, or take seconds under AddressSanitizer and say
# nothing about the files below that the others do not.
NOT_HERE = {
    "default_instruction_set",
    "thread_counts",
    "changing_the_number",
    "cancellation",
    "fork",
    "many_contexts",
    "workers_keep_off_the_callers_cpu",
    "few_long_rows",
}

QUICK = 0.25  # seconds: tests of a program that take less run first, in one process

# Programs that include a file of the core to see into it, and so have to be built from the mutant.
WITH_SOURCE = {"options": "runtime/options.c"}

# Files that are mutated from end to end.
WHOLE = {"runtime/check.c", "runtime/context.c", "runtime/options.c", "network/mlp_shape.c", "ops/scalars.h"}

# The programs of tests/c that run for a file; "contract" runs for all.
PROGRAMS = {
    "runtime/check.c": ["checks"],
    "runtime/context.c": ["calls", "checks", "edges", "threads", "setters"],
    "runtime/options.c": ["options"],
    "network/mlp_shape.c": ["checks", "mlp"],
    "ops/scalars.h": ["checks", "edges"],
    "ops/affine.c": ["checks", "affine"],
    "ops/batch_norm.c": ["checks", "batch_norm"],
    "ops/cross_entropy.c": ["checks", "cross_entropy"],
    "ops/layer_norm.c": ["checks", "layer_norm"],
    "network/mlp.c": ["checks", "mlp"],
    "ops/optimizer.c": ["checks", "optimizer"],
    "ops/random.c": ["checks", "random"],
    "ops/rowwise.c": ["checks", "rowwise"],
}


@dataclass(frozen=True)
class Mutant:
    """One change: the file below src/normcore, the whole changed text of it, and what names it in the list."""

    file: str
    key: str
    text: str


# ---------------------------------------------------------------------- C

TOKEN = re.compile(
    r"""(?P<skip>\s+|/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<preprocessor>^[ \t]*\#(?:\\\n|[^\n])*)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
    |(?P<operator>->|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|.)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
SWAPPED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&"}
INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)([uUlL]*)")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int


@dataclass
class Function:
    """Indices of the tokens of a body, and whom they call."""

    name: str
    first: int
    last: int


def tokens_of(source: str) -> list[Token]:
    found, at = [], 0
    while at < len(source):
        # A preprocessor line is one only where a line begins; the pattern of blanks would take its indentation.
        match = TOKEN.match(source, at)
        assert match is not None
        begins = source.rfind("\n", 0, at) + 1
        if match.lastgroup == "operator" and match[0] == "#" and not source[begins:at].strip():
            match = re.compile(r"#(?:\\\n|[^\n])*").match(source, at)
            assert match
            at = match.end()
            continue
        if match.lastgroup not in {"skip", "preprocessor"}:
            found.append(Token(match.lastgroup, match[0], at))
        at = match.end()
    return found


def matching(tokens: list[Token], at: int, step: int) -> int:
    """Index of the bracket that belongs to the one at `at`, forwards or backwards."""
    depth = 0
    while True:
        depth += (tokens[at].text in "([{") - (tokens[at].text in ")]}")
        if depth == 0:
            return at
        at += step


def functions_of(tokens: list[Token]) -> list[Function]:
    found, at = [], 0
    while at < len(tokens):
        if tokens[at].text == "{":
            end = matching(tokens, at, 1)
            if tokens[at - 1].text == ")":
                before = matching(tokens, at - 1, -1) - 1  # the name, or the ) of NAME(name)
                name = tokens[before - 1 if tokens[before].text == ")" else before].text
                found.append(Function(name, at + 1, end))
            at = end
        at += 1
    return found


def regions(tokens: list[Token], whole: bool) -> list[tuple[str, int, int]]:
    """(function, first, last token) of what is mutated in a file."""
    functions = functions_of(tokens)
    if whole:
        spans = [(f.name, f.first, f.last) for f in functions]
        inside = {i for f in functions for i in range(f.first, f.last)}
        outside = [i for i in range(len(tokens)) if i not in inside]
        return spans + [("(file)", i, i + 1) for i in outside if tokens[i].kind == "number"]
    by_name = {f.name: f for f in functions}
    taken: dict[str, tuple[int, int]] = {}

    def take(f: Function, last: int) -> None:
        if f.name not in taken:
            taken[f.name] = (f.first, last)
            for token in tokens[f.first : last]:
                if token.kind == "word" and token.text in by_name:
                    called = by_name[token.text]
                    take(called, called.last)

    for f in functions:
        runs = [i for i in range(f.first, f.last) if tokens[i].text == "normcore_call_run"]
        if runs:
            take(f, runs[0])
    return [(name, first, last) for name, (first, last) in taken.items()]


def c_mutants(file: str) -> Iterator[Mutant]:
    path = CORE / file
    source = path.read_text()
    tokens = tokens_of(source)
    name = file

    def mutant(
        function: str, at: int, length: int, new: str, shown: str, tail: tuple[int, str] | None = None
    ) -> Mutant:
        begin = source.rfind("\n", 0, at) + 1
        end = source.find("\n", at)
        line = " ".join((source[begin:at] + f"[{shown}]" + source[at + length : end]).split())
        text = source[:at] + new + source[at + length :]
        if tail:
            position, added = tail[0] + len(new) - length, tail[1]
            text = text[:position] + added + text[position:]
        return Mutant(f"core/{file}", f"{name}  {function}: {line}", text)

    for function, first, last in regions(tokens, whole=file in WHOLE):
        for i in range(first, last):
            token = tokens[i]
            if token.text in SWAPPED:
                new = SWAPPED[token.text]
                yield mutant(function, token.start, len(token.text), new, f"{token.text} -> {new}")
            elif token.text == "!":
                yield mutant(function, token.start, 1, " ", "! -> ")
            elif token.text == "if":
                end = tokens[matching(tokens, i + 1, 1)].start + 1
                yield mutant(function, token.start, 2, "if (!", "if -> if not", (end, ")"))
            elif token.kind == "number" and (whole_number := INTEGER.fullmatch(token.text)):
                if tokens[i - 1].text == "{" and tokens[i + 1].text == "}" and token.text == "0":
                    continue  # = {0} is no constant, but "all of it"
                for step in (1, -1):
                    value = int(whole_number[1], 0) + step
                    new = f"({value}{whole_number[2]})" if value < 0 else f"{value}{whole_number[2]}"
                    yield mutant(function, token.start, len(token.text), new, f"{token.text} -> {value}")


def _has_dtype(path: Path) -> bool:
    """Whether a file is compiled once for each dtype."""
    return '#include "ops/ops.h"' in path.read_text()


class CBuild:
    """The scalar library with sanitisers, as objects of which a mutant replaces float32's, and the test programs."""

    FLAGS = (
        *(
            "-std=c99",
            "-g0",
            "-fPIC",
            "-pthread",
            "-w",
            "-ffp-contract=off",
            "-fno-math-errno",
            "-fexcess-precision=fast",
        ),
        *(f"-I{CORE}", f"-I{ROOT / 'include'}"),
    )
    SANITIZE = ("-fsanitize=address",)
    TEST_FLAGS = ("-O1", "-D_DEFAULT_SOURCE", "-DTEST_DTYPE=32", f"-I{TESTS}")

    def __init__(self, work: Path, compiler: str, files: set[str]) -> None:
        """Build what it takes for mutants of these files."""
        self.work, self.compiler = work, compiler.split()
        self.generated = work / "generated"
        self.generated.mkdir(parents=True, exist_ok=True)
        (self.generated / "isa_targets.h").write_text("ISA_TARGET(scalar, 0)\n")
        self.objects: dict[tuple[str, str], Path] = {}
        # (file below the core, dtype, "" where there is but one object of it)
        self.units = [("kernels/kernels.c", "32"), ("kernels/kernels.c", "64")]
        for path in sorted(CORE.glob("*/*.c")):
            file = path.relative_to(CORE).as_posix()
            if not file.startswith("kernels/"):
                self.units += [(file, dtype) for dtype in (("32", "64") if _has_dtype(path) else ("",))]
        for file, dtype in self.units:
            self.objects[file, dtype] = work / f"{file.replace('/', '_')}{dtype}.o"
            optimised = ("-O2",) if file.startswith("kernels/") else ("-O1", *self.SANITIZE)
            self._unit(CORE / file, dtype, self.objects[file, dtype], optimised)
        self._link(self.objects, work / "libnormcore.so")
        self.seconds: dict[str, dict[str, float]] = {}  # program: test: that it takes
        harness = [
            *TESTS.glob("ops_*.c"),
            *(TESTS / f for f in ("harness.c", "operations.c", "properties.c", "reference.c")),
        ]
        self.harness = [work / f"test_{source.name}.o" for source in harness]
        for source, target in zip(harness, self.harness, strict=True):
            self._compile(source, target, self.TEST_FLAGS)
        for program in sorted({program for file in files for program in PROGRAMS[file]} | {"contract"}):
            self._program(program, CORE, work)
            self._measure(program)

    def _measure(self, program: str) -> None:
        """Time a program, test by test; all must pass as the code stands."""
        names = re.findall(r'\{"(\w+)",\s*test_\w+\}', (TESTS / f"test_{program}.c").read_text())
        process = self._start(program, [name for name in names if name not in NOT_HERE], self.work, subprocess.PIPE)
        printed, _ = process.communicate(timeout=600)
        if process.returncode:
            raise SystemExit(f"{program} fails without any mutation:\n{printed.decode()}")
        # Some tests are for the other dtype alone.
        took = re.findall(r"^(\w+) .* ([\d.]+) s ok$", printed.decode(), re.MULTILINE)
        self.seconds[program] = {name: float(seconds) for name, seconds in took}
        print(f"{program}: {sum(self.seconds[program].values()):.1f} s", flush=True)

    def runs(self, file: str) -> list[tuple[float, str, list[str]]]:
        """(seconds, program, tests) of what runs for a file: the quick tests of each program, then the others."""
        found = []
        for program in [*PROGRAMS[file], "contract"]:
            for slow in (False, True):
                tests = {test: took for test, took in self.seconds[program].items() if (took > QUICK) is slow}
                if tests:
                    found.append((sum(tests.values()), program, list(tests)))
        return sorted(found)

    def _unit(self, source: Path, dtype: str, target: Path, flags: tuple[str, ...], *first: str) -> None:
        """Compile a file of the core, for one dtype where it has one."""
        scalar = ("-DNORMCORE_ISA=scalar", '-DNORMCORE_ISA_HEADER="simd/scalar.h"') if "kernels" in source.parts else ()
        self._compile(source, target, (*flags, *scalar, *([f"-DNORMCORE_DTYPE={dtype}"] if dtype else [])), *first)

    def _run(self, command: list[object]) -> None:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)

    def _compile(self, source: Path, target: Path, flags: tuple[str, ...], *first: str) -> None:
        self._run([*self.compiler, *first, *self.FLAGS, f"-I{self.generated}", *flags, "-c", source, "-o", target])

    def _link(self, objects: dict[tuple[str, str], Path], target: Path) -> None:
        self._run([*self.compiler, "-shared", "-pthread", *self.SANITIZE, *objects.values(), "-lm", "-o", target])

    def _program(self, program: str, core: Path, folder: Path) -> None:
        """Build a test program in a folder; what it includes of the core comes from `core` first."""
        extra = [TESTS / "norm_accuracy.c"] if program.endswith("norm") else []
        source = TESTS / f"test_{program}.c"
        command = [*self.compiler, f"-I{core}", *self.FLAGS, *self.TEST_FLAGS, source, *extra, *self.harness]
        command += [*self.SANITIZE, f"-L{self.work}", "-lnormcore", "-lm", "-o", folder / program]
        self._run(command)

    def _start(self, program: str, tests: list[str], library: Path, stdout: int) -> subprocess.Popen[bytes]:
        folder = library if (library / program).exists() else self.work
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(library),
            "ASAN_OPTIONS": "allocator_may_return_null=1",
            "TEST_STOP": "1",  # at the first failure
        }
        return subprocess.Popen(
            [folder / program, *tests],
            env=environment,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _notices(self, program: str, tests: list[str], library: Path, limit: float) -> bool:
        """Whether a test of the program fails, crashes or never ends."""
        process = self._start(program, tests, library, subprocess.DEVNULL)
        try:
            return process.wait(timeout=limit) != 0
        except subprocess.TimeoutExpired:
            return True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it forked
            process.wait()

    def survives(self, mutant: Mutant, folder: Path) -> bool | None:
        """Whether no test notices; None if it cannot be compiled."""
        file = mutant.file.removeprefix("core/")
        changed = folder / "mutant"
        shutil.rmtree(changed, ignore_errors=True)
        source = changed / file
        source.parent.mkdir(parents=True)
        source.write_text(mutant.text)
        objects = dict(self.objects)
        # A header's mutant is in everything that may include it.
        dtypes = {"", "32"} if file.endswith(".c") else {"32"}
        units = [(f, dtype) for f, dtype in self.units if dtype in dtypes and file in {f, "ops/scalars.h"}]
        try:
            for unit in units:
                objects[unit] = folder / f"{unit[0].replace('/', '_')}.o"
                unit_source = source if unit[0] == file else CORE / unit[0]
                self._unit(unit_source, unit[1], objects[unit], ("-O0", *self.SANITIZE), f"-I{changed}")
            self._link(objects, folder / "libnormcore.so")
            for program, included in WITH_SOURCE.items():
                (folder / program).unlink(missing_ok=True)
                if included == file:
                    self._program(program, changed, folder)
        except RuntimeError:
            return None
        return not any(
            self._notices(program, tests, folder, 10 + 10 * seconds) for seconds, program, tests in self.runs(file)
        )


# ---------------------------------------------------------------------- Python

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def reading(tree: ast.Module) -> list[ast.stmt]:
    """The functions and classes that read_archive needs, and the constants these name."""
    by_name: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            by_name[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id != "__all__":
            by_name[node.targets[0].id] = node
    taken: dict[str, ast.stmt] = {}

    def take(name: str) -> None:
        if name in by_name and name not in taken:
            taken[name] = by_name[name]
            for node in ast.walk(by_name[name]):
                if isinstance(node, ast.Name):
                    take(node.id)

    take("read_archive")
    return list(taken.values())


def python_mutants(file: str) -> Iterator[Mutant]:
    """Changes of the syntax tree; the text is written anew from it, which the tests cannot see."""
    source = (ROOT / "src" / "normcore" / file).read_text()
    tree = ast.parse(source)
    places: list[tuple[str, int, str]] = []
    for statement in reading(tree):
        name = statement.name if isinstance(statement, ast.FunctionDef | ast.ClassDef) else "(file)"
        annotations = {id(child) for node in ast.walk(statement) for child in _annotations(node)}
        for node in ast.walk(statement):
            if id(node) in annotations or not hasattr(node, "lineno"):
                continue
            places += [(name, id(node), change) for change in _changes(node)]
    index = {id(node): number for number, node in enumerate(ast.walk(tree))}
    lines = source.splitlines()
    for name, identity, change in places:
        altered = copy.deepcopy(tree)
        node = next(n for number, n in enumerate(ast.walk(altered)) if number == index[identity])
        line, column = lines[node.lineno - 1], node.col_offset
        before = ast.unparse(node.test if isinstance(node, ast.If | ast.IfExp) else node)
        _apply(node, change)
        shown = " ".join((line[:column] + f"[{change} in {before}]").split())
        yield Mutant(file, f"{file}  {name}: {shown}", ast.unparse(ast.fix_missing_locations(altered)))


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for part in ("annotation", "returns"):
        if isinstance(found := getattr(node, part, None), ast.AST):
            yield from ast.walk(found)


def _changes(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            yield f"{i}: {type(operator).__name__} -> {COMPARISONS[type(operator)].__name__}"
    elif isinstance(node, ast.BoolOp):
        yield "and <-> or"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "without not"
    elif isinstance(node, ast.If | ast.IfExp):
        yield "condition negated"
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "+ 1"
        yield "- 1"


def _apply(node: ast.AST, change: str) -> None:
    if isinstance(node, ast.Compare):
        i = int(change.partition(":")[0])
        node.ops[i] = COMPARISONS[type(node.ops[i])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd()
        node.operand = ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Constant):
        node.value += 1 if change == "+ 1" else -1


class PythonTests:
    """The tests of the file format, run in forks of one process that has imported everything."""

    ARGUMENTS = (
        *("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"),
        *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of hypothesis, which is imported already
        # What starts processes, in which there is no mutant, or only writes.
        *("-k", "not (ctrl_c or memory_of or signal or killed or system_call or temporaries or fault_of or columns)"),
    )
    FILES = ("test_serialization.py", "test_faults.py")

    def __init__(self) -> None:
        os.environ["NORMCORE_PROFILE"] = "dev"
        import hypothesis  # noqa: F401
        import numpy  # noqa: F401
        import pytest  # noqa: F401

        import normcore.archive
        import normcore.training.trainer

        self.limit = 600.0
        start = time.monotonic()
        text = Path(normcore.archive.__file__).read_text()
        if not next(self.tried([Mutant("archive.py", "", text)], 1))[1]:
            raise SystemExit("the tests of archive.py fail without any mutation")
        self.limit = 10 + 6 * (time.monotonic() - start)

    def tried(self, mutants: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, bool]]:
        """Each mutant and whether no test notices it, `jobs` of them at a time."""
        waiting = mutants[::-1]
        running: dict[int, tuple[Mutant, float]] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant = waiting.pop()
                child = os.fork()
                if child == 0:
                    self._child(mutant.text)
                running[child] = mutant, time.monotonic() + self.limit
            for child, (mutant, end) in list(running.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if not done and time.monotonic() > end:
                    os.killpg(child, signal.SIGKILL)
                    done, status = os.waitpid(child, 0)
                if done:
                    del running[child]
                    yield mutant, status == 0
            time.sleep(0.02)

    def _child(self, text: str) -> None:
        status = 70
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            import pytest

            import normcore.archive as module

            # Into the module that is there: others hold it, or names of it that are rebound in them as well.
            old = dict(vars(module))
            exec(compile(text, module.__file__, "exec"), vars(module))
            for other in [m for name, m in list(sys.modules.items()) if name.startswith("normcore")]:
                for name, value in list(vars(other).items()):
                    if name in old and value is old[name] and callable(value):
                        setattr(other, name, vars(module)[name])
            folder = ROOT / "tests" / "python"
            files = [str(folder / name) for name in self.FILES if (folder / name).exists()]
            status = int(pytest.main([*self.ARGUMENTS, *files]))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)


# ---------------------------------------------------------------------- judging


def listed() -> Counter[str]:
    """The mutants in the list, each under a comment with its reason."""
    known: Counter[str] = Counter()
    reason = False
    for number, line in enumerate(LIST.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            reason = False
        elif line.startswith("#"):
            reason = True
        elif not reason:
            raise SystemExit(f"{LIST}:{number}: a mutant without a reason above it")
        else:
            known[line] += 1
    return known


def chosen(key: str, part: int, parts: int) -> bool:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % parts == part - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", default="1/1", help="K/N: every N-th mutant, from the K-th")
    parser.add_argument("--only", default="", help="regular expression: mutants whose line it matches somewhere")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--work", type=Path, help="folder for builds, kept; a temporary one by default")
    parser.add_argument("--compiler", default=os.environ.get("CC", "gcc"))
    parser.add_argument("--list", action="store_true", help="only print the mutants")
    options = parser.parse_args()
    part, parts = (int(number) for number in options.part.split("/"))

    every = [mutant for file in PROGRAMS for mutant in c_mutants(file)] + list(python_mutants("archive.py"))
    there = Counter(mutant.key for mutant in every)
    mutants = [m for m in every if chosen(m.key, part, parts) and re.search(options.only, m.key)]
    if options.list:
        print(*(mutant.key for mutant in mutants), sep="\n")
        return 0
    known = listed()
    wrong = [f"not there any more: {key}" for key in known if known[key] > there[key]]
    survivors: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    start = time.monotonic()

    def note(mutant: Mutant, survived: bool | None) -> None:
        counts["not compiled" if survived is None else "survived" if survived else "killed"] += 1
        survivors[mutant.key] += survived is True
        if survived and survivors[mutant.key] > known[mutant.key]:
            print(f"SURVIVED  {mutant.key}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        in_c = [m for m in mutants if m.file.startswith("core/")]
        # Before any thread is started: this process forks.
        in_python = [m for m in mutants if m.file.endswith(".py")]
        if in_python:
            tests = PythonTests()
            for mutant, survived in tests.tried(in_python, options.jobs):
                note(mutant, survived)
        if in_c:
            build = CBuild(work, options.compiler, {mutant.file.removeprefix("core/") for mutant in in_c})
            local = threading.local()
            numbers = iter(range(options.jobs))

            def try_one(mutant: Mutant) -> bool | None:
                if not hasattr(local, "folder"):
                    local.folder = work / f"job{next(numbers)}"
                    local.folder.mkdir(exist_ok=True)
                return build.survives(mutant, local.folder)

            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                for mutant, survived in zip(in_c, pool.map(try_one, in_c), strict=True):
                    note(mutant, survived)
    tried = Counter(mutant.key for mutant in mutants)
    for key in tried:
        if survivors[key] > known[key]:
            wrong.append(f"survived, and is not in the list: {key}")
        elif survivors[key] < known[key]:
            wrong.append(f"is in the list, but a test notices it: {key}")
    print(*wrong, sep="\n")
    counted = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{len(mutants)} of {len(every)} mutants: {counted}; {time.monotonic() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
