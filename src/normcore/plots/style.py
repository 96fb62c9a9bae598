"""How figures look: a palette, settings, labels at the ends of lines, and files that are the same each time."""

from __future__ import annotations

import io
import itertools
import math
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from normcore._atomic import write_atomically

__all__ = [
    "GREY",
    "INK",
    "NORMS",
    "PALETTE",
    "SETTINGS",
    "alt_text",
    "describe",
    "label_lines",
    "log_axis",
    "readable",
    "render",
    "save",
    "series_style",
    "series_styles",
    "shades",
    "style",
]

#: Okabe and Ito's colours, which colour-blind readers tell apart, without yellow, which no projector shows on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (8, 2)), "-")

#: Colour, marker and dashes of what is normalised so, whatever else is in a figure.
NORMS: dict[str | None, dict[str, Any]] = {
    None: {"color": PALETTE[1], "marker": "s", "linestyle": (0, (5, 1.5))},
    "batch": {"color": PALETTE[0], "marker": "o", "linestyle": "-"},
    "layer": {"color": PALETTE[2], "marker": "^", "linestyle": (0, (1.5, 1))},
}
_NORM_NAMES = {"no norm": None, "none": None, "batch norm": "batch", "batch": "batch", "layer norm": "layer"}
_NORM_NAMES["layer"] = "layer"

INK = "#262626"
GREY = "#6B6B6B"

#: Matplotlib's settings. Sizes are for a figure of the width of a slide, read from the last row.
SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8A8A8A",
    "axes.formatter.limits": (-4, 5),
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.09,
    "figure.facecolor": "white",
    "figure.titlesize": 16,
    "figure.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "grid.color": "#E2E2E2",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "savefig.dpi": 150,
    "svg.fonttype": "path",  # the same shapes on every machine, whatever fonts it has
    "svg.hashsalt": "normcore",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 11,
    "ytick.color": INK,
    "ytick.labelsize": 11,
}


@contextmanager
def style() -> Iterator[None]:
    """Have figures made inside of a ``with`` look as those of this package; the user's own settings come back after it.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> with plots.style():
    ...     ax = Figure().subplots()
    >>> ax.spines["top"].get_visible()
    False
    """
    with rc_context(SETTINGS):
        yield


def series_style(label: str, index: int) -> dict[str, Any]:
    """Colour, marker and dashes of a series: of its norm if it is called after one, else the next; "" is alone.

    Examples
    --------
    >>> from normcore import plots
    >>> plots.series_style("batch norm", 3)["color"] == plots.NORMS["batch"]["color"]
    True
    >>> plots.series_style("mine", 0)["marker"]
    'D'
    """
    if not label:
        return {"color": PALETTE[0], "marker": "o", "linestyle": "-"}
    if label.lower() in _NORM_NAMES:
        return dict(NORMS[_NORM_NAMES[label.lower()]])
    place = (index + len(NORMS)) % len(PALETTE)  # those of the norms come last
    return {"color": PALETTE[place], "marker": _MARKERS[place], "linestyle": _DASHES[place]}


def series_styles(labels: Iterable[str]) -> list[dict[str, Any]]:
    """Colour, marker and dashes of each of the series that a figure has; see `series_style`.

    Where none is called after a norm, the colours of the norms are free for others.

    Examples
    --------
    >>> from normcore import plots
    >>> [look["marker"] for look in plots.series_styles(["mine", "yours"])]
    ['o', 's']
    >>> [look["marker"] for look in plots.series_styles(["mine", "batch norm"])]
    ['D', 'o']
    """
    labels = list(labels)
    free = not any(label.lower() in _NORM_NAMES for label in labels)
    return [series_style(label, index - len(NORMS) * free) for index, label in enumerate(labels)]


