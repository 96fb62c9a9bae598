"""The experiments that ``normcore reproduce`` runs: four on training with and without normalisation, one on speed.

`definitions` says what is trained, `datasets` on which images, `runner` trains through any
`concurrent.futures.Executor`, `backward` times the fifth experiment, `figures` and `report` show the results. The
figures need matplotlib and the default images scikit-learn: ``pip install 'normcore[experiments]'``.
"""

from normcore.experiments.backward import BackwardRow, measure_backward
from normcore.experiments.datasets import Dataset, DatasetError, load_cifar10, load_digits
from normcore.experiments.definitions import EXPERIMENTS, Experiment, Run, runs_of
from normcore.experiments.runner import ExperimentError, Result, run_all, train_run

__all__ = [
    "EXPERIMENTS",
    "BackwardRow",
    "Dataset",
    "DatasetError",
    "Experiment",
    "ExperimentError",
    "Result",
    "Run",
    "load_cifar10",
    "load_digits",
    "measure_backward",
    "run_all",
    "runs_of",
    "train_run",
]
