"""A callback that watches what goes on inside a model while it is trained."""

from __future__ import annotations

import importlib
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore._atomic import write_atomically
from normcore._checks import check_integer, check_uint64, with_hints
from normcore.diagnostics import (
    QUANTILES,
    activation_inputs,
    check_steps,
    dead_units,
    distribution,
    distribution_shift,
    gradient_norms,
    layer_inputs,
    loss_along_gradient,
    statistics_drift,
    update_ratios,
    weight_norms,
)
from normcore.mlp import MLP

__all__ = ["LINE_STEPS", "Monitor"]

# The words of other libraries, and what is meant by them here.
_ARGUMENTS = {
    "frequency": "every",
    "interval": "every",
    "labels": "y",
    "log_every": "every",
    "n_bins": "bins",
    "random_state": "seed",
    "steps": "every, the steps between records, or line_steps, how far to go along the gradient",
}

#: How far a `Monitor` goes along the gradient by default: learning rates of gradient descent.
LINE_STEPS = (0.05, 0.1, 0.2, 0.4)

Array = npt.NDArray[Any]
Record = dict[str, Array]


class Monitor:
    """A callback of `Trainer` that records what goes on inside the model: distributions, gradients, updates, the loss.

    Each record measures the model as it is after a step, in training mode, on rows of yours, by the functions of
    `normcore.diagnostics`; the first is of the model before training. `normcore.plots` draws the records. The training
    is the same, to the last bit, with and without it.

    Parameters
    ----------
    X : (rows, features)
        The rows to measure on, raw ones if the model has a scale: some hundred of the training data will do. With batch
        norm at least two. A record takes about as long as thirty training steps on these rows.
    y : targets of the loss, optional
        Of these rows. Without them nothing is recorded of loss and gradients.
    every : int, optional
        Steps from one record to the next. None: the whole epoch.
    bins : int
        Of the histograms.
    line_steps : (points,) numbers
        How far to go along the gradient; see `normcore.diagnostics.loss_along_gradient`.
    seed : int in [0, 2**64)
        Of dropout, which drops the same units in each record.

    Notes
    -----
    ``monitor[name]`` is an array whose first axis are the records; names that do not apply are missing. "Hidden" are
    the hidden layers, which have an activation; "layers" counts the last affine map too.

    =============================  =========================  ======================================================
    name                           shape                      what
    =============================  =========================  ======================================================
    ``step``, ``epoch``            (records,)                 steps done, and epochs with their fractions
    ``layer_input_mean``,          (records, layers)          mean and spread of what each affine map is given
    ``layer_input_std``
    ``activation_input_mean``,     (records, hidden)          mean and spread of what each activation is given
    ``activation_input_std``
    ``activation_input_quantiles`` (records, hidden, 7)       its quantiles, those of ``diagnostics.QUANTILES``
    ``activation_input_counts``    (records, hidden, bins)    its histogram
    ``activation_input_edges``     (records, hidden, bins+1)  the edges of that
    ``activation_input_shift``     (records, hidden)          `distribution_shift` by the last step; NaN at first
    ``dead_units``                 (records, hidden)          share of units that pass no gradient
    ``weight_norm``                (records, layers)          of each weight matrix
    ``update_ratio``               (records, layers)          `update_ratios` of the last step; NaN at first
    ``mean_drift``, ``std_drift``  (records, hidden)          `statistics_drift`; with batch norm
    ``loss``                       (records,)                 on X and y; from here on only with y
    ``gradient_norm``              (records, layers)          of each weight matrix's gradient
    ``line_losses``                (records, points)          along the gradient
    ``line_distances``             (records, points)          of the gradient there from the one at the start
    ``line_cosines``               (records, points)          between the two
    ``line_steps``                 (points,)                  as given
    =============================  =========================  ======================================================

    It watches ``fit``, not ``step``. Of a training that goes on, by another ``fit`` or from a checkpoint, it goes on
    recording.

    Examples
    --------
    >>> X = nc.random_normal(400, seed=1).reshape(200, 2)
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> monitor = nc.Monitor(X, y)
    >>> trainer = nc.Trainer(nc.MLP([2, 16, 16, 2], norm="batch", seed=1), epochs=5, batch_size=20, callbacks=monitor)
    >>> history = trainer.fit(X, y)
    >>> monitor
    Monitor(records=6, last_step=50, layers=3, loss=0.6507)
    >>> monitor["step"].tolist(), monitor["dead_units"].shape
    ([0, 10, 20, 30, 40, 50], (6, 2))
    >>> bool(monitor["loss"][-1] < monitor["loss"][0])
    True
    """

    @with_hints("Monitor", _ARGUMENTS)
    def __init__(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        every: SupportsIndex | None = None,
        bins: SupportsIndex = 50,
        line_steps: Sequence[float] | npt.NDArray[Any] = LINE_STEPS,
        seed: SupportsIndex = 0,
    ) -> None:
        self._X, self._y = X, y
        self._every = None if every is None else check_integer(every, "Monitor", "every", 1)
        self._bins = check_integer(bins, "Monitor", "bins", 1)
        self._line_steps = check_steps(line_steps, "Monitor", "line_steps")
        self._seed = check_uint64(seed, "Monitor", "seed")
        self._records: list[Record] = []
        self._watched: tuple[tuple[int, ...], str | None] = ((), None)  # sizes and norm
        self._steps = 1  # of an epoch
        self._before: MLP | None = None  # the model before the step that a record is due after

    # ------------------------------------------------------------------ called by the trainer

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Check the rows, and record the model before its first step."""
        model, step = trainer.model, trainer.step_count
        rows = model._rows(self._X, "Monitor")
        if rows.ndim != 2:
            raise ValueError(f"Monitor: X is {rows.shape}; it must be (rows, {model.features})")
        model._check_rows(rows, "Monitor")
        if self._y is not None:
            model.loss.check_targets(self._y, len(rows), model.outputs, "Monitor", dtype=model.dtype)
        self._steps = logs["steps"]
        if self._records:
            self._check_continues(model, step)
        else:
            self._watched = (model.sizes, model.norm)
            self._records.append(self._measure(model, step, trainer.epoch + trainer._batch / self._steps, None))
        self._keep(model, step, trainer._batch)

    def on_step_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Record the model if a record is due, and keep its parameters if one will be due after the next step."""
        step, batch, model = logs["step"], logs["batch"], trainer.model
        if self._is_due(step, batch):
            epoch = logs["epoch"] + (batch + 1) / self._steps
            self._records.append(self._measure(model, step, epoch, self._before))
        self._keep(model, step, batch + 1)

    def _check_continues(self, model: MLP, step: int) -> None:
        last, (sizes, norm) = self._records[-1]["step"], self._watched
        if (sizes, norm) != (model.sizes, model.norm):
            raise ValueError(
                f"Monitor: it has records of a model of sizes {list(sizes)} and norm={norm!r}, and this one has "
                f"{list(model.sizes)} and norm={model.norm!r}; make a new one"
            )
        if step < last:
            raise ValueError(
                f"Monitor: it has records up to step {last}, and this training is at {step}; make a new one"
            )

    def _is_due(self, step: int, batch: int) -> bool:
        """Whether a record is due after the step that makes `step` steps and is number `batch` of its epoch."""
        return batch % self._steps == self._steps - 1 if self._every is None else step % self._every == 0

    def _keep(self, model: MLP, step: int, next_batch: int) -> None:
        self._before = model.copy() if self._is_due(step + 1, next_batch) else None

    # ------------------------------------------------------------------ measurements

    @np.errstate(all="ignore")  # a model that has diverged has values that are not finite
    def _measure(self, model: MLP, step: int, epoch: float, before: MLP | None) -> Record:
        X, seed, hidden = self._X, self._seed, model.layers - 1
        given = layer_inputs(model, X, seed=seed)
        seen = activation_inputs(model, X, seed=seed)
        found = [distribution(array, bins=self._bins) for array in seen]
        record = {
            "step": np.int64(step),
            "epoch": np.float64(epoch),
            "layer_input_mean": [array.mean(dtype=np.float64) for array in given],
            "layer_input_std": [array.std(dtype=np.float64) for array in given],
            "activation_input_mean": [one.mean for one in found],
            "activation_input_std": [one.std for one in found],
            "activation_input_quantiles": _stack([one.quantiles for one in found], hidden, len(QUANTILES)),
            "activation_input_counts": _stack([one.counts for one in found], hidden, self._bins),
            "activation_input_edges": _stack([one.edges for one in found], hidden, self._bins + 1),
            "activation_input_shift": [math.nan] * hidden,
            "dead_units": dead_units(model, X),
            "weight_norm": weight_norms(model),
            "update_ratio": [math.nan] * model.layers,
        }
        if before is not None:
            earlier = activation_inputs(before, X, seed=seed)
            record["activation_input_shift"] = [distribution_shift(*pair) for pair in zip(earlier, seen, strict=True)]
            record["update_ratio"] = update_ratios(before, model)
        if model.norm == "batch":
            drift = statistics_drift(model, X)
            record |= {"mean_drift": drift.mean, "std_drift": drift.std}
        if self._y is not None:
            line = loss_along_gradient(model, X, self._y, self._line_steps, seed=seed)
            record |= {
                "loss": np.float64(line.loss),
                "gradient_norm": gradient_norms(model, X, self._y, seed=seed),
                "line_losses": line.losses,
                "line_distances": line.gradient_distances,
                "line_cosines": line.cosines,
            }
        return {name: np.asarray(value) for name, value in record.items()}

    # ------------------------------------------------------------------ what was recorded

    def __getitem__(self, name: str) -> Array:
        if name not in self:
            known = ", ".join(self) or "none: nothing has been trained with it"
            raise KeyError(f"Monitor: there is no record {name!r}; recorded are {known}")
        if name == "line_steps":
            return self._line_steps.copy()
        return np.stack([record[name] for record in self._records])

    def __iter__(self) -> Iterator[str]:
        names = list(self._records[0]) if self._records else []
        return iter([*names, "line_steps"] if "line_losses" in names else names)

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def keys(self) -> Iterable[str]:
        """Names of what was recorded."""
        return list(self)

    def __repr__(self) -> str:
        shown = [f"records={len(self._records)}"]
        if self._records:
            last = self._records[-1]
            shown += [f"last_step={last['step']}", f"layers={len(last['weight_norm'])}"]
            shown += [f"loss={last['loss']:.4g}"] if "loss" in last else []
        return f"Monitor({', '.join(shown)})"

    def as_dict(self) -> dict[str, Array]:
        """Return all arrays by name."""
        return {name: self[name] for name in self}

    def to_pandas(self) -> Any:
        """Return what there is one number of for each layer as a `pandas.DataFrame`, a row for each step and layer.

        The index is (step, layer), layers counted from 1 as in ``MLP.parameters()``. Quantiles are columns such as
        ``activation_input_q05``, and ``loss`` is repeated for each layer. What only hidden layers have is NaN for the
        last. ImportError without pandas.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise ImportError("Monitor.to_pandas needs pandas: pip install pandas") from None
        if not self._records:
            raise ValueError("Monitor.to_pandas: nothing has been recorded")
        records, layers = self["weight_norm"].shape
        columns: dict[str, Array] = {"epoch": np.repeat(self["epoch"], layers)}
        if "loss" in self:
            columns["loss"] = np.repeat(self["loss"], layers)
        for name in self:
            array = self[name]
            if name == "activation_input_quantiles":
                each = {f"activation_input_q{100 * level:02.0f}": array[..., i] for i, level in enumerate(QUANTILES)}
            elif array.ndim == 2 and not name.startswith("line_"):
                each = {name: array}
            else:
                continue
            for column, values in each.items():
                padded = np.full((records, layers), np.nan)
                padded[:, : values.shape[1]] = values
                columns[column] = padded.reshape(-1)
        index = pandas.MultiIndex.from_product([self["step"], range(1, layers + 1)], names=["step", "layer"])
        return pandas.DataFrame(columns, index=index)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all arrays to a file of NumPy's, as ``np.savez`` does but whole or not at all.

        ``np.load(path)`` reads it, and `normcore.plots` draws what that returns. The same records are the same bytes.

        Examples
        --------
        >>> X, y = np.eye(4), [0, 1, 1, 0]
        >>> monitor = nc.Monitor(X, y)
        >>> history = nc.Trainer(nc.MLP([4, 8, 2]), epochs=3, callbacks=monitor).fit(X, y)
        >>> monitor.save("records.npz")
        >>> np.load("records.npz")["weight_norm"].shape
        (4, 2)
        """
        file = io.BytesIO()
        np.savez(file, **self.as_dict())  # type: ignore[arg-type]
        write_atomically(path, file.getvalue())


def _stack(arrays: list[Array], layers: int, width: int) -> Array:
    """The arrays of all layers as one, of no layer too."""
    return np.array(arrays).reshape(layers, width)
