"""Optimiser state and updates over the flat parameter array of a model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._checks import check_real
from normcore._signals import Call, uninterrupted
from normcore.mlp import MLP
from normcore.training.attributes import read_only, setting

__all__ = ["OPTIMIZERS", "Optimizer", "OptimizerName", "StateOverflowError", "clipping_scale"]

OptimizerName = Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"]

# Name -> the update rule of the core, and how many slots (arrays like the parameters) it keeps: first, second.
OPTIMIZERS: dict[str, tuple[str, bool, bool]] = {
    "sgd": ("sgd", False, False),
    "momentum": ("momentum", True, False),
    "nesterov": ("nesterov", True, False),
    "rmsprop": ("rmsprop", False, True),
    "adam": ("adam", True, True),
    "adamw": ("adam", True, True),
}

# What is in the slots of each rule, in words.
_SLOTS = {
    "momentum": ("velocity", ""),
    "nesterov": ("velocity", ""),
    "rmsprop": ("", "mean square"),
    "adam": ("first moment", "second moment"),
}


class StateOverflowError(FloatingPointError):
    """An update that would make an element of the optimiser's state NaN or infinite, which it would then stay.

    Attributes
    ----------
    name : str
        The first such parameter: "w1", ...
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.name)


def clipping_scale(clip_norm: float, norm: float, dtype: np.dtype[Any], step: str) -> float:
    """What gradients of that norm, which is greater than `clip_norm`, are multiplied by; ValueError where that is 0."""
    scale = clip_norm / norm
    if not dtype.type(scale):  # which the update would refuse without a word of clipping
        raise ValueError(
            f"{step}: clip_norm is {clip_norm!r} and the gradients' norm {norm:.6g}: the scale, {scale:.6g}, is 0 in "
            f"{dtype.name}"
        )
    return scale


def _scalar(name: str, convert: Callable[[Any, Any], Any]) -> Any:
    """A number of an optimiser: once that is made, one which an update would refuse is refused, and leaves the old."""

    def check(optimizer: Any, value: Any) -> Any:
        new = convert(optimizer, value)
        if "updates" in vars(optimizer):
            trial = copy.copy(optimizer)
            vars(trial)[name] = new
            trial.check("Optimizer")
        return new

    return setting(check, discards="_updater")


def _number(name: str) -> Any:
    return _scalar(name, lambda optimizer, value: check_real(value, "Optimizer", name))


def _check_betas(optimizer: Any, value: Any) -> tuple[float, float]:
    try:
        beta1, beta2 = value
    except (TypeError, ValueError):
        raise TypeError(f"Optimizer: betas must be two numbers, not {value!r}") from None
    return check_real(beta1, "Optimizer", "betas[0]"), check_real(beta2, "Optimizer", "betas[1]")


def _check_weight_decay(optimizer: Any, value: Any) -> float:
    if value is None:
        return 1e-2 if optimizer.name == "adamw" else 0.0
    return check_real(value, "Optimizer", "weight_decay")


