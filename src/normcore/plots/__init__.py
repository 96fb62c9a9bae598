"""Figures of trainings, and of what goes on inside a model: five lines from a model of yours to a slide.

Functions take a matplotlib Axes, or make one, and return it. They need matplotlib: ``pip install 'normcore[plots]'``.

Examples
--------
>>> from normcore import plots
>>> X, y = nc.random_normal(600, seed=1).reshape(200, 3), nc.random_integers(200, 2, seed=1)
>>> monitor = nc.Monitor(X, y)
>>> history = nc.Trainer(nc.MLP([3, 16, 16, 2], norm="batch"), epochs=4, callbacks=monitor).fit(X, y)
>>> files = plots.save(plots.overview(monitor), "inside")
"""

try:
    import matplotlib  # noqa: F401
except ImportError:
    raise ImportError("normcore.plots needs matplotlib: pip install 'normcore[plots]'") from None

from normcore.plots.curves import band, curves
from normcore.plots.inside import (
    activation_histograms,
    activation_quantiles,
    activation_shift,
    activation_spread,
    by_layer,
    compare,
    dead_units,
    gradient_change,
    gradient_norms,
    loss_band,
    overview,
    statistics_drift,
    update_ratios,
)
from normcore.plots.style import (
    GREY,
    INK,
    NORMS,
    PALETTE,
    SETTINGS,
    alt_text,
    describe,
    label_lines,
    log_axis,
    readable,
    render,
    save,
    series_style,
    series_styles,
    shades,
    style,
)

__all__ = [
    "GREY",
    "INK",
    "NORMS",
    "PALETTE",
    "SETTINGS",
    "activation_histograms",
    "activation_quantiles",
    "activation_shift",
    "activation_spread",
    "alt_text",
    "band",
    "by_layer",
    "compare",
    "curves",
    "dead_units",
    "describe",
    "gradient_change",
    "gradient_norms",
    "label_lines",
    "log_axis",
    "loss_band",
    "overview",
    "readable",
    "render",
    "save",
    "series_style",
    "series_styles",
    "shades",
    "statistics_drift",
    "style",
    "update_ratios",
]
