"""What concerns the process: instruction sets, threads, forks, imports, the configuration."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore as nc
from normcore import _config, _core
from normcore.testing import use_num_threads


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NORMCORE_")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def output(*code: str, **environment: str) -> str:
    result = run("".join(code), **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# ---------------------------------------------------------------------------------------------- instruction sets


@pytest.fixture
def restore_isa() -> Any:
    yield
    nc.set_isa(None)


def test_set_isa(restore_isa: None) -> None:
    isas = nc.available_isas()
    assert isinstance(isas, tuple)
    assert "scalar" in isas
    assert len(set(isas)) == len(isas)
    x = np.random.default_rng(0).normal(size=(7, 19)).astype(np.float32)
    results = set()
    for isa in isas:
        nc.set_isa(isa)
        assert nc.get_isa() == isa
        results.add(nc.softmax(x).tobytes())
        nc.selftest()
    assert len(results) == 1
    for bad in ("", "AVX2", "mmx", "scalar ", "scalar\0", "é"):
        with pytest.raises(ValueError, match=f"set_isa: name is {re.escape(repr(bad))}; it must be one of .*scalar"):
            nc.set_isa(bad)
    assert nc.get_isa() == isas[-1]
    with pytest.raises(TypeError, match="set_isa: name is a bytes; it must be a str or None"):
        nc.set_isa(b"scalar")  # type: ignore[arg-type]
    nc.set_isa(None)
    assert nc.get_isa() == isas[0]


def test_isa_environment_variable() -> None:
    for isa in nc.available_isas():
        assert output("import normcore; print(normcore.get_isa())", NORMCORE_ISA=isa) == isa
    code = """
import normcore, numpy as np
for call in (lambda: normcore.relu_forward(np.ones(3)), lambda: normcore.random_normal(3, seed=0), normcore.get_isa):
    try:
        call()
    except ValueError as error:
        print(error)
normcore.set_isa("scalar")
print(normcore.relu_forward(np.ones(3)).sum(), normcore.get_isa())
"""
    lines = output(code, NORMCORE_ISA="pdp11").splitlines()
    for line, op in zip(lines, ("relu_forward", "random_normal", "get_isa"), strict=False):
        assert line.startswith(f"{op}: the environment variable NORMCORE_ISA is 'pdp11'")
        assert line.endswith("available: " + ", ".join(nc.available_isas()))
    assert lines[3:] == ["3.0 scalar"]


def test_selftest_and_features() -> None:
    nc.selftest()
    assert isinstance(nc.cpu_features(), str)


# ---------------------------------------------------------------------------------------------- threads


def test_number_of_threads() -> None:
    before = nc.get_num_threads()
    assert before >= 1
    try:
        for n in (1, 3, 1024, np.int64(2)):
            nc.set_num_threads(n)
            assert nc.get_num_threads() == n
        for bad in (-1, 1025, 2**70):
            with pytest.raises(ValueError, match=rf"set_num_threads: n is {bad}; it must be in \[0, 1024\]"):
                nc.set_num_threads(bad)
        for wrong in (1.0, "2", None):
            with pytest.raises(TypeError, match=r"set_num_threads: n is a .*; it must be an integer"):
                nc.set_num_threads(wrong)  # type: ignore[arg-type]
        assert nc.get_num_threads() == 2
        nc.set_num_threads(0)
        assert nc.get_num_threads() == int(output("import normcore; print(normcore.get_num_threads())"))
    finally:
        nc.set_num_threads(before)


def test_threadpoolctl_controls_the_threads() -> None:
    threadpoolctl = importlib.import_module("threadpoolctl")
    importlib.import_module("normcore.threadpool")
    with use_num_threads(3):
        (entry,) = threadpoolctl.ThreadpoolController().select(user_api="normcore").info()
        assert (entry["num_threads"], entry["version"]) == (3, nc.__version__)
        with threadpoolctl.threadpool_limits(1, user_api="normcore"):
            assert nc.get_num_threads() == 1
        assert nc.get_num_threads() == 3


def test_threads_environment_variable() -> None:
    code = "import normcore; print(normcore.get_num_threads())"
    assert output(code, NORMCORE_NUM_THREADS="") == str(len(os.sched_getaffinity(0)))  # empty is unset
    for value in ("1", "7", "1024", "007"):
        assert output(code, NORMCORE_NUM_THREADS=value) == str(int(value))
    for bad in ("0", "-1", "two", "1.0", "1025", "9" * 30, " 2", "٣"):
        result = run("import normcore", NORMCORE_NUM_THREADS=bad)
        assert result.returncode == 1
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("ValueError: ")
        assert f"NORMCORE_NUM_THREADS is {bad!r}" in last
    code = """
