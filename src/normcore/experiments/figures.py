"""One figure for each experiment, to be understood without the text around it: medians as lines, ranges as bands."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from normcore import plots
from normcore.experiments.definitions import Norm, Run
from normcore.experiments.results import DataFacts, ExperimentResult, Results, Timing, by_setting

__all__ = ["HOW_TO_READ", "draw", "settings_line"]

#: How to read each figure; the page shows it below the picture.
HOW_TO_READ = {
    "E1": (
        "Lines are medians over the seeds, bands reach from the least to the greatest. The loss is that of the "
        "minibatch, averaged over 15 steps; the accuracies are of all images, in evaluation mode. The dotted line is "
        "what always answering the most frequent class scores."
    ),
    "E2": (
        "Each point is a network trained from initial weights of that standard deviation; lines are medians over the "
        "seeds, bands reach from the least to the greatest. The vertical line is the scale that He et al. derived for "
        "ReLU networks of this width."
    ),
    "E3": (
        "Thick lines are batch norm, thin ones no norm; the darker, the larger the batch. The axis is the error, in "
        "equal steps for equal ratios: down is better. On the right, the error after the last epoch against the batch "
        "size."
    ),
    "E4": (
        "Thick lines are layer norm, thin ones no norm; the darker, the larger the batch. The axis is the error, in "
        "equal steps for equal ratios: down is better. On the right, the error after the last epoch against the batch "
        "size."
    ),
    "E5": (
        "Lines are medians of interleaved measurements on one thread, bands reach from the first to the third "
        "quartile. Solid is the closed form, dashed the graph. On the right, what each algorithm does per element of "
        "the batch, counted and not measured."
    ),
    "E6": (
        "On the left, the standard deviation of what each ReLU sees, from layer to layer: hollow before training, "
        "filled after it. In the middle, how what the last hidden ReLU sees spreads over images and units while the "
        "network trains: line the median, bands the middle half and the middle 90 %. On the right, how far one update "
        "moves what a ReLU sees, in standard deviations of the layer: the median over the layers."
    ),
    "E7": (
        "Above, the Frobenius norm of the first layer's weight gradient before training, against the depth of the "
        "network, a panel for each scale of the initial weights. Below, the same of every layer of the deepest "
        "network, from the input to the output. The computation is "
        "in float64, in which none of them is 0."
    ),
    "E8": (
        "Along the direction of the gradient, at steps of different length, the loss of the minibatch takes the "
        "values of the band, from the lowest to the highest; the line is the loss where the network stands. On the "
        "right, the largest angle by which the gradient turns over the same way: 0 degrees is a plane, and beyond 90 "
        "the gradient points back."
    ),
    "E9": (
        "Each point is a training at that learning rate; lines are medians over the seeds, bands reach from the least "
        "to the greatest. A training whose numbers overflowed counts with the most frequent class and is marked with "
        "a cross."
    ),
}

_NAMES: dict[Norm, str] = {None: "no norm", "batch": "batch norm", "layer": "layer norm"}
_WIDTH = 13.0
_ZERO = 1e-300  # where a gradient of 0 is drawn on a log axis

Floats = np.ndarray[Any, Any]


def draw(experiment: str, results: Results) -> Figure:
    """The figure of one experiment; the sentence that answers its question stands under the title."""
    found = results.experiment(experiment)
    with plots.style():
        return _DRAWN[experiment](found, results.data)


def settings_line(found: ExperimentResult, data: DataFacts) -> str:
    """What was trained, in a line."""
    if found.id == "E5":
        timing: Timing = found.records[0]
        return f"{timing.samples} interleaved measurements, {timing.dtype}, one thread"
    run: Run = found.records[0].run
    runs = [record.run for record in found.records]
    parts = [f"{data.name}, {data.training_images} training and {data.validation_images} validation images"]
    depths = sorted({len(r.hidden) for r in runs})
    parts.append(f"{' / '.join(map(str, depths))} hidden layers of {run.hidden[0]}")
    if run.epochs:
        rates = {r.learning_rate for r in runs}
        parts.append("Adam" + (f", learning rate {run.learning_rate:.2g}" if len(rates) == 1 else ""))
    if len({r.batch_size for r in runs}) == 1:
        parts.append(f"batch size {run.batch_size}")
    if len({r.weight_scale for r in runs}) == 1:
        parts.append(f"weight scale {run.weight_scale:g}")
    seeds = len({r.seed for r in runs})
    parts.append(f"{seeds} seeds" if seeds > 1 else "one seed")
    return "  ·  ".join(parts)


# ---------------------------------------------------------------------------------------------- the frame


def _frame(
    found: ExperimentResult, data: DataFacts, columns: int, rows: int = 1, height: float = 5.4, **subplots: Any
) -> tuple[Figure, Any]:
    """A figure with its question, answer and settings above the panels."""
    answer = textwrap.fill(found.findings[0].text, 132)
    height += 0.22 * answer.count("\n")  # so that a long answer takes nothing from the panels
    figure = Figure(figsize=(_WIDTH, height))
    FigureCanvasAgg(figure)
    top = height - 0.12

    def line(text: str, size: float, **style: Any) -> None:
        nonlocal top
        figure.text(0.012, top / height, text, ha="left", va="top", fontsize=size, **style)
        top -= size * 1.32 / 72 * (text.count("\n") + 1)

    line(f"{found.id}   {found.title}", 16, fontweight="bold")
    top -= 0.05
    line(answer, 12)
    top -= 0.03
    line(settings_line(found, data), 10, color=plots.GREY)
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    figure.set_layout_engine(
        ConstrainedLayoutEngine(rect=(0.0, 0.0, 1.0, (top - 0.06) / height), w_pad=0.09, h_pad=0.06)
    )
    return figure, axes


def _colour(norm: Norm) -> str:
    return str(plots.NORMS[norm]["color"])


def _epochs(ax: Axes, epochs: int) -> None:
    ax.set_xlabel("epoch (0 = before training)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(-0.02 * epochs, 1.02 * epochs)


def _chance(ax: Axes, value: float) -> None:
    ax.axhline(value, color=plots.GREY, linestyle=(0, (1, 2)), linewidth=1.2, zorder=1)
    _note(ax, "most frequent class", (1.0, value), ("axes fraction", "data"), (-2, 3), "right", "bottom")


def _note(
    ax: Axes, text: str, place: Any, coordinates: Any = "axes fraction", offset: Any = (0, 0), ha: str = "left",
    va: str = "bottom",
) -> None:  # fmt: skip
    ax.annotate(
        text, place, xycoords=coordinates, xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=10,
        color=plots.GREY,
    )  # fmt: skip


def _percent(ax: Axes, title: str) -> None:
    ax.set_title(title)
    ax.set_ylabel("images classified correctly")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_ylim(0.0, min(1.02, ax.get_ylim()[1]))


def _smoothed(values: Sequence[float], window: int = 15) -> tuple[Floats, Floats]:
    """Centred moving average: (steps counted from 1, means)."""
    window = min(window, len(values))
    means = np.convolve(values, np.full(window, 1.0 / window), mode="valid")
    return np.arange(len(means)) + 1 + (window - 1) / 2, means


def _norms(groups: Mapping[Any, Any]) -> list[Norm]:
    return list(dict.fromkeys(run.norm for run in groups))


def _decades(axis: Any) -> None:
    """Powers of ten written out."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def _share_y(panels: Sequence[Axes], label: str) -> None:
    """One y axis for panels beside each other, as wide as the widest."""
    limits = np.array([ax.get_ylim() for ax in panels])
    for ax in panels:
        ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        ax.tick_params(labelleft=ax is panels[0])
    panels[0].set_ylabel(label)


