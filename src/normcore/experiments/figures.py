"""One figure for each experiment, to be understood without the text around it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from normcore.experiments.backward import BackwardRow
from normcore.experiments.datasets import Dataset
from normcore.experiments.definitions import EXPERIMENTS, Norm
from normcore.experiments.runner import Result

__all__ = ["draw"]

# Okabe and Ito's palette, which colour-blind readers tell apart; each series has its own marker and dash besides.
_COLOURS: dict[Norm, str] = {None: "#D55E00", "batch": "#0072B2", "layer": "#009E73"}
_MARKERS: dict[Norm, str] = {None: "s", "batch": "o", "layer": "^"}
_NAMES: dict[Norm, str] = {None: "no norm", "batch": "batch norm", "layer": "layer norm"}
# Light to dark with the batch size.
_SHADES: dict[Norm, dict[int, str]] = {
    "batch": {5: "#79BCE6", 10: "#2A8CCB", 50: "#003F66"},
    "layer": {5: "#74CFB3", 10: "#1E9C78", 50: "#00523B"},
}
_SIZE_MARKERS = {5: "v", 10: "D", 50: "o"}
_INK = "#333333"
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#888888",
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def draw(experiment: str, results: Sequence[Result], backward: Sequence[BackwardRow], data: Dataset) -> bytes:
    """The figure of one experiment as a PNG file.

    Parameters
    ----------
    results : the results of this experiment's runs (E1 to E4)
    backward : the rows of E5, used by E5 alone
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        if experiment == "E1":
            figure = _draw_e1(results, data)
        elif experiment == "E2":
            figure = _draw_e2(results, data)
        elif experiment == "E5":
            figure = _draw_e5(backward)
        else:
            figure = _draw_by_batch_size(experiment, results, data)
        png = io.BytesIO()
        # Without the metadata the file depends on the numbers and on matplotlib's drawing alone.
        figure.savefig(png, format="png", dpi=130, metadata={"Software": None})
    return png.getvalue()


def _figure(experiment: str, subtitle: str, panels: int, height: float = 4.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(12.5, height))
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{experiment}   {EXPERIMENTS[experiment].title}",
        x=0.01,
        y=0.985,
        ha="left",
        va="top",
        fontsize=14,
        fontweight="bold",
    )
    # The layout is told to leave the height of this second line free below the title.
    figure.text(0.01, 0.91, subtitle, fontsize=10, color="#666666", va="top")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    engine = ConstrainedLayoutEngine(rect=(0.0, 0.0, 1.0, 0.86), w_pad=0.08)
    figure.set_layout_engine(engine)
    for ax in axes:
        ax.grid(True)
        ax.set_axisbelow(True)
    return figure, list(axes)


def _settings(result: Result, data: Dataset, *, batch: bool = True, scale: bool = True) -> str:
    run = result.run
    parts = [
        f"{data.name}, {len(data.x_train)} training and {len(data.x_val)} validation images",
        f"{len(run.hidden)} hidden layers of {run.hidden[0]}",
        f"Adam, learning rate {run.learning_rate:.2g}",
    ]
    if batch:
        parts.append(f"batch size {run.batch_size}")
    if scale:
        parts.append(f"weight scale {run.weight_scale:g}")
    return "  ·  ".join(parts)


def _percent_axis(ax: Axes, title: str, chance: float, lowest: float = 0.0, highest: float = 1.0) -> None:
    ax.set_title(title, loc="left")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    top = min(1.02, highest + 0.12 * (highest - lowest) + 0.01)
    ax.set_ylim(max(0.0, min(lowest, chance) - 0.04), top)
    ax.axhline(chance, color="#777777", linestyle=(0, (1, 2)), linewidth=1.2, zorder=1)


