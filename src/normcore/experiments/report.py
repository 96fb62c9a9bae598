"""The numbers of the experiments: results.json, and a table for the terminal that says what each experiment shows.

Every sentence is made from the numbers; nothing is printed because it was expected.
"""

from __future__ import annotations

import itertools
import json
import math
import textwrap
from collections.abc import Sequence
from statistics import fmean

from normcore.experiments.backward import BackwardRow
from normcore.experiments.datasets import Dataset
from normcore.experiments.definitions import EXPERIMENTS, Norm
from normcore.experiments.runner import Result

__all__ = ["to_json", "to_text"]

_NAMES: dict[Norm, str] = {None: "no norm", "batch": "batch norm", "layer": "layer norm"}

#: A network is called "at chance" while its best training accuracy is no more than this above the most frequent class.
_CHANCE_MARGIN = 0.02

#: A weight scale is called "workable" where a network comes to this part of the best validation accuracy of all.
_WORKABLE = 0.75


def to_json(results: Sequence[Result], backward: Sequence[BackwardRow]) -> bytes:
    """The content of results.json: ``{"runs": [...], "backward": [...]}``. A number that is not finite is refused."""
    runs = [
        {
            "experiment": result.run.experiment,
            "norm": result.run.norm,
            "batch_size": result.run.batch_size,
            "weight_scale": result.run.weight_scale,
            "learning_rate": result.run.learning_rate,
            "loss": result.loss,
            "train_accuracy": result.train_accuracy,
            "val_accuracy": result.val_accuracy,
        }
        for result in results
    ]
    document = {"runs": runs, "backward": [row.as_dict() for row in backward]}
    return (json.dumps(document, allow_nan=False) + "\n").encode()


def to_text(ids: Sequence[str], results: Sequence[Result], backward: Sequence[BackwardRow], data: Dataset) -> str:
    """The report for the terminal, no line wider than 100 columns."""
    train, val = data.chance()
    blocks = [
        (
            f"Data: {data.name}, {len(data.x_train)} training and {len(data.x_val)} validation images, {data.features} "
            f"pixels, {data.classes} classes.\nAlways answering the most frequent class scores {_percent(train)} in "
            f"training, {_percent(val)} in validation."
        )
    ]
    for id in ids:
        own = [result for result in results if result.run.experiment == id]
        if id == "E1":
            table, findings = _report_e1(own)
        elif id == "E2":
            table, findings = _report_e2(own, data)
        elif id == "E5":
            table, findings = _report_e5(backward)
        else:
            table, findings = _report_by_batch_size(own, results)
        title = f"{id}  {EXPERIMENTS[id].title}"
        blocks.append("\n".join([title, *_aligned(table), *(_wrapped(finding) for finding in findings)]))
    return "\n\n".join(blocks)


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right, a rule below the first row."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    template = "    " + "  ".join(f"{{:{'>' if i else '<'}{width}}}" for i, width in enumerate(widths))
    lines = [template.format(*row) for row in table]
    return [lines[0], "    " + "-" * (len(lines[0]) - 4), *lines[1:]]


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, 100, initial_indent="  => ", subsequent_indent="     ", break_on_hyphens=False)


def _percent(fraction: float) -> str:
    return f"{100.0 * fraction:.1f} %"


def _points(difference: float) -> str:
    """A difference of two fractions, in words."""
    points = round(100.0 * abs(difference), 1)
    return "1 point" if points == 1.0 else f"{points:g} points"


def _against(a: float, b: float) -> str:
    """How a stands to b: "3.2 points above", "0.4 points below", "level with"."""
    if round(100.0 * abs(a - b), 1) == 0.0:
        return "level with"
    return f"{_points(a - b)} {'above' if a > b else 'below'}"


def _final_loss(result: Result) -> float:
    return fmean(result.loss[-100:])


def _report_e1(results: Sequence[Result]) -> tuple[list[list[str]], list[str]]:
    table = [["network", "loss, last 100 steps", "training, end", "validation, end", "validation, best"]]
    for result in results:
        table.append(
            [
                _NAMES[result.run.norm],
                f"{_final_loss(result):.3f}",
                _percent(result.train_accuracy[-1]),
                _percent(result.val_accuracy[-1]),
                _percent(max(result.val_accuracy)),
            ]
        )
    plain, batch = results
    epochs = len(batch.train_accuracy) - 1
    findings = [
        (
            f"After {epochs} epochs batch norm stands {_against(batch.train_accuracy[-1], plain.train_accuracy[-1])} "
            f"the plain network in training and {_against(batch.val_accuracy[-1], plain.val_accuracy[-1])} it in "
            "validation."
        )
    ]
    sooner = next((i for i, value in enumerate(batch.train_accuracy) if value >= plain.train_accuracy[-1]), None)
    if sooner is None:
        findings.append("It never reaches the plain network's last training accuracy.")
    elif sooner < epochs:
        findings.append(f"It reaches the plain network's last training accuracy after {sooner} of {epochs} epochs.")
    else:
        findings.append("It reaches the plain network's last training accuracy in the last epoch only.")
    return table, findings


