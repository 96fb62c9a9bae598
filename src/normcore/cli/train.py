"""``normcore train``: a classifier of a table's rows."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcore._core import ACTIVATIONS
from normcore.cli.common import (
    CommandError,
    add_command,
    add_csv_options,
    at_least,
    check_writable,
    counted,
    import_modules,
    say,
    seed,
)
from normcore.training.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from normcore.tables.pipeline import Score
    from normcore.training.trainer import Trainer

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "train",
        run,
        lambda options: import_modules("normcore.tables.pipeline", optional=("tqdm",)),
        "train a classifier on a table and save it",
        "Train a classifier on a CSV file of numeric features and a column of labels\n"
        "(any text or number), or on an NPZ file with arrays X and y. Features are\n"
        "standardised by the training rows; a part of the rows is held out and scored.\n"
        "The model, its classes and the standardisation go into one safetensors file.",
        [
            "train iris.csv --output iris.safetensors",
            "train wine.csv --target quality --delimiter ';' --hidden 128,64 --norm layer --output wine.safetensors",
            "train digits.npz --activation silu --early-stopping 10 --epochs 200 --output digits.safetensors",
        ],
    )
    parser.add_argument("data", metavar="DATA", type=Path, help="CSV or NPZ file")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="where to save the model")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        type=Path,
        help="save the state of the training here after each epoch, and go on from it if the file is there: after "
        "Ctrl-C or a crash the same command gives the same model as if nothing had happened",
    )
    add_csv_options(parser)
    parser.add_argument(
        "--target",
        metavar="COLUMN",
        help="label column: a name, or a number counted from 0, negative from the end (the last column); for NPZ the "
        "array's name (y)",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--hidden", metavar="N,N,...", type=_sizes, default=(64, 64), help="hidden layers, or 'none' (64,64)"
    )
    network.add_argument(
        "--norm", choices=("batch", "layer", "none"), default="batch", help="of hidden layers (%(default)s)"
    )
    network.add_argument(
        "--activation", choices=tuple(ACTIVATIONS), default="relu", help="of hidden layers (%(default)s)"
    )
    network.add_argument("--dropout", metavar="P", type=float, default=0.0, help="probability to drop (%(default)s)")
    network.add_argument(
        "--weight-scale", metavar="S", type=float, help="standard deviation of the initial weights (by the activation)"
    )
    network.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="precision (%(default)s)")
    training = parser.add_argument_group("training")
    training.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adam", help="update rule (%(default)s)")
    training.add_argument("--learning-rate", metavar="R", type=float, default=1e-3, help="at the start (%(default)s)")
    training.add_argument(
        "--schedule", choices=("constant", "cosine"), default="constant", help="of the learning rate (%(default)s)"
    )
    training.add_argument(
        "--epochs", metavar="N", type=at_least(1), default=50, help="passes over the rows (%(default)s)"
    )
    training.add_argument("--batch-size", metavar="N", type=at_least(1), default=32, help="rows a step (%(default)s)")
    decay = training.add_mutually_exclusive_group()
    decay.add_argument("--l2", metavar="L", type=float, default=0.0, help="L2 penalty on the weights (%(default)s)")
    decay.add_argument(
        "--weight-decay", metavar="W", type=float, help="decoupled weight decay (0.01 with adamw, else 0)"
    )
    training.add_argument("--clip-norm", metavar="C", type=float, help="largest gradient norm (no limit)")
    training.add_argument("--label-smoothing", metavar="S", type=float, default=0.0, help="0 to 1 (%(default)s)")
    training.add_argument(
        "--held-out", metavar="F", type=_fraction, default=0.2, help="part of the rows to hold out (%(default)s)"
    )
    training.add_argument(
        "--early-stopping",
        metavar="N",
        type=at_least(1),
        help="stop after N epochs without a lower held-out loss and keep the best epoch's model",
    )
    training.add_argument(
        "--seed",
        metavar="N",
        type=seed,
        default=0,
        help="of the split, the weights and the batches (%(default)s)",
    )


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number") from None
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value


def _sizes(text: str) -> tuple[int, ...]:
    if text.strip().lower() == "none":
        return ()
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layer sizes, as 64,64, or 'none'")
    return sizes


def run(options: argparse.Namespace) -> int:
    from normcore.tables.pipeline import Settings, some, train_table

    check_writable(options.output, options.data)
    if options.checkpoint is not None:
        check_writable(options.checkpoint, options.data, option="--checkpoint")
        if os.path.realpath(options.checkpoint) == os.path.realpath(options.output):
            raise CommandError(f"{options.checkpoint}: --checkpoint and --output are the same file")

    def resumed(trainer: Trainer) -> None:
        say(f"resumed   {options.checkpoint}: after {counted(trainer.epoch, 'epoch')}")

    trained = train_table(
        options.data,
        Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}),
        target=options.target,
        header=options.header,
        delimiter=options.delimiter,
        checkpoint=options.checkpoint,
        resumed=resumed,
        named=lambda name: "--" + name.replace("_", "-"),
    )
    trained.save(options.output)

    model, held_out = trained.model, trained.held_out
    classes = model.class_names or ()
    rows = trained.score.rows + (held_out.rows if held_out else 0)
    layers = "-".join(str(size) for size in model.sizes)
    norm = "no normalisation" if options.norm == "none" else f"{options.norm} normalisation"
    epochs = counted(len(trained.history["train_accuracy"]) - 1, "epoch")
    say(f"data      {options.data}: {rows} rows, {model.features} features, {len(classes)} classes ({some(classes)})")
    say(f"network   {layers}, {norm}, {options.activation}, {options.dtype}")
    say(f"training  {_in_words(trained.score)}, {trained.score.rows} rows, {epochs}")
    if held_out is not None and trained.always_most_frequent is not None:
        selected = "; early stopping watched these rows" if options.early_stopping else ""
        share = 100 * trained.always_most_frequent
        say(f"held out  {_in_words(held_out)}, {counted(held_out.rows, 'row')}{selected}")
        say(f"          (always answering {trained.most_frequent!r} scores {share:.1f} %)")
    say(f"model     {options.output}")
    return 0


def _in_words(score: Score) -> str:
    return f"loss {score.loss:.4f}, accuracy {100 * score.accuracy:.1f} %"
