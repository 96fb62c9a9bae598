"""What a training run did, step by step and epoch by epoch."""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from normcore._signals import Call
from normcore.losses import LOWER_IS_BETTER, Loss

__all__ = ["CURVES", "REASONS", "Curve", "History", "curves_of", "is_better"]

Curve = Literal[
    "train_loss",
    "train_accuracy",
    "train_r2",
    "train_rmse",
    "train_mae",
    "val_loss",
    "val_accuracy",
    "val_r2",
    "val_rmse",
    "val_mae",
]
CURVES: tuple[str, ...] = get_args(Curve)
REASONS = ("epochs", "early_stopping", "callback", "nonfinite", "interrupted", "error")


def curves_of(loss: Loss) -> list[str]:
    """Names of the curves that a loss has."""
    names = ("loss", "accuracy") if loss.metric == "accuracy" else ("loss", "r2", "rmse", "mae")
    return [f"{part}_{name}" for part in ("train", "val") for name in names]


def _lower_is_better(curve: str) -> bool:
    return LOWER_IS_BETTER[curve.partition("_")[2]]


def is_better(curve: str, value: float, best: float | None, min_delta: float = 0.0) -> bool:
    """Whether `value` of a curve is better than the best so far by more than `min_delta`; NaN never is."""
    if math.isnan(value):
        return False
    return best is None or (value < best - min_delta if _lower_is_better(curve) else value > best + min_delta)


@dataclass(repr=False)
class History:
    """What a training run did.

    ``history["val_loss"]`` is a curve by its name, "train_" or "val_" and "loss" or a score: "accuracy" of losses with
    classes, "r2", "rmse" and "mae" of others. Entry e of a curve is the state after e epochs, entry 0 that before
    training; NaN where it was not measured. A curve that never was measured is not there: ``"val_loss" in history``.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> history = nc.Trainer(nc.MLP([2, 4, 2]), epochs=3).fit(X, [0, 0, 0, 1, 1, 1])
    >>> len(history["train_loss"]), len(history.loss), list(history)
    (4, 3, ['train_loss', 'train_accuracy'])
    """

    loss: list[float] = field(default_factory=list)
    """Loss of each step, its L2 term included; that of a skipped step too. Also ``history["loss"]``."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """The curves by name: the loss and the scores over training and validation data, in evaluation mode."""
    skipped_steps: list[int] = field(default_factory=list)
    """Steps (indices into `loss`) that were not done because of a NaN or Inf."""
    best_epoch: int | None = None
    """Epoch (index into the curves) of the best value of the monitored curve; None if it was never measured."""
    best_value: float | None = None
    stopped_reason: str | None = None
    """Why the last fit ended: "epochs", "early_stopping", "callback", "nonfinite", "interrupted" (by Ctrl-C or another
    exception that is no `Exception`) or "error"."""

    def __getitem__(self, name: str) -> list[float]:
        if name == "loss":
            return self.loss
        if name not in self.curves:
            known = ", ".join(("loss", *self.curves))
            raise KeyError(f"History: there is no curve {name!r}; measured were {known}")
        return self.curves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.curves)

    def keys(self) -> Iterable[str]:
        """Names of the curves, in the order in which they came."""
        return self.curves.keys()

    def mean_loss(self, steps: int) -> float:
        """Mean of the losses of the last `steps` steps."""
        total = 0.0
        for loss in self.loss[-steps:]:  # sum() rounds differently from Python 3.12 on
            total += loss
        return total / steps

    def __repr__(self) -> str:
        shown = [f"epochs={self._epochs()}", f"steps={len(self.loss)}"]
        shown += [f"{name}={curve[-1]:.4g}" for name, curve in self.curves.items() if curve]
        if self.skipped_steps:
            shown.append(f"skipped_steps={len(self.skipped_steps)}")
        shown += [f"best_epoch={self.best_epoch}", f"stopped_reason={self.stopped_reason!r}"]
        return f"History({', '.join(shown)})"

    def _repr_html_(self) -> str:
        """First, best and last value of each curve, as a table for notebooks."""
        rows = []
        for name, curve in self.curves.items():
            known = [value for value in curve if not math.isnan(value)]
            if not known:
                continue
            best = min(known) if _lower_is_better(name) else max(known)
            cells = "".join(f"<td>{value:.4g}</td>" for value in (curve[0], best, curve[-1]))
            rows.append(f"<tr><th>{name}</th>{cells}<td>{curve.index(best)}</td></tr>")
        head = "<tr><th></th><th>first</th><th>best</th><th>last</th><th>best epoch</th></tr>"
        end = f"; ended by {self.stopped_reason!r}" if self.stopped_reason else ""
        caption = html.escape(f"{self._epochs()} epochs, {len(self.loss)} steps{end}")
        return f"<table><caption>{caption}</caption>{head}{''.join(rows)}</table>"

    def _epochs(self) -> int:
        return max((len(curve) - 1 for curve in self.curves.values()), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Return curves and fields as one dict of lists and plain values, independent of this object."""
        entries: dict[str, Iterable[float]] = {"loss": self.loss, **self.curves, "skipped_steps": self.skipped_steps}
        last = {name: getattr(self, name) for name in ("best_epoch", "best_value", "stopped_reason")}
        return {**{name: list(values) for name, values in entries.items()}, **last}

    def to_pandas(self) -> Any:
        """Return the curves as a `pandas.DataFrame`: a row for each epoch and one for before training.

        ImportError without pandas.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise ImportError("History.to_pandas needs pandas: pip install pandas") from None
        series = {name: pandas.Series(curve, dtype="float64") for name, curve in self.curves.items()}
        return pandas.DataFrame(series).rename_axis(index="epoch")

    def plot(self) -> Any:
        """Draw the curves over the epochs, one `matplotlib` axes for the loss and for each score; return these.

        ImportError without matplotlib; ValueError if nothing was measured.
        """
        try:
            pyplot = importlib.import_module("matplotlib.pyplot")
        except ImportError:
            raise ImportError("History.plot needs matplotlib: pip install matplotlib") from None
        quantities = list(dict.fromkeys(name.partition("_")[2] for name in self.curves))
        if not quantities:
            raise ValueError("History.plot: no curve was measured")
        size = (4.5 * len(quantities), 3.5)
        _, axes = pyplot.subplots(1, len(quantities), figsize=size, squeeze=False, layout="constrained")
        for quantity, panel in zip(quantities, axes[0], strict=True):
            for part, label in (("train", "training"), ("val", "validation")):
                curve = self.curves.get(f"{part}_{quantity}")
                if curve:
                    panel.plot(range(len(curve)), curve, label=label)
            if self.best_epoch is not None:
                panel.axvline(self.best_epoch, color="0.7", linewidth=0.8)
            panel.set(xlabel="epoch", ylabel=quantity)
            panel.legend()
        return axes[0]

    def recording(self, values: Mapping[str, float], epoch: int) -> list[Call]:
        """The calls that append the measurements of an epoch, each at its place in its curve."""
        calls: list[Call] = []
        for name, value in values.items():
            curve = self.curves.get(name)
            missing = [math.nan] * (epoch - len(curve or ()))
            if curve is None:
                calls.append((self.curves.__setitem__, name, [*missing, value]))
            else:
                calls.append((curve.extend, [*missing, value]))
        return calls
