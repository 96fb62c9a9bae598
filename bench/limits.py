"""The machine's limits, measured in the same run as everything else: FMA peak and bandwidth of each level of memory."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .timing import Work, medians

# Vector bytes and flags of normcore's instruction sets. A copy needs no more than the compiler's own vectors.
_ROWS = {
    "avx512": (64, ["-mavx512f", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"]),
    "avx2": (32, ["-mavx2", "-mfma"]),
    "neon": (16, []),
    "scalar": (16, []),
}
_C_TYPES = {"float32": ctypes.c_float, "float64": ctypes.c_double}
_C_NAMES = {"float32": "float", "float64": "double"}


class Limits:
    """The compiled limits; `available` is False, and every measurement None, without a C compiler."""

    def __init__(self, isa: str) -> None:
        self.isa = isa
        self.problem = ""
        self._library = self._compile()

    @property
    def available(self) -> bool:
        return self._library is not None

    def _compile(self) -> ctypes.CDLL | None:
        compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            self.problem = "no C compiler"
            return None
        vector, flags = _ROWS.get(self.isa, (16, []))
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "limits.so"
            command = [*compiler.split(), "-O3", "-ffp-contract=fast", "-shared", "-fPIC", *flags, f"-DVECTOR={vector}"]
            command += [str(Path(__file__).with_name("limits.c")), "-o", str(library)]
            try:
                subprocess.run(command, capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                self.problem = f"{compiler}: {getattr(error, 'stderr', None) or error}".strip().splitlines()[0]
                return None
            return ctypes.CDLL(str(library))

    def fma_work(self, dtype: str, operations: float) -> Work | None:
        """A function that does about that many operations in registers, two an fma; None without a compiler."""
        if self._library is None:
            return None
        function = getattr(self._library, f"fma_{_C_NAMES[dtype]}")
        function.restype = ctypes.c_double
        sink = (_C_TYPES[dtype] * 3)(0.5, 0.25, 0.0)
        rounds = ctypes.c_size_t(max(1, round(operations / function(ctypes.c_size_t(1), sink))))
        return lambda: function(rounds, sink)

    def fma(self, dtype: str) -> float | None:
        """Operations a second that the registers allow."""
        operations = 2e7
        work = self.fma_work(dtype, operations)
        return operations / medians([work])[0] if work else None

    def relu_copy(self, x: Any, y: Any, rounds: int = 1) -> Work | None:
        """A function that writes the ReLU of x into y, that many times; None without a compiler."""
        if self._library is None:
            return None
        function = getattr(self._library, f"relu_copy_{_C_NAMES[x.dtype.name]}")
        function.restype = None
        source, target = x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p)  # they hold the arrays
        n, times = ctypes.c_size_t(x.size), ctypes.c_size_t(rounds)
        return lambda: function(times, n, source, target)


@dataclass(frozen=True)
class Level:
    """One level of memory: bytes read and written a second by a ReLU copy whose two arrays lie in it."""

    name: str
    array_bytes: int
    bandwidth: float


def caches() -> dict[str, int]:
    """Bytes of the data caches of the CPU this runs on; usual ones where the system does not say."""
    found = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    for cache in Path(f"/sys/devices/system/cpu/cpu{cpu}/cache").glob("index*"):
        size, kind = (cache / "size").read_text().strip(), (cache / "type").read_text().strip()
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{(cache / 'level').read_text().strip()}"] = int(size[:-1]) << 10
    return found


def bandwidths(limits: Limits) -> list[Level]:
    """A ReLU copy between two float32 arrays that lie in each cache, and in none."""
    found = caches()
    sizes = {
        "L1": found["L1"] // 4,
        "L2": found["L2"] // 4,
        "L3": found["L3"] // 8,  # others use it too
        "memory": max(2 * found["L3"], 32 << 20),
    }
    levels = []
    for name, size in sizes.items():
        rounds = max(1, (1 << 20) // size)  # the call itself must not count
        work = limits.relu_copy(*_pair(size), rounds)
        if work is not None:
            (seconds,) = medians([work])
            levels.append(Level(name, size, 2 * size * rounds / seconds))
    return levels


def _pair(size: int) -> tuple[Any, Any]:
    """Two arrays whose addresses differ in the last 12 bits: else each load waits for the store that looks like it."""
    raw = np.ones(2 * size + 4096, np.uint8)
    start = -raw.ctypes.data % 64
    x, y = raw[start : start + size], raw[start + size + 1984 : start + 2 * size + 1984]
    return x.view(np.float32), y.view(np.float32)
