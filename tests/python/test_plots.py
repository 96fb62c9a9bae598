"""Figures: that they show the numbers they are given, in words too, and are the same files each time."""

from __future__ import annotations

import io
import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import normcore as nc
from normcore import plots
from normcore.plots.style import _apart, _LineLabels, _luminance

mpl.use("Agg")

X = nc.random_normal(300, seed=0).reshape(100, 3)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
NORMS = (None, "batch", "layer")


def watch(norm: Any = "batch", sizes: Any = (3, 8, 6, 2), y: Any = Y, **options: Any) -> nc.Monitor:
    monitor = nc.Monitor(X, y, every=2)
    model = nc.MLP(sizes, norm=norm, seed=1)
    nc.Trainer(model, **{"epochs": 2, "batch_size": 20, **options}, callbacks=monitor).fit(X, Y)
    return monitor


@pytest.fixture(scope="module")
def monitors() -> dict[str, nc.Monitor]:
    return {f"{norm or 'no'} norm": watch(norm) for norm in NORMS}


@pytest.fixture(scope="module")
def monitor(monitors: dict[str, nc.Monitor]) -> nc.Monitor:
    return monitors["batch norm"]


def axes() -> Axes:
    with plots.style():
        return Figure(layout="constrained").subplots()


def figure_of(ax: Axes) -> Figure:
    assert isinstance(ax.figure, Figure)
    return ax.figure


def lines_of(ax: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in ax.get_lines() if not str(line.get_label()).startswith("_")}


OF_ONE: dict[str, Callable[..., Axes]] = {
    "activation_histograms": plots.activation_histograms,
    "activation_quantiles": plots.activation_quantiles,
    "activation_spread": plots.activation_spread,
    "activation_shift": plots.activation_shift,
    "dead_units": plots.dead_units,
    "gradient_norms": plots.gradient_norms,
    "update_ratios": plots.update_ratios,
    "statistics_drift": plots.statistics_drift,
    "statistics_drift_std": lambda records, **ax: plots.statistics_drift(records, "std", **ax),
    "by_layer": lambda records, **ax: plots.by_layer(records, "dead_units", record=-1, **ax),
    "loss_band": plots.loss_band,
    "gradient_change": plots.gradient_change,
    "gradient_change_angle": lambda records, **ax: plots.gradient_change(records, "angle", **ax),
}


# ---------------------------------------------------------------------------------------------- every function