class Optimizer:
    """One update rule bound to the parameters and gradients of one model.

    Parameters
    ----------
    model : MLP
    name : "sgd", "momentum", "nesterov", "rmsprop", "adam" or "adamw"
        "adamw" is "adam" whose `weight_decay` is 1e-2 unless given.
    momentum, decay_rate, betas, eps : float
        Of momentum and Nesterov; of RMSProp; of Adam (two); of RMSProp and Adam.
    l2 : float
        l2 * w is added to the gradient of each weight matrix w (after clipping).
    weight_decay : float or None
        Decoupled: each weight matrix shrinks by learning_rate * weight_decay * w. None: 1e-2 for "adamw", else 0.

    Notes
    -----
    Biases, gamma and beta are never decayed. The formulas stand in ``normcore.h`` under normcore_optimizer.

    The velocity of momentum and Nesterov has the learning rate in it (v = momentum * v - learning_rate * g; p += v),
    as in Keras and in the CS231n course: under a schedule it remembers the rates of the steps it comes from. In
    PyTorch's form (v = momentum * v + g; p -= learning_rate * v) the current rate scales all of it. With a constant
    rate the two are the same.
    """

    name: OptimizerName = read_only("make a new Optimizer")
    momentum: float = _number("momentum")
    decay_rate: float = _number("decay_rate")
    betas: tuple[float, float] = _scalar("betas", _check_betas)
    eps: float = _number("eps")
    l2: float = _number("l2")
    weight_decay: float = _scalar("weight_decay", _check_weight_decay)
    slot1: npt.NDArray[Any] | None = read_only("write into it")
    slot2: npt.NDArray[Any] | None = read_only("write into it")

    def __init__(
        self,
        model: MLP,
        name: OptimizerName = "adam",
        *,
        momentum: float = 0.9,
        decay_rate: float = 0.99,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
        weight_decay: float | None = None,
    ) -> None:
        if not isinstance(name, str) or name not in OPTIMIZERS:
            raise ValueError(f"Optimizer: {name!r} is no optimizer; known are {', '.join(OPTIMIZERS)}")
        self.name = name
        self.momentum = momentum
        self.decay_rate = decay_rate
        self.betas = betas
        self.eps = eps
        self.l2 = l2
        self.weight_decay = _check_weight_decay(self, weight_decay)
        self._rule, first, second = OPTIMIZERS[name]
        self._model = model
        self.check("Optimizer")
        self.updates = 0
        """Updates done so far: the t of Adam is one more."""

        self.slot1 = np.zeros_like(model.parameters_flat) if first else None
        self.slot2 = np.zeros_like(model.parameters_flat) if second else None
        self._updater: _core.Updater | None = None  # made by the next update, from the settings that it finds
        self._limit = 0.25 * float(np.finfo(model.dtype).max)

    def check(self, operation: str, learning_rate: float = 0.0) -> None:
        """Refuse for `operation` what the first update would refuse, by the same rule: numbers that the dtype changes.

        Raises
        ------
        ValueError
            As `optimizer_update`, but named after `operation`.
        """
        _core.check_optimizer(
            operation,
            self._model.dtype,
            self._rule,
            learning_rate,
            self.momentum,
            self.decay_rate,
            self.betas,
            self.eps,
            self.l2,
            self.weight_decay,
        )

    def _make_updater(self) -> _core.Updater:
        """The core's view of this optimiser: arrays of model and slots, cut where the decay begins and ends."""
        model = self._model
        groups = [
            (
                model.parameters_flat[part],
                model.gradients_flat[part],
                None if self.slot1 is None else self.slot1[part],
                None if self.slot2 is None else self.slot2[part],
                self.l2 if decayed else 0.0,
                self.weight_decay if decayed else 0.0,
            )
            for part, decayed in self._partition(model)
        ]
        self._updater = _core.Updater(self._rule, groups, self.momentum, self.decay_rate, self.betas, self.eps)
        return self._updater

    def __getstate__(self) -> dict[str, Any]:
        # Its arrays would be copied as ones of their own, whose updates no model sees.
        return {**vars(self), "_updater": None}

    def _partition(self, model: MLP) -> list[tuple[slice, bool]]:
        """Cut the flat array into as few pieces as the decay allows: one if there is none."""
        size = model.parameters_flat.size
        if self.l2 == 0.0 and self.weight_decay == 0.0:
            return [(slice(0, size), False)]
        parts: list[tuple[slice, bool]] = []
        end = 0
        for weights in model.weight_slices():
            if end < weights.start:
                parts.append((slice(end, weights.start), False))
            parts.append((weights, True))
            end = weights.stop
        if end < size:
            parts.append((slice(end, size), False))
        return parts

    def penalty(self) -> float:
        """0.5 * l2 * sum(w**2) over all weight matrices: what `l2` adds to the loss."""
        if self.l2 == 0.0:
            return 0.0
        total = 0.0
        for part in self._model.weight_slices():
            total += _core.sum_of_squares(self._model.parameters_flat[part])
        return 0.5 * self.l2 * total

    def update(
        self,
        learning_rate: float,
        gradient_scale: float = 1.0,
        greatest: float = math.inf,
        then: Iterable[Call] = (),
    ) -> None:
        """Move the model's parameters by one update from its gradients, in place.

        Parameters
        ----------
        learning_rate, gradient_scale : float
            As in `optimizer_update`.
        greatest : float
            No element of the scaled gradients, their L2 term included, is greater than this in magnitude. Where that
            does not rule an overflow out, all that the update changes is copied first and the state looked through
            afterwards, which takes several times as long.
        then : (function, arguments ...) tuples
            Called when all is done. If they are compiled functions, no signal finds the one done without the other.

        Raises
        ------
        StateOverflowError
            The state would no longer be finite. Nothing has been changed, nor by any other error.
        """
        done = self.updates
        count = ((setattr, self, "updates", done + 1), *then)
        updater = self._updater or self._make_updater()
        if self._stays_finite(learning_rate, greatest):
            updater.update(learning_rate, gradient_scale, done + 1, count)
            return
        changed = [array for array in (self._model.parameters_flat, self.slot1, self.slot2) if array is not None]
        copies = [array.copy() for array in changed]
        try:
            updater.update(learning_rate, gradient_scale, done + 1, ())
            self._check_state()
            uninterrupted(count)
        except BaseException:
            if self.updates == done:
                for array, copy in zip(changed, copies, strict=True):
                    np.copyto(array, copy)
            raise

    def _stays_finite(self, learning_rate: float, greatest: float) -> bool:
        """Whether the update cannot make the state infinite.

        With c the factor that the old state has in the update, what is added is below (1 - c) times a quarter of the
        greatest number: the sum is a weighted mean of two finite numbers, with room left for all rounding.
        """
        if self._rule == "sgd":
            return True
        if self.slot2 is None:
            return learning_rate * greatest <= (1.0 - self.momentum) * self._limit
        return max(greatest, greatest * greatest) <= self._limit

    def _check_state(self) -> None:
        for slot, what in zip((self.slot1, self.slot2), _SLOTS.get(self._rule, ("", "")), strict=True):
            if slot is None or np.isfinite(slot).all():
                continue
            start = 0
            for name, parameter in self._model.parameters().items():
                part = slice(start, start + parameter.size)
                start = part.stop
                if not np.isfinite(slot[part]).all():
                    raise StateOverflowError(f"the update would make the {what} of {name} overflow", name)
