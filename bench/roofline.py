"""A picture of how near each operation comes to the limits: arithmetic against the traffic that it cannot avoid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .limits import Level, Limits, bandwidths
from .operations import AFFINE_SHAPES, CUBE, LARGE, ROW_SHAPES, RowData, affine_works, row_works
from .timing import Work, medians

_REAL = 4  # bytes: float32

# Operations an element, by convention (an fma is two, an exponential 15), and reads and writes of the matrix.
_ROW_COUNTS = {
    "relu": (1, 2),
    "batch norm training": (9, 2),
    "batch norm evaluation": (5, 2),
    "batch norm backward": (13, 3),
    "layer norm forward": (9, 2),
    "layer norm backward": (15, 3),
    "softmax": (19, 2),
    "cross-entropy with gradient": (22, 2),
}


@dataclass(frozen=True)
class Point:
    """One operation at one size: operations a byte, and operations a second."""

    operation: str
    shape: str
    intensity: float
    rate: float


def _affine_counts(name: str, n: int, k: int, m: int) -> tuple[float, float]:
    if name == "backward":
        return 4.0 * n * k * m, _REAL * (n * m + 2 * n * k + 2 * k * m + m)
    return 2.0 * n * k * m, _REAL * (n * k + k * m + m + n * m)


def _works() -> Iterator[tuple[str, str, float, float, Work]]:
    for shape in [*AFFINE_SHAPES, (CUBE, CUBE, CUBE)]:
        for name, work in affine_works("float32", *shape).items():
            if name != "forward, ReLU":
                yield f"affine {name}", "x".join(map(str, shape)), *_affine_counts(name, *shape), work
    for n, d in [*ROW_SHAPES, LARGE]:
        for name, work in row_works(RowData("float32", n, d), np.empty((n, d), np.float32)).items():
            flops, touches = _ROW_COUNTS[name]
            yield name, f"{n}x{d}", float(flops * n * d), float(touches * n * d * _REAL), work


def measure() -> list[Point]:
    """Every operation at every size, float32."""
    points = []
    for operation, shape, flops, traffic, work in _works():
        (seconds,) = medians([work], seconds=0.15)
        points.append(Point(operation, shape, flops / traffic, flops / seconds))
    return points


def draw(path: str, limits: Limits, machine: str) -> None:
    """Measure, and write the picture to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    levels, peak, points = bandwidths(limits), limits.fma("float32"), measure()
    figure, axes = plt.subplots(figsize=(13, 8), layout="constrained")
    left, right = 0.08, max(point.intensity for point in points) * 2
    if peak is not None:
        _draw_limits(axes, levels, peak, left, right, limits.isa)

    operations = list(dict.fromkeys(point.operation for point in points))
    colours = {name: f"C{index}" for index, name in enumerate(operations)}
    styles = {shape: _style(shape) for shape in dict.fromkeys(point.shape for point in points)}
    for point in points:
        style = styles[point.shape]
        colour = colours[point.operation]
        axes.plot(point.intensity, point.rate / 1e9, **style, color=colour, markeredgewidth=1.6, markersize=8, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(
        min(point.rate for point in points) / 2e9, max(peak or 0.0, *(point.rate for point in points)) / 0.6e9
    )
    axes.set_xlabel("operations per byte of arguments and results (float32; an fma counts as 2, exp as 15)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"normcore, one thread, {machine}")
    axes.grid(which="major", alpha=0.3)

    key = [Line2D([], [], marker="o", linestyle="", color=colours[name], label=name) for name in operations]
    key += [Line2D([], [], linestyle="", **style, color="0.4", label=shape) for shape, style in styles.items()]
    figure.legend(handles=key, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _style(shape: str) -> dict[str, Any]:
    """Full marks for products, hollow ones for operations on rows."""
    shapes = ["x".join(map(str, s)) for s in (*AFFINE_SHAPES, (CUBE, CUBE, CUBE))]
    if shape in shapes:
        return {"marker": "o^sDvP"[shapes.index(shape)]}
    rows = ["x".join(map(str, s)) for s in (*ROW_SHAPES, LARGE)]
    return {"marker": "o^sD"[rows.index(shape)], "markerfacecolor": "white"}


def _draw_limits(axes: Any, levels: list[Level], peak: float, left: float, right: float, isa: str) -> None:
    x = np.geomspace(left, right, 200)
    axes.axhline(peak / 1e9, color="0.2", linewidth=1.2)
    axes.text(right / 1.1, peak / 1e9 * 1.04, f"FMA peak, {isa}: {peak / 1e9:.0f} GFLOP/s", ha="right", va="bottom")
    for level, style in zip(levels, ("-", "--", "-.", ":"), strict=False):
        below = x * level.bandwidth <= peak
        axes.plot(x[below], x[below] * level.bandwidth / 1e9, style, color="0.5", linewidth=1.0)
        label = f"{level.name}: {level.bandwidth / 1e9:.0f} GB/s"
        axes.plot([], [], style, color="0.5", linewidth=1.0, label=label)
    axes.legend(loc="lower right", title="ReLU copy, read and written")
