"""What a training run did, step by step and epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CURVES", "REASONS", "History"]

CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
REASONS = ("epochs", "early_stopping", "callback", "nonfinite", "interrupted", "error")


@dataclass
class History:
    """What a training run did.

    The four curves have one entry from before training and one after each epoch: entry e is the state after e epochs.
    """

    loss: list[float] = field(default_factory=list)
    """Loss of each step, its L2 term included; that of a skipped step too."""
    train_loss: list[float] = field(default_factory=list)
    """Cross-entropy over the training data in evaluation mode; empty without `evaluate_training`."""
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    """The same over the validation data; empty without them."""
    val_accuracy: list[float] = field(default_factory=list)
    skipped_steps: list[int] = field(default_factory=list)
    """Steps (indices into `loss`) that were not done because of a NaN or Inf."""
    best_epoch: int | None = None
    """Epoch (index into the curves) of the best value of the monitored quantity; None if it was never measured."""
    best_value: float | None = None
    stopped_reason: str | None = None
    """Why the last fit ended: "epochs", "early_stopping", "callback", "nonfinite", "interrupted" (by Ctrl-C or another
    exception that is no `Exception`) or "error"."""

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as a dict of lists and plain values, independent of this object."""
        return {
            name: list(value) if isinstance(value, list) else value
            for name, value in ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        }
