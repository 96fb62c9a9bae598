"""``normcore reproduce``: the experiments on normalisation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from normcore._atomic import write_atomically
from normcore.cli.common import CommandError, add_command, at_least, check_writable, counted, import_modules, say, seed

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "reproduce",
        run,
        _prepare,
        "run the nine normalisation experiments and plot what they show",
        "Run the nine experiments on batch and layer normalisation, each with several\n"
        "seeds, plot one figure for each (PNG and SVG), write all numbers to\n"
        "results.json, and say in sentences what each shows and what it does not;\n"
        "index.html shows all of it. Needs pip install 'normcore[experiments]'.\n\n"
        "  E1  batch normalisation against a plain network\n"
        "  E2  20 scales of the initial weights: no, batch and layer normalisation\n"
        "  E3  batch and no normalisation at batch sizes 2, 5, 10, 50 and 200\n"
        "  E4  layer and no normalisation at the same batch sizes\n"
        "  E5  two algorithms for the backward pass of batch normalisation, timed\n"
        "  E6  the distribution of what each layer sees, before and in training\n"
        "  E7  the gradients of networks of 5 to 50 layers\n"
        "  E8  the loss along the gradient: how smooth it is\n"
        "  E9  13 learning rates from 1e-5 to 10",
        [
            "reproduce",
            "reproduce --quick",
            "reproduce --data cifar-10-batches-bin --output cifar-results",
            "reproduce --only E1,E3 --seeds 10 --first-seed 100",
        ],
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help="folder of CIFAR-10 in its binary layout (data_batch_*.bin, test_batch.bin; any number of records a file; "
        "default: the 8x8 digits that scikit-learn carries, with noise). The first 1000 images train and the first "
        "1000 of test_batch.bin validate; without that file the 1000 training images that follow do, and of fewer than "
        "2000 the second half",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("normcore-results"), help="folder to write to (%(default)s)"
    )
    parser.add_argument("--only", metavar="E1,E3", help="run only these experiments")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="some 15 seconds instead of a minute or two: two seeds, fewer settings of E2 to E5, E7 and E9",
    )
    parser.add_argument(
        "--seeds", metavar="N", type=at_least(1), help="number of seeds for each setting (5; 2 with --quick)"
    )
    parser.add_argument(
        "--first-seed", metavar="S", type=seed, default=0, help="the seeds are S, S+1, ... (%(default)s)"
    )
    parser.add_argument("--jobs", metavar="N", type=at_least(1), help="worker processes (one for each processor)")
    parser.add_argument(
        "--executor",
        metavar="NAME",
        choices=("local",),
        default="local",
        help="where the workers run: local (processes here)",
    )


def _prepare(options: argparse.Namespace) -> None:
    from normcore.experiments import definitions

    # All that can be wrong is found before the first of many seconds of training.
    definitions.parse_selection(options.only)
    if options.first_seed + _seed_count(options) > 2**64:
        raise CommandError("argument --first-seed: the last seed must be in [0, 2**64)")
    import_modules("normcore.experiments.page", "normcore.experiments.report", optional=("sklearn.datasets", "tqdm"))


def _seed_count(options: argparse.Namespace) -> int:
    count: int = options.seeds or (2 if options.quick else 5)
    return count


def run(options: argparse.Namespace) -> int:
    from normcore import plots
    from normcore.experiments import datasets, definitions, figures, page, report, reproduction

    ids = definitions.parse_selection(options.only)
    data = datasets.load_cifar10(options.data) if options.data is not None else datasets.load_noisy_digits()
    options.output.mkdir(parents=True, exist_ok=True)
    check_writable(options.output / "results.json")

    seeds = range(options.first_seed, options.first_seed + _seed_count(options))
    expected = reproduction.expected_seconds(ids, data, seeds, options.quick, options.jobs)
    say(f"{', '.join(ids)} with {counted(len(seeds), 'seed')}: about {_duration(expected)}.")
    print()
    results = reproduction.reproduce(
        ids, data, seeds=seeds, quick=options.quick, executor=options.executor, jobs=options.jobs
    )
    write_atomically(options.output / "results.json", results.to_json())
    alternatives = {}
    for id in ids:
        figure = figures.draw(id, results)
        plots.save(figure, options.output / id)
        alternatives[id] = plots.alt_text(figure)
    write_atomically(options.output / "index.html", page.to_html(results, alternatives).encode())
    for line in report.to_text(results).splitlines():
        say(line)
    print()
    say(f"Figures, results.json and a page that shows all of it are in {options.output}:")
    say(f"open {options.output / 'index.html'}")
    return 0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return counted(max(5, 5 * round(seconds / 5)), "second")
    return counted(round(seconds / 60), "minute")
