"""The experiments that ``normcore reproduce`` runs: every claim about batch and layer normalisation, E1 to E9.

`definitions` says what is run, `datasets` on which images, `runner` runs it through any `concurrent.futures.Executor`,
`backward` times E5. `results` holds what they gave, `findings` says in sentences what that shows; `report`, for the
terminal, and `figures` are made of these two alone. The figures need matplotlib and the default images scikit-learn:
``pip install 'normcore[experiments]'``.
"""

from normcore.experiments.backward import measure_backward
from normcore.experiments.datasets import Dataset, DatasetError, load_cifar10, load_digits, load_noisy_digits
from normcore.experiments.definitions import EXPERIMENTS, Experiment, Run, runs_of
from normcore.experiments.reproduction import reproduce
from normcore.experiments.results import Finding, Results
from normcore.experiments.runner import ExperimentError, run_all, train_run

__all__ = [
    "EXPERIMENTS",
    "Dataset",
    "DatasetError",
    "Experiment",
    "ExperimentError",
    "Finding",
    "Results",
    "Run",
    "load_cifar10",
    "load_digits",
    "load_noisy_digits",
    "measure_backward",
    "reproduce",
    "run_all",
    "runs_of",
    "train_run",
]