@pytest.mark.parametrize("name", OF_ONE)
def test_every_function_draws_any_records(name: str, monitor: nc.Monitor, tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    monitor.save(tmp_path / "records.npz")
    draw, texts = OF_ONE[name], []
    with np.load(tmp_path / "records.npz") as read:
        for records in (monitor, read, dict(read)):
            ax = axes()
            assert draw(records, ax=ax) is ax
            texts.append(plots.alt_text(ax))
            assert ax.get_title("left")
            assert ax.get_ylabel()
            assert ax.get_xlabel()
            assert not ax.get_legend()
            assert ax.get_yscale() != "log" or not ax.patches  # no bars on a logarithmic axis
        plots.render(figure_of(ax), "png")
    assert len(set(texts)) == 1
    assert texts[0].endswith(".")
    assert figure_of(draw(monitor)).get_layout_engine() is not None  # axes of its own
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize("name", OF_ONE)
def test_one_record(name: str, monitor: nc.Monitor) -> None:
    first = {key: value if key == "line_steps" else value[:1] for key, value in monitor.as_dict().items()}
    ax = axes()
    OF_ONE[name](first, ax=ax)
    plots.render(figure_of(ax), "svg")


@pytest.mark.parametrize("name", [name for name in OF_ONE if not name.startswith("statistics")])
def test_a_training_that_diverged(name: str) -> None:
    with np.errstate(all="ignore"):
        records = watch(None, optimizer="sgd", learning_rate=1e30, on_nonfinite="skip")
    ax = axes()
    OF_ONE[name](records, ax=ax)
    plots.render(figure_of(ax))
    assert plots.alt_text(ax)


def test_whole_figures(monitors: dict[str, nc.Monitor], tmp_path: Path) -> None:
    panels = {}
    for label, monitor in monitors.items():
        figure = plots.overview(monitor)
        panels[label] = [ax.get_title("left") for ax in figure.axes if ax.get_visible()]
        assert all(title in plots.alt_text(figure).replace("Histograms of the i", "I") for title in panels[label][:3])
    assert len(panels["no norm"]) == len(panels["batch norm"]) == 6
    figure = plots.compare(monitors)
    assert len([ax for ax in figure.axes if ax.get_visible()]) == 6
    limits = {ax.get_ylim() for ax in figure.axes[3:]}
    assert len(limits) == 1  # the bands are drawn to one scale
    one = plots.compare({"mine": monitors["batch norm"]}, title="Mine")
    assert len([ax for ax in one.axes if ax.get_visible()]) == 4
    assert plots.alt_text(one).startswith("Mine. Spread of activation inputs")
    assert plots.compare(monitors["batch norm"]).axes[3].get_title("left") == "Loss"
    bare = plots.overview(watch("batch", y=None))
    titles = [ax.get_title("left") for ax in bare.axes if ax.get_visible()]
    assert titles[-1] == "Running and batch means"
    linear = plots.overview(watch(None, sizes=(3, 2)))
    assert len([ax for ax in linear.axes if ax.get_visible()]) == 3
    for path in plots.save(figure, tmp_path / "all"):
        assert path.stat().st_size > 10_000


# ---------------------------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (plots.activation_spread, "activation_input_std"),
        (plots.activation_shift, "activation_input_shift"),
        (plots.dead_units, "dead_units"),
        (plots.gradient_norms, "gradient_norm"),
        (plots.update_ratios, "update_ratio"),
    ],
)
def test_lines_are_the_records(function: Any, name: str) -> None:
    monitor = watch(None)
    ax = function(monitor, ax=axes())
    drawn = [line for line in ax.get_lines() if len(line.get_xdata()) == len(monitor["epoch"])]
    assert len(drawn) == monitor[name].shape[1]
    for index, line in enumerate(drawn):
        assert np.array_equal(line.get_xdata(), monitor["epoch"])
        assert np.array_equal(line.get_ydata(), monitor[name][:, index], equal_nan=True)


def test_quantiles_and_histograms(monitor: nc.Monitor) -> None:
    lines = lines_of(plots.activation_quantiles(monitor, 2, ax=axes()))
    assert np.array_equal(lines["median"].get_ydata(), monitor["activation_input_quantiles"][:, 1, 3])
    assert np.array_equal(lines["5 %"].get_ydata(), monitor["activation_input_quantiles"][:, 1, 1])
    ax = plots.activation_histograms(monitor, 2, most=3, ax=axes())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "0.8", "2"]
    assert "at epoch 0" in plots.alt_text(ax)
    assert f"mean {monitor['activation_input_mean'][-1, 1]:.3g}" in plots.alt_text(ax)
    # Its peaks are where the histogram's are.
    middles = (monitor["activation_input_edges"][..., 1:] + monitor["activation_input_edges"][..., :-1]) / 2
    counts = np.apply_along_axis(lambda c: np.convolve(c, [1, 2, 1], "same"), -1, monitor["activation_input_counts"])
    ridge = ax.get_lines()[0]
    peak = ridge.get_xdata()[np.argmax(ridge.get_ydata())]
    assert math.isclose(peak, middles[0, 1][np.argmax(counts[0, 1])])


def test_layers_that_are_the_same_share_a_label(monitor: nc.Monitor) -> None:
    records = monitor.as_dict()
    count = len(records["epoch"])
    records["dead_units"] = np.zeros((count, 5))
    assert list(lines_of(plots.dead_units(records, ax=axes()))) == ["all layers"]
    records["dead_units"] = np.tile([0.0, 0.0, 0.0, 0.25, 0.5], (count, 1))
    ax = plots.dead_units(records, ax=axes())
    assert list(lines_of(ax)) == ["layers 1–3", "layer 4", "layer 5"]
    assert ax.get_ylim() == (0.0, 0.575)
    records["dead_units"] = np.tile([0.0, 0.5, 0.0, 0.25], (count, 1))
    assert list(lines_of(plots.dead_units(records, ax=axes()))) == ["layers 1, 3", "layer 2", "layer 4"]


