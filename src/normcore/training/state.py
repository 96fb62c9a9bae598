"""Where a training stands, and what its steps and its fits ask of that."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from normcore.training.history import History
from normcore.training.schedules import rate_at
from normcore.training.settings import TrainerSettings
from normcore.training.weights import BestWeights

__all__ = ["TrainerState"]


class TrainerState(TrainerSettings):
    """What a `Trainer` has beside its settings: all that changes while it trains."""

    history: History
    epoch: int
    """Finished epochs."""
    step_count: int
    """Finished steps, skipped ones included."""
    _batch: int  # steps done in the current epoch
    _rows: int  # rows of the training data of the current epoch
    _halted: bool  # by a step that "stop" left out
    _kept: BestWeights
    _balanced: npt.NDArray[Any] | None  # class weights by the labels of the fit that is being done

    def _next_rate(self) -> float:
        rate = self.learning_rate
        return rate_at(rate, self.step_count, self.history.curves) if callable(rate) else rate

    def _weight_of_classes(self) -> npt.NDArray[Any] | None:
        weight = self.class_weight
        if not isinstance(weight, str):
            return weight
        if self._balanced is None:
            raise ValueError("Trainer: class_weight='balanced' is counted when a fit begins; give numbers")
        return self._balanced

    def _show_best(self) -> None:
        """Give the model the weights of the best epoch, if wanted, and keep those of the last step to go on from."""
        if self.restore_best:
            self._kept.show()