def _only_ticks(ax: Axes, values: Sequence[int]) -> None:
    """These values on the x axis and no others."""
    ax.set_xticks(values, [str(value) for value in values])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


# ---------------------------------------------------------------------------------------------- E1 and E2


def _draw_e1(found: ExperimentResult, data: DataFacts) -> Figure:
    figure, axes = _frame(found, data, 3)
    loss, train, val = axes[0]
    groups = by_setting(found.records)
    epochs = next(iter(groups)).epochs
    for run, records in groups.items():
        name = _NAMES[run.norm]
        steps = _smoothed(records[0].loss)[0]
        plots.band(loss, steps, [_smoothed(record.loss)[1] for record in records], label=name, marker="")
        for ax, attribute in ((train, "train_accuracy"), (val, "val_accuracy")):
            plots.band(ax, range(epochs + 1), [getattr(record, attribute) for record in records], label=name)
    loss.set_title("Training loss, mean of 15 steps")
    loss.set_xlabel("step (one minibatch each)")
    loss.set_ylabel("cross-entropy, nats")
    loss.set_ylim(bottom=0.0)
    loss.set_xlim(left=0)
    _percent(train, "Training accuracy")
    _percent(val, "Validation accuracy")
    for ax, chance in ((train, data.training_chance), (val, data.validation_chance)):
        _epochs(ax, epochs)
        _chance(ax, chance)
    for ax in axes[0]:
        plots.label_lines(ax)
    return figure


