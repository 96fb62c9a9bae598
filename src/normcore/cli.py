"""The command ``normcore``: reproduce the experiments, train on a table, predict with a saved model, show set-up."""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import importlib
import io
import json
import math
import os
import platform
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

import normcore
from normcore import _interrupt
from normcore._atomic import write_atomically
from normcore._text import is_printable, printable
from normcore.serialization import archive_extra, check_extra, load_model, save_model
from normcore.tabular import DataError, encode_texts, is_number, read_table, shortened
from normcore.training.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from normcore.mlp import MLP
    from normcore.training.trainer import Trainer

__all__ = ["main"]

_FORMAT = "normcore-table-1"
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: the same in full width
_LONGEST = 2000  # characters of an error


class CommandError(Exception):
    """Something the user can put right; printed as one line."""


class _Parser(argparse.ArgumentParser):
    """argparse, with errors of one line instead of a usage text and a line."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 for success, 1 where ``info`` finds a failed self-test, 2 for an error (one line on standard error), 130 after
    Ctrl-C and 143 after SIGTERM (one line too), 141 where the reader of a pipe has gone.
    """
    _prepare_streams()
    terminated: list[int] = []
    try:
        try:
            options = _parser().parse_args(argv)
            # What a command needs is imported before signals raise exceptions.
            options.prepare(options)
            with _raising(terminated):
                code: int = options.command(options)
                sys.stdout.flush()
        except SystemExit as end:  # --help and --version
            code = end.code if isinstance(end.code, int) else 0
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _silence_if_broken(sys.stdout)
        number = signal.SIGTERM if terminated else signal.SIGINT
        _say(f"normcore: {_interrupt.WORDS[number]}", sys.stderr)
        return 128 + number
    except BrokenPipeError:
        _silence(sys.stdout)
        return 141
    except Exception as error:
        _silence_if_broken(sys.stdout)
        if os.environ.get("NORMCORE_TRACEBACK") == "1":
            raise
        _say(f"normcore: error: {_one_line(error)}", sys.stderr)
        return 2


