"""Doing the runs of the experiments through the standard executor interface."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import normcore
from normcore.diagnostics import (
    GradientLine,
    activation_inputs,
    dead_units,
    distribution_shift,
    gradient_norms,
    loss_along_gradient,
)
from normcore.experiments.datasets import Dataset
from normcore.experiments.definitions import Measure, Run
from normcore.experiments.measurements import company_effect, softmax_deviation
from normcore.experiments.results import (
    QUANTILES,
    Distributions,
    Gradients,
    RunRecord,
    Smoothness,
    Training,
    rounded,
)
from normcore.mlp import MLP
from normcore.random import Generator
from normcore.training.guard import NonFiniteError
from normcore.training.trainer import Trainer

__all__ = ["EXECUTORS", "ExperimentError", "cost", "default_jobs", "in_order", "run_all", "train_run"]

#: Of E8: how far along the negative gradient loss and gradient are taken.
DISTANCES = (0.125, 0.25, 0.5, 1.0)

#: Of E6: after how many updates the network is looked at, besides the last but one.
_LOOKS = (0, 1, 2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180)

_MEASURE_STREAM = 3 << 61  # apart from the streams of weights, minibatches and dropout of the same seed


class ExperimentError(RuntimeError):
    """A run that failed; the message names it, and the cause is attached."""


def train_run(run: Run, data: Dataset) -> RunRecord:
    """Do one run. The result depends on the two arguments alone: trained numbers to the last bit."""
    return _MEASURES[run.measure](run, data)


def _model(run: Run, data: Dataset, dtype: str = "float32") -> MLP:
    model = MLP(
        [data.features, *run.hidden, data.classes],
        norm=run.norm,
        weight_scale=run.weight_scale,
        dtype=dtype,
        seed=run.seed,
    )
    # The exercise starts its running statistics from zero. The library's start, variance 1, is far above the variances
    # here and takes more than the first epoch to be forgotten: batch norm would look untrained when it is not.
    for statistics in model.buffers().values():
        statistics.fill(0.0)
    return model


def _trainer(model: MLP, run: Run, callbacks: Sequence[Any] = ()) -> Trainer:
    return Trainer(
        model,
        optimizer="adam",
        learning_rate=run.learning_rate,
        batch_size=run.batch_size,
        epochs=run.epochs,
        shuffle="replacement",
        on_nonfinite="raise",
        callbacks=callbacks,
        progress=False,
        seed=run.seed,
    )


def _accuracy(run: Run, data: Dataset) -> Training:
    x_train, x_val = data.arrays()
    model = _model(run, data)
    trainer = _trainer(model, run)
    diverged_at = None
    with contextlib.suppress(NonFiniteError):
        trainer.fit(x_train, data.y_train, validation_data=(x_val, data.y_val))
    history = trainer.history
    curves = []
    for name, chance in zip(("train_accuracy", "val_accuracy"), data.chance(), strict=True):
        curve = list(history[name])
        if len(curve) <= run.epochs:
            diverged_at = len(history.loss)
        curves.append(rounded(curve + [chance] * (run.epochs + 1 - len(curve))))
    loss = rounded(list(history.loss))
    if diverged_at is not None:
        return Training(run, loss, curves[0], curves[1], diverged_at, None, None)
    deviation, effect = softmax_deviation(model, x_train, x_val), company_effect(model, x_val)
    return Training(run, loss, curves[0], curves[1], None, deviation, rounded(effect))


class _AtSteps:
    """A callback that measures before the first update and after chosen ones."""

    def __init__(self, steps: Sequence[int], measure: Callable[[int], None]) -> None:
        self._steps, self._measure = frozenset(steps), measure

    def on_train_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        self._measure(0)

    def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        if logs["step"] in self._steps:
            self._measure(logs["step"])


def _steps_in(run: Run, data: Dataset) -> int:
    return run.epochs * max(1, len(data.x_train) // run.batch_size)


def _distributions(run: Run, data: Dataset) -> Distributions:
    x_train, x_val = data.arrays()
    model = _model(run, data)
    last = _steps_in(run, data)
    steps = [step for step in _LOOKS if step < last - 1]
    steps.append(last - 1)
    seen: dict[int, list[NDArray[Any]]] = {}
    dead: dict[int, NDArray[np.float64]] = {}

    def look(step: int) -> None:
        seen[step] = activation_inputs(model, x_train)
        if step in steps:
            dead[step] = dead_units(model, x_train)

    _trainer(model, run, [_AtSteps([*steps, *(step + 1 for step in steps)], look)]).fit(x_train, data.y_train)
    looks = [seen[step] for step in steps]
    return Distributions(
        run,
        tuple(steps),
        mean=rounded([[z.mean(dtype=np.float64) for z in look] for look in looks]),
        spread=rounded([[z.std(dtype=np.float64) for z in look] for look in looks]),
        quantiles=rounded([[np.quantile(z.astype(np.float64), QUANTILES) for z in look] for look in looks]),
        dead=rounded([dead[step] for step in steps]),
        shift=rounded(
            [
                [distribution_shift(now, then) for now, then in zip(seen[step], seen[step + 1], strict=True)]
                for step in steps
            ]
        ),
        softmax_deviation=softmax_deviation(model, x_train, x_val),
    )


def _gradients(run: Run, data: Dataset) -> Gradients:
    x_train, _ = data.arrays()
    # In double, in which fifty layers do not yet make a gradient 0 or infinite.
    model = _model(run, data, "float64")
    rows = Generator(run.seed, _MEASURE_STREAM).permutation(len(x_train))[: run.batch_size]
    norms = gradient_norms(model, x_train[rows], data.y_train[rows])
    # Before training the running statistics mean nothing: the probabilities are those of a training pass.
    probabilities = normcore.softmax(model.forward_training(x_train[rows]))
    deviation = float(np.abs(probabilities.sum(axis=1) - 1.0).max())
    return Gradients(run, rounded(norms), deviation)


def _smoothness(run: Run, data: Dataset) -> Smoothness:
    x_train, x_val = data.arrays()
    model = _model(run, data)
    last = _steps_in(run, data)
    steps = tuple(range(0, last, max(1, last // 40)))
    found: list[GradientLine] = []
    draw = Generator(run.seed, _MEASURE_STREAM)

    def look(step: int) -> None:
        rows = draw.integers(len(x_train), run.batch_size)
        found.append(loss_along_gradient(model, x_train[rows], data.y_train[rows], DISTANCES, normalize=True))

    _trainer(model, run, [_AtSteps(steps, look)]).fit(x_train, data.y_train)
    return Smoothness(
        run,
        steps,
        DISTANCES,
        loss=rounded([line.loss for line in found]),
        lowest=rounded([line.losses.min() for line in found]),
        highest=rounded([line.losses.max() for line in found]),
        turn=rounded([line.turn for line in found]),
        change=rounded([(line.gradient_distances / line.gradient_norm).max() for line in found]),
        softmax_deviation=softmax_deviation(model, x_train, x_val),
    )


_MEASURES: dict[Measure, Callable[[Run, Dataset], RunRecord]] = {
    "accuracy": _accuracy,
    "distributions": _distributions,
    "gradients": _gradients,
    "smoothness": _smoothness,
}


def default_jobs() -> int:
    """The processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


