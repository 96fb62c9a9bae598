"""What the experiments gave, as typed records, and the file ``results.json`` that holds all of them.

The file is one JSON object, in this order:

==================  =============================================================================================
``format``          1
``normcore``        ``version`` and ``contract`` (of the numbers: equal contracts give equal bits)
``started``         UTC, ISO 8601
``seconds``         wall time of all runs, figures not included
``settings``        ``experiments`` (ids), ``seeds``, ``quick``, ``executor``, ``jobs``
``data``            `DataFacts`
``machine``         ``system``, ``machine``, ``processors``, ``isa``, ``python``, ``numpy``
``experiments``     a list of `ExperimentResult`: question, claim, findings, records
==================  =============================================================================================

A record of E1 to E4 and E9 is a `Training`, of E5 a `Timing`, of E6 a `Distributions`, of E7 a `Gradients`, of E8 a
`Smoothness`; its keys are the fields of the class. All but E5 begin with ``run``, the fields of a `Run`. There is one
record for each run *and seed*; `by_setting` puts the seeds of a setting together, and `summary` makes a median and a
range of them. Measured numbers have seven significant digits. But for ``started``, ``seconds``, ``machine`` and the
times of E5 the same version and settings give the same file.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from normcore.experiments.definitions import EXPERIMENTS, Run

__all__ = [
    "QUANTILES",
    "DataFacts",
    "Distributions",
    "ExperimentResult",
    "Finding",
    "Gradients",
    "Record",
    "Results",
    "RunRecord",
    "Smoothness",
    "Summary",
    "Timing",
    "Training",
    "by_setting",
    "rounded",
    "summary",
]

FORMAT = 1

#: Which quantiles `Distributions` holds.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Row = tuple[float, ...]

_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class Training:
    """E1 to E4 and E9: what one training gave.

    Attributes
    ----------
    loss : the mean loss of each minibatch
    train_accuracy, val_accuracy : fractions, at the start and after each epoch, all images, evaluation mode
    diverged_at : the step (from 0) whose loss, gradient or update was not finite, which ended the training: then `loss`
        has that many entries, and the accuracies after the last whole epoch repeat what always answering the most
        frequent class scores, so that they are as long as elsewhere; None where all steps were done
    softmax_deviation : the largest deviation from 1 of the sum of an image's probabilities, after training; None where
        it diverged
    company_effect : the largest change of the outputs of one image, relative to the largest output, when it goes
        through the trained network in a training pass with all validation images and not alone (with batch norm, which
        needs two: not with one other); exactly 0 where a row depends on no other; None where it diverged
    """

    run: Run
    loss: Row
    train_accuracy: Row
    val_accuracy: Row
    diverged_at: int | None
    softmax_deviation: float | None
    company_effect: float | None


@dataclass(frozen=True, slots=True)
class Timing:
    """E5: one implementation at one shape; batch norm's backward pass by its graph and in the simplified closed form.

    Attributes
    ----------
    implementation : "numpy" or "normcore"
    graph_seconds, fused_seconds, speedup : (first quartile, median, third quartile) of `samples` interleaved
        measurements on one thread; a speed-up is that of two measurements next to each other
    graph_operations, fused_operations : additions, multiplications, ... of one pass, counted
    graph_bytes, fused_bytes : bytes read from and written to arrays by one pass, counted
    max_relative_difference : of the two results
    """

    n: int
    d: int
    dtype: str
    implementation: Literal["numpy", "normcore"]
    graph_seconds: Row
    fused_seconds: Row
    speedup: Row
    graph_operations: int
    fused_operations: int
    graph_bytes: int
    fused_bytes: int
    max_relative_difference: float
    samples: int
    threads: int


@dataclass(frozen=True, slots=True)
class Distributions:
    """E6: what each ReLU sees (after the norm, where there is one), of the same images at chosen steps of a training.

    Attributes
    ----------
    steps : updates done before each measurement, from 0
    mean, spread : [step][layer], mean and standard deviation over images and units
    quantiles : [step][layer][quantile], as in `QUANTILES`, over images and units
    dead : [step][layer], fraction of units whose ReLU is 0 for every image
    shift : [step][layer], how far the next update moves it, in spreads of the layer:
        `normcore.diagnostics.distribution_shift`
    softmax_deviation : as in `Training`
    """

    run: Run
    steps: tuple[int, ...]
    mean: tuple[Row, ...]
    spread: tuple[Row, ...]
    quantiles: tuple[tuple[Row, ...], ...]
    dead: tuple[Row, ...]
    shift: tuple[Row, ...]
    softmax_deviation: float


@dataclass(frozen=True, slots=True)
class Gradients:
    """E7: the gradients of a network before training, in double.

    Attributes
    ----------
    norms : [layer], the Euclidean norm of each weight gradient, from the first layer to the last
    softmax_deviation : as in `Training`
    """

    run: Run
    norms: Row
    softmax_deviation: float


@dataclass(frozen=True, slots=True)
class Smoothness:
    """E8: the loss along the gradient at chosen steps of a training, on a minibatch drawn at that step.

    Attributes
    ----------
    steps : updates done before each measurement
    distances : how far along the negative gradient loss and gradient were taken: Euclidean distances of the parameters
    loss : [step], at distance 0
    lowest, highest : [step], of the losses at the distances
    turn : [step], the largest angle between the gradient at distance 0 and one at the distances, in degrees
    change : [step], the largest relative change of the gradient, ``|g' - g| / |g|``
    softmax_deviation : as in `Training`
    """

    run: Run
    steps: tuple[int, ...]
    distances: Row
    loss: Row
    lowest: Row
    highest: Row
    turn: Row
    change: Row
    softmax_deviation: float


RunRecord = Training | Distributions | Gradients | Smoothness
Record = RunRecord | Timing

_RECORDS: dict[str, type[Any]] = {
    "E5": Timing,
    "E6": Distributions,
    "E7": Gradients,
    "E8": Smoothness,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence made from the numbers.

    Attributes
    ----------
    text : one sentence or more, with medians and ranges
    shows : whether it says that a difference shows (True) or that it does not (False); None where it only describes
    """

    text: str
    shows: bool | None = None


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """One experiment: its question, the claim it examines, what it found, and the records that is made from.

    `softmax_deviation` is the largest of its records, None for E5.
    """

    id: str
    title: str
    claim: str
    findings: tuple[Finding, ...]
    softmax_deviation: float | None
    records: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The images of all experiments. `sha256` is over training pixels, training labels, validation pixels, validation
    labels, a byte each; `chance` is what always answering the most frequent class scores."""

    name: str
    description: str
    sha256: str
    training_images: int
    validation_images: int
    features: int
    classes: int
    training_chance: float
    validation_chance: float


@dataclass(frozen=True, slots=True)
class Results:
    """All of ``results.json``."""

    normcore: Mapping[str, Any]
    started: str
    seconds: float
    settings: Mapping[str, Any]
    data: DataFacts
    machine: Mapping[str, Any]
    experiments: tuple[ExperimentResult, ...]

    def experiment(self, id: str) -> ExperimentResult:
        """The experiment "E1", ...; KeyError where it was not run."""
        for found in self.experiments:
            if found.id == id:
                return found
        raise KeyError(id)

    def to_json(self) -> bytes:
        """The content of results.json. A number that is not finite is refused."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Results:
        """What `to_json` wrote; ValueError for another format."""
        document = json.loads(content)
        if document.pop("format", None) != FORMAT:
            raise ValueError(f"results.json: not of format {FORMAT}, which this version of normcore writes")
        experiments = tuple(
            ExperimentResult(
                **{
                    **entry,
                    "findings": tuple(Finding(**finding) for finding in entry["findings"]),
                    "records": tuple(_record(entry["id"], record) for record in entry["records"]),
                }
            )
            for entry in document.pop("experiments")
        )
        return cls(data=DataFacts(**document.pop("data")), experiments=experiments, **document)

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """`from_json` of a file."""
        return cls.from_json(Path(path).read_bytes())