@contextlib.contextmanager
def _raising(received: list[int]) -> Iterator[None]:
    """Meanwhile have Ctrl-C raise KeyboardInterrupt, so that files and worker processes are cleared away.

    So has SIGTERM, in the same way, also where Ctrl-C is held back while a step is done; it is put into `received` too.
    A second SIGTERM ends the process. A handler that a program has installed is left alone.
    """
    interrupt, termination = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def terminate(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    own = termination in (signal.SIG_DFL, _interrupt.end_at_once)
    try:
        try:
            if own:
                signal.signal(signal.SIGTERM, terminate)
            if interrupt is _interrupt.end_at_once:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        except ValueError:  # not the main thread, which alone gets signals
            own, interrupt = False, None
        yield
    finally:
        if interrupt is _interrupt.end_at_once:
            signal.signal(signal.SIGINT, interrupt)
        if own:
            signal.signal(signal.SIGTERM, termination)


def _say(line: str, stream: TextIO | None = None) -> None:
    """Print a line for people: whatever is in its names, labels and paths, a terminal gets no control characters."""
    print(printable(line), file=stream or sys.stdout, flush=stream is not None)


def _prepare_streams() -> None:
    """Have streams that take every text: a closed one is None, and another's encoding may lack some characters."""
    # They live as long as the process.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _one_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{str(error.name).partition('.')[0]} is not installed; pip install 'normcore[experiments]'"
    if isinstance(error, OSError) and error.strerror:
        # What has no name is standard output: all else is opened by name.
        text = f"{'standard output' if error.filename is None else error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"out of memory ({error})" if str(error) else "out of memory"
    elif isinstance(error, (CommandError, ValueError, TypeError, ArithmeticError, RuntimeError, ImportError)):
        text = str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error} (NORMCORE_TRACEBACK=1 shows where)"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _silence(stream: TextIO) -> None:
    """Point a stream that can no longer be written to nowhere, so that the interpreter's last flush says nothing."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _silence_if_broken(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        _silence(stream)


# ------------------------------------------------------------------------------------------------------------ arguments


def _parser() -> _Parser:
    parser = _Parser(
        prog="normcore",
        description="Multilayer perceptrons with batch and layer normalisation: the same bits on every machine.",
        epilog="normcore COMMAND --help explains a command. Errors are one line and exit code 2; NORMCORE_TRACEBACK=1 "
        "shows where one arose. Ctrl-C and SIGTERM end a command with one line, no half-written file, and 130 or 143.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"normcore {normcore.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_reproduce(commands)
    _add_train(commands)
    _add_predict(commands)
    _add_info(commands)
    return parser


def _add(
    commands: Any,
    name: str,
    command: Callable[[argparse.Namespace], int],
    prepare: Callable[[argparse.Namespace], None],
    help: str,
    text: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    """A parser whose options say what to import (`prepare`) and what to do."""
    epilog = "examples:\n" + "".join(f"  normcore {example}\n" for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=text,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command, prepare=prepare)
    return parser


def _import(*modules: str, optional: Sequence[str] = ()) -> None:
    """Import the modules a command needs, and of those that it can do without the ones that are there."""
    for name in modules:
        importlib.import_module(name)
    for name in optional:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _add_reproduce(commands: Any) -> None:
    parser = _add(
        commands,
        "reproduce",
        _reproduce,
        _prepare_reproduce,
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
    parser.add_argument("--jobs", metavar="N", type=_at_least(1), help="worker processes (one for each processor)")
    parser.add_argument("--seed", metavar="N", type=_seed, default=0, help="seed of all runs (%(default)s)")


def _add_train(commands: Any) -> None:
    parser = _add(
        commands,
        "train",
        _train,
        lambda options: _import("normcore.training.trainer", "normcore.training.schedules", optional=("tqdm",)),
        "train a classifier on a table and save it",
        "Train a classifier on a CSV file of numeric features and a column of labels\n"
        "(any text or number), or on an NPZ file with arrays X and y. Features are\n"
        "standardised by the training rows; a part of the rows is held out and scored.\n"
        "The model, its classes and the standardisation go into one safetensors file.",
        [
            "train iris.csv --output iris.safetensors",
            "train wine.csv --target quality --delimiter ';' --hidden 128,64 --norm layer --output wine.safetensors",
            "train digits.npz --dropout 0.2 --early-stopping 10 --epochs 200 --output digits.safetensors",
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
    _add_csv_options(parser)
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
    network.add_argument("--dropout", metavar="P", type=float, default=0.0, help="probability to drop (%(default)s)")
    network.add_argument(
        "--weight-scale", metavar="S", type=float, help="standard deviation of the initial weights (He initialisation)"
    )
    network.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="precision (%(default)s)")
    training = parser.add_argument_group("training")
    training.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adam", help="update rule (%(default)s)")
    training.add_argument("--learning-rate", metavar="R", type=float, default=1e-3, help="at the start (%(default)s)")
    training.add_argument(
        "--schedule", choices=("constant", "cosine"), default="constant", help="of the learning rate (%(default)s)"
    )
    training.add_argument(
        "--epochs", metavar="N", type=_at_least(1), default=50, help="passes over the rows (%(default)s)"
    )
    training.add_argument("--batch-size", metavar="N", type=_at_least(1), default=32, help="rows a step (%(default)s)")
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
        type=_at_least(1),
        help="stop after N epochs without a lower held-out loss and keep the best epoch's model",
    )
    training.add_argument(
        "--seed",
        metavar="N",
        type=_seed,
        default=0,
        help="of the split, the weights and the batches (%(default)s)",
    )


def _add_predict(commands: Any) -> None:
    parser = _add(
        commands,
        "predict",
        _predict,
        lambda options: None,
        "predict the classes of a table's rows with a saved model",
        "Predict the class of every row of a CSV or NPZ file and write one line for\n"
        "each, in the same order, as CSV. Columns are found by name if the model and the\n"
        "file have names, in any order, and by position otherwise. If the file holds the\n"
        "target too, the accuracy is printed as well. Without names, a file with one\n"
        "column more than the model has features holds the target, where the training\n"
        "file had it (the last column if that is unknown). --delimiter and --header are\n"
        "not kept in the model: repeat here what you told normcore train.\n\n"
        "Labels are written as they are. A spreadsheet takes one that begins with =, +,\n"
        "- or @ for a formula and runs it: for tables and models of strangers, say\n"
        "--safe-csv. Labels with control characters go to a file only (--output).",
        [
            "predict iris.safetensors flowers.csv",
            "predict iris.safetensors flowers.csv --proba --output predictions.csv",
        ],
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="file that normcore train or MLP.save wrote")
    parser.add_argument("data", metavar="DATA", type=Path, help="CSV or NPZ file")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="CSV file to write (standard output)")
    parser.add_argument("--proba", action="store_true", help="write each class's probability too")
    parser.add_argument(
        "--safe-csv",
        action="store_true",
        help="put a ' before a label that begins with =, +, -, @, a tab or a line break and is no number, so that no "
        "spreadsheet takes it for a formula",
    )
    _add_csv_options(parser)


def _add_csv_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line of a CSV file holds the columns' names (found out by looking)",
    )
    parser.add_argument(
        "--delimiter", metavar="C", type=_delimiter, default=",", help="between the cells of a CSV file (a comma)"
    )


def _add_info(commands: Any) -> None:
    parser = _add(
        commands,
        "info",
        _info,
        lambda options: _import("normcore.verification", optional=("sklearn.datasets",)) if options.verify else None,
        "show version, instruction sets, threads and the self-test's result",
        "Show what a bug report should hold, and run the self-test. Exit code 1 if the\n"
        "self-test or the verification fails.",
        ["info", "info --json", "info --verify"],
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="also compute the digests of every operation on every instruction set here, and of three training runs, "
        "and compare them with those of the numeric contract (some seconds each; training needs scikit-learn)",
    )


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = _whole_number(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return whole_number


def _whole_number(text: str) -> int:
    # Not more digits than int() reads; no option needs a tenth of them.
    if not re.fullmatch(r"[+-]?[0-9]{1,200}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number")
    return int(text)


def _seed(text: str) -> int:
    value = _whole_number(text)
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 2**64)")
    return value


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


def _delimiter(text: str) -> str:
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1 or text in '\r\n"':
        raise argparse.ArgumentTypeError(f"{text!r} is not one character (tab is written 'tab')")
    return text


# ------------------------------------------------------------------------------------------------------------ reproduce


def _prepare_reproduce(options: argparse.Namespace) -> None:
    from normcore.experiments import definitions

    # All that can be wrong is found before the first of many seconds of training.
    definitions.parse_selection(options.only)
    _import("normcore.experiments.figures", "normcore.experiments.report", optional=("sklearn.datasets", "tqdm"))


def _reproduce(options: argparse.Namespace) -> int:
    from normcore.experiments import backward, datasets, definitions, figures, report, runner

    ids = definitions.parse_selection(options.only)
    data = datasets.load_cifar10(options.data) if options.data is not None else datasets.load_digits()
    options.output.mkdir(parents=True, exist_ok=True)
    _check_writable(options.output / "results.json")

    results = runner.run_all(definitions.runs_of(ids, options.seed), data, jobs=options.jobs)
    # Alone, after the workers have gone: their load would be in the timings.
    rows = backward.measure_backward(seed=options.seed) if "E5" in ids else []
    for id in ids:
        own = [result for result in results if result.run.experiment == id]
        write_atomically(options.output / f"{id}.png", figures.draw(id, own, rows, data))
    write_atomically(options.output / "results.json", report.to_json(results, rows))
    for line in report.to_text(ids, results, rows, data).splitlines():
        _say(line)
    print()
    _say(f"Figures {', '.join(f'{id}.png' for id in ids)} and results.json are in {options.output}")
    return 0


# ---------------------------------------------------------------------------------------------------------------- train


def _train(options: argparse.Namespace) -> int:
    from normcore.mlp import MLP
    from normcore.random import Generator
    from normcore.training.schedules import CosineSchedule
    from normcore.training.trainer import Trainer

    _check_writable(options.output, options.data)
    if options.checkpoint is not None:
        _check_writable(options.checkpoint, options.data, option="--checkpoint")
        if os.path.realpath(options.checkpoint) == os.path.realpath(options.output):
            raise CommandError(f"{options.checkpoint}: --checkpoint and --output are the same file")
    table = read_table(options.data, target=options.target, header=options.header, delimiter=options.delimiter)
    assert table.labels is not None  # training tables have labels, or reading them fails
    codes, classes = encode_texts(table.labels)
    rows, columns = table.features.shape
    if len(classes) < 2:
        raise DataError(f"{options.data}: every row has the label {classes[0]!r}; there is nothing to tell apart")
    if len(classes) > max(2, rows // 2):
        raise DataError(
            f"{options.data}: {table.target} has {len(classes)} different values in {rows} rows; it must hold classes"
        )
    held_out = int(rows * options.held_out + 0.5)
    if options.held_out > 0.0:
        held_out = max(held_out, 1)
    if rows - held_out < 2:
        raise DataError(f"{options.data}: {rows} rows leave {rows - held_out} to train on; at least 2 are needed")
    if options.early_stopping and not held_out:
        raise CommandError("--early-stopping watches the held-out loss, and --held-out 0 leaves no rows for it")

    order = Generator(options.seed, _SPLIT_STREAM).permutation(rows)
    train, test = order[held_out:], order[:held_out]
    mean, scale = _statistics(table.features[train], options.data, table.names)
    x_train = _standardised(table.features[train], mean, scale, options.dtype, options.data)
    x_test = _standardised(table.features[test], mean, scale, options.dtype, options.data)

    extra = {
        "format": _FORMAT,
        "classes": classes,
        "feature_names": table.names,
        "header": table.names is not None,
        "target": table.target,
        "target_position": table.position,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
    }
    check_extra(extra)  # before the work, not after it
    # All that the bits of the result depend on.
    settings = {name: getattr(options, name) for name in _SETTINGS}
    settings["hidden"] = list(options.hidden)
    settings["contract"] = normcore.CONTRACT
    settings["data"] = _data_digest(x_train, codes[train], x_test, codes[test])

    trainer = _resumed(options.checkpoint, settings)
    if trainer is None:
        model = MLP(
            [columns, *options.hidden, len(classes)],
            norm=None if options.norm == "none" else options.norm,
            dropout=options.dropout,
            weight_scale=options.weight_scale,
            dtype=options.dtype,
            rng=options.seed,
        )
        learning_rate: Any = options.learning_rate
        if options.schedule == "cosine":
            steps = options.epochs * math.ceil(len(train) / options.batch_size)
            learning_rate = CosineSchedule(options.learning_rate, steps)
        trainer = Trainer(
            model,
            optimizer=options.optimizer,
            learning_rate=learning_rate,
            batch_size=options.batch_size,
            epochs=options.epochs,
            l2=options.l2,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            label_smoothing=options.label_smoothing,
            early_stopping=options.early_stopping,
            restore_best=options.early_stopping is not None,
            seed=options.seed,
        )
    if options.checkpoint is not None:

        def save(trainer: Trainer, logs: dict[str, Any]) -> None:
            trainer.save_checkpoint(options.checkpoint, extra={"format": _FORMAT, "settings": settings})

        trainer.callbacks.append(save)
    history = trainer.fit(x_train, codes[train], validation_data=(x_test, codes[test]) if held_out else None)
    model = trainer.model

    scores = [_score(model, x_train, codes[train])]
    if held_out:
        scores.append(_score(model, x_test, codes[test]))
    unsound = _not_finite(model)
    losses = [loss for loss in (*history.loss[-1:], *(loss for loss, _ in scores)) if not math.isfinite(loss)]
    if unsound is not None or losses:
        reason = f"the loss is {losses[0]}" if unsound is None else f"{unsound} of the model is not finite"
        raise CommandError(f"training diverged: {reason}; no model is saved; try a lower --learning-rate")

    save_model(options.output, model, extra)

    named = _some(classes)
    layers = "-".join(str(size) for size in (columns, *options.hidden, len(classes)))
    norm = "no normalisation" if options.norm == "none" else f"{options.norm} normalisation"
    epochs = len(history.train_accuracy) - 1
    _say(f"data      {options.data}: {rows} rows, {columns} features, {len(classes)} classes ({named})")
    _say(f"network   {layers}, {norm}, {options.dtype}")
    _say(f"training  {scores[0][1]}, {len(train)} rows, {_counted(epochs, 'epoch')}")
    if held_out:
        most = int(np.bincount(codes[train]).argmax())
        share = float((codes[test] == most).mean())
        selected = "; early stopping watched these rows" if options.early_stopping else ""
        _say(f"held out  {scores[1][1]}, {_counted(held_out, 'row')}{selected}")
        _say(f"          (always answering {classes[most]!r} scores {100 * share:.1f} %)")
    _say(f"model     {options.output}")
    return 0


#: The options of ``normcore train`` that decide the result, beside the data.
_SETTINGS = (
    "hidden", "norm", "dropout", "weight_scale", "dtype", "optimizer", "learning_rate", "schedule", "epochs",
    "batch_size", "l2", "weight_decay", "clip_norm", "label_smoothing", "held_out", "early_stopping", "seed",
)  # fmt: skip


def _data_digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _resumed(path: Path | None, settings: Mapping[str, Any]) -> Trainer | None:
    """The trainer in a checkpoint of the same training; None where there is none yet."""
    from normcore.training.trainer import Trainer

    if path is None or not path.exists():
        return None
    extra = archive_extra(path, "checkpoint")
    begun = extra.get("settings")
    if extra.get("format") != _FORMAT or not isinstance(begun, dict):
        raise CommandError(f"{path}: a checkpoint, but none of normcore train")
    for name in (*settings, *begun):
        before, now = begun.get(name), settings.get(name)
        if before != now:
            # They are JSON's values and the data's digest: a stranger's may be of any length.
            what = "other data" if name == "data" else f"{_option(name)} {str(before)[:80]}, not {now}"
            raise CommandError(f"{path}: this training was begun with {what}; remove the file to begin anew")
    trainer = Trainer.resume(path)
    _say(f"resumed   {path}: after {_counted(trainer.epoch, 'epoch')}")
    return trainer


def _option(name: str) -> str:
    return name if name == "contract" else "--" + name.replace("_", "-")


#: Apart from the streams of the initial weights and of the minibatches, which count from 0.
_SPLIT_STREAM = 1 << 32


def _statistics(
    x: NDArray[np.float64], path: Path, names: list[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; the deviation of a constant column is taken as 1.

    The library's own batch-norm statistics: NumPy's sums have other last bits on other machines.
    """
    ones = np.ones(x.shape[1])
    _, mean, rstd = normcore.batch_norm_forward(x, ones, np.zeros_like(ones), eps=0.0)
    if not (np.isfinite(mean).all() and (rstd > 0.0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(mean) & (rstd > 0.0)))[0])
        column = repr(names[bad]) if names else f"number {bad + 1}"
        raise DataError(f"{path}: the values of feature {column} are too large to standardise")
    constant = np.isinf(rstd)
    return mean, np.where(constant, 1.0, 1.0 / rstd)