def _draw_e2(found: ExperimentResult, data: DataFacts) -> Figure:
    figure, axes = _frame(found, data, 3)
    val, train, loss = axes[0]
    groups = by_setting(found.records)
    he = (2.0 / next(iter(groups)).hidden[0]) ** 0.5
    values: dict[Any, Callable[[Any], float]] = {
        val: lambda record: max(record.val_accuracy),
        train: lambda record: max(record.train_accuracy),
        loss: lambda record: float(np.mean(record.loss[-100:])) if record.diverged_at is None else np.nan,
    }
    for norm in _norms(groups):
        own = {run.weight_scale: records for run, records in groups.items() if run.norm == norm}
        for ax, value in values.items():
            plots.band(ax, list(own), _over_seeds(own.values(), value), label=_NAMES[norm], markevery=1)
    _percent(val, "Best validation accuracy")
    _percent(train, "Best training accuracy")
    for ax, chance in ((val, data.validation_chance), (train, data.training_chance)):
        _chance(ax, chance)
    loss.set_title("Training loss, last 100 steps")
    loss.set_ylabel("cross-entropy, nats (log)")
    loss.set_yscale("log")
    for ax in axes[0]:
        ax.set_xscale("log")
        ax.set_xlabel("std. dev. of the initial weights (log)")
        ax.axvline(he, color=plots.GREY, linewidth=1.2, zorder=1)
        _note(ax, "He", (he, 1.0), ("data", "axes fraction"), (3, -2), "left", "top")
    for ax in axes[0]:
        plots.label_lines(ax)
    return figure


def _over_seeds(settings: Iterable[Sequence[Any]], value: Callable[[Any], float]) -> Floats:
    """(seeds, settings): a number of each record."""
    return np.array([[value(record) for record in records] for records in settings], dtype=float).T


def _one_legend(figure: Figure, ax: Axes) -> None:
    """One legend for all panels, right of the title, where lines cross too often for names at their ends."""
    handles, labels = ax.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="upper right", bbox_to_anchor=(0.995, 0.998), ncols=len(labels), fontsize=12
    )
    legend.set_in_layout(False)


# ---------------------------------------------------------------------------------------------- E3 and E4


