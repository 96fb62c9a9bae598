"""What the README says works, works."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def block(which: str) -> str:
    return subprocess.run(
        [sys.executable, ROOT / "tests" / "readme_block.py", which], check=True, capture_output=True, text=True
    ).stdout


def test_python_example(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block("python")], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    found = re.fullmatch(r"held out: (0\.\d\d|1\.00)\n", done.stdout)
    assert found, done.stdout
    assert float(found[1]) > 0.8  # the example learns what it sets out to learn
    assert (tmp_path / "xor.safetensors").is_file()


def run_c(source: Path, folder: Path) -> str:
    """What a C program that uses the installed library prints."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "installing normcore needed a C compiler"
    config = shutil.which("normcore-config", path=str(Path(sys.executable).parent))
    assert config, "normcore is not installed in this environment"
    flags = shlex.split(
        subprocess.run([config, "--cflags", "--libs"], check=True, capture_output=True, text=True).stdout
    )
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *strict, str(source), "-o", str(folder / "example"), *flags], check=True)
    return subprocess.run([folder / "example"], check=True, capture_output=True, text=True).stdout


def test_c_example(tmp_path: Path) -> None:
    source = tmp_path / "example.c"
    source.write_text(block("c"))
    shown = run_c(source, tmp_path)
    # (10, 20, 40): mean 70/3, variance 1400/9
    assert [round(float(x), 4) for x in shown.split()] == [-1.069, -0.2673, 1.3363]


def test_training_steps(tmp_path: Path) -> None:
    """Four words in C and in Python, with the same bits everywhere and so the same digits."""
    for language, name in (("c", "training_step.c"), ("python", "training_step.py")):
        assert f"(examples/{language}/{name})" in (ROOT / "README.md").read_text(encoding="utf-8")
    losses = "step 100: loss 0.0080\nstep 200: loss 0.0049\nstep 300: loss 0.0031\n"
    assert run_c(ROOT / "examples" / "c" / "training_step.c", tmp_path) == losses
    command = [sys.executable, "-W", "error", ROOT / "examples" / "python" / "training_step.py"]
    shown = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert shown == "step 100: loss 0.0101\nstep 200: loss 0.0062\nstep 300: loss 0.0035\n"