def _standardised(
    x: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64], dtype: str, path: Path
) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        result = ((x - mean) / scale).astype(dtype)
    if not np.isfinite(result).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise DataError(f"{path}: {x[row, column]:g} (feature {column + 1}) is too far from the training rows' values")
    return result


def _score(model: MLP, x: NDArray[Any], codes: NDArray[np.int64]) -> tuple[float, str]:
    """The mean loss, and it and the accuracy in words."""
    loss, _, _ = normcore.softmax_cross_entropy(model.forward(x), codes)
    return float(loss), f"loss {loss:.4f}, accuracy {100 * model.score(x, codes):.1f} %"


def _not_finite(model: MLP) -> str | None:
    """The name of an array of the model with a value that is NaN or infinite."""
    arrays = {**model.parameters(), **model.buffers()}
    return next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _check_writable(path: Path, *inputs: Path, option: str = "--output") -> None:
    """Find out before the work whether its result can be saved, and that it would not replace what it is made from."""
    folder = path.parent
    for source in inputs:
        if os.path.realpath(path) == os.path.realpath(source) or (
            path.exists() and source.exists() and path.samefile(source)
        ):
            raise CommandError(f"{path}: {option} is the input {source} itself, which would be lost")
    if path.exists() and not path.is_file():
        # Renaming over a device or a pipe would replace it by a file.
        raise CommandError(f"{path}: exists and is not a regular file")
    if not folder.is_dir():
        raise CommandError(f"{folder}: no such folder")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{folder}: cannot be written to")