def test_many_layers_have_few_labels() -> None:
    depth = 30
    records = {
        "step": np.arange(3),
        "epoch": np.arange(3.0),
        "gradient_norm": np.geomspace(1, 9, 3 * depth).reshape(3, -1),
    }
    labels = list(lines_of(plots.gradient_norms(records, ax=axes())))
    assert len(labels) == 8
    assert (labels[0], labels[-1]) == ("layer 1", "output layer")


def test_zeros_are_shown_on_logarithmic_axes() -> None:
    records = {
        "step": np.arange(3),
        "epoch": np.arange(3.0),
        "gradient_norm": np.array([[1.0, 1.0], [0.0, 1.0], [2.0, 0.5]]),
    }
    ax = plots.gradient_norms(records, ax=axes())
    [mark] = [line for line in ax.get_lines() if line.get_marker() == "v"]
    assert mark.get_xdata().tolist() == [1.0]
    assert mark.get_transform() == ax.get_xaxis_transform()
    assert "layer 1 from 1 to 2 (least 0)" in plots.alt_text(ax)


def test_what_hardly_changes_looks_so() -> None:
    records = {"step": np.arange(3), "epoch": np.arange(3.0), "activation_input_std": np.array([[1.0], [1.01], [0.99]])}
    low, high = plots.activation_spread(records, ax=axes()).get_ylim()
    assert high > 10.0 * low
    records["activation_input_std"][...] = 0.0
    plots.render(figure_of(plots.activation_spread(records, ax=axes())))


def test_by_layer(monitors: dict[str, nc.Monitor]) -> None:
    ax = plots.by_layer(monitors, "gradient_norm", record=-1, ax=axes())
    lines = lines_of(ax)
    assert list(lines) == list(monitors)
    for label, line in lines.items():
        assert line.get_xdata().tolist() == [1, 2, 3]
        assert np.array_equal(line.get_ydata(), monitors[label]["gradient_norm"][-1])
    assert [line.get_color() for line in lines.values()] == [plots.NORMS[norm]["color"] for norm in NORMS]
    assert ax.get_title("left").endswith(", at the end")


def test_loss_band(monitor: nc.Monitor) -> None:
    ax = plots.loss_band(monitor, ax=axes())
    around = np.column_stack([monitor["loss"], monitor["line_losses"]])
    edges = [line.get_ydata() for line in ax.get_lines() if line.get_label() == "_edge"]
    assert np.array_equal(edges[0], around.min(axis=1))
    assert np.array_equal(edges[1], around.max(axis=1))
    assert np.array_equal(lines_of(ax)["loss"].get_ydata(), monitor["loss"])
    assert f"losses from {around.min():.3g} to {around.max():.3g}" in plots.alt_text(ax)


def test_gradient_change(monitor: nc.Monitor) -> None:
    [line] = plots.gradient_change(monitor, ax=axes()).get_lines()
    assert np.array_equal(line.get_ydata(), monitor["line_distances"].max(axis=1))
    [line] = plots.gradient_change(monitor, "angle", ax=axes()).get_lines()
    assert np.allclose(np.cos(np.radians(line.get_ydata())), monitor["line_cosines"].min(axis=1))


# ---------------------------------------------------------------------------------------------- curves


def histories(seeds: int, **options: Any) -> list[nc.History]:
    found = []
    for seed in range(seeds):
        trainer = nc.Trainer(nc.MLP([3, 8, 2], seed=seed), **{"epochs": 3 + seed, **options})
        found.append(trainer.fit(X, Y, validation_data=(X[:20], Y[:20])))
    return found


def test_curves() -> None:
    runs = histories(3)  # of 3, 4 and 5 epochs
    ax = plots.curves({"mine": runs, "one": runs[0]}, "train_loss", ax=axes())
    line = lines_of(ax)["mine"]
    assert line.get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
    assert line.get_ydata()[2] == np.median([run["train_loss"][2] for run in runs])
    assert line.get_ydata()[5] == runs[2]["train_loss"][5]
    assert len(ax.collections) == 1  # one run has no band
    [band] = ax.collections
    values = [run["train_loss"][1] for run in runs]
    points = band.get_paths()[0].vertices
    assert {float(y) for x, y in points if x == 1.0} == {min(values), max(values)}  # type: ignore[misc]
    assert ax.get_title("left") == "Training loss, median and range of 3 trainings"
    single = plots.curves(runs[0])
    assert single.get_title("left") == "Validation accuracy"
    assert list(lines_of(single)) == []
    assert np.array_equal(single.get_lines()[0].get_ydata(), runs[0]["val_accuracy"])
    assert plots.curves(runs, "val_loss").get_lines()