def shades(count: int, colour: str = PALETTE[0]) -> list[str]:
    """`count` shades of a colour from light to dark, for what has an order, such as layers; the lightest is still seen.

    Examples
    --------
    >>> from normcore import plots
    >>> plots.shades(3)
    ['#8cc0dc', '#006eac', '#002b44']
    """
    base = np.array(to_rgb(colour))
    places = np.linspace(-0.55, 0.62, count).tolist() if count > 1 else [0.0]
    return [_hex(base - (1.0 - base) * p if p < 0 else base * (1.0 - p)) for p in places]


def _hex(rgb: npt.NDArray[Any]) -> str:
    red, green, blue = rgb.tolist()
    return to_hex((red, green, blue))


def _luminance(colour: npt.NDArray[Any]) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def readable(colour: Any) -> str:
    """The colour, darkened until text in it stands out from white by 4.5 to 1, as WCAG 2 asks for.

    Examples
    --------
    >>> from normcore import plots
    >>> plots.readable("#56B4E9"), plots.readable("black")
    ('#3c7da2', '#000000')
    """
    rgb = np.array(to_rgb(colour))
    while 1.05 / (_luminance(rgb) + 0.05) < 4.5:
        rgb = rgb * 0.97
    return _hex(rgb)


def log_axis(ax: Axes, which: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic, with numbers as one writes them: 0.01, 1, 100.

    Where it reaches beyond 0.0001 or 100000, they are powers of ten; where it spans less than two of those, 2 and 5 are
    written between them.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> plots.log_axis(ax)
    >>> for low, high in ((0.01, 100.0), (0.01, 1e9)):
    ...     limits = ax.set_ylim(low, high)
    ...     print([ax.yaxis.get_major_formatter()(value) for value in (0.01, 1.0, 100.0)])
    ['0.01', '1', '100']
    ['$10^{-2}$', '$10^{0}$', '$10^{2}$']
    """
    if which not in ("x", "y"):
        raise ValueError(f"log_axis: which is {which!r}; accepted are 'x' and 'y'")
    axis = ax.xaxis if which == "x" else ax.yaxis

    def major(value: float, _: int | None = None) -> str:
        low, high = sorted(axis.get_view_interval())
        return f"{value:g}" if low > 0.5e-4 and high < 2e5 else f"$10^{{{round(math.log10(value))}}}$"

    def minor(value: float, _: int | None = None) -> str:
        low, high = sorted(axis.get_view_interval())
        digit = round(value / 10.0 ** math.floor(math.log10(value) + 1e-9))
        return f"{value:g}" if low > 0.0 and high < 100.0 * low and digit in (2, 5) else ""

    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(major))
    axis.set_minor_formatter(FuncFormatter(minor))
    axis.set_tick_params(which="minor", labelsize=SETTINGS[f"{which}tick.labelsize"])


# ---------------------------------------------------------------------------------------------- labels at lines


class _LineLabels(Artist):
    """The labels of lines at their right ends, moved apart where they would overlap.

    Their places are found when they are drawn, so that limits, sizes and layouts may change after them.
    """

    def __init__(self, ax: Axes, lines: Sequence[Line2D], labels: Sequence[str], size: float) -> None:
        super().__init__()
        self._lines = list(lines)
        self._texts = [
            Text(0, 0, text, color=readable(line.get_color()), va="center", ha="left", fontsize=size)
            for line, text in zip(lines, labels, strict=True)
        ]
        self._leaders: list[Line2D] = []
        self.set_zorder(5)
        ax.add_artist(self)
        self.set_clip_on(False)
        for text in self._texts:
            text.set_figure(ax.figure)

    def _ends(self, line: Line2D) -> tuple[float, float] | None:
        """The last point of a line that can be seen, in pixels."""
        assert self.axes is not None
        with np.errstate(all="ignore"):
            points = np.asarray(self.axes.transData.transform(line.get_xydata()))
        box = self.axes.bbox
        seen = np.isfinite(points).all(axis=1) & (points[:, 0] <= box.x1 + 1) & (points[:, 0] >= box.x0 - 1)
        if not seen.any():
            return None
        x, y = points[np.flatnonzero(seen)[-1]]
        return float(x), float(np.clip(y, box.y0, box.y1))

    def _place(self, renderer: RendererBase) -> list[Text]:
        """Put the texts where they belong and make the leaders; return the texts that are to be drawn."""
        assert self.axes is not None
        box, pixel = self.axes.bbox, float(np.asarray(renderer.points_to_pixels(1.0)))
        found = [(self._ends(line), text, line) for line, text in zip(self._lines, self._texts, strict=True)]
        shown = [(end, text, line) for end, text, line in found if end is not None and line.get_visible()]
        shown.sort(key=lambda item: item[0][1])
        heights = [1.02 * text.get_window_extent(renderer).height for _, text, _ in shown]
        places = _apart([end[1] for end, _, _ in shown], heights, box.y0 - 2 * pixel, box.y1 + 2 * pixel)
        left = box.x1 + 13 * pixel
        self._leaders = []
        for (end, text, line), y in zip(shown, places, strict=True):
            text.set_position((left, y))
            x = min(end[0] + 3 * pixel, box.x1 + 2 * pixel)
            if abs(y - end[1]) > 2 * pixel or box.x1 - end[0] > 12 * pixel:
                leader = Line2D([x, left - 2 * pixel], [end[1], y], color=line.get_color(), linewidth=0.8, alpha=0.7)
                leader.set_figure(self.axes.figure)
                self._leaders.append(leader)
        return [text for _, text, _ in shown]

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        assert self.axes is not None
        if renderer is None:
            renderer = self.axes.figure._get_renderer()  # type: ignore[union-attr]
        boxes = [text.get_window_extent(renderer) for text in self._place(renderer)]
        return Bbox.union(boxes) if boxes else Bbox.null()

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox | None:
        box = self.get_window_extent(renderer)
        return box if np.isfinite(box.get_points()).all() else None

    def draw(self, renderer: RendererBase) -> None:
        texts = self._place(renderer)
        for artist in (*self._leaders, *texts):
            artist.draw(renderer)


def _apart(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Places near those wanted, which are in order, such that boxes of the given heights do not overlap.

    The sum of the squared moves is the least there is (isotonic regression, by pooling adjacent violators). They stay
    between `low` and `high` if there is room.
    """
    if not wanted:
        return []
    gaps = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(heights))]
    offsets = np.cumsum(gaps)
    blocks: list[list[float]] = []  # of labels that touch: sum and number
    for value in np.asarray(wanted) - offsets:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, number = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += number
    base = np.repeat([total / number for total, number in blocks], [int(number) for _, number in blocks])
    lowest, highest = low + heights[0] / 2, high - heights[-1] / 2 - offsets[-1]
    return list(np.clip(base, min(lowest, highest), max(lowest, highest)) + offsets)


