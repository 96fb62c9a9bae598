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


def test_c_example(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "installing normcore needed a C compiler"
    config = shutil.which("normcore-config", path=str(Path(sys.executable).parent))
    assert config, "normcore is not installed in this environment"
    flags = shlex.split(
        subprocess.run([config, "--cflags", "--libs"], check=True, capture_output=True, text=True).stdout
    )
    source = tmp_path / "example.c"
    source.write_text(block("c"))
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *strict, str(source), "-o", str(tmp_path / "example"), *flags], check=True)
    shown = subprocess.run([tmp_path / "example"], check=True, capture_output=True, text=True).stdout
    # (10, 20, 40): mean 70/3, variance 1400/9
    assert [round(float(x), 4) for x in shown.split()] == [-1.069, -0.2673, 1.3363]