def test_curves_refuse() -> None:
    for nothing in ({}, [], {"mine": []}):
        with pytest.raises(ValueError, match=r"^curves: there are no histories"):
            plots.curves(nothing)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="there is no curve 'val_r2'"):
        plots.curves(histories(1), "val_r2")


def test_band() -> None:
    ax = axes()
    line = plots.band(ax, [0, 1, 2], [[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]], label="batch norm", linewidth=5)
    assert np.array_equal(line.get_ydata(), [2.0, 5.0, np.nan], equal_nan=True)
    assert line.get_linewidth() == 5
    assert len(plots.band(ax, [0], [1.0]).get_ydata()) == 1
    assert np.isnan(plots.band(ax, [0, 1], [[np.nan, np.nan]] * 2).get_ydata()).all()
    with pytest.raises(ValueError, match=r"^band: x is \(2,\) and runs \(1, 3\); they must be \(points,\) and"):
        plots.band(ax, [0, 1], [1.0, 2.0, 3.0])


# ---------------------------------------------------------------------------------------------- labels


@given(st.lists(st.tuples(st.floats(-50, 150), st.floats(1, 30)), max_size=8))
def test_labels_are_apart_and_near(items: list[tuple[float, float]]) -> None:
    items.sort()
    wanted, heights = [item[0] for item in items], [item[1] for item in items]
    found = _apart(wanted, heights, 0.0, 100.0)
    assert len(found) == len(wanted)
    for (a, height_a), (b, height_b) in itertools.pairwise(zip(found, heights, strict=True)):
        assert b - a >= (height_a + height_b) / 2 - 1e-9
    if items and found[-1] - found[0] + (heights[0] + heights[-1]) / 2 <= 100.0:
        assert found[0] - heights[0] / 2 >= -1e-9
        assert found[-1] + heights[-1] / 2 <= 100.0 + 1e-9


