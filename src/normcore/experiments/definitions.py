"""What is run in E1 to E9, as data: one table of experiments, each with its question and its runs.

The hyper-parameters of E1 to E4 are those of Stanford CS231n, assignment 2; E6 to E9 look into E1's network. Common to
all: Adam (0.9, 0.999, 1e-8), no regularisation, ten epochs of minibatches drawn with replacement, weights
``weight_scale * normal``, biases and beta 0, gamma 1, eps 1e-5, running statistics from 0 with momentum 0.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

__all__ = [
    "BACKWARD_SHAPES",
    "EXPERIMENTS",
    "SEEDS",
    "Experiment",
    "Measure",
    "Norm",
    "Run",
    "parse_selection",
    "runs_of",
]

Norm = Literal["batch", "layer"] | None
Measure = Literal["accuracy", "distributions", "gradients", "smoothness"]

#: Seeds of each run, unless others are asked for.
SEEDS = 5

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

BATCH_SIZES = (2, 5, 10, 50, 200)
LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
DEPTHS = (5, 10, 20, 50)
#: Of E7. 0.1414 is He's for layers of 100: sqrt(2 / 100).
GRADIENT_SCALES = (0.001, 0.02, 0.1414, 1.0)

#: Rows and features of E5: rows over three decades at one width, then two more shapes; the course's is 100 x 500.
BACKWARD_SHAPES = (
    (10, 100),
    (30, 100),
    (100, 100),
    (300, 100),
    (1000, 100),
    (3000, 100),
    (10000, 100),
    (100, 500),
    (1000, 1000),
)

_QUICK_SIZES = (2, 10, 50)
_NORMS: tuple[Norm, ...] = (None, "batch", "layer")


@dataclass(frozen=True, slots=True)
class Run:
    """One network, what is done with it, and what is measured.

    The network is ``{affine - [norm] - ReLU} * len(hidden) - affine - softmax``. It is trained for `epochs` (0: not at
    all). `measure` "accuracy" keeps losses and accuracies, the others what `normcore.experiments.results` says.
    """

    experiment: str
    norm: Norm
    hidden: tuple[int, ...]
    batch_size: int
    weight_scale: float
    learning_rate: float
    epochs: int = 10
    seed: int = 0
    measure: Measure = "accuracy"

    @property
    def training(self) -> Run:
        """All that decides the result: runs of two experiments that agree in it are done once."""
        return replace(self, experiment="")

    def __str__(self) -> str:
        norm = f"{self.norm} norm" if self.norm else "no norm"
        return (
            f"{self.experiment} ({norm}, {len(self.hidden)} hidden layers, batch {self.batch_size}, weight scale "
            f"{self.weight_scale:.3g}, learning rate {self.learning_rate:.3g}, seed {self.seed})"
        )


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment's question, the claim it examines, and its runs in the order of the results.

    `quick_runs` are those of ``--quick``, empty where they are all runs. E5 has none, for it trains nothing.
    """

    id: str
    title: str
    claim: str
    runs: tuple[Run, ...] = ()
    quick_runs: tuple[Run, ...] = field(default=(), repr=False)


def _e1() -> Iterator[Run]:
    return (Run("E1", norm, (100,) * 5, 50, 2e-2, 1e-3) for norm in _NORMS[:2])


def _e2(scales: Sequence[float] = WEIGHT_SCALES) -> Iterator[Run]:
    return (Run("E2", norm, (50,) * 7, 50, scale, 1e-3) for norm in _NORMS for scale in scales)


def _by_batch_size(experiment: str, norm: Norm, sizes: Sequence[int] = BATCH_SIZES) -> Iterator[Run]:
    return (
        Run(experiment, which, (100,) * 5, size, 2e-2, SMALL_LEARNING_RATE) for which in (None, norm) for size in sizes
    )


def _inside(experiment: str, measure: Measure) -> Iterator[Run]:
    return (Run(experiment, norm, (100,) * 5, 50, 2e-2, 1e-3, measure=measure) for norm in _NORMS)


def _e7(depths: Sequence[int] = DEPTHS) -> Iterator[Run]:
    return (
        Run("E7", norm, (100,) * depth, 50, scale, 0.0, epochs=0, measure="gradients")
        for norm in _NORMS
        for depth in depths
        for scale in GRADIENT_SCALES
    )


def _e9(rates: Sequence[float] = LEARNING_RATES) -> Iterator[Run]:
    return (Run("E9", norm, (100,) * 5, 50, 2e-2, rate) for norm in _NORMS for rate in rates)


EXPERIMENTS: dict[str, Experiment] = {
    experiment.id: experiment
    for experiment in (
        Experiment(
            "E1",
            "Does batch normalisation speed up training?",
            "Normalisation stabilises training and makes it converge faster.",
            tuple(_e1()),
        ),
        Experiment(
            "E2",
            "Does normalisation make training insensitive to the initial weights?",
            "Normalised networks are less sensitive to the initial weights.",
            tuple(_e2()),
            tuple(_e2(WEIGHT_SCALES[1::3])),
        ),
        Experiment(
            "E3",
            "How does batch normalisation depend on the batch size?",
            "Batch normalisation relies on the batch: it does less where batches are small and more with larger ones.",
            tuple(_by_batch_size("E3", "batch")),
            tuple(_by_batch_size("E3", "batch", _QUICK_SIZES)),
        ),
        Experiment(
            "E4",
            "How does layer normalisation depend on the batch size?",
            "Layer normalisation is independent of the batch, and the better choice for small ones.",
            tuple(_by_batch_size("E4", "layer")),
            tuple(_by_batch_size("E4", "layer", _QUICK_SIZES)),
        ),
        Experiment(
            "E5",
            "What does the simplified backward pass of batch normalisation save?",
            "The simplified backward pass is faster because it has fewer operations, most of all with large batches.",
        ),
        Experiment(
            "E6",
            "Does normalisation keep the distribution of what each layer sees?",
            "Normalisation keeps the distribution of each layer's input; less of it moves during training (less "
            "internal covariate shift).",
            tuple(_inside("E6", "distributions")),
        ),
        Experiment(
            "E7",
            "Does normalisation keep the gradients of deep networks from vanishing?",
            "Normalisation prevents vanishing gradients.",
            tuple(_e7()),
            tuple(_e7(DEPTHS[:3])),
        ),
        Experiment(
            "E8",
            "Does normalisation smooth the loss?",
            "Batch normalisation makes the loss smoother along the gradient (Santurkar et al., arXiv 1805.11604).",
            tuple(_inside("E8", "smoothness")),
        ),
        Experiment(
            "E9",
            "Does normalisation allow higher learning rates?",
            "Normalised networks train at higher learning rates.",
            tuple(_e9()),
            tuple(_e9(LEARNING_RATES[::3])),
        ),
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


def runs_of(ids: Iterable[str], seeds: Iterable[int] = range(SEEDS), quick: bool = False) -> list[Run]:
    """The runs of these experiments in the order of the results: each once for every seed.

    The same seeds for all on purpose: two runs that differ in one setting then see the same weights (up to scale) and
    the same minibatches, and their difference shows the setting and not the draw.
    """
    seeds = tuple(seeds)
    return [
        replace(run, seed=seed)
        for id in ids
        for run in ((quick and EXPERIMENTS[id].quick_runs) or EXPERIMENTS[id].runs)
        for seed in seeds
    ]
