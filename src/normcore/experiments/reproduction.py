"""From the names of experiments to their results: all of ``normcore reproduce`` but the figures and the report."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

import normcore
from normcore.experiments import backward
from normcore.experiments.datasets import Dataset
from normcore.experiments.definitions import BACKWARD_SHAPES, EXPERIMENTS, SEEDS, Run, runs_of
from normcore.experiments.findings import findings_of
from normcore.experiments.progress import progress_bar
from normcore.experiments.results import DataFacts, Record, Results, experiment_result
from normcore.experiments.runner import cost, default_jobs, in_order, run_all

__all__ = ["data_facts", "expected_seconds", "reproduce"]

#: Of E5 under ``--quick``.
_QUICK_SHAPES = tuple(shape for shape in BACKWARD_SHAPES if shape[0] <= 1000 and shape[1] <= 500)


def data_facts(data: Dataset) -> DataFacts:
    """What results.json says of the images."""
    training_chance, validation_chance = data.chance()
    return DataFacts(
        name=data.name,
        description=data.description,
        sha256=data.sha256(),
        training_images=len(data.x_train),
        validation_images=len(data.x_val),
        features=data.features,
        classes=data.classes,
        training_chance=training_chance,
        validation_chance=validation_chance,
    )


def _shapes(quick: bool) -> tuple[tuple[int, int], ...]:
    return _QUICK_SHAPES if quick else BACKWARD_SHAPES


def _timing_cost(n: int, d: int) -> float:
    """About how many seconds E5 takes at a shape."""
    return 0.05 + backward.SAMPLES * max(8e-4, 1e-7 * n * d)


def expected_seconds(ids: Sequence[str], data: Dataset, seeds: Sequence[int], quick: bool, jobs: int | None) -> float:
    """About how long `reproduce` will take."""
    runs = sum(cost(run, data) for run in in_order(runs_of(ids, seeds, quick), data))
    return runs / (jobs or default_jobs()) + (sum(_timing_cost(n, d) for n, d in _shapes(quick)) if "E5" in ids else 0)


def reproduce(
    ids: Sequence[str],
    data: Dataset,
    *,
    seeds: Sequence[int] = range(SEEDS),
    quick: bool = False,
    executor: Executor | str = "local",
    jobs: int | None = None,
    progress: bool | None = None,
) -> Results:
    """Do these experiments and find what they show.

    Parameters
    ----------
    ids : "E1", ...; see `EXPERIMENTS`
    seeds : of weights and minibatches; each run is done with every one of them
    quick : fewer settings of E2 to E5, E7 and E9
    executor, jobs : as in `normcore.experiments.run_all`
    progress : a bar on standard error; None shows it only on a terminal

    Raises
    ------
    ExperimentError
        Where a run failed.
    """
    started, start = datetime.datetime.now(datetime.UTC), time.perf_counter()
    runs = runs_of(ids, seeds, quick)
    shapes = _shapes(quick) if "E5" in ids else ()
    records: dict[str, list[Record]] = {id: [] for id in ids}
    workers = jobs or default_jobs()
    order = in_order(runs, data)
    work = sum(cost(run, data) for run in order) / workers
    with progress_bar(work + sum(_timing_cost(n, d) for n, d in shapes), progress) as bar:
        finished = 0

        def done(run: Run, next_run: Run | None) -> None:
            nonlocal finished
            finished += 1
            if next_run is not None:
                bar.running(f"{next_run.experiment}, run {finished + 1} of {len(order)}")
            bar.done(cost(run, data) / workers)

        bar.running(ids[0])
        for record in run_all(runs, data, executor, jobs, done) if runs else ():
            records[record.run.experiment].append(record)
        # Alone, after the workers have gone: their load would be in the timings.
        for n, d in shapes:
            bar.running(f"E5, {n} x {d}")
            records["E5"] += backward.measure_backward([(n, d)], seed=seeds[0])
            bar.done(_timing_cost(n, d))
    facts = data_facts(data)
    return Results(
        normcore={"version": normcore.__version__, "contract": normcore.CONTRACT},
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 1),
        settings={
            "experiments": list(ids),
            "seeds": list(seeds),
            "quick": quick,
            "executor": executor if isinstance(executor, str) else type(executor).__name__,
            "jobs": workers,
        },
        data=facts,
        machine={
            "system": platform.platform(),
            "machine": platform.machine(),
            "processors": default_jobs(),
            "isa": normcore.get_isa(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        experiments=tuple(
            experiment_result(id, records[id], findings_of(id, records, facts)) for id in EXPERIMENTS if id in ids
        ),
    )