def label_lines(ax: Axes, lines: Sequence[Line2D] | None = None, *, fontsize: float | None = None) -> None:
    """Write each line's label at its right end, in its colour, instead of a legend; labels do not overlap.

    Parameters
    ----------
    lines : sequence of Line2D, optional
        All lines of the axes that have a label, unless given.
    fontsize : float, optional
        In points; None: the axes' labels' own.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> lines = ax.plot([0, 1], [0.0, 1.0], label="one") + ax.plot([0, 1], [0.0, 1.01], label="the other")
    >>> plots.label_lines(ax)
    """
    if lines is None:
        lines = _labelled(ax)
    size = float(ax.xaxis.label.get_fontsize()) if fontsize is None else fontsize
    _LineLabels(ax, lines, [str(line.get_label()) for line in lines], size)


def _labelled(ax: Axes) -> list[Line2D]:
    return [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]


# ---------------------------------------------------------------------------------------------- in words


_descriptions: weakref.WeakKeyDictionary[Axes, str] = weakref.WeakKeyDictionary()


def describe(ax: Axes, sentence: str) -> None:
    """Say in words what the axes show, for `alt_text`, instead of what it would say of the lines.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> plots.describe(ax, "Nothing yet.")
    >>> plots.alt_text(ax)
    'Nothing yet.'
    """
    _descriptions[ax] = sentence