# -------------------------------------------------------------------------------------------------------------- predict


@dataclass(frozen=True)
class _Description:
    """What ``normcore train`` keeps of its data beside the model."""

    classes: list[str]
    feature_names: list[str] | None
    target: str | None
    target_position: int | None
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


def _described(path: Path, extra: Mapping[str, Any], features: int, outputs: int) -> _Description:
    """Check the description in a model file: anyone can write one, and a wrong one would predict nonsense."""

    def entry(key: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
        if key not in extra:
            raise DataError(f"{path}: its description has no {key!r}")
        if not fits(extra[key]):
            raise DataError(f"{path}: {key!r} in its description must be {wanted}")
        return extra[key]

    def texts(count: int) -> Callable[[Any], bool]:
        return lambda value: (
            isinstance(value, list) and len(value) == len({text for text in value if isinstance(text, str)}) == count
        )

    def numbers(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) == features
            and all(
                type(number) in (int, float) and -sys.float_info.max <= number <= sys.float_info.max for number in value
            )
        )

    def position(value: Any) -> bool:
        return value is None or (type(value) is int and 0 <= value <= features)

    classes = entry("classes", f"{outputs} different texts", texts(outputs))
    names_fit = texts(features)
    names = entry("feature_names", f"{features} different texts or null", lambda v: v is None or names_fit(v))
    # A file without names is read by position, so that the two have to agree.
    entry("header", "whether there are feature_names", lambda value: value is (names is not None))
    return _Description(
        classes,
        names,
        entry("target", "a text", lambda value: isinstance(value, str)),
        entry("target_position", f"a whole number from 0 to {features} or null", position),
        np.array(entry("mean", f"{features} finite numbers", numbers), dtype=np.float64),
        np.array(
            entry("scale", f"{features} finite numbers above 0", lambda v: numbers(v) and min(v) > 0), dtype=np.float64
        ),
    )


