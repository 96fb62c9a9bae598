"""The sentences of the experiments: made from the numbers, and a difference only where ranges are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from normcore.experiments.definitions import EXPERIMENTS, Norm, Run
from normcore.experiments.findings import findings_of
from normcore.experiments.results import (
    DataFacts,
    Distributions,
    Finding,
    Gradients,
    Record,
    Smoothness,
    Summary,
    Timing,
    Training,
    summary,
)

DATA = DataFacts("made up", "made-up images", "0" * 64, 1000, 500, 64, 10, 0.11, 0.12)


def trainings(id: str, val: Callable[[Run], float], seeds: int = 3, epochs: int = 10) -> list[Training]:
    """Each climbs in a straight line to `val` of its run, in training half as far from 1; 20 steps an epoch."""
    made = []
    for run in EXPERIMENTS[id].runs:
        for seed in range(seeds):
            end = val(replace(run, seed=seed))
            curve = tuple(0.1 + (end - 0.1) * k / epochs for k in range(epochs + 1))
            train = tuple(0.5 + 0.5 * value if value > 0.12 else value for value in curve)
            company = 0.5 if run.norm == "batch" else 0.0
            made.append(Training(replace(run, seed=seed), (1.0,) * 20 * epochs, train, curve, None, 1e-8, company))
    return made


def said(id: str, records: Sequence[Record], **others: Sequence[Record]) -> tuple[Finding, ...]:
    return findings_of(id, {id: records, **others}, DATA)


def text(findings: Sequence[Finding]) -> str:
    return " ".join(finding.text for finding in findings)


def wobble(run: Run, width: float) -> float:
    """-width, 0, width for the seeds 0, 1, 2."""
    return width * (run.seed - 1)


def test_apart_means_clearly_apart() -> None:
    low = summary([1.0, 1.5, 2.0])
    assert summary([2.3, 2.6, 3.0]).above(low)
    assert not summary([2.05, 2.6, 3.0]).above(low), "apart, but by less than a tenth of a range"
    assert not summary([1.9, 2.6, 3.0]).above(low)
    assert not low.above(low)
    assert not Summary(5.0, 5.0, 5.0, 1).above(low), "one seed says nothing"
    assert Summary(5.0, 5.0, 5.0, 2).above(Summary(4.0, 4.0, 4.0, 2))


def test_e1_says_which_is_better() -> None:
    def faster(record: Training) -> Training:
        if record.run.norm is None:
            return record
        curve = tuple(min(record.val_accuracy[-1], 2 * value) for value in record.val_accuracy)
        return replace(record, val_accuracy=curve)

    def val(run: Run) -> float:
        return (0.7 if run.norm else 0.5) + wobble(run, 0.01)

    found = said("E1", [faster(record) for record in trainings("E1", val)])
    assert found[0] == Finding(
        "Batch norm converges faster: batch norm comes to 90 % of its final validation accuracy after 80 steps, no "
        "norm after 180.",
        True,
    )
    assert found[1].shows
    assert found[1].text.startswith(
        "On the training images batch norm ends better: after 10 epochs batch norm classifies"
    )
    assert found[2] == Finding(
        "On the validation images batch norm ends better: after 10 epochs batch norm classifies 70.0 % [69.0 … 71.0] "
        "of them correctly, no norm 50.0 % [49.0 … 51.0].",
        True,
    )
    assert "of 200 steps." in found[3].text
    assert "differs by up to 2.0 points, that of no norm by up to 2.0" in text(found)


def test_e1_with_the_numbers_turned_round() -> None:
    found = said("E1", trainings("E1", lambda run: (0.4 if run.norm else 0.5) + wobble(run, 0.01)))
    assert found[0].text.startswith("A difference does not show")
    assert not found[0].shows
    assert found[2].text.startswith("On the validation images batch norm ends worse")
    assert "as good in validation" not in text(found), "it never is"


@pytest.mark.parametrize("seeds", [1, 3])
def test_noise_is_not_a_finding(seeds: int) -> None:
    """Overlapping ranges, or one seed: no sentence of any experiment says that a difference shows."""

    def val(run: Run) -> float:
        return 0.61 - wobble(run, 0.05) if run.norm else 0.6 + wobble(run, 0.05)

    for id in ("E1", "E2", "E3", "E4", "E9"):
        found = said(id, trainings(id, val, seeds), E3=trainings("E3", val, seeds))
        wrong = [finding.text for finding in found if finding.shows and "same outputs" not in finding.text]
        assert wrong == []
    found = said("E1", trainings("E1", val, seeds))
    reason = "one seed cannot tell" if seeds == 1 else "a difference does not show, for the ranges overlap or nearly do"
    assert reason in found[2].text


def test_e2_counts_scales() -> None:
    def val(run: Run) -> float:
        if run.norm == "batch":
            return 0.7 + wobble(run, 0.01)
        return 0.6 + wobble(run, 0.01) if 0.01 < run.weight_scale < 0.2 else 0.1

    found = said("E2", trainings("E2", val))
    assert found[0] == Finding(
        "With batch norm training is less sensitive to the initial weights and for layer norm a difference does not "
        "show, for the ranges overlap or nearly do: 80 % of the best validation accuracy of all is reached at 6 with "
        "no norm, 20 with batch norm and 6 with layer norm, of 20 weight scales from 1e-4 to 1.",
        False,
    )
    assert "At chance with every seed stays no norm up to 0.00785 and from 0.234 on" in found[1].text
    assert "batch norm nowhere. He's scale is 0.2." in found[1].text
    assert "batch norm 70.0 % [69.0 … 71.0]" in found[2].text

    def both(run: Run) -> float:
        return val(replace(run, norm="batch" if run.norm else None))

    assert said("E2", trainings("E2", both))[0].text.startswith(
        "With batch norm and layer norm training is less sensitive"
    )
    assert "No scale leaves a network at chance" in text(said("E2", trainings("E2", lambda run: 0.5)))
    stuck = {0.00042813323987193956, 0.0006951927961775605, 0.002976351441631319}
    found = said("E2", trainings("E2", lambda run: 0.1 if run.weight_scale in stuck else 0.5))
    assert "stays no norm from 4.3e-4 to 7e-4 and at 0.00298, batch norm" in found[1].text
    assert "no norm throughout" in text(said("E2", trainings("E2", lambda run: 0.1)))


GAINS: dict[int, float] = {2: -0.2, 5: 0.05, 10: 0.1, 50: 0.2, 200: 0.1}


def by_size(run: Run) -> float:
    return 0.6 + wobble(run, 0.01) + (GAINS[run.batch_size] if run.norm == "batch" else 0.1 if run.norm else 0.0)


def test_e3_goes_by_batch_size() -> None:
    found = said("E3", trainings("E3", by_size))
    assert [finding.shows for finding in found] == [True, None, True]
    assert found[0].text == (
        "Batch norm does better with larger batches: batch norm ends with 70.0 % [69.5 … 70.5] of the training images "
        "classified correctly at batch 2 and 90.0 % [89.5 … 90.5] at 50, no norm with 80.0 % [79.5 … 80.5] and 80.0 % "
        "[79.5 … 80.5]."
    )
    assert "At 200 it ends lower than at 50" in found[1].text
    assert "batch norm gains -20.0 at 2, +5.0 at 5, +10.0 at 10, +20.0 at 50 and +10.0 at 200 points" in found[2].text
    assert "it helps at 5, 10, 50 and 200 and it does harm at 2. It gains more at 50 than at 2." in found[2].text


def test_e4_beside_e3_and_alone() -> None:
    layer = trainings("E4", by_size)
    found = said("E4", layer, E3=trainings("E3", by_size))
    assert found[0].text.startswith(
        "Layer norm helps at batch 2 too: layer norm ends with 70.0 % [69.0 … 71.0] of the validation"
    )
    assert "batch norm (E3) with 40.0 % [39.0 … 41.0]; at 50 layer norm with" in found[0].text
    assert "it helps at 2, 5, 10, 50 and 200." in text(found)
    assert "exactly the same outputs alone and in company; through batch norm they change by 50.0 % of" in text(found)
    assert found[-1].text.startswith(
        "At 2 layer norm is better: layer norm and batch norm (E3) end in validation with "
    )
    alone = said("E4", layer)
    assert "E3" not in text(alone)
    assert len(alone) == 4
    changed = [replace(record, company_effect=0.25) for record in layer]
    assert "an image's outputs change in company by 25.0 % of the largest" in text(said("E4", changed))


def timing(n: int, name: Any, speedup: float) -> Timing:
    around = (0.9 * speedup, speedup, 1.1 * speedup)
    times = (around, (1.0, 1.0, 1.0), around)
    return Timing(n, 100, "float64", name, *times, 1600 * n, 800 * n, 28000 * n, 12800 * n, 2e-16, 31, 1)


def test_e5_counts_and_compares() -> None:
    rows = [timing(n, name, gain) for n, gain in ((10, 2.0), (100, 3.0), (1000, 5.0)) for name in ("numpy", "normcore")]
    found = said("E5", rows)
    assert found[0] == Finding(
        "The closed form is faster than the graph at 3 of 3 shapes in numpy (2.0 to 5.0 times as fast) and at 3 of 3 "
        "shapes in normcore (2.0 to 5.0 times as fast) (medians; faster: in three of four measurements).",
        True,
    )
    assert "in numpy 8 operations instead of 16 and 128 bytes instead of 280; in normcore" in found[1].text
    assert found[2].text.startswith(
        "It gains most with the largest batch: with 100 features in numpy it is 5.0 times [4.5"
    )
    assert "at most 2e-16 of" in found[3].text
    rows[-1] = timing(1000, "normcore", 1.05)
    found = said("E5", rows)
    assert "2 of 3 shapes in normcore (1.1 to 3.0 times" in found[0].text.replace("1.0 to", "1.1 to")
    assert [finding.shows for finding in found[:3]] == [False, None, False]
    assert found[2].text.startswith("That it gains most with large batches does not show")


def distributions(spreads: dict[Norm, float], shifts: dict[Norm, tuple[float, float]]) -> list[Record]:
    """`spreads`: the factor from layer to layer before training; `shifts`: early and late."""
    made: list[Record] = []
    for run in EXPERIMENTS["E6"].runs:
        for seed in range(3):
            first = tuple(spreads[run.norm] ** layer * (1.0 + 0.01 * seed) for layer in range(5))
            early, late = ((shift * (1.0 + 0.01 * seed),) * 5 for shift in shifts[run.norm])
            zeros, rows = (0.0,) * 5, ((0.0,) * 5,) * 5
            made.append(
                Distributions(
                    replace(run, seed=seed),
                    steps=(0, 20, 199),
                    mean=(zeros,) * 3,
                    spread=(first, (1.0,) * 5, (1.0,) * 5),
                    quantiles=(rows,) * 3,
                    dead=(zeros,) * 3,
                    shift=(early, early, late),
                    softmax_deviation=1e-8,
                )
            )
    return made


def test_e6_looks_at_spread_and_shift() -> None:
    spreads: dict[Norm, float] = {None: 0.1, "batch": 1.0, "layer": 1.0}
    found = said("E6", distributions(spreads, {None: (0.5, 0.1), "batch": (0.1, 0.1), "layer": (0.1, 0.3)}))
    assert [finding.shows for finding in found] == [True, True, True, None]
    assert found[0].text.startswith("The norms keep it: before training what the ReLUs see has, from the first to")
    assert "a spread of 1.01 [1.00 … 1.02] to 1.0e-4 without a norm, 1.01 [1.00 … 1.02] to 1.01 [" in found[0].text
    assert "moves the distributions less with batch norm and layer norm: in the layer that moves most by" in text(found)
    assert "In the second half of all updates each moves them by 0.101 [0.100 … 0.102] with no norm" in text(found)
    same: dict[Norm, float] = dict.fromkeys(spreads, 0.5)
    found = said("E6", distributions(same, dict.fromkeys(spreads, (0.1, 0.1))))
    assert [finding.shows for finding in found] == [False, False, False, None]
    assert found[0].text.startswith("That the norms keep it does not show")
    assert "that it does so less with a norm does not show" in found[2].text


def gradients(size: Callable[[Run, int], float]) -> list[Record]:
    """`size` of the gradient of a run's layer, counted from the last."""
    return [
        Gradients(
            replace(run, seed=seed),
            tuple((1.0 + 0.01 * seed) ** len(run.hidden) * size(run, k) for k in reversed(range(len(run.hidden) + 1))),
            1e-8,
        )
        for run in EXPERIMENTS["E7"].runs
        for seed in range(3)
    ]


