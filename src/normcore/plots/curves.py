"""Curves over training, each the median of several trainings with a band from the least to the greatest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from normcore.plots.style import label_lines, series_style, series_styles, style
from normcore.training.history import History

__all__ = ["band", "curves", "new_axes"]

Histories = History | Sequence[History]

_NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "r2": "R²",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
}
_PARTS = {"train": "training", "val": "validation"}


def new_axes(ax: Axes | None, width: float = 7.2, height: float = 4.4) -> Axes:
    """The axes given, or those of a new figure, known to pyplot. To be called within `style`."""
    if ax is not None:
        return ax
    _, made = pyplot.subplots(figsize=(width, height), layout="constrained")
    return made


def band(ax: Axes, x: npt.ArrayLike, runs: npt.ArrayLike, *, label: str = "", index: int = 0, **line: Any) -> Line2D:
    """Draw the median of several runs as a line, and from the least to the greatest of them a band; return the line.

    Parameters
    ----------
    x : (points,)
    runs : (runs, points)
        NaN where a run has no value: the others count.
    label : str
        Of the line; also chooses its colour, marker and dashes, together with `index`: see `series_style`.
    line : anything that ``Axes.plot`` takes
        Instead of the style's.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> line = plots.band(Figure().subplots(), [0, 1], [[1.0, 2.0], [1.0, 4.0], [2.0, 9.0]], label="layer norm")
    >>> line.get_ydata().tolist()
    [1.0, 4.0]
    """
    x, values = np.asarray(x, dtype=float), np.atleast_2d(np.asarray(runs, dtype=float))
    if values.ndim != 2 or x.shape != values.shape[1:]:
        raise ValueError(f"band: x is {x.shape} and runs {values.shape}; they must be (points,) and (runs, points)")
    known = ~np.isnan(values).all(axis=0)
    low, middle, high = (np.full(len(x), np.nan) for _ in range(3))
    if known.any():
        low[known] = np.nanmin(values[:, known], axis=0)
        middle[known] = np.nanmedian(values[:, known], axis=0)
        high[known] = np.nanmax(values[:, known], axis=0)
    look = {**series_style(label, index), "markevery": max(1, len(x) // 10), **line}
    [drawn] = ax.plot(x, middle, label=label or None, **look)
    if len(values) > 1:
        ax.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
    return drawn


def curves(
    histories: Histories | Mapping[str, Histories], curve: str = "val_accuracy", *, ax: Axes | None = None
) -> Axes:
    """Draw a curve of one or several trainings over the epochs: the median over seeds, and a band of all of them.

    Parameters
    ----------
    histories : History, several of them, or a mapping of names to either
        Several: trainings that differ in nothing but seeds. A mapping: what is to be compared, a line for each entry.
    curve : str
        As in ``history[curve]``: "train_loss", "val_accuracy" and so on.
    ax : Axes, optional
        Where to draw; None: axes of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    KeyError
        A history has no such curve.
    ValueError
        There are no histories.

    Examples
    --------
    >>> from normcore import plots
    >>> X = nc.random_normal(400, seed=1).reshape(200, 2)
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> found = {}
    >>> for norm in ("batch", "layer"):
    ...     models = [nc.MLP([2, 16, 2], norm=norm, seed=seed) for seed in range(3)]
    ...     found[norm] = [nc.Trainer(model, epochs=3).fit(X, y) for model in models]
    >>> ax = plots.curves(found, "train_accuracy")
    >>> [line.get_label() for line in ax.get_lines()]
    ['batch', 'layer']
    """
    groups = {
        label: [runs] if isinstance(runs, History) else list(runs)
        for label, runs in (histories.items() if isinstance(histories, Mapping) else [("", histories)])
    }
    for run in (run for runs in groups.values() for run in runs):
        if not isinstance(run, History):
            raise TypeError(f"curves: a {type(run).__name__} is among the histories; each must be a History")
    if not groups or not all(groups.values()):
        raise ValueError("curves: there are no histories")
    part, _, name = curve.partition("_")
    with style():
        ax = new_axes(ax)
        most = 1
        for (label, runs), look in zip(groups.items(), series_styles(groups), strict=True):
            measured = [np.asarray(run[curve], dtype=float) for run in runs]
            length = max(map(len, measured))
            padded = np.full((len(measured), length), np.nan)
            for row, values in zip(padded, measured, strict=True):
                row[: len(values)] = values
            band(ax, np.arange(length), padded, label=label, **look)
            most = max(most, len(runs))
        what = _NAMES.get(name, name)
        of_all = f", median and range of {most} trainings" if most > 1 else ""
        ax.set(title=f"{_PARTS.get(part, part).capitalize()} {what}{of_all}", xlabel="epoch (0: before training)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "accuracy":
            ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_ylabel(what)
        ax.margins(x=0.02)
        if any(groups):
            label_lines(ax)
    return ax