def _predict(options: argparse.Namespace) -> int:
    if options.output is not None:
        _check_writable(options.output, options.data, options.model)
    model, extra = load_model(options.model)
    unsound = _not_finite(model)
    if unsound is not None:
        raise DataError(f"{options.model}: {unsound} of the model is not finite; its training diverged")
    features, outputs = model.sizes[0], model.sizes[-1]
    trained_here = extra.get("format") == _FORMAT
    if trained_here:
        known = _described(options.model, extra, features, outputs)
    else:
        # A model saved from Python: it takes the features as they are and knows its classes by number.
        numbers = [str(i) for i in range(outputs)]
        known = _Description(numbers, None, None, None, np.zeros(features), np.ones(features))
    classes = known.classes
    table = read_table(
        options.data,
        target=known.target,
        header=options.header,
        delimiter=options.delimiter,
        expected_names=known.feature_names,
        expected_count=features,
        expected_position=known.target_position,
        known_labels=set(classes),
    )
    labels = {label for label in table.labels or () if label}
    if trained_here and labels and labels.isdisjoint(classes):
        raise DataError(
            f"{options.data}: no label in {table.target} is a class of the model ({_some(classes)}); leave the column "
            "out if it is not the target"
        )
    mean, scale = known.mean, known.scale
    x = _standardised(table.features, mean, scale, np.dtype(model.dtype).name, options.data)
    predicted = model.predict(x)

    shown = [_inert(name) for name in classes] if options.safe_csv else classes
    if options.output is None and not all(map(is_printable, classes)):
        name = next(name for name in classes if not is_printable(name))
        raise DataError(f"{options.model}: the class {shortened(name)} has control characters: say --output FILE")
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    if options.proba:
        probabilities = model.predict_proba(x)
        writer.writerow(["class", *(f"p({name})" for name in classes)])
        # str of a NumPy number is the shortest text that reads back as the same number.
        writer.writerows([shown[k], *(str(p) for p in row)] for k, row in zip(predicted, probabilities, strict=True))
    else:
        writer.writerow(["class"])
        writer.writerows([shown[k]] for k in predicted)
    if options.output is None:
        sys.stdout.write(lines.getvalue())
        notes = sys.stderr  # standard output is the CSV and nothing else
    else:
        write_atomically(options.output, lines.getvalue().encode())
        _say(f"{_counted(len(x), 'prediction')} in {options.output}")
        notes = sys.stdout
    if table.labels is not None:
        _say(_agreement([classes[k] for k in predicted], table.labels, set(classes)), notes)
    return 0


