"""Speed of normcore beside its peers and the machine's limits, with the goals it has set itself.

Tables: those whose titles hold one of the words; all of them without words.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import environment

if TYPE_CHECKING:
    from .limits import Limits
    from .table import Line


# What the two columns of a table are, where they are not normcore and its peer.
_COLUMNS = {"threads": ("two threads", "one thread"), "contention": ("p99", "median")}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("word", nargs="*", help="affine, peak, rows, memory, training, calls, threads, float64 ...")
    parser.add_argument("--isa", choices=sorted(environment.CAPS), help="cap both sides at this instruction set")
    parser.add_argument("--json", metavar="FILE", type=Path, help="save the figures")
    parser.add_argument("--roofline", metavar="FILE", type=Path, help="measure and draw the roofline (PNG) too")
    parser.add_argument("--repeat", metavar="N", type=int, default=1, help="run N times and compare the verdicts")
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error(f"--repeat is {arguments.repeat}; it must be at least 1")
    for path in (arguments.json, arguments.roofline):  # before minutes of measuring
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"{path}: there is no such folder")
    return arguments


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    return torch


def _tables(torch: Any, limits: Limits) -> dict[str, Callable[[], Iterator[Line]]]:
    from . import operations, startup, threads, training

    return {
        "affine, float32": lambda: operations.affine(torch, "float32"),
        "peak, float32": lambda: operations.peak(torch, "float32", limits),
        "rows, float32": lambda: operations.rows(torch, "float32"),
        "memory, out of cache with out=": lambda: operations.memory(limits),
        "training, float32, Adam": lambda: training.steps(torch, "float32"),
        "inference, float32, one row": lambda: training.inference(torch, "float32"),
        "epoch": training.epoch,
        "calls, eight elements": operations.calls,
        "import": lambda: startup.imports(torch is not None),
        "threads, two against one": threads.threads,
        "contention, another process on the same CPUs": threads.contention,
        "affine, float64": lambda: operations.affine(torch, "float64"),
        "peak, float64": lambda: operations.peak(torch, "float64", limits),
        "rows, float64": lambda: operations.rows(torch, "float64"),
        "training, float64, Adam": lambda: training.steps(torch, "float64"),
        "inference, float64, one row": lambda: training.inference(torch, "float64"),
    }


def _machine(torch: Any, limits: Limits) -> dict[str, str]:
    import numpy as np

    import normcore as nc

    versions = {"normcore": nc.__version__, "NumPy": np.__version__}
    if torch is not None:
        versions["PyTorch"] = torch.__version__
    try:
        import sklearn
    except ImportError:
        pass
    else:
        versions["scikit-learn"] = sklearn.__version__
    peaks = {dtype: limits.fma(dtype) for dtype in ("float32", "float64")}
    peak = ", ".join(f"{dtype} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in peaks.items() if rate)
    cpus = environment.cpus()
    return {
        "machine": f"{environment.cpu_name()}, {len(cpus) or '?'} CPUs, "
        + (f"on CPU {cpus[-1]}" if cpus else "unpinned"),
        "instruction set": nc.get_isa(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "peers": environment.threads_of_peers(),
        "FMA peak": peak or f"not measured: {limits.problem}",
        "load of others": environment.load(),
    }


def _measure(arguments: argparse.Namespace) -> None:
    import normcore as nc

    from . import table
    from .limits import Limits, bandwidths

    nc.set_num_threads(1)
    torch = _torch()
    limits = Limits(nc.get_isa())
    tables = _tables(torch, limits)
    chosen = [title for title in tables if not arguments.word or any(word in title for word in arguments.word)]
    if not chosen:
        sys.exit(f"no table with {' or '.join(arguments.word)}: {'; '.join(tables)}")
    machine = _machine(torch, limits)
    levels = bandwidths(limits)
    machine["bandwidth"] = (
        ", ".join(f"{level.name} {level.bandwidth / 1e9:.0f} GB/s" for level in levels) or "not measured"
    )
    for name, value in machine.items():
        print(f"{name:16} {value}")
    measured: dict[str, list[Line]] = {}
    for title in chosen:
        measured[title] = list(tables[title]())
        table.show(title, measured[title], _COLUMNS.get(title.split(",")[0], ("normcore", "peer")))
        sys.stdout.flush()
    table.summarise(measured)
    if arguments.json:
        figures = {title: [line.as_dict() for line in lines] for title, lines in measured.items()}
        arguments.json.write_text(json.dumps({"machine": machine, "tables": figures}, indent=1) + "\n")
    if arguments.roofline:
        from .roofline import draw

        draw(arguments.roofline, limits, environment.cpu_name())


def _repeat(arguments: argparse.Namespace) -> None:
    """Run everything several times, each in a process of its own, and say which verdicts were not the same."""
    verdicts: dict[str, list[tuple[float | None, bool | None]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(arguments.repeat):
            path = Path(folder) / f"{run}.json"
            isa = ["--isa", arguments.isa] if arguments.isa else []
            command = [sys.executable, "-m", "bench", *arguments.word, *isa, "--json", str(path)]
            print(f"\n==== run {run + 1} of {arguments.repeat}", flush=True)
            subprocess.run(command, check=True)
            report = json.loads(path.read_text())
            if arguments.json:
                arguments.json.with_stem(f"{arguments.json.stem}-{run + 1}").write_text(path.read_text())
            for title, lines in report["tables"].items():
                for line in lines:
                    if line["goal"]:
                        key = f"{title}: {line['name']} ({line['peer_name'].split(';')[0]})"
                        verdicts.setdefault(key, []).append((line["figure"], line["met"]))
    print(f"\n==== {arguments.repeat} runs")
    always = [key for key, of_line in verdicts.items() if all(met for _, met in of_line)]
    unsure = [key for key, of_line in verdicts.items() if len({met for _, met in of_line}) > 1]
    print(f"{len(always)} of {len(verdicts)} goals met every time; the verdict changed for {len(unsure)}")
    for key, of_line in verdicts.items():
        if key not in always:
            figures = ", ".join("not measured" if figure is None else f"{figure:.2f}" for figure, _ in of_line)
            print(f"  {'sometimes' if key in unsure else 'never    '} {key}: {figures}")


def main() -> None:
    arguments = _arguments()
    environment.settle(arguments.isa)
    if arguments.repeat > 1:
        _repeat(arguments)
    else:
        _measure(arguments)


if __name__ == "__main__":
    main()
