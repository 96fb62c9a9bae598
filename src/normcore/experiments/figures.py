"""One figure for each experiment."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from normcore.experiments.results import Results

__all__ = ["draw"]


def draw(id: str, results: Results) -> bytes:
    """The figure of one experiment as a PNG file."""
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.suptitle(f"{id}  {results.experiment(id).title}")
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()