def _inert(text: str) -> str:
    """The text as no spreadsheet takes it for a formula; a number is none."""
    begins = text[:1] in ("\t", "\r", "\n") or text.lstrip()[:1] in _FORMULA
    return "'" + text if begins and not is_number(text) else text


def _agreement(predicted: list[str], labels: list[str], classes: set[str]) -> str:
    pairs = [(guess, label) for guess, label in zip(predicted, labels, strict=True) if label]
    if not pairs:
        return "accuracy unknown: no row has a label"
    right = sum(guess == label for guess, label in pairs)
    unknown = sum(label not in classes for _, label in pairs)
    note = f"; {_counted(unknown, 'row')} of a class the model does not know" if unknown else ""
    return f"accuracy {100 * right / len(pairs):.1f} % ({right} of {_counted(len(pairs), 'row')}{note})"


# ----------------------------------------------------------------------------------------------------------------- info


def _info(options: argparse.Namespace) -> int:
    try:
        normcore.selftest()
        failure = None
    except RuntimeError as error:
        failure = " ".join(str(error).split()) or "no reason given"
    facts: dict[str, Any] = {
        "version": normcore.__version__,
        "contract": normcore.CONTRACT,
        "cpu_features": normcore.cpu_features(),
        "available_isas": list(normcore.available_isas()),
        "isa": normcore.get_isa(),
        "threads": normcore.get_num_threads(),
        "selftest": "passed" if failure is None else f"failed: {failure}",
        "include_dir": _folder(normcore.get_include),
        "library_dir": _folder(normcore.get_library_dir),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    differences = None
    if options.verify:
        checks = _verify()
        differences = sum(check["equal"] is False for check in checks)
        left_out = sum(check["equal"] is None for check in checks)
        equal = len(checks) - differences - left_out
        facts["verification"] = (
            checks if options.json else f"{equal} equal, {differences} with other bits, {left_out} not compared"
        )
    if options.json:
        print(
            json.dumps(facts, indent=2).replace("\x7f", "\\u007f")
        )  # the one control character that JSON lets through
    else:
        for name, fact in facts.items():
            shown = ", ".join(fact) if isinstance(fact, list) else "not installed" if fact is None else fact
            _say(f"{name.replace('_', ' '):<15} {shown}")
    if failure is not None:
        _say(f"normcore: error: the self-test failed: {failure}", sys.stderr)
        return 1
    if differences:
        _say(f"normcore: error: {differences} checks give other bits than the contract", sys.stderr)
        return 1
    return 0


def _verify() -> list[dict[str, Any]]:
    """Every check as it is made, on standard error; then all of them."""
    from . import verification  # it imports the experiments

    checks = []
    for check in verification.verify():
        checks.append({"name": check.name, "equal": check.equal, "text": check.text})
        verdict = {True: "equal", False: "DIFFERENT", None: "not compared"}[check.equal]
        _say(f"{check.name}: {verdict} ({check.text})", sys.stderr)
    return checks


def _folder(find: Callable[[], str]) -> str | None:
    """A folder of the C library, or None where the package runs from a source tree that was never installed."""
    try:
        return find()
    except FileNotFoundError:
        return None