import os, normcore
normcore.set_num_threads(3)
os.environ["NORMCORE_NUM_THREADS"] = "5"
normcore.set_num_threads(0)
print(normcore.get_num_threads())
os.environ["NORMCORE_NUM_THREADS"] = "many"
try:
    normcore.set_num_threads(0)
except ValueError as error:
    print(error)
print(normcore.get_num_threads())
"""
    assert output(code).splitlines() == [
        "5",
        "set_num_threads: the environment variable NORMCORE_NUM_THREADS is 'many'; it must be an integer in [1, 1024]",
        "5",
    ]


BIG = """
import numpy as np, normcore as nc
rng = np.random.default_rng(0)
x = rng.normal(size=(1500, 300)).astype(np.float32)
w = rng.normal(size=(300, 400)).astype(np.float32)
ones = np.ones(300, np.float32)
def work():
    y = nc.affine_forward(x, w)
    dx, dw, db = nc.affine_backward(y, x, w)
    z, mean, rstd = nc.batch_norm_forward(x, ones, ones)
    return b"".join(a.tobytes() for a in (y, dx, dw, db, z, mean, rstd, nc.softmax(y)))
"""


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    code = "import hashlib; print(hashlib.sha256(work()).hexdigest())"
    digests = {output(BIG, code, NORMCORE_NUM_THREADS=n) for n in ("1", "2", "3", "64")}
    assert len(digests) == 1


def test_calls_from_several_threads_at_once() -> None:
    space: dict[str, Any] = {}
    exec(BIG, space)
    expected = space["work"]()
    before = nc.get_num_threads()
    try:
        nc.set_num_threads(3)
        with ThreadPoolExecutor(6) as pool:
            futures = [pool.submit(space["work"]) for _ in range(18)]
            for n in (1, 4, 2, 3):
                nc.set_num_threads(n)  # while calls are in progress
            for future in futures:
                assert future.result() == expected
    finally:
        nc.set_num_threads(before)


def test_threads_may_share_a_network() -> None:
    made = _core.Network((64, 128, 10), norm="batch", keep=0.8)
    params = np.empty(made.parameter_count, np.float32)
    buffers = np.empty(made.buffer_count, np.float32)
    made.initialize(params, buffers, seed=0)
    x = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    labels = np.arange(500) % 10

    def train(seed: int) -> tuple[float, bytes, bytes]:
        grads, running = np.empty_like(params), buffers.copy()
        loss, _ = made.loss_and_grads(x, labels, params, running, grads, seed=seed)
        return loss, grads.tobytes(), running.tobytes()

    expected = [train(seed) for seed in range(4)]
    assert len({loss for loss, _, _ in expected}) == 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(train, [0, 1, 2, 3] * 5)) == expected * 5


@pytest.mark.parametrize("first", ["parent", "child"])
def test_fork_after_use(first: str) -> None:
    """A child process computes on, whether or not the parent had started threads."""
    code = f"""
