"""``normcore predict``: the classes of a table's rows."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

from normcore._atomic import write_atomically
from normcore._text import is_printable
from normcore.cli.common import add_command, add_csv_options, check_writable, counted, import_modules, say
from normcore.tables.reading import DataError, is_number, shortened

__all__ = ["add", "run"]

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: the same in full width


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "predict",
        run,
        lambda options: import_modules("normcore.tables.pipeline"),
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
    add_csv_options(parser)


def run(options: argparse.Namespace) -> int:
    from normcore.tables.pipeline import predict_table

    if options.output is not None:
        check_writable(options.output, options.data, options.model)
    predictions = predict_table(
        options.model, options.data, header=options.header, delimiter=options.delimiter, probabilities=options.proba
    )
    classes, codes = predictions.classes, predictions.codes

    shown = [_inert(name) for name in classes] if options.safe_csv else classes
    if options.output is None and not all(map(is_printable, classes)):
        name = next(name for name in classes if not is_printable(name))
        raise DataError(f"{options.model}: the class {shortened(name)} has control characters: say --output FILE")
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    if predictions.probabilities is not None:
        writer.writerow(["class", *(f"p({name})" for name in classes)])
        # str of a NumPy number is the shortest text that reads back as the same number.
        writer.writerows(
            [shown[k], *(str(p) for p in row)] for k, row in zip(codes, predictions.probabilities, strict=True)
        )
    else:
        writer.writerow(["class"])
        writer.writerows([shown[k]] for k in codes)
    if options.output is None:
        sys.stdout.write(lines.getvalue())
        notes = sys.stderr  # standard output is the CSV and nothing else
    else:
        write_atomically(options.output, lines.getvalue().encode())
        say(f"{counted(len(codes), 'prediction')} in {options.output}")
        notes = sys.stdout
    if predictions.labels is not None:
        say(_agreement([classes[k] for k in codes], predictions.labels, set(classes)), notes)
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
    note = f"; {counted(unknown, 'row')} of a class the model does not know" if unknown else ""
    return f"accuracy {100 * right / len(pairs):.1f} % ({right} of {counted(len(pairs), 'row')}{note})"