def test_e7_goes_with_depth() -> None:
    def size(run: Run, back: int) -> float:
        if run.norm is None:
            return float(10.0 * run.weight_scale) ** len(run.hidden)
        return 1.2**back if run.norm == "batch" else 1.0

    found = said("E7", gradients(size))
    assert [finding.shows for finding in found] == [True, True, None, None]
    assert found[0].text.startswith(
        "The norms keep the gradient from vanishing: with 50 hidden layers and weight scale 0.02"
    )
    assert "With He's weight scale, 0.141, it does not vanish" in found[2].text
    assert found[3].text.startswith("With batch norm it grows on its way back instead: with 5 and with 50")
    found = said("E7", gradients(lambda run, back: 1e-3 if run.weight_scale < 0.1 else 1e-9 ** (len(run.hidden) / 5)))
    assert [finding.shows for finding in found] == [False, False, None, None]
    assert found[0].text.startswith("It does not show that the norms keep the gradient from vanishing")
    assert "it vanishes too without a norm" in found[2].text
    assert found[3].text.startswith("It hardly grows on its way back")
    found = said("E7", gradients(lambda run, back: 0.0 if run.weight_scale < 0.1 else 1.0))
    assert "infinite" in text(found)


def smoothness(widths: dict[Norm, float]) -> list[Record]:
    return [
        Smoothness(
            replace(run, seed=seed),
            (0, 50, 100),
            (0.5, 1.0),
            (1.0,) * 3,
            lowest=(0.5,) * 3,
            highest=(0.5 + widths[run.norm] * (1 + 0.01 * seed),) * 3,
            turn=(50.0 * widths[run.norm] + seed,) * 3,
            change=(widths[run.norm] * (1 + 0.01 * seed),) * 3,
            softmax_deviation=1e-8,
        )
        for run in EXPERIMENTS["E8"].runs
        for seed in range(3)
    ]