Submit = Callable[[Run], Future[RunRecord]]
"""Hands a run to a worker that has the images already."""


def run_all(
    runs: Sequence[Run],
    data: Dataset,
    executor: Executor | str = "local",
    jobs: int | None = None,
    done: Callable[[Run, Run | None], None] = lambda run, next_run: None,
) -> list[RunRecord]:
    """Do all runs and return their records in the order of the runs, whatever order they finish in.

    Runs of two experiments that are the same training are done once.

    Parameters
    ----------
    executor : a key of `EXECUTORS`, or any `concurrent.futures.Executor`. "local" is a pool of processes with one
        normcore thread each, started by ``spawn`` (a script that calls this therefore needs ``if __name__ ==
        "__main__":``)
    jobs : the size of the pool, by default `default_jobs()`; 1 runs everything in this process
    done : called after each run with it and the first of those that are not done, None after the last

    Raises
    ------
    ExperimentError
        Where a run failed. The runs not yet begun are cancelled, here and on Ctrl-C, and no process is left behind.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"run_all: jobs is {jobs}; it must be at least 1")
    if isinstance(executor, str) and executor not in EXECUTORS:
        raise ValueError(f"run_all: executor is {executor!r}; there are {', '.join(EXECUTORS)}")
    order = in_order(runs, data)
    workers = min(jobs or default_jobs(), len(order))
    with contextlib.ExitStack() as stack:
        submit: Submit | None = None
        if not isinstance(executor, str):
            submit = functools.partial(_submit, executor, data)
        elif workers > 1:
            submit = stack.enter_context(EXECUTORS[executor](workers, data))
        found: dict[Run, RunRecord] = {}
        pending = dict.fromkeys(order)
        own_pool = isinstance(executor, str)
        for run, record in _serially(order, data) if submit is None else _submitted(order, submit, own_pool):
            found[run.training] = record
            del pending[run]
            done(run, next(iter(pending), None))
    return [replace(found[run.training], run=run) for run in runs]


def in_order(runs: Sequence[Run], data: Dataset) -> list[Run]:
    """The runs without those that are the same training, one experiment after the other, in each the longest first, so
    that no worker is left with a long one at the end."""
    distinct: dict[Run, Run] = {}
    for run in runs:
        distinct.setdefault(run.training, run)
    place = {run.experiment: number for number, run in enumerate(reversed(runs))}
    return sorted(distinct.values(), key=lambda run: (-place[run.experiment], -cost(run, data)))


def cost(run: Run, data: Dataset) -> float:
    """About how many seconds a run takes, on one core of a machine of 2024."""
    sizes = (data.features, *run.hidden, data.classes)
    parameters = sum(a * b for a, b in itertools.pairwise(sizes))
    # A step has a fixed part, one for the update of the parameters, and one for each row.
    step = 3e-5 + parameters * (3e-10 + 1e-10 * run.batch_size)
    seconds = _steps_in(run, data) * step + (run.epochs + 1) * 5e-11 * parameters * (len(data.x_train) + 800)
    return seconds * {"accuracy": 1, "distributions": 8, "gradients": 1, "smoothness": 2.5}[run.measure] + 0.005


def _failure(run: Run, error: BaseException) -> ExperimentError:
    if isinstance(error, BrokenProcessPool):
        return ExperimentError(f"{run}: a worker process died; out of memory? Fewer --jobs need less")
    return ExperimentError(f"{run}: {str(error) or type(error).__name__}")


def _serially(order: Sequence[Run], data: Dataset) -> Iterator[tuple[Run, RunRecord]]:
    for run in order:
        try:
            result = train_run(run, data)
        except Exception as error:
            raise _failure(run, error) from error
        yield run, result


def _submit(executor: Executor, data: Dataset, run: Run) -> Future[RunRecord]:
    return executor.submit(train_run, run, data)


def _submitted(order: Sequence[Run], submit: Submit, own_pool: bool) -> Iterator[tuple[Run, RunRecord]]:
    futures: dict[Future[RunRecord], Run] = {}
    try:
        with _interrupts_held():
            futures |= {submit(run): run for run in order}
        for future in as_completed(futures):
            run = futures[future]
            try:
                result = future.result()
            except Exception as error:
                raise _failure(run, error) from error
            yield run, result
    except BaseException:
        # Those of a pool of ours it cancels itself: cancelled behind its back, they make its thread fail with a
        # traceback where workers have ended meanwhile (Python before 3.12).
        if not own_pool:
            for future in futures:
                future.cancel()
        raise


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while the workers start: they inherit that it is blocked, and leave the answer to this process.

    Both blocked and put off, because the signal may go to another thread of this process, which has not blocked it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if previous is not None:  # None: a handler from outside Python, which cannot be put back
            signal.signal(signal.SIGINT, previous)
    if held:
        signal.raise_signal(signal.SIGINT)


# Of a worker of the pool, sent with its start and not with each run. So a run is small enough for the pool's queue to
# take it at once: where a pool is ended while a thread of its own waits for room there, Python before 3.11.5 waits for
# ever (gh-94777).
_worker_data: Dataset | None = None


def _train_in_worker(run: Run) -> RunRecord:
    assert _worker_data is not None
    return train_run(run, _worker_data)


def _start_worker(data: Dataset) -> None:
    global _worker_data
    _worker_data = data
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="normcore-parent", daemon=True).start()
    normcore.set_num_threads(1)


def _end_with_the_parent() -> None:
    """Wait for the parent's death, of which a worker of a pool hears nothing, and end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _process_pool(workers: int, data: Dataset) -> Iterator[Submit]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(data,)
    )
    try:
        yield lambda run: pool.submit(_train_in_worker, run)
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


#: By the name of ``--executor``: (workers, images) -> what gives runs to them. An entry for workers on other machines
#: is a function like this one.
EXECUTORS: dict[str, Callable[[int, Dataset], contextlib.AbstractContextManager[Submit]]] = {"local": _process_pool}
