"""What is trained in E1 to E4, as data. The hyper-parameters are those of Stanford CS231n, assignment 2.

Common to all: Adam (0.9, 0.999, 1e-8), no regularisation, ten epochs of minibatches drawn with replacement, weights
``weight_scale * normal``, biases and beta 0, gamma 1, eps 1e-5, running statistics from 0 with momentum 0.9.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["EXPERIMENTS", "Experiment", "Norm", "Run", "parse_selection", "runs_of"]

Norm = Literal["batch", "layer"] | None

#: 10**(k * 4/19 - 4) for k = 0 … 19, written out: a power function has other last bits on other machines.
WEIGHT_SCALES = (
    0.0001,
    0.0001623776739188721,
    0.00026366508987303583,
    0.00042813323987193956,
    0.0006951927961775605,
    0.0011288378916846883,
    0.0018329807108324356,
    0.002976351441631319,
    0.004832930238571752,
    0.007847599703514606,
    0.012742749857031334,
    0.0206913808111479,
    0.03359818286283781,
    0.05455594781168514,
    0.08858667904100823,
    0.14384498882876628,
    0.23357214690901212,
    0.3792690190732246,
    0.615848211066026,
    1.0,
)

#: 10**-3.5, written out for the same reason.
SMALL_LEARNING_RATE = 0.00031622776601683794


@dataclass(frozen=True, slots=True)
class Run:
    """One network to train: ``{affine - [norm] - ReLU} * len(hidden) - affine - softmax``."""

    experiment: str
    norm: Norm
    hidden: tuple[int, ...]
    batch_size: int
    weight_scale: float
    learning_rate: float
    epochs: int = 10
    seed: int = 0

    @property
    def training(self) -> tuple[object, ...]:
        """All that decides the result: runs of two experiments that agree in it are one training."""
        return (self.norm, self.hidden, self.batch_size, self.weight_scale, self.learning_rate, self.epochs, self.seed)

    def __str__(self) -> str:
        norm = f"{self.norm} norm" if self.norm else "no norm"
        return f"{self.experiment} ({norm}, batch {self.batch_size}, weight scale {self.weight_scale:.3g})"


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment's question and its runs in the order of the results (none for E5, which trains nothing)."""

    id: str
    title: str
    runs: tuple[Run, ...] = ()


def _e1() -> Iterable[Run]:
    norms: tuple[Norm, ...] = (None, "batch")
    return (Run("E1", norm, (100,) * 5, 50, 2e-2, 1e-3) for norm in norms)


def _e2() -> Iterable[Run]:
    norms: tuple[Norm, ...] = (None, "batch", "layer")
    return (Run("E2", norm, (50,) * 7, 50, scale, 1e-3) for norm in norms for scale in WEIGHT_SCALES)


def _by_batch_size(experiment: str, norm: Norm) -> Iterable[Run]:
    cells: tuple[tuple[Norm, int], ...] = ((None, 5), (norm, 5), (norm, 10), (norm, 50))
    return (Run(experiment, norm, (100,) * 5, size, 2e-2, SMALL_LEARNING_RATE) for norm, size in cells)


EXPERIMENTS: dict[str, Experiment] = {
    experiment.id: experiment
    for experiment in (
        Experiment("E1", "Does batch normalisation speed up training?", tuple(_e1())),
        Experiment("E2", "Does normalisation make training insensitive to the initial weights?", tuple(_e2())),
        Experiment(
            "E3", "How does batch normalisation depend on the batch size?", tuple(_by_batch_size("E3", "batch"))
        ),
        Experiment(
            "E4", "How does layer normalisation depend on the batch size?", tuple(_by_batch_size("E4", "layer"))
        ),
        Experiment("E5", "What does the simplified backward pass of batch normalisation save?"),
    )
}


def parse_selection(text: str | None) -> tuple[str, ...]:
    """``"E3,e1"`` -> ``("E1", "E3")``, in the order of the experiments; None selects all. Others are a ValueError."""
    if text is None:
        return tuple(EXPERIMENTS)
    wanted = {part.strip().upper() for part in text.split(",") if part.strip()}
    strangers = sorted(wanted - EXPERIMENTS.keys())
    if strangers or not wanted:
        named = f"{', '.join(strangers)} is no experiment" if strangers else "no experiment is named"
        raise ValueError(f"{named}; there are {', '.join(EXPERIMENTS)}")
    return tuple(id for id in EXPERIMENTS if id in wanted)


def runs_of(ids: Iterable[str], seed: int = 0) -> list[Run]:
    """The runs of these experiments in the order of the results, all with this seed.

    One seed for all on purpose: two runs that differ in one setting then see the same weights (up to scale) and the
    same minibatches, and their difference shows the setting and not the draw.
    """
    return [
        Run(run.experiment, run.norm, run.hidden, run.batch_size, run.weight_scale, run.learning_rate, run.epochs, seed)
        for id in ids
        for run in EXPERIMENTS[id].runs
    ]
