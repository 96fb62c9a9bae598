"""The examples in examples/python: their tests pass, and each of the mistakes planted in what they test is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, settings

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "python"

# Of each module: what stands there, what somebody might write instead, and what that gets wrong.
PLANTED = {
    "my_batch_norm": [
        ("x.var(axis=0)", "x.var(axis=0, ddof=1)", "the unbiased variance"),
        ("x.var(axis=0)", "(x * x).mean(axis=0) - mean * mean", "a variance that cancels"),
        ("np.sqrt(var + eps)", "(np.sqrt(var) + eps)", "eps outside the root"),
        ("x.mean(axis=0)", "x.mean()", "one mean for all"),
        ("(x - mean) * rstd", "np.subtract(x, mean, out=x) * rstd", "x is overwritten"),
        ("gamma * xhat + beta, (", "gamma * (xhat + beta), (", "gamma times beta"),
        ("(dy * xhat).sum(axis=0)", "dy.sum(axis=0)", "dgamma without xhat"),
        ("dbeta = dy.sum", "dbeta = dy.mean", "a mean for a sum"),
        (" - dy.mean(axis=0) -", " -", "the mean's part of dx"),
        (" - xhat * (dy * xhat).mean(axis=0)", "", "the variance's part of dx"),
        ("dx = gamma * rstd", "dx = rstd", "dx without gamma"),
        ("xhat * (dy * xhat).mean(axis=0)", "xhat * (dy * xhat).sum(axis=0)", "a sum for a mean"),
    ],
    "my_vectors": [
        ("return total + rest", "return total", "the rest forgotten"),
        (" if abs(total) >= abs(value) else (value - new) + total", "", "Kahan's sum, for small terms only"),
        ("rest += (total - new) + value", "rest -= (total - new) + value", "a sign"),
        ("np.where(np.isfinite(top), top, 0)", "np.zeros_like(top)", "exp that overflows"),
        ("np.where(np.isfinite(top), top, 0)", "top", "infinity less infinity"),
        ("x.max(axis=-1, keepdims=True)\n    shift", "x.min(axis=-1, keepdims=True)\n    shift", "the wrong end"),
        ("np.exp(x - shift)", "np.exp(x.ravel('K').reshape(x.shape) - shift)", "the order of memory"),
        ("x / np.where(top > 0, top, 1)", "x * 1", "squares that overflow"),
        ("scaled / np.where(length > 0, length, 1)", "scaled / length", "0 / 0"),
        ("(scaled * scaled).sum", "(scaled * scaled).mean", "a mean for a sum"),
    ],
}


def run(name: str, source: str) -> None:
    """Run the tests of the example `name` on a module of this source."""
    module = ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), vars(module))
    sys.modules[name] = module
    tests = ModuleType(f"test_{name}")
    exec(compile((FOLDER / f"test_{name}.py").read_text(), f"test_{name}.py", "exec"), vars(tests))
    found = [test for key, test in vars(tests).items() if key.startswith("test_")]
    assert found
    for test in found:
        test()


@pytest.fixture
def _many_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same two hundred examples each time, and no time spent on small ones."""
    for name in PLANTED:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # removed afterwards
    before = settings.get_current_profile_name()
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large)
    settings.register_profile(
        "planted",
        max_examples=200,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=checks,
    )
    settings.load_profile("planted")
    yield
    settings.load_profile(before)


@pytest.mark.usefixtures("_many_examples")
@pytest.mark.parametrize("name", PLANTED)
def test_what_is_right_passes(name: str) -> None:
    run(name, (FOLDER / f"{name}.py").read_text())


@pytest.mark.usefixtures("_many_examples")
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [pytest.param(name, old, new, id=f"{name}-{what}") for name, all_ in PLANTED.items() for old, new, what in all_],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the mistakes are to be found without their help
def test_planted_mistakes_are_found(name: str, old: str, new: str) -> None:
    source = (FOLDER / f"{name}.py").read_text()
    assert source.count(old) == 1, f"{old} stands {source.count(old)} times in {name}.py"
    with pytest.raises((AssertionError, ValueError, ExceptionGroup)):
        run(name, source.replace(old, new))


def test_as_a_user_runs_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(FOLDER)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