def test_labels_stay_where_there_is_room() -> None:
    assert _apart([10.0, 50.0, 90.0], [8.0] * 3, 0.0, 100.0) == [10.0, 50.0, 90.0]
    assert np.allclose(_apart([50.0, 50.0], [8.0] * 2, 0.0, 100.0), [46.0, 54.0])
    assert np.allclose(_apart([0.0, 0.0], [8.0] * 2, 0.0, 100.0), [4.0, 12.0])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_labels_in_a_figure(scale: Any) -> None:
    ax = axes()
    for index in range(6):
        ax.plot([0, 1, 2], [1.0, 2.0, 3.0 + 1e-3 * index], label=f"a rather long label {index}")
    ax.plot([0, 1, 2], [1.0, 2.0, np.nan], label="ends early")
    ax.plot([0, 1], [np.nan, np.nan], label="not there")
    ax.plot([0, 1], [1, 1], label="_hidden")
    plots.label_lines(ax)
    ax.set_yscale(scale)  # afterwards: places are found when it is drawn
    ax.set_ylim(0.5, 4.0)
    figure = figure_of(ax)
    FigureCanvasAgg(figure).draw()
    [labels] = [artist for artist in ax.artists if isinstance(artist, _LineLabels)]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = labels._place(renderer)
    assert len(texts) == 7
    boxes = sorted((text.get_window_extent(renderer) for text in texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 1e-6 for lower, upper in itertools.pairwise(boxes))
    assert all(box.x0 > ax.bbox.x1 and box.x1 <= figure.bbox.x1 for box in boxes)  # beside the axes, in the figure
    assert labels._leaders
    assert labels.get_window_extent().width > 0


def test_labels_of_some_lines() -> None:
    ax = axes()
    first, _ = ax.plot([0, 1], [[1.0, 2.0], [3.0, 4.0]], label=["one", "two"])
    plots.label_lines(ax, [first], fontsize=9)
    [labels] = [artist for artist in ax.artists if isinstance(artist, _LineLabels)]
    assert [(text.get_text(), text.get_fontsize()) for text in labels._texts] == [("one", 9.0)]


def test_labels_of_nothing() -> None:
    ax = axes()
    plots.label_lines(ax)
    figure = figure_of(ax)
    assert plots.render(figure)
    assert plots.alt_text(ax) == "Lines."


@pytest.mark.parametrize("colour", [*plots.PALETTE, "#FFFFFF", *plots.shades(9)])
def test_text_is_readable(colour: str) -> None:
    assert 1.05 / (_luminance(np.array(to_rgb(plots.readable(colour)))) + 0.05) >= 4.45


def test_series_are_told_apart_without_colour() -> None:
    looks = [plots.series_style(f"series {index}", index) for index in range(4)]
    looks += [plots.NORMS[norm] for norm in NORMS]
    alone = plots.series_styles([f"series {index}" for index in range(7)])
    assert len({look["marker"] for look in alone}) == len({look["color"] for look in alone}) == 7
    assert len({look["marker"] for look in looks}) == len(looks)
    assert len({look["color"] for look in looks}) == len(looks)
    assert plots.series_style("Layer Norm", 9) == plots.NORMS["layer"]
    assert len(set(plots.shades(12))) == 12
    assert plots.shades(1) == [plots.PALETTE[0].lower()]


def test_logarithmic_axes() -> None:
    ax = axes()
    ax.plot([1, 2], [0.3, 5.0])
    plots.log_axis(ax, "y")
    plots.log_axis(ax, "x")
    minor = ax.yaxis.get_minor_formatter()
    assert [minor(value) for value in (0.5, 2.0, 3.0)] == ["0.5", "2", ""]
    major = ax.yaxis.get_major_formatter()
    assert [major(value) for value in (0.1, 1.0, 10.0)] == ["0.1", "1", "10"]
    ax.set_ylim(1e-5, 1e5)
    assert major(10.0) == "$10^{1}$"
    assert minor(2.0) == ""
    with pytest.raises(ValueError, match=r"^log_axis: which is 'z'; accepted are 'x' and 'y'"):
        plots.log_axis(ax, "z")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- words and files


def test_alt_text() -> None:
    ax = axes()
    assert plots.alt_text(ax) == "Lines."
    ax.plot([0, 1, 2, 3], [2.0, 5.0, 1.0, 3.0], label="up and down")
    ax.plot([0, 1], [1.0, np.nan], label="one")
    ax.plot([0, 1], [np.nan, np.nan], label="none")
    ax.set(title="A title.", xlabel="epoch")
    assert (
        plots.alt_text(ax)
        == "A title, against epoch: up and down from 2 to 3 (least 1, greatest 5); one 1; none no finite value."
    )
    figure = figure_of(ax)
    figure.suptitle("Whole")
    plots.describe(ax, "In other words.")
    assert plots.alt_text(figure) == "Whole. In other words."


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_files_are_the_same_each_time(kind: str, monitor: nc.Monitor) -> None:
    figures = [figure_of(plots.dead_units(monitor, ax=axes())) for _ in range(2)]
    made = [plots.render(figure, kind) for figure in figures]
    assert made[0] == made[1]
    assert b"Dead units, against epoch" in made[0]  # the alternative text
    assert b"<dc:date>" not in made[0]
    assert b"matplotlib.org" not in made[0]
    figure = Figure()
    assert b"Something else" in plots.render(figure, kind, description="Something else")
    with pytest.raises(ValueError, match=r"^render: kind is 'pdf'; accepted are 'png' and 'svg'"):
        plots.render(figure, "pdf")


def test_save(tmp_path: Path) -> None:
    ax = axes()
    for name in ("figure", "figure.png", "figure.svg"):
        assert plots.save(ax, tmp_path / name) == (tmp_path / "figure.png", tmp_path / "figure.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.png", "figure.svg"]
    [first, _] = plots.save(ax, tmp_path / "E1.2")
    assert first.name == "E1.2.png"
    from matplotlib import image

    pixels = image.imread(io.BytesIO(first.read_bytes()))
    assert pixels.shape[:2] == (720, 960)


# ---------------------------------------------------------------------------------------------- errors


def test_errors(monitors: dict[str, nc.Monitor]) -> None:
    bare, batch = watch(None, y=None), monitors["batch norm"]
    for call, error, message in (
        (
            lambda: plots.gradient_norms(bare),
            ValueError,
            "gradient_norms: the records have no 'gradient_norm'; give its M",
        ),
        (lambda: plots.loss_band(bare), ValueError, "loss_band: the records have no 'loss'; give its Monitor y"),
        (
            lambda: plots.gradient_change(bare),
            ValueError,
            "gradient_change: the records have no 'line_distances'; give",
        ),
        (
            lambda: plots.statistics_drift(bare),
            ValueError,
            "statistics_drift: the records have no 'mean_drift'; only batch",
        ),
        (lambda: plots.statistics_drift(batch, "var"), ValueError, "statistics_drift: which is 'var'; accepted are"),  # type: ignore[arg-type]
        (lambda: plots.gradient_change(batch, "turn"), ValueError, "gradient_change: which is 'turn'; accepted are"),  # type: ignore[arg-type]
        (
            lambda: plots.activation_histograms(batch, 3),
            ValueError,
            "activation_histograms: layer is 3; there are 2 hidden",
        ),
        (
            lambda: plots.activation_quantiles(batch, 0),
            ValueError,
            "activation_quantiles: layer is 0; it must be at least",
        ),
        (
            lambda: plots.by_layer(monitors, "weights"),
            ValueError,
            "by_layer: name is 'weights'; accepted are activation_in",
        ),
        (
            lambda: plots.by_layer(monitors, "dead_units", record=9),
            ValueError,
            "by_layer: record is 9; there are 6 of no no",
        ),
        (lambda: plots.by_layer({}, "dead_units"), ValueError, "by_layer: there are no records"),
        (
            lambda: plots.dead_units("records.npz"),
            TypeError,
            "dead_units: records is a str; it must be a Monitor or arrays",
        ),  # type: ignore[arg-type]
        (
            lambda: plots.dead_units(nc.Monitor(X)),
            ValueError,
            "dead_units: the records have no 'dead_units'; nothing has",
        ),
        (
            lambda: plots.dead_units(monitors),
            ValueError,
            "dead_units: .*; they are those of 3 trainings: give those of",
        ),  # type: ignore[arg-type]
        (
            lambda: plots.compare([batch]),
            TypeError,
            "loss_band: records is a list; it must be a Monitor or arrays by name",
        ),  # type: ignore[arg-type]
        (lambda: plots.curves(batch), TypeError, "curves: a str is among the histories; each must be a History"),  # type: ignore[arg-type]
        (lambda: plots.save("figure", "path"), TypeError, "save: figure is a str; it must be a Figure or Axes"),  # type: ignore[arg-type]
        (lambda: nc.Monitor(X, steps=5), TypeError, "Monitor: there is no argument steps; here it is every, the steps"),  # type: ignore[call-arg]
    ):
        with pytest.raises(error, match=r"^" + message):
            call()
    linear = watch(None, sizes=(3, 2))
    for draw in (plots.dead_units, lambda records: plots.by_layer(records, "dead_units")):
        with pytest.raises(ValueError, match="the model has no hidden layer"):
            draw(linear)


def test_without_matplotlib() -> None:
    code = "import sys; sys.modules['matplotlib'] = None\nimport normcore.plots"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "ImportError: normcore.plots needs matplotlib: pip install 'normcore[plots]'"


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What docs/inside.md says: its examples run, and what it says of their results is so."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs" / "inside.md").read_text()
    found: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(code, found)
    names = ["inside.png", "inside.svg", "norms.png", "norms.svg", "records.npz", "seeds.png", "seeds.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "Dead units, against epoch: " in capsys.readouterr().out
    plain, batch, layer = found["watched"].values()
    spread = plain["activation_input_std"][0]
    assert round(spread[0], 1) == 1.2
    assert round(spread[4], 4) == 0.0005
    assert np.allclose(batch["activation_input_std"][0], 1.0, atol=0.02)
    assert np.allclose(layer["activation_input_std"][0], 1.0, atol=0.02)
    assert (1000 * plain["gradient_norm"][0] < np.minimum(batch["gradient_norm"][0], layer["gradient_norm"][0])).all()
    widths = [np.median(np.ptp(one["line_losses"], axis=1)) for one in (batch, layer, plain)]
    assert widths == sorted(widths)
    assert plain["line_losses"].max() > 100.0
    for name in re.findall(r"`(\w+)`", page.split("| panel |")[1].split("Two more are")[0]):
        assert callable(getattr(plots, name))