def _report_e2(results: Sequence[Result], data: Dataset) -> tuple[list[list[str]], list[str]]:
    norms = list(dict.fromkeys(result.run.norm for result in results))
    scales = list(dict.fromkeys(result.run.weight_scale for result in results))
    cells = {(result.run.norm, result.run.weight_scale): result for result in results}
    best = {key: max(result.val_accuracy) for key, result in cells.items()}
    at_chance = {key: max(result.train_accuracy) <= data.chance()[0] + _CHANCE_MARGIN for key, result in cells.items()}
    heads = [f"{what}: {norm or 'none'}" for what in ("val.", "loss") for norm in norms]
    table = [["weight scale", *heads]]
    for scale in scales:
        row = [f"{scale:.2e}", *(_percent(best[norm, scale]) for norm in norms)]
        table.append([*row, *(f"{_final_loss(cells[norm, scale]):.3g}" for norm in norms)])
    overall = max(best.values())
    findings = []
    for norm in norms:
        peak = max(scales, key=lambda scale: best[norm, scale])
        good = [scale for scale in scales if best[norm, scale] >= _WORKABLE * overall]
        sentence = f"{_NAMES[norm].capitalize()}: best {_percent(best[norm, peak])} at {peak:.2g}; "
        if good:
            decades = math.log10(good[-1] / good[0])
            sentence += (
                f"at least {_WORKABLE:.0%} of the overall best ({_percent(overall)}) at {len(good)} of {len(scales)} "
                f"scales, {good[0]:.1e} to {good[-1]:.1e} ({decades:.1f} decades)"
            )
        else:
            sentence += f"nowhere {_WORKABLE:.0%} of the overall best ({_percent(overall)})"
        stretches = _stretches(scales, [at_chance[norm, scale] for scale in scales])
        if stretches:
            sentence += f"; at chance {' and '.join(stretches)}"
        findings.append(sentence + ".")
    return table, findings


def _stretches(scales: Sequence[float], holds: Sequence[bool]) -> list[str]:
    """In words, the stretches of the scale on which something holds."""
    words = []
    for same, group in itertools.groupby(range(len(scales)), key=lambda i: holds[i]):
        indices = list(group)
        first, last = f"{scales[indices[0]]:.1e}", f"{scales[indices[-1]]:.1e}"
        if not same:
            continue
        if len(indices) == len(scales):
            words.append("throughout")
        elif indices[0] == 0:
            words.append(f"up to {last}")
        elif indices[-1] == len(scales) - 1:
            words.append(f"from {first}")
        else:
            words.append(f"at {first}" if first == last else f"from {first} to {last}")
    return words


def _report_by_batch_size(own: Sequence[Result], everything: Sequence[Result]) -> tuple[list[list[str]], list[str]]:
    table = [["network", "batch size", "training, end", "validation, end", "validation, best"]]
    for result in own:
        table.append(
            [
                _NAMES[result.run.norm],
                str(result.run.batch_size),
                _percent(result.train_accuracy[-1]),
                _percent(result.val_accuracy[-1]),
                _percent(max(result.val_accuracy)),
            ]
        )
    plain = next(result for result in own if result.run.norm is None)
    normed = [result for result in own if result.run.norm is not None]
    name = _NAMES[normed[0].run.norm]
    comparisons = [
        f"{_against(result.train_accuracy[-1], plain.train_accuracy[-1])} it at batch {result.run.batch_size}"
        for result in normed
    ]
    change = _signed(_loss_of_small_batches(normed)) + _other_norm(own[0].run.experiment, everything)
    findings = [
        (
            f"In training {name} ends, compared with no norm at batch {plain.run.batch_size} "
            f"({_percent(plain.train_accuracy[-1])}), {', '.join(comparisons)}."
        ),
        (
            f"Going from batch {normed[-1].run.batch_size} to {normed[0].run.batch_size} changes the final training "
            f"accuracy of {name} by {change}."
        ),
    ]
    return table, findings


def _loss_of_small_batches(normed: Sequence[Result]) -> float:
    """Final training accuracy at the smallest batch size minus that at the largest."""
    ordered = sorted(normed, key=lambda result: result.run.batch_size)
    return ordered[0].train_accuracy[-1] - ordered[-1].train_accuracy[-1]


def _signed(difference: float) -> str:
    return f"{'+' if difference > 0 else '-' if difference < 0 else ''}{_points(difference)}"


def _other_norm(experiment: str, everything: Sequence[Result]) -> str:
    """E4 is told beside E3, where that was run too."""
    other = [result for result in everything if result.run.experiment == "E3" and result.run.norm is not None]
    if experiment != "E4" or not other:
        return ""
    return f", that of {_NAMES[other[0].run.norm]} in E3 by {_signed(_loss_of_small_batches(other))}"


def _report_e5(rows: Sequence[BackwardRow]) -> tuple[list[list[str]], list[str]]:
    table = [["rows x features", "implementation", "graph, us", "fused, us", "speed-up", "largest difference"]]
    for row in rows:
        table.append(
            [
                f"{row.n} x {row.d}",
                row.implementation,
                f"{row.graph_seconds * 1e6:,.1f}",
                f"{row.fused_seconds * 1e6:,.1f}",
                f"{row.speedup:.2f}x",
                f"{row.max_relative_difference:.1e}",
            ]
        )
    findings = []
    for name in dict.fromkeys(row.implementation for row in rows):
        speedups = [row.speedup for row in rows if row.implementation == name]
        findings.append(f"In {name} the closed form is {_range(speedups)} times as fast as the graph.")
    ratios = [
        a.fused_seconds / b.fused_seconds
        for a in rows
        for b in rows
        if (a.n, a.d, a.implementation, b.implementation) == (b.n, b.d, "numpy", "normcore")
    ]
    findings.append(
        f"With the closed form normcore is {_range(ratios)} times as fast as numpy. Graph and closed form differ by "
        f"at most {max(row.max_relative_difference for row in rows):.0e} of the largest gradient."
    )
    return table, findings


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