def _draw_by_batch_size(found: ExperimentResult, data: DataFacts) -> Figure:
    figure, axes = _frame(found, data, 3)
    over_epochs, train, val = axes[0]
    groups = by_setting(found.records)
    sizes = sorted({run.batch_size for run in groups})
    epochs = next(iter(groups)).epochs
    shades = {norm: plots.shades(len(sizes), _colour(norm)) for norm in _norms(groups)}
    for run, records in groups.items():
        accuracies = np.median([record.val_accuracy for record in records], axis=0)
        over_epochs.plot(
            range(epochs + 1),
            [_error(accuracy, data.validation_images) for accuracy in accuracies],
            color=shades[run.norm][sizes.index(run.batch_size)],
            linewidth=2.2 if run.norm else 0.9,
            label=f"batch {run.batch_size}" if run.norm else None,
        )
    _error_axis(over_epochs, "Validation error per epoch, medians")
    _epochs(over_epochs, epochs)
    panels = (
        (train, "Training error, last epoch", "train_accuracy", data.training_images),
        (val, "Validation error, last epoch", "val_accuracy", data.validation_images),
    )
    for ax, title, attribute, images in panels:
        value = functools.partial(_last_error, attribute=attribute, images=images)
        for norm in _norms(groups):
            own = {run.batch_size: records for run, records in groups.items() if run.norm == norm}
            width: dict[str, Any] = {} if norm else {"linewidth": 0.9}
            plots.band(ax, list(own), _over_seeds(own.values(), value), label=_NAMES[norm], markevery=1, **width)
        _error_axis(ax, title)
        ax.set_xscale("log")
        _only_ticks(ax, sizes)
        ax.set_xlabel("batch size (log)")
    for ax in axes[0]:
        plots.label_lines(ax)
    if any(record.train_accuracy[-1] == 1.0 for record in found.records):
        _note(train, f"no error is drawn as {50 / data.training_images:g} %", (0.02, 0.02))
    return figure


def _error(accuracy: float, images: int) -> float:
    """The fraction classified wrongly; half an image where there is none, because the axis has no 0."""
    return max(1.0 - accuracy, 0.5 / images)


def _last_error(record: Any, attribute: str, images: int) -> float:
    return _error(getattr(record, attribute)[-1], images)


def _error_axis(ax: Axes, title: str) -> None:
    ax.set_title(title)
    ax.set_yscale("log")
    ax.set_ylabel("images classified wrongly (log)")
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=30))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    ax.yaxis.set_minor_formatter(NullFormatter())


# ---------------------------------------------------------------------------------------------- E5


def _draw_e5(found: ExperimentResult, data: DataFacts) -> Figure:
    figure, axes = _frame(found, data, 4, width_ratios=(1.5, 1.4, 0.62, 0.62))
    times, speedup, operations, traffic = axes[0]
    rows: Sequence[Timing] = found.records
    width = max({row.d for row in rows}, key=lambda d: sum(row.d == d for row in rows))
    looks = {
        "numpy": {"color": plots.PALETTE[1], "marker": "s"},
        "normcore": {"color": plots.PALETTE[0], "marker": "o"},
    }
    for name, look in looks.items():
        own = sorted((row for row in rows if row.implementation == name and row.d == width), key=lambda row: row.n)
        batch = [row.n for row in own]
        for algorithm, dash in (("graph", "--"), ("fused", "-")):
            seconds = np.array([getattr(row, f"{algorithm}_seconds") for row in own]) * 1e6
            _quartiles(times, batch, seconds, label=f"{name}, {algorithm}", linestyle=dash, **look)
        _quartiles(speedup, batch, np.array([row.speedup for row in own]), label=name, **look)
    times.set_title(f"Time of one pass, {width} features")
    times.set_ylabel("microseconds (log)")
    times.set_yscale("log")
    _decades(times.yaxis)
    speedup.set_title("Time of graph / time of fused")
    speedup.set_ylabel("times as fast")
    speedup.axhline(1.0, color=plots.INK, linewidth=1.0, linestyle="--")
    speedup.set_ylim(bottom=0.0)
    for ax in (times, speedup):
        ax.set_xscale("log")
        ax.set_xlabel("rows in the batch (log)")
        _decades(ax.xaxis)
        plots.label_lines(ax)
    largest = max((row for row in rows if row.d == width), key=lambda row: row.n)
    for ax, what, title in ((operations, "operations", "Operations"), (traffic, "bytes", "Bytes")):
        per = [getattr(largest, f"{algorithm}_{what}") / (largest.n * largest.d) for algorithm in ("graph", "fused")]
        bars = ax.bar(["graph", "fused"], per, 0.6, color=["#B8B8B8", "#555555"])
        ax.bar_label(bars, [f"{value:.0f}" for value in per], padding=2)
        ax.set_title(title)
        ax.set_ylabel(f"{what} per element, counted")
        ax.margins(y=0.12)
        ax.grid(False, axis="x")
        plots.describe(ax, f"{title} per element: {per[0]:.0f} of the graph, {per[1]:.0f} of the closed form.")
    return figure