def _record(experiment: str, entry: dict[str, Any]) -> Record:
    kind = _RECORDS.get(experiment, Training)
    values = {name: _tuples(value) for name, value in entry.items()}
    if "run" in values:
        values["run"] = Run(**{name: _tuples(value) for name, value in entry["run"].items()})
    made: Record = kind(**values)
    return made


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def rounded(values: Any) -> Any:
    """Numbers, or nested sequences of them, as floats of seven significant digits in tuples."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    return tuple(map(rounded, values)) if isinstance(values, Sequence) else float(f"{values:.7g}")


# ---------------------------------------------------------------------- over the seeds


class Summary(NamedTuple):
    """A number over the seeds, of which there are `seeds`."""

    median: float
    least: float
    greatest: float
    seeds: int

    def above(self, other: Summary) -> bool:
        """Whether the ranges are clearly apart, this one above: by a tenth of the wider one at least, so that other
        seeds say the same. The "ranges" of one seed say nothing."""
        gap, widths = self.least - other.greatest, (self.greatest - self.least, other.greatest - other.least)
        return min(self.seeds, other.seeds) > 1 and gap > 0.0 and gap >= _MARGIN * max(widths)


def summary(values: Iterable[float]) -> Summary:
    """Median and range of the same number of several seeds."""
    values = list(values)
    return Summary(statistics.median(values), min(values), max(values), len(values))


_R = TypeVar("_R", Training, Distributions, Gradients, Smoothness)


def by_setting(records: Iterable[_R], key: Callable[[Run], Any] | None = None) -> dict[Any, list[_R]]:
    """The records of each setting, in their order: one for each seed.

    `key` makes the keys of the result from a `Run`; by default they are the runs without their seed (seed 0).
    """
    key = key or (lambda run: replace(run, seed=0))
    grouped: dict[Any, list[_R]] = {}
    for record in records:
        grouped.setdefault(key(record.run), []).append(record)
    return grouped


def largest_softmax_deviation(records: Iterable[Record]) -> float | None:
    """Over records that have one."""
    found = [record.softmax_deviation for record in records if not isinstance(record, Timing)]
    return max((value for value in found if value is not None), default=None)


def experiment_result(id: str, records: Sequence[Record], findings: Sequence[Finding]) -> ExperimentResult:
    """The records of one experiment with what they show."""
    experiment = EXPERIMENTS[id]
    deviation = largest_softmax_deviation(records)
    return ExperimentResult(id, experiment.title, experiment.claim, tuple(findings), deviation, tuple(records))