import os
nc.set_num_threads(4)
expected = work() if {first == "parent"} else None
child = os.fork()
if child == 0:
    mine = work()
    nc.set_num_threads(2)
    os._exit(0 if mine == work() and expected in (None, mine) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert expected in (None, work())
print("done")
"""
    assert output(BIG, code) == "done"


def test_fork_while_another_thread_is_in_a_call() -> None:
    code = """
import os, threading
nc.set_num_threads(4)
expected = work()
stop = threading.Event()
def loop():
    while not stop.is_set():
        work()
thread = threading.Thread(target=loop)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
print("done")
"""
    assert output(BIG, code) == "done"


# ---------------------------------------------------------------------------------------------- the process


def test_import_is_light() -> None:
    heavy = ("scipy", "sklearn", "matplotlib", "torch", "safetensors", "hypothesis", "tqdm", "pandas")
    code = f"import sys, normcore; print([m for m in {heavy} if m in sys.modules])"
    assert output(code) == "[]"
    code = "import sys, normcore; print([m for m in sys.modules if m.startswith('normcore.')])"
    loaded = output(code)
    assert loaded == "['normcore._interrupt', 'normcore._core', 'normcore._config']"
    code = "import normcore; normcore.MLP; normcore.Trainer; print({'MLP', 'Trainer'} <= set(dir(normcore)))"
    assert output(code) == "True"
    code = "from normcore import *; print(MLP.__module__, Generator.__module__, softmax.__module__)"
    assert output(code) == "normcore.mlp normcore.random normcore._core"
    with pytest.raises(AttributeError, match="module 'normcore' has no attribute 'nonsense'"):
        nc.nonsense  # noqa: B018


def test_get_include_and_library() -> None:
    header = Path(nc.get_include()) / "normcore.h"
    assert f'#define NORMCORE_VERSION_STRING "{nc.__version__}"' in header.read_text()
    assert (Path(nc.get_library_dir()) / "libnormcore.a").read_bytes()[:8] == b"!<arch>\n"


def test_config_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert _config.main(["--version"]) == 0
    assert capsys.readouterr().out == nc.__version__ + "\n"
    assert _config.main(["--cflags", "--libs"]) == 0
    words = capsys.readouterr().out.split()
    assert words == [f"-I{nc.get_include()}", f"-L{nc.get_library_dir()}", "-lnormcore", "-lm", "-pthread"]
    assert _config.main(["--pkgconfigdir"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert f"Version: {nc.__version__}" in (folder / "normcore.pc").read_text()
    assert _config.main([]) == 2
    assert "usage: normcore-config" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        _config.main(["--nonsense"])


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    nc.show_config()
    printed = capsys.readouterr().out
    for text in (nc.__version__, nc.CONTRACT, nc.get_isa(), np.__version__, nc.get_include()):
        assert text in printed


def test_cython_declarations_follow_the_header() -> None:
    """Every function of normcore.h stands in c_api.pxd with the same parameters, and none that the header lacks."""

    def declarations(text: str) -> dict[str, str]:
        found = {}
        pattern = r"([\w][\w \*]*?)(normcore_\w+)\(((?:[^()]|\([^()]*\))*)\)(?=;|\n)"
        for kind, name, parameters in re.findall(pattern, text):
            found[name] = " ".join(f"{kind}({parameters.strip()})".split()).replace("(void)", "()")
        return found

    header = (Path(nc.get_include()) / "normcore.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL).replace("NORMCORE_API ", "")
    header = re.sub(r"^#.*$|^typedef .*\)\(.*;$", "", header, flags=re.MULTILINE)
    package = Path(nc.__file__).parent
    # `pass` is a parameter's name in C and a keyword in Python, where it has an underscore.
    pxd = re.sub(r"#.*|^ +ctypedef void \(\*(?:.|\n)*?noexcept nogil$", "", (package / "c_api.pxd").read_text())
    pxd = re.sub(r"\bpass_\b", "pass", pxd)
    in_header, in_pxd = declarations(header), declarations(pxd)
    assert len(in_header) > 60
    assert in_pxd == in_header