def _quartiles(ax: Axes, x: Sequence[float], quartiles: Floats, **look: Any) -> None:
    """A line through the medians and a band from the first to the third quartile: columns 1, 0 and 2."""
    ax.fill_between(x, quartiles[:, 0], quartiles[:, 2], color=look["color"], alpha=0.2, linewidth=0)
    ax.plot(x, quartiles[:, 1], **look)


# ---------------------------------------------------------------------------------------------- E6 to E9


def _draw_e6(found: ExperimentResult, data: DataFacts) -> Figure:
    groups = by_setting(found.records)
    figure, axes = _frame(found, data, len(groups) + 2, width_ratios=(1.35, *[0.85] * len(groups), 1.35))
    spread, *quantiles, shift = axes[0]
    for (run, records), ax in zip(groups.items(), quantiles, strict=True):
        name, colour = _NAMES[run.norm], _colour(run.norm)
        layers, steps = range(1, len(records[0].spread[0]) + 1), records[0].steps
        before: dict[str, Any] = {"linestyle": "--", "markerfacecolor": "white", "markevery": 1}
        plots.band(
            spread,
            layers,
            [r.spread[0] for r in records],
            color=colour,
            marker=plots.NORMS[run.norm]["marker"],
            **before,
        )
        plots.band(spread, layers, [r.spread[-1] for r in records], label=name, linestyle="-", markevery=1)
        plots.band(shift, steps, [np.median(r.shift, axis=1) for r in records], label=name, marker="")
        last = np.median([[layer[-1] for layer in record.quantiles] for record in records], axis=0)
        ax.fill_between(steps, last[:, 0], last[:, 4], color=colour, alpha=0.15, linewidth=0)
        ax.fill_between(steps, last[:, 1], last[:, 3], color=colour, alpha=0.3, linewidth=0)
        ax.plot(steps, last[:, 2], color=colour)
        ax.set_title(name, color=plots.readable(colour))
        ax.set_xlabel("step")
        low, high = last[-1, 0], last[-1, 4]
        plots.describe(
            ax, f"What the last hidden ReLU sees, {name}: 90 % between {low:.2g} and {high:.2g} after the last step."
        )
    spread.set_title("Spread by layer")
    spread.set_yscale("log")
    spread.set_ylabel("std. dev. of what a ReLU sees (log)")
    spread.set_xlabel("hidden layer")
    spread.xaxis.set_major_locator(MaxNLocator(integer=True))
    _note(spread, "dashed: before training\nsolid: after it", (0.04, 0.03))
    shift.set_title("Moved by one update")
    shift.set_yscale("log")
    shift.set_ylabel("shift of what a ReLU sees / spread (log)")
    shift.set_xlabel("step")
    _share_y(quantiles, "what the last hidden ReLU sees")
    plots.label_lines(spread)
    plots.label_lines(shift)
    return figure