def test_e8_compares_with_no_norm() -> None:
    found = said("E8", smoothness({None: 1.0, "batch": 0.1, "layer": 2.0}))
    assert found[0].text.startswith(
        "The loss is smoother with batch norm and rougher with layer norm: within a distance of 1"
    )
    assert found[1].text.startswith("The gradient is steadier with batch norm and less steady with layer norm:")
    assert found[2].text.startswith("It turns less with batch norm: by 51 [50 … 52] with no norm")
    assert all(finding.shows for finding in found)
    found = said("E8", smoothness(dict.fromkeys((None, "batch", "layer"), 1.0)))  # type: ignore[arg-type]
    assert found[0].text.startswith("That the loss is smoother with a norm does not show")
    assert "not visibly less" in found[2].text
    assert not any(finding.shows for finding in found)


def test_e9_finds_the_highest_rate() -> None:
    highest: dict[Norm, float] = {None: 0.01, "batch": 0.3, "layer": 0.01}

    def val(run: Run) -> float:
        return 0.7 if 1e-3 <= run.learning_rate <= highest[run.norm] else 0.1

    found = said("E9", trainings("E9", val))
    assert [finding.shows for finding in found] == [True, True, None]
    assert found[0].text == (
        "Batch norm allows higher learning rates; that layer norm allows higher ones does not show: the highest to "
        "come to 80 % of the best final validation accuracy of all is 0.01 with no norm, 0.3 with batch norm and 0.01 "
        "with layer norm."
    )
    assert "of 13 rates 3 with no norm, 6 with batch norm and 3 with layer norm" in found[1].text
    highest["layer"] = 0.003
    assert "; layer norm demands lower ones: " in said("E9", trainings("E9", val))[0].text
    highest["layer"] = 0.1
    assert said("E9", trainings("E9", val))[0].text.startswith(
        "Batch norm and layer norm allow higher learning rates: "
    )
