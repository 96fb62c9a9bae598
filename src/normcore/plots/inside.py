"""What a `normcore.Monitor` has recorded: distributions, dead units, gradients, updates, and the loss around the model.

Every function takes the records of one training: a `Monitor`, what ``np.load`` returns of its file, or any mapping of
its names to arrays. Those that compare take several of these by name as well. Each draws into the axes given, or into
those of a new figure, and returns them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from normcore._checks import check_integer
from normcore.diagnostics import QUANTILES
from normcore.plots.curves import new_axes
from normcore.plots.style import GREY, INK, PALETTE, describe, label_lines, log_axis, series_styles, shades, style

__all__ = [
    "activation_histograms",
    "activation_quantiles",
    "activation_shift",
    "activation_spread",
    "by_layer",
    "compare",
    "dead_units",
    "gradient_change",
    "gradient_norms",
    "loss_band",
    "overview",
    "statistics_drift",
    "update_ratios",
]

Array = npt.NDArray[Any]


class Records(Protocol):
    """Arrays by name, as of a `normcore.Monitor`."""

    def __getitem__(self, name: str, /) -> Array: ...
    def __contains__(self, name: object, /) -> bool: ...


_MOST_LABELS = 8

# What the axes of a quantity that each layer has are called: title and unit.
_QUANTITIES = {
    "activation_input_std": ("Spread of activation inputs", "standard deviation"),
    "activation_input_mean": ("Mean of activation inputs", "mean"),
    "activation_input_shift": ("Activation inputs moved by a step", "standard deviations"),
    "layer_input_std": ("Spread of each layer's input", "standard deviation"),
    "layer_input_mean": ("Mean of each layer's input", "mean"),
    "dead_units": ("Dead units", "share of the layer"),
    "gradient_norm": ("Weight gradients", "norm"),
    "weight_norm": ("Weights", "norm"),
    "update_ratio": ("Relative weight updates", "norm of update / of weights"),
    "mean_drift": ("Running and batch means", "standard deviations"),
    "std_drift": ("Running and batch spreads", "factors of two"),
}
_LOG = {"activation_input_std", "gradient_norm", "update_ratio"}
_OF_ALL_LAYERS = {"gradient_norm", "update_ratio"}  # the output layer too


def _record(records: Any, name: str, operation: str) -> Array:
    if not hasattr(records, "keys"):
        raise TypeError(f"{operation}: records is a {type(records).__name__}; it must be a Monitor or arrays by name")
    if name not in records:
        why = "; give its Monitor y" if name in ("loss", "gradient_norm") or name.startswith("line_") else ""
        why = "; only batch norm has running statistics" if name.endswith("_drift") else why
        why = "; nothing has been recorded yet" if not list(records.keys()) else why
        if isinstance(records, dict) and all(hasattr(one, "keys") for one in records.values()):
            why = f"; they are those of {len(records)} trainings: give those of one"
        raise ValueError(f"{operation}: the records have no {name!r}{why}")
    return np.asarray(records[name])


def _several(records: Records | Mapping[str, Records], operation: str) -> dict[str, Records]:
    """Records by label, from those of one training too, whose label is empty."""
    if isinstance(records, Mapping) and "step" not in records:
        if not records:
            raise ValueError(f"{operation}: there are no records")
        return dict(records)
    return {"": records}  # type: ignore[dict-item]


def _layer_index(layer: int, count: int, operation: str) -> int:
    if check_integer(layer, operation, "layer", 1) > count:
        raise ValueError(f"{operation}: layer is {layer}; there are {count} hidden layers")
    return layer - 1


def _has_positive(values: Array) -> bool:
    return bool((np.isfinite(values) & (values > 0)).any())


def _is_log(values: Array) -> bool:
    """Whether the numbers are better shown by their orders of magnitude: the positive ones span more than one."""
    positive = values[np.isfinite(values) & (values > 0)]
    return _has_positive(values) and float(positive.max()) > 20.0 * float(positive.min())


def _wants_log(name: str, values: Array) -> bool:
    return name != "dead_units" and _has_positive(values) and (name in _LOG or _is_log(values))


def _widen(ax: Axes, values: Array) -> None:
    """Have a logarithmic axis show a factor of ten at least, so that what hardly changes looks so."""
    positive = values[np.isfinite(values) & (values > 0)]
    if ax.get_yscale() != "log" or not positive.size:
        return
    low, high = float(positive.min()), float(positive.max())
    if high < 10.0 * low:
        middle = math.sqrt(low) * math.sqrt(high)
        ax.set_ylim(middle / 4.0, middle * 4.0)


def _plot(ax: Axes, x: Array, y: Array, *, label: str, **look: Any) -> None:
    """A line; what is 0 on a logarithmic axis, where it has no place, is marked at the lower edge."""
    ax.plot(x, y, label=label, **look)
    if ax.get_yscale() == "log" and (zero := y == 0.0).any():
        ax.plot(
            x[zero],
            np.zeros(np.count_nonzero(zero)),
            transform=ax.get_xaxis_transform(),
            color=look["color"],
            marker="v",
            linestyle="none",
            clip_on=False,
            label="_zero",
        )


def _layers(ax: Axes, x: Array, values: Array, *, last_is_output: bool = False) -> None:
    """A line for each layer, from light to dark and labelled; of many layers some have labels.

    Layers whose lines are the same share a label.
    """
    count = values.shape[1]
    same: dict[bytes, list[int]] = {}
    for index in range(count):
        same.setdefault(np.ascontiguousarray(values[:, index]).tobytes(), []).append(index)
    groups = list(same.values())
    named = set(np.linspace(0, len(groups) - 1, min(len(groups), _MOST_LABELS)).round().astype(int).tolist())
    labels = {group[0]: _layer_names(group, count, last_is_output) for i, group in enumerate(groups) if i in named}
    for index, colour in enumerate(shades(count)):
        look: dict[str, Any] = {"color": colour, "linestyle": ("-", (0, (5, 1.5)), (0, (1.5, 1)))[index % 3]}
        _plot(ax, x, values[:, index], label=labels.get(index, f"_layer {index + 1}"), **look)
    room = 0.02 * (float(x[-1]) - float(x[0])) or 0.5
    ax.set_xlim(float(x[0]) - room, float(x[-1]) + room)
    label_lines(ax)


def _layer_names(group: list[int], count: int, last_is_output: bool) -> str:
    if len(group) == count > 1:
        return "all layers"
    if group == [count - 1] and last_is_output:
        return "output layer"
    if len(group) > 2 and group[-1] - group[0] == len(group) - 1:
        return f"layers {group[0] + 1}–{group[-1] + 1}"
    return f"layer{'s' if len(group) > 1 else ''} {', '.join(str(index + 1) for index in group)}"


def _over_training(records: Records, name: str, operation: str, ax: Axes | None) -> Axes:
    """Draw what there is of each layer over the epochs."""
    values, epochs = _record(records, name, operation), _record(records, "epoch", operation)
    if not values.shape[1]:
        raise ValueError(f"{operation}: the model has no hidden layer")
    percent, log = name == "dead_units", _wants_log(name, values)
    title, unit = _QUANTITIES[name]
    with style():
        ax = new_axes(ax)
        if log:
            log_axis(ax)
            unit += " (log)"
        ax.set(title=title, ylabel=unit, xlabel="epoch")
        _layers(ax, epochs, values, last_is_output=name in _OF_ALL_LAYERS)
        _widen(ax, values)
        if percent:
            known = values[np.isfinite(values)]
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            ax.set_ylim(0.0, max(0.1, min(1.0, 1.15 * float(known.max(initial=0.0)))))
            for line in ax.get_lines():
                line.set_clip_on(False)  # those at the edges are as wide as the others
    return ax


# ---------------------------------------------------------------------------------------------- distributions


def activation_histograms(records: Records, layer: int = 1, *, most: int = 8, ax: Axes | None = None) -> Axes:
    """Draw how the values that a hidden layer's activation is given are distributed, a ridge for each of some records.

    Time goes down. Each ridge is drawn to the same height: look at place, width and form. Half of one per cent of the
    values may lie outside on either side.

    Parameters
    ----------
    records : Monitor, or arrays by name
    layer : int
        From 1.
    most : int
        Ridges; of more records as many are taken, evenly spread.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> ax = plots.activation_histograms(monitor, layer=2)
    >>> plots.alt_text(ax)[:50]
    "Histograms of the inputs of layer 2's activation, "
    """
    operation = "activation_histograms"
    counts, edges = (_record(records, f"activation_input_{name}", operation) for name in ("counts", "edges"))
    place = _layer_index(layer, counts.shape[1], operation)
    epochs = _record(records, "epoch", operation)
    means, stds = (_record(records, f"activation_input_{name}", operation) for name in ("mean", "std"))
    chosen = np.unique(np.linspace(0, len(epochs) - 1, min(most, len(epochs))).round().astype(int))
    with style():
        ax = new_axes(ax)
        ends = [_inner(counts[index, place], edges[index, place]) for index in chosen]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
        for row, (index, colour) in enumerate(zip(chosen, shades(len(chosen)), strict=True)):
            x, heights = _ridge(counts[index, place], edges[index, place])
            base = len(chosen) - 1.0 - row
            # An outline in white against the ridge behind, and one of its own, which is seen however thin it is.
            ax.plot(x, base + heights, color="white", linewidth=2.4, zorder=2 + row)
            ax.fill_between(
                x, base, base + heights, facecolor=colour, edgecolor=colour, linewidth=0.9, zorder=2.2 + row
            )
            ax.axhline(base, color=colour, linewidth=0.8, zorder=2.4 + row)
        ax.axvline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=50)
        room = 0.04 * (high - low)
        ax.set_xlim(low - room, high + room)
        ax.set_yticks(len(chosen) - 1.0 - np.arange(len(chosen)), [f"{epochs[index]:.3g}" for index in chosen])
        ax.grid(False)
        ax.set_ylim(-0.15, len(chosen) + 0.6)
        ax.set(title=f"Inputs of layer {layer}'s activation", ylabel="epoch", xlabel="value")
    first, last = (
        f"mean {means[index, place]:.3g} and standard deviation {stds[index, place]:.3g} at epoch {epochs[index]:.3g}"
        for index in (chosen[0], chosen[-1])
    )
    describe(
        ax,
        f"Histograms of the inputs of layer {layer}'s activation, one for each of {len(chosen)} moments of the "
        f"training: {first}, {last}.",
    )
    return ax


def _inner(counts: Array, edges: Array) -> tuple[float, float]:
    """Where the histogram has all but half of one per cent on either side."""
    total = counts.sum()
    below = np.cumsum(counts) / total if total else np.linspace(0, 1, len(counts))
    first, last = int(np.searchsorted(below, 0.005)), int(np.searchsorted(below, 0.995))
    return float(edges[min(first, len(counts) - 1)]), float(edges[min(last, len(counts) - 1) + 1])


def _ridge(counts: Array, edges: Array) -> tuple[Array, Array]:
    """The outline of a histogram, 1.5 high, through the middles of its bins, a little smoothed."""
    middles = (edges[1:] + edges[:-1]) / 2
    smooth = np.convolve(np.pad(counts.astype(float), 1), [0.25, 0.5, 0.25], mode="same")
    x = np.concatenate(
        [[2 * middles[0] - middles[min(1, len(middles) - 1)]], middles, [edges[-1] + edges[-1] - middles[-1]]]
    )
    top = smooth.max()
    return x, 1.5 * smooth / top if top > 0 else smooth


def activation_quantiles(records: Records, layer: int = 1, *, ax: Axes | None = None) -> Axes:
    """Draw median and quantiles of the values that a hidden layer's activation is given, over training.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> ax = plots.activation_quantiles(monitor, layer=2)
    >>> [line.get_label() for line in ax.get_lines()][:2]
    ['99 %', '95 %']
    """
    operation = "activation_quantiles"
    quantiles = _record(records, "activation_input_quantiles", operation)
    place = _layer_index(layer, quantiles.shape[1], operation)
    epochs, values = _record(records, "epoch", operation), quantiles[:, place]
    with style():
        ax = new_axes(ax)
        middle = len(QUANTILES) // 2
        for step in range(middle):
            ax.fill_between(epochs, values[:, step], values[:, -1 - step], color=PALETTE[0], alpha=0.2, linewidth=0)
        labels = [f"{100 * level:g} %" for level in QUANTILES]
        labels[middle] = "median"
        for index in reversed(range(len(QUANTILES))):
            width = 2.4 if index == middle else 0.8
            colour = shades(3)[2] if index == middle else PALETTE[0]
            ax.plot(epochs, values[:, index], color=colour, linewidth=width, label=labels[index])
        ax.axhline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
        ax.margins(x=0.02)
        ax.set(title=f"Inputs of layer {layer}'s activation", ylabel="value", xlabel="epoch")
        label_lines(ax, fontsize=11)
    return ax


def activation_spread(records: Records, *, ax: Axes | None = None) -> Axes:
    """Draw the standard deviation of what each hidden layer's activation is given, over training.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> plots.alt_text(plots.activation_spread(monitor))
    'Spread of activation inputs, against epoch: layer 1 from 1.45 to 1.45; layer 2 from 1.52 to 1.5.'
    """
    return _over_training(records, "activation_input_std", "activation_spread", ax)


def activation_shift(records: Records, *, ax: Axes | None = None) -> Axes:
    """Draw how far one step moves what each hidden layer's activation is given: see `diagnostics.distribution_shift`.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> plots.activation_shift(monitor).get_ylabel()
    'standard deviations'
    """
    return _over_training(records, "activation_input_shift", "activation_shift", ax)


def dead_units(records: Records, *, ax: Axes | None = None) -> Axes:
    """Draw the share of units of each hidden layer that pass no gradient, whichever row it is, over training.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> plots.dead_units(monitor).get_title("left")
    'Dead units'
    """
    return _over_training(records, "dead_units", "dead_units", ax)


# ---------------------------------------------------------------------------------------------- gradients and updates


def gradient_norms(records: Records, *, ax: Axes | None = None) -> Axes:
    """Draw the norm of each weight matrix's gradient over training.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> [line.get_label() for line in plots.gradient_norms(monitor).get_lines()]
    ['layer 1', 'layer 2', 'output layer']
    """
    return _over_training(records, "gradient_norm", "gradient_norms", ax)


def update_ratios(records: Records, *, ax: Axes | None = None) -> Axes:
    """Draw how much one step changes each weight matrix, relative to it, over training; 1e-3 is a rule of thumb.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> plots.update_ratios(monitor).get_yscale()
    'log'
    """
    ax = _over_training(records, "update_ratio", "update_ratios", ax)
    with style():
        ax.axhline(1e-3, color=GREY, linestyle=(0, (1, 2)), linewidth=1.4, zorder=1)
        where = ax.get_yaxis_transform()
        ax.text(0.01, 1e-3, "rule of thumb", transform=where, color=GREY, fontsize=10, va="bottom", clip_on=True)
    return ax


def statistics_drift(records: Records, which: Literal["mean", "std"] = "mean", *, ax: Axes | None = None) -> Axes:
    """Draw how far batch norm's running statistics are from those of a batch: see `diagnostics.statistics_drift`.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2], norm="batch"), epochs=4, callbacks=monitor).fit(X, y)
    >>> plots.statistics_drift(monitor, "std").get_title("left")
    'Running and batch spreads'
    """
    if which not in ("mean", "std"):
        raise ValueError(f"statistics_drift: which is {which!r}; accepted are 'mean' and 'std'")
    return _over_training(records, f"{which}_drift", "statistics_drift", ax)


# ---------------------------------------------------------------------------------------------- comparisons


def by_layer(records: Records | Mapping[str, Records], name: str, *, record: int = 0, ax: Axes | None = None) -> Axes:
    """Draw a quantity from layer to layer at one moment of the training, a line for each model that is compared.

    Parameters
    ----------
    records : Monitor or arrays by name, or a mapping of labels to these
    name : str
        What a `Monitor` records for each layer: "activation_input_std", "gradient_norm", "dead_units", ...
    record : int
        Which of the records: 0 is before training, -1 the last.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> watched = {"no norm": nc.Monitor(X, y), "batch norm": nc.Monitor(X, y)}
    >>> for norm, monitor in zip((None, "batch"), watched.values()):
    ...     model = nc.MLP([3, 16, 16, 16, 2], norm=norm, weight_scale=0.02)
    ...     history = nc.Trainer(model, epochs=2, callbacks=monitor).fit(X, y)
    >>> print(plots.alt_text(plots.by_layer(watched, "activation_input_std")))
    Spread of activation inputs, before training, against layer: no norm from 0.0356 to 0.00014; batch norm from
    0.995 to 0.997.
    """
    if name not in _QUANTITIES:
        raise ValueError(f"by_layer: name is {name!r}; accepted are {', '.join(_QUANTITIES)}")
    found = {label: _record(one, name, "by_layer") for label, one in _several(records, "by_layer").items()}
    for label, values in found.items():
        if not -len(values) <= record < len(values):
            raise ValueError(f"by_layer: record is {record}; there are {len(values)}{' of ' + label if label else ''}")
        if not values.shape[1]:
            raise ValueError("by_layer: the model has no hidden layer")
    title, ylabel = _QUANTITIES[name]
    when = {0: ", before training", -1: ", at the end"}.get(record, "")
    with style():
        ax = new_axes(ax)
        everything = np.concatenate([values[record] for values in found.values()])
        log = _wants_log(name, everything)
        if log:
            log_axis(ax)
        for (label, values), look in zip(found.items(), series_styles(found), strict=True):
            layers = np.arange(1, values.shape[1] + 1)
            look["markevery"] = max(1, len(layers) // 10)
            _plot(ax, layers, values[record], label=label or "_one", **look)
        _widen(ax, everything)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "dead_units":
            ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.margins(x=0.03)
        ax.set(title=title + when, ylabel=f"{ylabel} (log)" if log else ylabel, xlabel="layer")
        if any(found):
            label_lines(ax)
    return ax


def loss_band(records: Records | Mapping[str, Records], *, ax: Axes | None = None) -> Axes:
    """Draw the loss over training, with a band of all the losses that steps along the gradient lead to.

    After Santurkar et al., arXiv 1805.11604, figure 4a: where the band is thin, the loss is smooth, and a step can be
    trusted. See `normcore.diagnostics.loss_along_gradient`. Infinite losses are left out, which is said in the figure.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> print(plots.alt_text(plots.loss_band(monitor)))
    Loss over training, with a band of the losses along the gradient. The loss goes from 1.4 to 1.18; steps along the
    gradient lead to losses from 0.849 to 1.4, a band 0.458 wide in the median.
    """
    groups = _several(records, "loss_band")
    with style():
        ax = new_axes(ax)
        log = _band_is_log(groups)
        if log:
            log_axis(ax)
        sentences = []
        for (label, one), look in zip(groups.items(), series_styles(groups), strict=True):
            words = _draw_band(ax, one, look, label or "loss")
            sentences.append(f"{label[:1].upper()}{label[1:]}: the loss {words}" if label else f"The loss {words}")
        ax.margins(x=0.02)
        ax.set(title="Loss along the gradient", ylabel="loss (log)" if log else "loss", xlabel="epoch")
        label_lines(ax)
    describe(ax, f"Loss over training, with a band of the losses along the gradient. {'. '.join(sentences)}.")
    return ax


def _band_is_log(groups: Mapping[str, Records]) -> bool:
    found = [_record(one, name, "loss_band").reshape(-1) for one in groups.values() for name in ("loss", "line_losses")]
    return _is_log(np.concatenate(found))


def _draw_band(ax: Axes, records: Records, look: Mapping[str, Any], label: str) -> str:
    """Draw the loss and the band around it; return what there is to see, in words."""
    loss, losses, epochs = (np.asarray(records[name]) for name in ("loss", "line_losses", "epoch"))
    around = np.column_stack([loss, losses])
    around = np.where(np.isfinite(around), around, np.nan)
    known = ~np.isnan(around).all(axis=1)
    low, high = (np.full(len(loss), np.nan) for _ in range(2))
    low[known], high[known] = np.nanmin(around[known], axis=1), np.nanmax(around[known], axis=1)
    ax.fill_between(epochs, low, high, color=look["color"], alpha=0.22, linewidth=0)
    for edge in (low, high):
        ax.plot(epochs, edge, color=look["color"], linewidth=0.8, label="_edge")
    ax.plot(epochs, loss, label=label, **{**look, "marker": None, "linewidth": 2.4})
    width = float(np.nanmedian((high - low)[known])) if known.any() else math.nan
    return (
        f"goes from {loss[0]:.3g} to {loss[-1]:.3g}; steps along the gradient lead to losses from {_least(low):.3g} to "
        f"{_greatest(high):.3g}, a band {width:.3g} wide in the median"
    )


def _least(values: Array) -> float:
    return float(np.nanmin(values)) if np.isfinite(values).any() else float("nan")


def _greatest(values: Array) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")


def gradient_change(
    records: Records | Mapping[str, Records],
    which: Literal["distance", "angle"] = "distance",
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw over training how much the gradient changes, at most, along its own direction.

    After Santurkar et al., arXiv 1805.11604, figure 4b: where it changes little, it can be relied on for a step.
    `which` is the Euclidean distance of the two gradients, as there, or the angle between them.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2]), epochs=4, callbacks=monitor).fit(X, y)
    >>> plots.gradient_change(monitor, "angle").get_ylabel()
    'angle, degrees'
    """
    if which not in ("distance", "angle"):
        raise ValueError(f"gradient_change: which is {which!r}; accepted are 'distance' and 'angle'")
    groups = _several(records, "gradient_change")
    with style():
        ax = new_axes(ax)
        found = {}
        for label, one in groups.items():
            if which == "distance":
                found[label] = _record(one, "line_distances", "gradient_change").max(axis=1)
            else:
                found[label] = np.degrees(np.arccos(_record(one, "line_cosines", "gradient_change"))).max(axis=1)
        log = which == "distance" and _is_log(np.concatenate(list(found.values())))
        if log:
            log_axis(ax)
        for (label, values), look in zip(found.items(), series_styles(found), strict=True):
            look["markevery"] = max(1, len(values) // 10)
            _plot(ax, _record(groups[label], "epoch", "gradient_change"), values, label=label or "_one", **look)
        ylabel = "distance" if which == "distance" else "angle, degrees"
        if which == "angle":
            ax.set_ylim(bottom=0.0)
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}°"))
        ax.margins(x=0.02)
        ax.set(
            title="Change of the gradient",
            ylabel=f"{ylabel} (log)" if log else ylabel,
            xlabel="epoch",
        )
        if any(groups):
            label_lines(ax)
    return ax


