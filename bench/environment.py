"""Where the measurements run: one thread, one CPU, one instruction set. Imports nothing that reads the environment."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from pathlib import Path

ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
CAPS = {
    "avx2": {
        "NORMCORE_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    }
}
_TOO_BUSY = 0.1
_CPUS = "NORMCORE_BENCH_CPUS"  # those the benchmark was given, for the parts that need more than the one it runs on


def settle(isa: str | None) -> None:
    """Set threads and instruction sets and pin the process, by starting it anew if the variables were not so.

    Libraries read these variables when they are loaded, and OpenBLAS's threads keep the CPUs of the moment they are
    made: pinned later, they would work on for NumPy on other CPUs. So nothing is imported before this.
    """
    wanted = ONE_THREAD | (CAPS[isa] if isa else {})
    if hasattr(os, "sched_getaffinity"):
        wanted[_CPUS] = os.environ.get(_CPUS) or ",".join(map(str, sorted(os.sched_getaffinity(0))))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]], os.environ | wanted)
    if "numpy" in sys.modules:
        raise RuntimeError("NumPy was loaded before the process was pinned")
    if cpus():
        os.sched_setaffinity(0, {cpus()[-1]})  # the first gets most interrupts


def cpus() -> list[int]:
    """All CPUs the benchmark was given; empty where processes cannot be pinned."""
    given = os.environ.get(_CPUS, "")
    return [int(cpu) for cpu in given.split(",")] if given else []


def for_threads(threads: int) -> dict[str, str]:
    """The environment of a child process whose libraries may use that many."""
    return os.environ | {name: str(threads) for name in ONE_THREAD}


def threads_of_peers() -> str:
    """What can be known about the threads of the libraries that are loaded, in words; RuntimeError if not one."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return "one thread by environment (threadpoolctl is not there to check it)"
    import threadpoolctl

    pools = threadpoolctl.threadpool_info()
    if many := [pool["filepath"] for pool in pools if pool["num_threads"] != 1]:
        raise RuntimeError(f"more than one thread: {', '.join(many)}")
    return f"one thread ({len(pools)} pools of peers checked)"


def cpu_name() -> str:
    """The CPU's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _busy(cpu: int) -> int:
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            return sum(map(int, ticks[:8])) - int(ticks[3]) - int(ticks[4])
    return 0


def load(seconds: float = 0.5) -> str:
    """How busy others keep the CPUs while this process sleeps, in words."""
    if not cpus() or not Path("/proc/stat").exists():
        return "unknown"
    before = [_busy(cpu) for cpu in cpus()]
    time.sleep(seconds)
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    busy = {cpu: (_busy(cpu) - old) / ticks for cpu, old in zip(cpus(), before, strict=True)}
    text = ", ".join(f"CPU {cpu} {share:.0%}" for cpu, share in busy.items())
    return f"{text}: too busy for figures to be trusted" if max(busy.values()) > _TOO_BUSY else text