def _name_chance(ax: Axes, chance: float) -> None:
    ax.annotate(
        "most frequent class",
        (1.0, chance),
        xycoords=("axes fraction", "data"),
        xytext=(-2, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color="#777777",
    )


def _accuracy_panel(
    ax: Axes, series: Sequence[tuple[Sequence[float], dict[str, Any]]], title: str, chance: float
) -> None:
    """Accuracies per epoch from the start on."""
    values = [value for accuracies, _ in series for value in accuracies]
    _percent_axis(ax, title, chance, min(values), max(values))
    for accuracies, style in series:
        ax.plot(range(len(accuracies)), accuracies, linewidth=1.8, markersize=5, **style)
    _name_chance(ax, chance)
    ax.set_xlabel("epoch (0 = before training)")
    ax.set_ylabel("images classified correctly")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _smoothed(values: Sequence[float], window: int = 15) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Centred moving average: (steps counted from 1, means)."""
    window = min(window, len(values))
    means = np.convolve(values, np.full(window, 1.0 / window), mode="valid")
    return np.arange(len(means)) + 1 + (window - 1) / 2, means


def _draw_e1(results: Sequence[Result], data: Dataset) -> Figure:
    figure, axes = _figure("E1", _settings(results[0], data), 3)
    loss = axes[0]
    for result in results:
        colour = _COLOURS[result.run.norm]
        loss.plot(range(1, len(result.loss) + 1), result.loss, color=colour, alpha=0.25, linewidth=0.9)
        loss.plot(*_smoothed(result.loss), color=colour, linewidth=2.0, label=_NAMES[result.run.norm])
    loss.set_title("Training loss (line: mean of 15 steps)", loc="left")
    loss.set_xlabel("step (one minibatch each)")
    loss.set_ylabel("cross-entropy of the minibatch, nats")
    loss.set_ylim(bottom=0.0)
    for ax, title, chance, attribute in _accuracy_axes(axes[1:], data):
        series = [
            (
                getattr(result, attribute),
                {
                    "color": _COLOURS[result.run.norm],
                    "marker": _MARKERS[result.run.norm],
                    "label": _NAMES[result.run.norm],
                },
            )
            for result in results
        ]
        _accuracy_panel(ax, series, title, chance)
    _legend_beside_title(figure, axes[1])
    return figure


def _legend_beside_title(figure: Figure, ax: Axes) -> None:
    """One legend for all panels, in one row at the right of the title: no panel has room for one at every data set."""
    handles, labels = ax.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="upper right", bbox_to_anchor=(0.995, 0.995), ncols=len(labels))
    legend.set_in_layout(False)


def _accuracy_axes(axes: Sequence[Axes], data: Dataset) -> list[tuple[Axes, str, float, str]]:
    train, val = data.chance()
    return [
        (axes[0], "Training accuracy", train, "train_accuracy"),
        (axes[1], "Validation accuracy", val, "val_accuracy"),
    ]


def _draw_e2(results: Sequence[Result], data: Dataset) -> Figure:
    figure, axes = _figure("E2", _settings(results[0], data, scale=False), 3)
    train, val = data.chance()
    norms = dict.fromkeys(result.run.norm for result in results)

    def line(ax: Axes, norm: Norm, values: Sequence[float], scales: Sequence[float]) -> None:
        ax.plot(
            scales, values, color=_COLOURS[norm], marker=_MARKERS[norm], label=_NAMES[norm], linewidth=1.8, markersize=5
        )

    highest = {"val": 0.0, "train": 0.0}
    for norm in norms:
        own = [result for result in results if result.run.norm == norm]
        scales = [result.run.weight_scale for result in own]
        best_val = [max(result.val_accuracy) for result in own]
        best_train = [max(result.train_accuracy) for result in own]
        highest = {"val": max(highest["val"], *best_val), "train": max(highest["train"], *best_train)}
        line(axes[0], norm, best_val, scales)
        line(axes[1], norm, best_train, scales)
        line(axes[2], norm, [float(np.mean(result.loss[-100:])) for result in own], scales)
    for ax, title, chance, top in (
        (axes[0], "Best validation accuracy", val, highest["val"]),
        (axes[1], "Best training accuracy", train, highest["train"]),
    ):
        _percent_axis(ax, title, chance, 0.0, top)
        ax.set_ylim(bottom=0.0)
        _name_chance(ax, chance)
        ax.set_ylabel("images classified correctly")
    axes[2].set_title("Training loss, mean of the last 100 steps", loc="left")
    axes[2].set_ylabel("cross-entropy, nats (log)")
    axes[2].set_yscale("log")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel("weight scale: std. dev. of the initial weights (log)")
    _legend_beside_title(figure, axes[0])
    return figure


def _draw_by_batch_size(experiment: str, results: Sequence[Result], data: Dataset) -> Figure:
    figure, axes = _figure(experiment, _settings(results[0], data, batch=False), 2)
    for ax, title, chance, attribute in _accuracy_axes(axes, data):
        series = [(getattr(result, attribute), _size_style(result)) for result in results]
        _accuracy_panel(ax, series, title, chance)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure


def _size_style(result: Result) -> dict[str, Any]:
    norm, size = result.run.norm, result.run.batch_size
    style: dict[str, Any] = {"label": f"{_NAMES[norm]}, batch {size}", "marker": _SIZE_MARKERS.get(size, "o")}
    if norm is None:
        return style | {"color": _COLOURS[None], "linestyle": "--", "marker": _MARKERS[None]}
    return style | {"color": _SHADES[norm].get(size, _COLOURS[norm])}


def _draw_e5(rows: Sequence[BackwardRow]) -> Figure:
    subtitle = (
        f"Median of {rows[0].samples} interleaved measurements  ·  {rows[0].dtype}, one thread  ·  "
        "graph: node by node through the computational graph  ·  fused: simplified closed form"
    )
    figure, (left, right) = _figure("E5", subtitle, 2)
    shapes = list(dict.fromkeys((row.n, row.d) for row in rows))
    by_key: dict[tuple[str, int, int], BackwardRow] = {(row.implementation, row.n, row.d): row for row in rows}
    ticks = [f"{n} × {d}" for n, d in shapes]
    places = np.arange(len(shapes))
    colours = {"numpy": ("#F0B48A", "#D55E00"), "normcore": ("#8CC3E6", "#0072B2")}

    for i, (name, (_, dark)) in enumerate(colours.items()):
        heights = [by_key[name, n, d].speedup for n, d in shapes]
        bars = left.bar(places + (i - 0.5) * 0.36, heights, 0.34, color=dark, label=name)
        left.bar_label(bars, [f"{height:.2f}×" for height in heights], padding=2, fontsize=10)
    left.axhline(1.0, color=_INK, linewidth=1.0, linestyle="--")
    # Room at the right, so that the line can be named where no bar stands.
    left.set_xlim(-0.55, len(shapes) - 0.15)
    left.annotate("no gain", (0.995, 1.0), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    left.set_ylim(top=1.3 * max(row.speedup for row in rows))
    left.legend(loc="upper left", ncols=2)
    left.set_title("Speed-up: time of graph / time of fused", loc="left")
    left.set_ylabel("times as fast")

    series = [(name, algorithm) for name in colours for algorithm in ("graph", "fused")]
    for i, (name, algorithm) in enumerate(series):
        times = [getattr(by_key[name, n, d], f"{algorithm}_seconds") * 1e6 for n, d in shapes]
        colour = colours[name][algorithm == "fused"]
        bars = right.bar(places + (i - 1.5) * 0.21, times, 0.20, color=colour, label=f"{name}, {algorithm}")
        right.bar_label(
            bars, [f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" for value in times], padding=2, fontsize=8
        )
    right.set_yscale("log")
    right.margins(y=0.12)
    right.legend(loc="upper left")
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    right.set_title("Time of one backward pass (lower is better)", loc="left")
    right.set_ylabel("microseconds (log)")
    for ax in (left, right):
        ax.set_xticks(places, ticks)
        ax.set_xlabel("rows in the batch × features")
        ax.grid(False, axis="x")
    return figure