# ---------------------------------------------------------------------------------------------- whole figures


def _grid(panels: Sequence[Callable[[Axes], Any]], columns: int, title: str) -> tuple[Figure, list[Axes]]:
    rows = -(-len(panels) // columns)
    with style():
        figure, axes = pyplot.subplots(
            rows, columns, figsize=(5.0 * columns, 3.7 * rows + 0.5), squeeze=False, layout="constrained"
        )
        figure.suptitle(title, x=0.008, ha="left")
        for ax, panel in zip(axes.flat, panels, strict=False):
            panel(ax)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
    return figure, list(axes.flat)


def overview(records: Records, *, title: str = "Inside the network") -> Figure:
    """Draw what a `normcore.Monitor` has recorded in one figure, a panel for each quantity it has.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> monitor = nc.Monitor(X, y)
    >>> history = nc.Trainer(nc.MLP([3, 16, 16, 2], norm="batch"), epochs=4, callbacks=monitor).fit(X, y)
    >>> figure = plots.overview(monitor)
    >>> len(figure.axes)
    6
    """
    hidden = _record(records, "dead_units", "overview").shape[1]
    panels: list[Callable[[Axes], Any]] = []
    if hidden:
        panels += [
            lambda ax: activation_histograms(records, hidden, ax=ax),
            lambda ax: activation_spread(records, ax=ax),
            lambda ax: dead_units(records, ax=ax),
        ]
    panels.append(lambda ax: update_ratios(records, ax=ax))
    if "gradient_norm" in records:
        panels += [lambda ax: gradient_norms(records, ax=ax), lambda ax: loss_band(records, ax=ax)]
    if "mean_drift" in records and len(panels) < 6:
        panels.append(lambda ax: statistics_drift(records, ax=ax))
    return _grid(panels, min(3, len(panels)), title)[0]


def compare(records: Mapping[str, Records], *, title: str = "What normalisation changes") -> Figure:
    """Draw several trainings side by side: spread and gradients from layer to layer, and how smooth the loss is.

    Parameters
    ----------
    records : mapping of labels to records
        Those called "no norm", "batch norm" and "layer norm" have the colours they have everywhere.

    Examples
    --------
    >>> from normcore import plots
    >>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
    >>> watched = {}
    >>> for norm in (None, "batch", "layer"):
    ...     watched[f"{norm or 'no'} norm"] = monitor = nc.Monitor(X, y)
    ...     model = nc.MLP([3, 16, 16, 2], norm=norm)
    ...     history = nc.Trainer(model, epochs=3, callbacks=monitor).fit(X, y)
    >>> figure = plots.compare(watched)
    >>> len(figure.axes)
    6
    """
    groups = _several(records, "compare")
    log = _band_is_log(groups)

    def band(label: str, look: Mapping[str, Any], ax: Axes) -> None:
        if log:
            log_axis(ax)
        name = f"{label[:1].upper()}{label[1:]}" or "Loss"
        words = _draw_band(ax, groups[label], look, name)
        ax.margins(x=0.02)
        what = "loss along the gradient"
        ax.set(title=name, xlabel="epoch", ylabel=f"{what} (log)" if log else what)
        describe(ax, f"{name}, with a band of the losses along the gradient: the loss {words}.")

    panels: list[Callable[[Axes], Any]] = [
        lambda ax: by_layer(records, "activation_input_std", ax=ax),
        lambda ax: by_layer(records, "gradient_norm", ax=ax),
        lambda ax: gradient_change(records, ax=ax),
    ]
    columns = max(len(panels), len(groups))
    panels += [lambda ax: ax.set_visible(False)] * (columns - len(panels))
    panels += [partial(band, label, look) for label, look in zip(groups, series_styles(groups), strict=True)]
    figure, axes = _grid(panels, columns, title)
    below = axes[columns : columns + len(groups)]
    low, high = min(ax.get_ylim()[0] for ax in below), max(ax.get_ylim()[1] for ax in below)
    for ax in below:
        ax.set_ylim(low, high)
    return figure
