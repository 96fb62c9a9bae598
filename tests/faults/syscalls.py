"""Every system call of a save fails, one after another: python tests/faults/syscalls.py (Linux; needs strace).

strace makes the n-th call of each kind in the thread that saves fail with EIO and with ENOSPC; then the size of files
is limited to every few bytes, which fails in the midst of a write as a full disk does. After each the save has either
returned and the new file is there, or raised an error with the file's name and the old one is there, whole (or the new
one, where the message says so); and there is no temporary. Exit status 1 where anything of that is not so.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = (
    "newfstatat,fstat,stat,statx", "openat,open", "getdents64", "flock", "write", "fchmod", "fsync", "linkat,link",
    "rename,renameat,renameat2", "unlink,unlinkat", "close",
)  # fmt: skip
SAVED, IN_PLACE, FAILED, NO_NAME = 10, 11, 12, 13


def save(path: str, limit: int | None) -> int:
    """In a process of its own: wait for a line, save, and say by the exit status how it went."""
    from normcore import MLP
    from normcore.mlp import save_model

    model = MLP([3, 4, 2], norm="batch", seed=2)
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1 & 0xFFFFFFFF), 0, 0, 0)  # PR_SET_PTRACER: strace may attach
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        save_model(path, model)
        return SAVED
    except OSError as error:
        return IN_PLACE if "the new file is in place" in str(error) else FAILED if path in str(error) else NO_NAME


def trial(path: Path, trace: Path, inject: str | None, limit: int | None = None) -> tuple[int, bool]:
    """The exit status of a save, and whether a call has failed."""
    arguments = [sys.executable, __file__, "save", str(path), *([] if limit is None else [str(limit)])]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        tracer = None
        if inject is not None:
            calls = inject.partition(":")[0]
            command = ["strace", "-f", "-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={inject}"]
            tracer = subprocess.Popen([*command, "-p", str(process.pid)], stderr=subprocess.PIPE, text=True)
            assert tracer.stderr is not None
            line = tracer.stderr.readline()
            assert "attached" in line, line
        process.stdin.write("\n")
        process.stdin.close()
        code = process.wait(60)
        if tracer is not None:
            tracer.communicate(timeout=60)
    return code, tracer is None or "INJECTED" in trace.read_text()


def main() -> int:
    from normcore import MLP

    trials = bad = 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as aside:
        path, trace = Path(folder) / "m", Path(aside) / "trace"
        contents = {}
        for name, seed in (("old", 1), ("new", 2)):
            MLP([3, 4, 2], norm="batch", seed=seed).save(path)
            contents[path.read_bytes()] = name
        old, new = contents

        def check(what: str, code: int) -> None:
            nonlocal trials, bad
            trials += 1
            found = contents.get(path.read_bytes(), "OTHER") if path.exists() else "NONE"
            others = [entry.name for entry in Path(folder).iterdir() if entry != path]
            right = {SAVED: "new", IN_PLACE: "new", FAILED: "old"}.get(code) == found and not others
            if not right:
                bad += 1
                print(f"{what}: exit status {code}, {found} file, others {others}")

        for calls in CALLS:
            known = ",".join("?" + call for call in calls.split(","))  # which need not exist on this machine
            for error in ("EIO", "ENOSPC"):
                for when in range(1, 100):
                    path.write_bytes(old)
                    code, failed = trial(path, trace, f"{known}:error={error}:when={when}")
                    if not failed:
                        break
                    check(f"{calls} {when} {error}", code)
        for limit in range(0, len(new), 61):
            path.write_bytes(old)
            check(f"full after {limit} bytes", trial(path, trace, None, limit)[0])
    print(f"{trials} faults, {bad} of them with another outcome than is right")
    return 1 if bad or trials < 30 else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["save"]:
        code = save(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
        os._exit(code)
    sys.exit(main())
