"""Importing normcore and calling it leave the floating-point environment of the process as it was."""

import ctypes
import ctypes.util
import platform
import subprocess
import sys

import pytest

# Where glibc's fegetenv() keeps the control bits, which of them they are, and what flushes subnormals to zero.
LAYOUTS = {
    "x86_64": (28, 0xFFC0, 0x8040),  # MXCSR, without its flags
    "aarch64": (0, 0xFFFFFFFF, 1 << 24),  # FPCR
}

CHILD = """
import ctypes
import sys

import numpy as np

offset, control, flush = map(int, sys.argv[1:4])
libm = ctypes.CDLL(sys.argv[4])
environment = (ctypes.c_uint32 * 64)()


def bits():
    assert libm.fegetenv(environment) == 0
    return environment[offset // 4] & control


if flush:
    libm.fegetenv(environment)
    environment[offset // 4] |= flush
    assert libm.fesetenv(environment) == 0
least = np.array([2.0**-1022])
assert bool(least[0] * 0.5 == 0.0) == bool(flush), "the environment is not what this test is about"
before = bits()
import normcore
assert bits() == before, f"import: {before:#x} became {bits():#x}"
x = np.ones((40, 3), dtype=np.uint32).view(np.float32)  # the least subnormal
y = normcore.relu_forward(x)
assert y.view(np.uint32).max() == y.view(np.uint32).min() == 1, "a subnormal was flushed"
normcore.selftest()
model = normcore.MLP([3, 4, 2], norm="batch")
model.loss_and_grads(np.ones((5, 3), dtype=np.float32), np.zeros(5, dtype=np.int64))
assert bits() == before, f"calls: {before:#x} became {bits():#x}"
"""


@pytest.mark.skipif(
    platform.machine() not in LAYOUTS or platform.libc_ver()[0] != "glibc", reason="fenv_t of this platform is unknown"
)
@pytest.mark.parametrize("flushed", [False, True], ids=["default", "subnormals flushed"])
def test_environment_is_left_alone(flushed: bool) -> None:
    offset, control, flush = LAYOUTS[platform.machine()]
    libm = ctypes.util.find_library("m")
    assert libm
    command = [sys.executable, "-c", CHILD, str(offset), str(control), str(flush if flushed else 0), libm]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