def alt_text(figure: Figure | Axes) -> str:
    """What a figure or axes show, in words, for readers who do not see it: what is drawn, and its numbers.

    Of each line that has a label the first and the last value, and the least and greatest where these are others.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> lines = ax.plot([0, 1, 2], [3.0, 0.5, 1.0], label="batch norm")
    >>> labels = ax.set(title="Loss", xlabel="epoch")
    >>> plots.alt_text(ax)
    'Loss, against epoch: batch norm from 3 to 1 (least 0.5).'
    """
    if isinstance(figure, Axes):
        return _descriptions.get(figure) or _of_lines(figure)
    heading = figure.get_suptitle().rstrip(".")
    parts = [alt_text(ax) for ax in figure.get_axes() if ax.get_visible()]
    return " ".join([f"{heading}.", *parts] if heading else parts)


def _of_lines(ax: Axes) -> str:
    title = ax.get_title("left") or ax.get_title() or ax.get_ylabel() or "Lines"
    lines = [line for line in _labelled(ax) if len(np.atleast_1d(line.get_xdata()))]
    heading = title.rstrip(".") + (f", against {ax.get_xlabel()}" if ax.get_xlabel() else "")
    if not lines:
        return f"{heading}."
    shown = [f"{line.get_label()} {_in_words(np.asarray(line.get_ydata(), dtype=float))}" for line in lines]
    return f"{heading}: {'; '.join(shown)}."


def _in_words(values: npt.NDArray[Any]) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return "no finite value"
    first, last, low, high = (float(value) for value in (known[0], known[-1], known.min(), known.max()))
    words = f"from {first:.3g} to {last:.3g}" if known.size > 1 else f"{first:.3g}"
    ends = sorted((first, last))
    beside = [f"least {low:.3g}"] * (low < ends[0]) + [f"greatest {high:.3g}"] * (high > ends[1])
    return words + (f" ({', '.join(beside)})" if beside else "")


# ---------------------------------------------------------------------------------------------- files


def render(figure: Figure, kind: str = "png", *, description: str | None = None) -> bytes:
    """A figure as the bytes of a file, "png" or "svg": the same ones each time, with no date in them.

    `description`, `alt_text` of the figure unless given, is written into the file's metadata.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> plots.render(Figure(), "png") == plots.render(Figure(), "png")
    True
    """
    if kind not in ("png", "svg"):
        raise ValueError(f"render: kind is {kind!r}; accepted are 'png' and 'svg'")
    text = alt_text(figure) if description is None else description
    metadata: dict[str, Any] = {"Description": text, "Software": None}
    if kind == "svg":
        metadata = {"Description": text, "Date": None, "Creator": None}
    file = io.BytesIO()
    with style():
        figure.savefig(file, format=kind, metadata=metadata)
    return file.getvalue()


def save(figure: Figure | Axes, path: str | os.PathLike[str], *, description: str | None = None) -> tuple[Path, Path]:
    """Write a figure, or the one that axes are in, as PNG and as SVG: `path` is the name without an ending.

    Examples
    --------
    >>> from normcore import plots
    >>> from matplotlib.figure import Figure
    >>> [path.name for path in plots.save(Figure(), "empty")]
    ['empty.png', 'empty.svg']
    """
    if not isinstance(figure, (Figure, Axes)):
        raise TypeError(f"save: figure is a {type(figure).__name__}; it must be a Figure or Axes")
    whole: Any = figure
    while not isinstance(whole, Figure):  # of axes, a subfigure perhaps
        whole = whole.figure
    path = Path(path)
    if path.suffix in (".png", ".svg"):
        path = path.with_suffix("")
    paths = (path.with_name(path.name + ".png"), path.with_name(path.name + ".svg"))
    for target in paths:
        write_atomically(target, render(whole, target.suffix[1:], description=description))
    return paths
