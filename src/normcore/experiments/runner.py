"""Training the runs of E1 to E4 through the standard executor interface."""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import normcore
from normcore.experiments.datasets import Dataset
from normcore.experiments.definitions import Run
from normcore.mlp import MLP
from normcore.training.trainer import Trainer

__all__ = ["ExperimentError", "Result", "default_jobs", "run_all", "train_run"]


class ExperimentError(RuntimeError):
    """A run that failed; the message names it, and the cause is attached."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run gave.

    Attributes
    ----------
    loss : the mean loss of each minibatch
    train_accuracy, val_accuracy : fractions, at the start and after each epoch, all images, evaluation mode
    """

    run: Run
    loss: list[float]
    train_accuracy: list[float]
    val_accuracy: list[float]


def train_run(run: Run, data: Dataset) -> Result:
    """Train one network. The result depends on the two arguments alone, to the last bit."""
    x_train, x_val = data.arrays()
    model = MLP(
        [data.features, *run.hidden, data.classes],
        norm=run.norm,
        weight_scale=run.weight_scale,
        dtype="float32",
        seed=run.seed,
    )
    # The exercise starts its running statistics from zero. The library's start, variance 1, is far above the variances
    # here and takes more than the first epoch to be forgotten: batch norm would look untrained when it is not.
    for statistics in model.buffers().values():
        statistics.fill(0.0)
    history = Trainer(
        model,
        optimizer="adam",
        learning_rate=run.learning_rate,
        batch_size=run.batch_size,
        epochs=run.epochs,
        shuffle="replacement",
        on_nonfinite="raise",
        progress=False,
        seed=run.seed,
    ).fit(x_train, data.y_train, validation_data=(x_val, data.y_val))
    return Result(
        run,
        [float(value) for value in history.loss],
        [float(value) for value in history["train_accuracy"]],
        [float(value) for value in history["val_accuracy"]],
    )


def default_jobs() -> int:
    """The processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(
    runs: Sequence[Run],
    data: Dataset,
    executor: Executor | None = None,
    jobs: int | None = None,
    progress: bool | None = None,
) -> list[Result]:
    """Train all runs and return their results in the order of the runs, whatever order they finish in.

    Runs of two experiments that are the same training are trained once.

    Parameters
    ----------
    executor : any `concurrent.futures.Executor`; by default a pool of processes with one normcore thread each, started
        by ``spawn`` (a script that calls this therefore needs ``if __name__ == "__main__":``)
    jobs : the size of the default pool, by default `default_jobs()`; 1 trains in this process
    progress : a bar on standard error; None shows it only on a terminal

    Raises
    ------
    ExperimentError
        Where a run failed. The runs not yet begun are cancelled, here and on Ctrl-C, and no process is left behind.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"run_all: jobs is {jobs}; it must be at least 1")
    distinct: dict[tuple[object, ...], Run] = {}
    for run in runs:
        distinct.setdefault(run.training, run)
    # The longest first, so that no worker is left with a long one at the end.
    order = sorted(distinct.values(), key=lambda run: _cost(run, data), reverse=True)
    workers = min(jobs or default_jobs(), len(order))
    with contextlib.ExitStack() as stack:
        submit: Callable[[Run], Future[Result]] | None = None
        if executor is not None:
            submit = functools.partial(_submit, executor, data)
        elif workers > 1:
            submit = functools.partial(_submit_to_pool, stack.enter_context(_process_pool(workers, data)))
        bar = stack.enter_context(_progress_bar(len(order), progress))
        done: dict[tuple[object, ...], Result] = {}
        for run, result in _serially(order, data) if submit is None else _submitted(order, submit, executor is None):
            done[run.training] = result
            bar.update()
    return [
        Result(run, found.loss, found.train_accuracy, found.val_accuracy)
        for run, found in ((run, done[run.training]) for run in runs)
    ]


def _cost(run: Run, data: Dataset) -> float:
    """Steps times (a fixed part for the parameter update + a part for each row), in no unit."""
    parameters = sum(a * b for a, b in zip((data.features, *run.hidden), (*run.hidden, data.classes), strict=True))
    return run.epochs * max(1, len(data.x_train) // run.batch_size) * parameters * (20.0 + run.batch_size)


def _failure(run: Run, error: BaseException) -> ExperimentError:
    if isinstance(error, BrokenProcessPool):
        return ExperimentError(f"{run}: a worker process died; out of memory? Fewer --jobs need less")
    return ExperimentError(f"{run}: {str(error) or type(error).__name__}")


def _serially(order: Sequence[Run], data: Dataset) -> Iterator[tuple[Run, Result]]:
    for run in order:
        try:
            result = train_run(run, data)
        except Exception as error:
            raise _failure(run, error) from error
        yield run, result


def _submit(executor: Executor, data: Dataset, run: Run) -> Future[Result]:
    return executor.submit(train_run, run, data)


def _submit_to_pool(pool: Executor, run: Run) -> Future[Result]:
    return pool.submit(_train_in_worker, run)


def _submitted(
    order: Sequence[Run], submit: Callable[[Run], Future[Result]], own_pool: bool
) -> Iterator[tuple[Run, Result]]:
    futures: dict[Future[Result], Run] = {}
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


def _train_in_worker(run: Run) -> Result:
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
def _process_pool(workers: int, data: Dataset) -> Iterator[Executor]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(data,)
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _NoBar:
    """Stands in for a tqdm bar that nobody would see."""

    def update(self) -> None:
        pass


@contextlib.contextmanager
def _progress_bar(total: int, progress: bool | None) -> Iterator[Any]:
    try:
        tqdm = importlib.import_module("tqdm").tqdm  # optional, and without type information
    except ImportError:
        yield _NoBar()
        return
    # disable=None is tqdm's "only on a terminal".
    disable = None if progress is None else not progress
    with tqdm(total=total, desc="training", unit="run", leave=False, disable=disable, file=sys.stderr) as bar:
        yield bar
