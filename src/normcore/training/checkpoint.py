"""Checkpoints: a training run in a file, from which it goes on with the bits it would have had."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._checks import check_number
from normcore._fields import Fields, texts_of
from normcore._inputs import check_class_weight
from normcore.archive import Spec, open_archive, path_name, write_archive
from normcore.mlp import check_read, check_statistics, model_arrays, model_in, model_metadata
from normcore.training.batches import DROPOUT_STREAM, SHUFFLE_STREAM
from normcore.training.callbacks import check_callbacks
from normcore.training.guard import all_finite
from normcore.training.history import CURVES, REASONS
from normcore.training.schedules import LearningRate, Schedule, schedule_from_dict
from normcore.training.state import TrainerState
from normcore.training.weights import Weights

__all__ = ["SETTINGS", "Resumable"]

FloatArray = npt.NDArray[Any]

_CHECKPOINT = "checkpoint"

# The arguments of Trainer that a checkpoint holds, beside the optimizer's name, the learning rate and class weights.
_OPTIMIZER_SETTINGS = ("momentum", "decay_rate", "betas", "eps", "l2", "weight_decay")
_STORED = (
    "batch_size",
    "epochs",
    "shuffle",
    "clip_norm",
    "label_smoothing",
    "ignore_index",
    "accumulate",
    "early_stopping",
    "min_delta",
    "restore_best",
    "monitor",
    "evaluate_training",
    "on_nonfinite",
    "seed",
)


SETTINGS = (*_STORED, "learning_rate", "class_weight", "callbacks", "progress")
"""Those of `Trainer` itself, beside the model and the loss."""


@contextlib.contextmanager
def _laid_to(name: str) -> Iterator[None]:
    """Make whatever is refused the fault of the file `name`."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        detail = str(error)
        raise ValueError(detail if detail.startswith(name) else f"{name}: no sound checkpoint: {detail}") from None


