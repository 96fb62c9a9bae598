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


ROUNDING = """
import ctypes, sys
import numpy as np
libm = ctypes.CDLL(sys.argv[2])


def probe():
    tiny = np.full(64, 1e-40, np.float32)
    third = np.array([1.0]) / np.array([3.0])
    return libm.fegetround(), (tiny * np.float32(0.5)).tobytes(), third.tobytes(), (-third).tobytes()


nearest = probe()
import normcore as nc

x = np.linspace(-3, 5, 60, dtype=np.float32).reshape(6, 10) * np.float32(1e-38)
ones = np.ones((10, 3), np.float32)


def work():
    y, mean, rstd = nc.layer_norm_forward(x, x[0], x[1])
    z = nc.affine_forward(x, ones)
    return b"".join(a.tobytes() for a in (y, mean, rstd, z, nc.softmax(x), nc.random_normal(5, seed=1)))


reference = work()
assert probe() == nearest
assert libm.fesetround(int(sys.argv[1])) == 0
changed = probe()
assert changed != nearest
assert work() == reference, "other bits"
assert probe() == changed
"""
UPWARD = {"x86_64": 0x800, "AMD64": 0x800, "aarch64": 0x400000, "arm64": 0x400000}


@pytest.mark.skipif(platform.machine() not in UPWARD, reason="the rounding modes of this platform are unknown")
def test_bits_do_not_depend_on_the_rounding_mode() -> None:
    libm = ctypes.util.find_library("m")
    assert libm
    command = [sys.executable, "-c", ROUNDING, str(UPWARD[platform.machine()]), libm]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