def _draw_e7(found: ExperimentResult, data: DataFacts) -> Figure:
    groups = by_setting(found.records)
    scales = sorted({run.weight_scale for run in groups})
    depths = sorted({len(run.hidden) for run in groups})
    he = (2.0 / next(iter(groups)).hidden[0]) ** 0.5
    figure, axes = _frame(found, data, len(scales), rows=2, height=8.4, sharey=True)
    for scale, (above, below) in zip(scales, axes.T, strict=True):
        for norm in _norms(groups):
            own = {len(r.hidden): records for r, records in groups.items() if (r.norm, r.weight_scale) == (norm, scale)}
            name = _NAMES[norm]
            first = _over_seeds(own.values(), lambda record: max(record.norms[0], _ZERO))
            plots.band(above, list(own), first, label=name, markevery=1)
            each = np.maximum([record.norms for record in own[depths[-1]]], _ZERO)
            plots.band(below, range(1, each.shape[1] + 1), each, label=name)
        above.set_title(f"Weight scale {scale:g}" + (" (He)" if abs(scale / he - 1.0) < 0.01 else ""))
        above.set_xscale("log")
        _only_ticks(above, depths)
        above.set_xlabel("hidden layers (log)")
        above.set_yscale("log")
        below.set_xlabel(f"layer of {depths[-1] + 1}")
    axes[0, 0].set_ylabel("gradient of the first layer's weights,\nFrobenius norm (log)")
    axes[1, 0].set_ylabel(f"gradient of each layer's weights\nat {depths[-1]} hidden layers (log)")
    for ax in axes[:, -1]:
        plots.label_lines(ax)
    return figure


def _draw_e8(found: ExperimentResult, data: DataFacts) -> Figure:
    groups = by_setting(found.records)
    figure, axes = _frame(found, data, len(groups) + 1, width_ratios=(*[1.0] * len(groups), 1.35))
    *bands, turn = axes[0]
    for ax, (run, records) in zip(bands, groups.items(), strict=True):
        steps, colour, name = records[0].steps, _colour(run.norm), _NAMES[run.norm]
        low, high, loss = (
            np.median([getattr(record, field) for record in records], axis=0) for field in ("lowest", "highest", "loss")
        )
        ax.fill_between(steps, low, high, color=colour, alpha=0.3, linewidth=0)
        ax.plot(steps, loss, color=colour, linewidth=1.5)
        ax.set_title(name, color=plots.readable(colour))
        ax.set_xlabel("step")
        ax.set_yscale("log")
        widest = float(np.max(high / low))
        plots.describe(ax, f"{name}: the highest loss on the way is at most {widest:.3g} times the lowest.")
        plots.band(turn, steps, [record.turn for record in records], label=name, marker="")
    _share_y(bands, "loss along the gradient, nats (log)")
    turn.set_title("Turn of the gradient")
    turn.set_ylabel("largest angle, degrees")
    turn.set_ylim(0.0, 180.0)
    turn.set_yticks(range(0, 181, 45))
    turn.set_xlabel("step")
    plots.label_lines(turn)
    return figure


def _draw_e9(found: ExperimentResult, data: DataFacts) -> Figure:
    figure, axes = _frame(found, data, 2)
    groups = by_setting(found.records)
    panels = (
        ("Training accuracy, last epoch", "train_accuracy", data.training_chance),
        ("Validation accuracy, last epoch", "val_accuracy", data.validation_chance),
    )
    for ax, (title, attribute, chance) in zip(axes[0], panels, strict=True):
        last = functools.partial(_last, attribute=attribute)
        for norm in _norms(groups):
            own = {run.learning_rate: records for run, records in groups.items() if run.norm == norm}
            line = plots.band(ax, list(own), _over_seeds(own.values(), last), label=_NAMES[norm], markevery=1)
            lost = [any(record.diverged_at is not None for record in records) for records in own.values()]
            places = np.asarray(line.get_xydata())[lost]
            ax.plot(*places.T, "x", color=line.get_color(), markersize=12, markeredgewidth=2)
        _percent(ax, title)
        _chance(ax, chance)
        ax.set_xscale("log")
        ax.set_xlabel("learning rate (log)")
    _one_legend(figure, axes[0, 0])
    return figure


def _last(record: Any, attribute: str) -> float:
    return float(getattr(record, attribute)[-1])


_DRAWN: dict[str, Callable[[ExperimentResult, DataFacts], Figure]] = {
    "E1": _draw_e1,
    "E2": _draw_e2,
    "E3": _draw_by_batch_size,
    "E4": _draw_by_batch_size,
    "E5": _draw_e5,
    "E6": _draw_e6,
    "E7": _draw_e7,
    "E8": _draw_e8,
    "E9": _draw_e9,
}