class Resumable(TrainerState):
    """The part of `Trainer` that writes checkpoints and reads them."""

    def save_checkpoint(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write model, optimiser, position and history to a safetensors file, whole or not at all; see `resume`.

        May be called at any time, also from a callback and after Ctrl-C. The data are not in it, nor are callbacks, nor
        a learning rate that is a plain function. `extra`: anything fit for JSON that the caller wants to keep with it.
        """
        self.model.loss = self.loss  # which is then in the file
        optimizer, history = self.optimizer, self.history
        rate: Any = self.learning_rate
        if isinstance(rate, Schedule):
            rate = rate.to_dict()
        elif callable(rate):
            rate = None
        settings: dict[str, Any] = {"optimizer": optimizer.name, "learning_rate": rate}
        settings |= {name: getattr(optimizer, name) for name in _OPTIMIZER_SETTINGS}
        settings |= {name: getattr(self, name) for name in _STORED}
        named = isinstance(self.class_weight, str)
        settings["class_weight"] = self.class_weight if named else None
        state = {
            "updates": optimizer.updates,
            "epoch": self.epoch,
            "step": self.step_count,
            "batch": self._batch,
            "rows": self._rows,
            "best_epoch": history.best_epoch,
            "best_value": history.best_value,
            "stopped_reason": history.stopped_reason,
        }
        metadata = model_metadata(self.model, "save_checkpoint")
        metadata |= texts_of("trainer", settings) | texts_of("state", state)
        tensors = model_arrays(self.model)
        optional = {
            "class_weight": None if isinstance(self.class_weight, str) else self.class_weight,
            "optimizer.slot1": optimizer.slot1,
            "optimizer.slot2": optimizer.slot2,
        }
        for group, weights in (("best", self._kept.best), ("last", self._kept.last)):
            if weights is not None:
                optional |= {f"{group}.parameters": weights[0], f"{group}.buffers": weights[1]}
        tensors |= {name: array for name, array in optional.items() if array is not None}
        for name in ("loss", *history):
            tensors[f"history.{name}"] = np.array(history[name], dtype=np.float64)
        tensors["history.skipped_steps"] = np.array(history.skipped_steps, dtype=np.int64)
        write_archive(path, _CHECKPOINT, metadata, tensors, extra)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        learning_rate: LearningRate | None = None,
        callbacks: Iterable[Any] | Callable[[Self, dict[str, Any]], Any] = (),
        progress: bool | None = None,
    ) -> Self:
        """Return the trainer in a file of `save_checkpoint`, with a model of its own.

        ``fit`` with the same data then gives the same bits as if the run had never been interrupted. Its model is as it
        was when the file was written: after a ``fit`` with `restore_best`, that of the best epoch.

        Parameters
        ----------
        path : path of the file
        learning_rate : optional
            Instead of the one in the file; needed if that was a plain function.
        callbacks, progress
            As for `Trainer`: they are not in the file.

        Raises
        ------
        OSError, ValueError
            As `load_model`; ValueError also if the learning rate is needed and not given.
        """
        name = path_name(path, "Trainer.resume")
        # Checked here, for below whatever is wrong is the file's fault.
        callbacks = check_callbacks(callbacks)
        if learning_rate is not None and not callable(learning_rate):
            learning_rate = check_number(learning_rate, "Trainer", "learning_rate")
        with open_archive(name, _CHECKPOINT) as archive:
            name, contract = archive.name, archive.contract
            with archive.damage_first(), _laid_to(name):
                fields = Fields(archive.metadata)
                model = model_in(archive, fields)
                settings = fields.values("trainer")
                for key in ("optimizer", "learning_rate", "class_weight", *_OPTIMIZER_SETTINGS, *_STORED):
                    if key not in settings:
                        raise ValueError(f"no entry trainer.{key}")
                stored = settings.pop("learning_rate")
                rate = stored if learning_rate is None else learning_rate
                if rate is None:
                    raise ValueError("its learning rate was a plain function: give learning_rate")
                if isinstance(rate, Mapping):
                    rate = schedule_from_dict(rate)
                new: Callable[..., Self] = cls
                trainer = new(model, learning_rate=rate, callbacks=callbacks, progress=progress, **settings)
                trainer._set_position(fields)
                fields.finish()
                arrays = trainer._arrays(archive.specs)
            archive.read(arrays)
            with _laid_to(name):
                trainer._set_arrays(arrays, name)
        if contract != _core.CONTRACT:
            warnings.warn(
                f"{name}: written under the numeric contract {contract}, this is {_core.CONTRACT}: the run goes on, "
                "but not with the bits it would have had",
                stacklevel=2,
            )
        return trainer

    def _arrays(self, specs: Mapping[str, Spec]) -> dict[str, FloatArray]:
        """What a checkpoint with those tensors is read into, by name: for the most part the arrays that are trained."""
        model, optimizer = self.model, self.optimizer
        arrays = model_arrays(model)
        for name, slot in (("slot1", optimizer.slot1), ("slot2", optimizer.slot2)):
            if slot is not None:
                arrays[f"optimizer.{name}"] = slot
        for group in ("best", "last"):
            if any(name.startswith(group + ".") for name in specs):
                arrays[f"{group}.parameters"] = np.empty_like(model.parameters_flat)
                arrays[f"{group}.buffers"] = np.empty_like(model.buffers_flat)
        if "class_weight" in specs:
            arrays["class_weight"] = np.empty(model.outputs)
        curves = [name for name in (f"history.{curve}" for curve in CURVES) if name in specs]
        lists = {name: ("float64", self.epoch + 1) for name in curves}
        lists |= {"history.loss": ("float64", self.step_count), "history.skipped_steps": ("int64", self.step_count)}
        wrong = sorted((arrays.keys() | lists.keys()) ^ specs.keys())
        if wrong:
            raise ValueError(f"arrays missing or unknown: {', '.join(wrong[:8])}")
        for name, array in arrays.items():
            dtype, shape = specs[name]
            if (dtype, shape) != (array.dtype.name, array.shape):
                raise ValueError(f"{name} is {dtype} {shape}, which does not fit the model")
        for name, (wanted, limit) in lists.items():
            dtype, shape = specs[name]
            if len(shape) != 1 or dtype != wanted or shape[0] > limit:
                raise ValueError(f"{name} is {dtype} {shape}; it must be {wanted} and have one axis of at most {limit}")
            arrays[name] = np.empty(shape, wanted)
        return arrays

    def _set_arrays(self, arrays: Mapping[str, FloatArray], name: str) -> None:
        """Take over what has been read into the arrays of `_arrays` from the file `name`."""
        model = self.model
        check_read(model, name)
        for slot in ("slot1", "slot2"):
            array = arrays.get(f"optimizer.{slot}")
            if array is not None and (not all_finite(array) or (slot == "slot2" and bool((array < 0.0).any()))):
                raise ValueError(f"optimizer.{slot} must be finite{' and not negative' if slot == 'slot2' else ''}")

        def weights(group: str) -> Weights | None:
            if f"{group}.parameters" not in arrays:
                return None
            parameters, buffers = arrays[f"{group}.parameters"], arrays[f"{group}.buffers"]
            check_statistics(model, buffers, name, f"{group}.")
            return parameters, buffers

        self._kept.best, self._kept.last = weights("best"), weights("last")
        if "class_weight" in arrays:
            self.class_weight = check_class_weight(arrays["class_weight"], model.outputs, "Trainer")
        for curve in ("loss", *CURVES):
            if f"history.{curve}" in arrays:
                values = self.history.loss if curve == "loss" else self.history.curves.setdefault(curve, [])
                values.extend(arrays[f"history.{curve}"].tolist())
        skipped = arrays["history.skipped_steps"]
        if ((skipped < 0) | (skipped >= self.step_count)).any():
            raise ValueError(f"history.skipped_steps must be in [0, {self.step_count})")
        self.history.skipped_steps.extend(skipped.tolist())

    def _set_position(self, fields: Fields) -> None:
        optimizer, history = self.optimizer, self.history
        # The streams of the seed end somewhere: see SHUFFLE_STREAM and DROPOUT_STREAM.
        self.epoch = fields.integer("state.epoch", SHUFFLE_STREAM - 1)
        self.step_count = fields.integer("state.step", DROPOUT_STREAM // (self.model.layers * self.accumulate) - 1)
        self._rows = fields.integer("state.rows", sys.maxsize)
        self._batch = fields.integer("state.batch", self._rows)
        optimizer.updates = fields.integer("state.updates", self.step_count)
        best_epoch = None if fields.is_none("state.best_epoch") else fields.integer("state.best_epoch", self.epoch)
        best_value = None if fields.is_none("state.best_value") else fields.double("state.best_value")
        reason = None if fields.is_none("state.stopped_reason") else fields.text("state.stopped_reason")
        if (best_epoch is None) != (best_value is None):
            raise ValueError(f"state.best_epoch is {best_epoch} but state.best_value is {best_value!r}")
        if reason is not None and reason not in REASONS:
            raise ValueError(f"state.stopped_reason is {reason!r}; it must be one of {', '.join(REASONS)}")
        history.best_epoch, history.best_value, history.stopped_reason = best_epoch, best_value, reason
