"""``normcore reproduce``: the five experiments on normalisation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from normcore._atomic import write_atomically
from normcore.cli.common import add_command, at_least, check_writable, import_modules, say, seed

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "reproduce",
        run,
        _prepare,
        "train the five normalisation experiments and plot what they show",
        "Train the five experiments on batch and layer normalisation, plot one figure\n"
        "for each, write all numbers to results.json, and say in a table what each\n"
        "shows. Needs pip install 'normcore[experiments]'.\n\n"
        "  E1  batch normalisation against a plain network\n"
        "  E2  20 scales of the initial weights: no, batch and layer normalisation\n"
        "  E3  batch normalisation at batch sizes 5, 10 and 50\n"
        "  E4  layer normalisation at the same batch sizes\n"
        "  E5  two algorithms for the backward pass of batch normalisation, timed",
        [
            "reproduce",
            "reproduce --data cifar-10-batches-bin --output cifar-results",
            "reproduce --only E1,E3 --jobs 1",
        ],
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help="folder of CIFAR-10 in its binary layout (data_batch_*.bin, test_batch.bin; any number of records a file; "
        "default: the 8x8 digits that scikit-learn carries). The first 1000 images train and the first 1000 of "
        "test_batch.bin validate; without that file the 1000 training images that follow do, and of fewer than 2000 "
        "the second half",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("normcore-results"), help="folder to write to (%(default)s)"
    )
    parser.add_argument("--only", metavar="E1,E3", help="run only these experiments")
    parser.add_argument("--jobs", metavar="N", type=at_least(1), help="worker processes (one for each processor)")
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of all runs (%(default)s)")


def _prepare(options: argparse.Namespace) -> None:
    from normcore.experiments import definitions

    # All that can be wrong is found before the first of many seconds of training.
    definitions.parse_selection(options.only)
    import_modules("normcore.experiments.figures", "normcore.experiments.report", optional=("sklearn.datasets", "tqdm"))


def run(options: argparse.Namespace) -> int:
    from normcore.experiments import backward, datasets, definitions, figures, report, runner

    ids = definitions.parse_selection(options.only)
    data = datasets.load_cifar10(options.data) if options.data is not None else datasets.load_digits()
    options.output.mkdir(parents=True, exist_ok=True)
    check_writable(options.output / "results.json")

    results = runner.run_all(definitions.runs_of(ids, options.seed), data, jobs=options.jobs)
    # Alone, after the workers have gone: their load would be in the timings.
    rows = backward.measure_backward(seed=options.seed) if "E5" in ids else []
    for id in ids:
        own = [result for result in results if result.run.experiment == id]
        write_atomically(options.output / f"{id}.png", figures.draw(id, own, rows, data))
    write_atomically(options.output / "results.json", report.to_json(results, rows))
    for line in report.to_text(ids, results, rows, data).splitlines():
        say(line)
    print()
    say(f"Figures {', '.join(f'{id}.png' for id in ids)} and results.json are in {options.output}")
    return 0
