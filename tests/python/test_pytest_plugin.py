"""The pytest plugin: what it does for a suite that asks for it, and that it leaves every other suite alone."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import normcore

# Of the suites: warnings are errors, but for the one that an editable installation is bound to bring.
SETTINGS = """
[pytest]
addopts = -p no:cacheprovider
filterwarnings =
    error
    ignore:Module already imported so cannot be rewritten. _normcore_editable_loader
"""


def run(folder: Path, test: str, *options: str, status: int = 0, before: str = "") -> str:
    """What pytest says of a suite of one file that knows nothing of this one."""
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "test_one.py").write_text(test)
    program = f"{before}\nimport sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_is_installed() -> None:
    assert [point.value for point in entry_points(group="pytest11") if point.name == "normcore"] == ["_normcore_pytest"]


def test_a_suite_that_does_not_use_it_imports_nothing(tmp_path: Path) -> None:
    test = """
import sys

def test_imports():
    assert "_normcore_pytest" in sys.modules
    assert not {"numpy", "normcore", "hypothesis"} & sys.modules.keys()

def test_comparisons_are_pytests_own():
    assert [1, 2] == [1, 3]
"""
    said = run(tmp_path, test, status=1)
    assert "1 failed, 1 passed" in said
    assert "At index 1 diff: 2 != 3" in said


def test_normcore_may_be_imported_before_pytest(tmp_path: Path) -> None:
    run(tmp_path, "def test_nothing(): pass", before="import normcore.testing")


def test_it_explains_distances(tmp_path: Path) -> None:
    test = """
import numpy as np
from normcore.testing import within_ulp

X = np.float32([[1, 2, 3]])

def test_left():
    assert X * np.float32(1 + 2**-22) == within_ulp(X, 1)

def test_right():
    assert within_ulp(X, 1) == X[0]

def test_unequal():
    assert X != within_ulp(X, 1)
"""
    said = run(tmp_path, test, status=1)
    assert re.search(
        "results within 1 ULP\\n.*result: 3 of 3 elements are more than 1 ULP of float32 away\\n"
        r".*result at \(0, 2\): 3.0000007, expected 3.0, 3 ULP",
        said,
    )
    assert "result: shape (3,), expected (1, 3)" in said
    assert "3 failed" in said


def test_profiles_by_option(tmp_path: Path) -> None:
    test = """
from hypothesis import given, settings, strategies as st

@given(st.integers())
def test_examples(x):
    assert settings().max_examples == 200 and settings().derandomize
"""
    run(tmp_path, test, "--hypothesis-profile=normcore-ci")
    run(tmp_path, test, status=1)
    said = run(tmp_path, test, "--hypothesis-profile=normcore-fast", status=4)
    assert "--hypothesis-profile: no profile 'fast'; there are dev, ci, soak" in said


def test_profiles_leave_those_of_the_suite_alone(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from hypothesis import settings\n"
        "from normcore.testing import register_profiles\n"
        "settings.register_profile('ci', max_examples=7)\n"
        "register_profiles('soak')\n"
    )
    test = """
from hypothesis import settings

def test_both():
    assert settings.get_profile("ci").max_examples == 7
    assert settings().max_examples == 20_000
"""
    run(tmp_path, test)


def test_the_fixture_goes_through_the_instruction_sets(tmp_path: Path) -> None:
    test = """
import normcore as nc

def test_one(normcore_isa):
    assert nc.get_isa() == normcore_isa
"""
    said = run(tmp_path, test, "-v")
    assert re.findall(r"test_one\[(\w+)\] PASSED", said) == list(normcore.available_isas())
    assert "normcore_isa" in run(tmp_path, test, "--fixtures")


@pytest.mark.parametrize("statement", ["import _normcore_pytest", "from normcore import testing"])
def test_pytest_and_hypothesis_are_not_needed_for_the_rest(statement: str) -> None:
    hidden = "import sys; sys.modules['hypothesis'] = None\n"
    subprocess.run([sys.executable, "-W", "error", "-c", hidden + statement], check=True)
