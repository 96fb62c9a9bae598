"""The numbers behind each figure as a table: a row for each setting, medians and ranges over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from normcore.experiments.definitions import Run
from normcore.experiments.results import ExperimentResult, Timing, by_setting, summary

__all__ = ["table"]

Table = list[list[str]]

_NAMES = {None: "no norm", "batch": "batch norm", "layer": "layer norm"}

# What may distinguish the runs of an experiment, and how it is written.
_VARIED: dict[str, Callable[[Run], str]] = {
    "network": lambda run: _NAMES[run.norm],
    "hidden layers": lambda run: str(len(run.hidden)),
    "batch size": lambda run: str(run.batch_size),
    "weight scale": lambda run: f"{run.weight_scale:.3g}",
    "learning rate": lambda run: f"{run.learning_rate:.3g}",
}


def table(found: ExperimentResult) -> Table:
    """The first row holds the heads of the columns; a number over several seeds is "median [least ... greatest]"."""
    if found.id == "E5":
        return _timings(found.records)
    groups = by_setting(found.records)
    heads = [head for head, text in _VARIED.items() if len({text(run) for run in groups}) > 1 or head == "network"]
    columns = _COLUMNS.get(found.id, _TRAINING)
    return [
        [*heads, *columns],
        *(
            [*(_VARIED[head](run) for head in heads), *(_cell(map(value, records)) for value in columns.values())]
            for run, records in groups.items()
        ),
    ]


def _cell(values: Iterable[float | str]) -> str:
    values = list(values)
    if any(isinstance(value, str) for value in values):
        texts = [value if isinstance(value, str) else f"{value:.3g}" for value in values]
        return ", ".join(dict.fromkeys(texts))
    found = summary(float(value) for value in values)
    if found.least == found.greatest:
        return f"{found.median:.3g}"
    return f"{found.median:.3g} [{found.least:.3g} … {found.greatest:.3g}]"


_TRAINING: Mapping[str, Callable[[Any], float | str]] = {
    "training accuracy, end, %": lambda record: 100.0 * record.train_accuracy[-1],
    "validation accuracy, end, %": lambda record: 100.0 * record.val_accuracy[-1],
    "validation accuracy, best, %": lambda record: 100.0 * max(record.val_accuracy),
    "loss, last 100 steps": lambda record: (
        statistics.fmean(record.loss[-100:]) if record.diverged_at is None else f"diverged at step {record.diverged_at}"
    ),
}
_COLUMNS: dict[str, Mapping[str, Callable[[Any], float | str]]] = {
    "E6": {
        "spread of the first layer, start": lambda record: record.spread[0][0],
        "spread of the last layer, start": lambda record: record.spread[0][-1],
        "spread of the first layer, end": lambda record: record.spread[-1][0],
        "spread of the last layer, end": lambda record: record.spread[-1][-1],
        "dead units, end, %": lambda record: 100.0 * statistics.fmean(record.dead[-1]),
        "moved by an update, median": lambda record: statistics.median(v for row in record.shift for v in row),
    },
    "E7": {
        "gradient of the first layer": lambda record: record.norms[0],
        "gradient of the last layer": lambda record: record.norms[-1],
    },
    "E8": {
        "highest / lowest loss, median": lambda record: statistics.median(
            high / low for high, low in zip(record.highest, record.lowest, strict=True)
        ),
        "turn of the gradient, median, degrees": lambda record: statistics.median(record.turn),
    },
}


def _timings(rows: Sequence[Timing]) -> Table:
    heads = ["rows × features", "implementation", "graph, µs", "fused, µs", "graph / fused"]
    counted = ["operations, graph", "operations, fused", "bytes, graph", "bytes, fused"]
    return [
        [*heads, *counted],
        *(
            [
                f"{row.n} × {row.d}",
                row.implementation,
                _quartiles([1e6 * value for value in row.graph_seconds]),
                _quartiles([1e6 * value for value in row.fused_seconds]),
                _quartiles(row.speedup),
                f"{row.graph_operations:,}",
                f"{row.fused_operations:,}",
                f"{row.graph_bytes:,}",
                f"{row.fused_bytes:,}",
            ]
            for row in rows
        ),
    ]


def _quartiles(values: Sequence[float]) -> str:
    low, middle, high = values
    return f"{middle:.3g} [{low:.3g} … {high:.3g}]"
