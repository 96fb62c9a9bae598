"""Reading labelled tables, CSV and NPZ.

Every error says which file, line and column it is about. Numbers are parsed to float64; labels are kept as text,
because a class is a name: ``3``, ``3.0`` and ``"3"`` are the same one.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import warnings
import zipfile
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "Table", "is_number", "parse_number", "read_table", "shortened"]

_LONGEST_LINE = 1 << 24  # characters of a CSV file's line
# Of an NPZ file: the bytes of its directory, and what its compressed arrays may become.
_LARGEST_DIRECTORY = 1 << 17
_MOST_EXPANSION = 100  # times the file's size; deflate can do 1032
_ALWAYS_UNPACKED = 1 << 26

_INTEGRAL_FLOAT = re.compile(r"([+-]?\d+)\.0*")


class DataError(ValueError):
    """A data file that cannot be used as it is; the message names the file and, where there is one, line and column."""


@dataclass(frozen=True)
class Table:
    """A table of features and, where the source has them, labels.

    Attributes
    ----------
    features : float64 array (rows, columns)
    names : the feature columns' names, or None where the source has none
    labels : one text a row ("" where missing), or None where the source has no label column
    target : what the label column is called in messages
    position : the label column's number in a CSV file, counted from 0; None where there is none, and for NPZ
    """

    features: NDArray[np.float64]
    names: list[str] | None
    labels: list[str] | None
    target: str
    position: int | None = None


def read_table(
    path: str | Path,
    *,
    target: str | None = None,
    header: bool | None = None,
    delimiter: str = ",",
    expected_names: Sequence[str] | None = None,
    expected_count: int | None = None,
    expected_position: int | None = None,
    known_labels: Collection[str] | None = None,
) -> Table:
    """Read a CSV file, or an NPZ file with arrays ``X`` and ``y``.

    Compressed arrays may have up to 100 times the size of the file (or 64 MiB), a line of a CSV file 2**24 characters.

    Without ``expected_count`` the table is for training: it must have labels, in the column `target` (a name, or a
    number counted from 0, negative from the end; the last column by default), and none may be missing. With
    ``expected_count`` it is for prediction: the feature columns are found by ``expected_names`` if both sides have
    names and by position otherwise, and the label column may be absent. Without names it is column
    ``expected_position`` of a file with one column more than features, by default the last.

    Parameters
    ----------
    header : True or False to say whether the first line of a CSV file holds names; None to look
    delimiter : the character between the cells of a CSV file
    known_labels : for prediction, the classes of the model, which tell a line of data from one of names

    Raises
    ------
    DataError : for anything in the file that cannot be used, and OSError for a file that cannot be read
    """
    path = Path(path)
    # Opened once: what was read of a pipe cannot be read again.
    with path.open("rb") as file:
        stream: IO[bytes] = file if file.seekable() else io.BytesIO(file.read())
        is_zip = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        if is_zip or path.suffix.lower() == ".npz":
            return _read_npz(path, stream, is_zip, target, expected_count)
        layout = _Layout(target, header, expected_names, expected_count, expected_position, known_labels)
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            return _read_csv(path, text, delimiter, layout)


def _label_text(cell: str) -> str:
    """One spelling a class: surrounding blanks go, and a whole number loses its ``.0``. NaN is a missing label."""
    cell = cell.strip()
    if cell.lower() == "nan":
        return ""
    match = _INTEGRAL_FLOAT.fullmatch(cell)
    return match.group(1) if match else cell


# ----------------------------------------------------------------------------------------------------------------- CSV


@dataclass(frozen=True)
class _Layout:
    """What `read_table` was told about the columns."""

    target: str | None
    header: bool | None
    expected_names: Sequence[str] | None
    expected_count: int | None
    expected_position: int | None
    known_labels: Collection[str] | None


def _read_csv(path: Path, file: IO[str], delimiter: str, layout: _Layout) -> Table:
    try:
        records = _records(path, file, delimiter)
        first = next(records, None)
        if first is None:
            raise DataError(f"{path}: the file is empty")
        second = next(records, None)
        has_header = _looks_like_header(path, first[1], second, layout) if layout.header is None else layout.header
        names = _column_names(path, first) if has_header else None
        width = len(first[1])
        wanted: list[int]
        label: int | None
        if layout.expected_count is None:
            wanted, label = _training_columns(path, names, width, layout.target)
        else:
            wanted, label = _prediction_columns(path, names, width, layout, layout.expected_count)
        pending = [record for record in ([] if has_header else [first]) + [second] if record is not None]
        values, labels = _parse(path, pending, records, names, width, wanted, label, layout.expected_count is None)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    if layout.header is None and label is not None and labels is not None and not has_header:
        _check_first_label(_place(path, first[0], label, None), labels, layout.known_labels)
    target = layout.target
    if label is not None:
        target = names[label] if names else f"column {label + 1}"
    return Table(values, [names[i] for i in wanted] if names else None, labels, target or "target", label)


def _records(path: Path, file: IO[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The non-blank records with the number of the line each begins on."""
    reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: not a readable CSV file ({error})") from None
        if any(cell.strip() for cell in cells):
            yield line, cells
        line = reader.line_num + 1


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    for number in itertools.count(1):
        line = file.readline(_LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > _LONGEST_LINE:
            raise DataError(f"{path}, line {number}: more than {_LONGEST_LINE} characters; this is no table")
        if "\0" in line:
            raise DataError(f"{path}, line {number}: a NUL character; this is no CSV file in UTF-8")
        yield line


def parse_number(text: str) -> float:
    """The number that a cell holds; float() alone would take ``1_000`` and digits of other scripts too."""
    text = text.strip()
    if "_" in text or not text.isascii():
        raise ValueError
    return float(text)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    try:
        parse_number(cell)
    except ValueError:
        return False
    return True


def _looks_like_header(path: Path, first: list[str], second: tuple[int, list[str]] | None, layout: _Layout) -> bool:
    """A first line without any number, or with all the names that are looked for, is a header.

    Of one that mixes the two it has to be said, unless it holds the target's name.
    """
    target = layout.target
    filled = [cell for cell in first if cell.strip()]
    if layout.expected_names is not None and {cell.strip() for cell in filled}.issuperset(layout.expected_names):
        return True
    if not any(is_number(cell) for cell in filled):
        return True
    if target is not None and not is_number(target) and target in (cell.strip() for cell in first):
        return True
    if second is not None:
        for i, (above, below) in enumerate(zip(first, second[1], strict=False)):
            if above.strip() and not is_number(above) and is_number(below):
                raise DataError(
                    f"{path}, line 1, column {i + 1}: {above.strip()!r} stands above the number {below.strip()!r}, but "
                    "the line has numbers too, so it may be names or data: say --header or --no-header"
                )
    return False


def _check_first_label(place: str, labels: list[str], known: Collection[str] | None) -> None:
    """Refuse a first line of numbers and one text that no other row has as label: ``0,1,label`` may well be names."""
    text = labels[0]
    if not text or is_number(text) or (known is not None and text in known):
        return
    if len(labels) > 1 and labels.count(text) == 1:
        raise DataError(
            f"{place}: no other row has the label {shortened(text)}, so the line may be names or data: say --header "
            "or --no-header"
        )


def _column_names(path: Path, record: tuple[int, list[str]]) -> list[str]:
    names = [cell.strip() for cell in record[1]]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path}, line {record[0]}: two columns are called {shortened(name)}")
        seen.add(name)
    return names


def _training_columns(path: Path, names: list[str] | None, width: int, target: str | None) -> tuple[list[int], int]:
    if target is None:
        label = width - 1
    elif names is not None and target in names:
        label = names.index(target)
    else:
        try:
            label = int(target)
        except ValueError:
            known = f"the columns are {_listing(names)}" if names else "the file has no line of names"
            raise DataError(f"{path}: no column is called {target!r}; {known}") from None
        if not -width <= label < width:
            raise DataError(f"{path}: the target column {label} is not one of its {width} columns (counted from 0)")
        label %= width
    wanted = [i for i in range(width) if i != label]
    if not wanted:
        raise DataError(f"{path}: a single column leaves no features beside the target")
    return wanted, label


def _prediction_columns(
    path: Path, names: list[str] | None, width: int, layout: _Layout, expected_count: int
) -> tuple[list[int], int | None]:
    target, expected_names = layout.target, layout.expected_names
    if names is not None and expected_names is not None:
        places = {name: i for i, name in enumerate(names)}
        missing = [name for name in expected_names if name not in places]
        if missing:
            raise DataError(f"{path}: the model needs {_listing(missing)}; the columns are {_listing(names)}")
        label = None if target is None or target in expected_names else places.get(target)
        return [places[name] for name in expected_names], label
    if width == expected_count:
        return list(range(width)), None
    if width == expected_count + 1:
        # The layout that the model was trained on, or the usual one.
        if names is not None and target in names:
            label = names.index(target)
        else:
            label = width - 1 if layout.expected_position is None else min(layout.expected_position, width - 1)
        return [i for i in range(width) if i != label], label
    raise DataError(f"{path}: {width} columns, but the model takes {expected_count} features (and at most a target)")


def _parse(
    path: Path,
    pending: list[tuple[int, list[str]]],
    records: Iterator[tuple[int, list[str]]],
    names: list[str] | None,
    width: int,
    wanted: list[int],
    label: int | None,
    labels_required: bool,
) -> tuple[NDArray[np.float64], list[str] | None]:
    values = array("d")
    labels: list[str] = []
    texts: dict[str, str] = {}  # one object a class, not one a row

    def read(line: int, cells: list[str]) -> None:
        if len(cells) != width:
            raise DataError(f"{path}, line {line}: {len(cells)} cells, but the first line has {width}")
        try:
            row = [float(cells[i]) for i in wanted]
            # What float() takes and we do not; the cells are looked at one by one below.
            if "_" in (joined := "".join(cells)) or not joined.isascii():
                row = [math.nan]
        except ValueError:
            row = [math.nan]
        # A sum is finite only if every term is; one that overflows is told from a bad cell by looking again.
        if not math.isfinite(sum(row)):
            row = [_number(path, line, i, names, cells[i]) for i in wanted]
        values.extend(row)
        if label is not None:
            text = _label_text(cells[label])
            if not text and labels_required:
                raise DataError(f"{_place(path, line, label, names)}: the target is missing")
            labels.append(texts.setdefault(text, text))

    for record in pending:
        read(*record)
    for record in records:
        read(*record)
    if not values:
        raise DataError(f"{path}: no rows of data below the line of names")
    matrix = np.frombuffer(values, dtype=np.float64).reshape(-1, len(wanted))
    return matrix, (labels if label is not None else None)


def _number(path: Path, line: int, column: int, names: list[str] | None, cell: str) -> float:
    text = cell.strip()
    place = _place(path, line, column, names)
    if not text:
        raise DataError(f"{place}: the value is missing")
    try:
        value = parse_number(text)
    except ValueError:
        raise DataError(f"{place}: {shortened(text)} is not a number") from None
    if not math.isfinite(value):
        raise DataError(f"{place}: {shortened(text)} is not a finite number")
    return value


def _place(path: Path, line: int, column: int, names: list[str] | None) -> str:
    name = f" ({shortened(names[column])})" if names else ""
    return f"{path}, line {line}, column {column + 1}{name}"


def shortened(text: str) -> str:
    """A text as a message quotes it."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _listing(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(shortened(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


# ----------------------------------------------------------------------------------------------------------------- NPZ


def _read_npz(path: Path, stream: IO[bytes], is_zip: bool, target: str | None, expected_count: int | None) -> Table:
    target = target or "y"
    if not is_zip:
        raise DataError(f"{path}: not an NPZ file; save one with numpy.savez(path, X=..., y=...)")
    if target == "X":
        raise DataError(f"{path}: the target cannot be X: that array holds the features")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy and Python about odd headers
            held, x, y = _read_arrays(path, stream, target)
    except DataError:
        raise
    except MemoryError:
        raise MemoryError(f"{path}: its arrays do not fit") from None
    except OSError as error:
        if error.errno is None or isinstance(error, io.UnsupportedOperation):
            raise DataError(f"{path}: not a readable NPZ file ({_first_line(error)})") from None
        raise OSError(error.errno, error.strerror, str(path)) from None
    except Exception as error:  # the parsers of ZIP and NPY meet arbitrary bytes here
        raise DataError(f"{path}: not a readable NPZ file ({_first_line(error)})") from None
    if y is None and expected_count is None:
        raise DataError(f"{path}: no array {target!r} of labels; it holds {_listing(held)}")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: X holds {x.dtype}, not numbers")
    if x.ndim < 2 or x.size == 0:
        raise DataError(f"{path}: X has shape {x.shape}; it must be rows by features, at least one of each")
    features = x.reshape(len(x), -1).astype(np.float64)
    if expected_count not in (None, features.shape[1]):
        raise DataError(f"{path}: X has {features.shape[1]} features a row, but the model takes {expected_count}")
    if not np.isfinite(features).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(features))[0])
        raise DataError(f"{path}: X[{row}, {column}] is {features[row, column]}, not a finite number")
    return Table(features, None, None if y is None else _npz_labels(path, target, y, len(features)), target)


class _Bounded:
    """A file of which no more is read at once than a sound archive needs: the directory of a ZIP file is read whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _LARGEST_DIRECTORY:
            raise ValueError("its directory is too large")
        return self._stream.read(_LARGEST_DIRECTORY if size < 0 else size)


def _read_arrays(path: Path, stream: IO[bytes], target: str) -> tuple[list[str], NDArray[Any], NDArray[Any] | None]:
    """The names of the arrays, X, and the target's array if there is one.

    Not by numpy.load: 5 MB of a compressed file can claim, and fill, any amount of memory.
    """
    size = stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(_Bounded(stream)) as archive:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename:
                continue
            if name in members:
                raise DataError(f"{path}: two arrays are called {shortened(name)}")
            members[name] = info
        held = list(members)
        if "X" not in members:
            raise DataError(f"{path}: no array 'X'; it holds {_listing(held) or 'nothing'}")
        wanted = [members[name] for name in ("X", target) if name in members]
        unpacked = sum(info.file_size for info in wanted)
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in wanted)
        if unpacked > (size if stored else max(_ALWAYS_UNPACKED, _MOST_EXPANSION * size)):
            raise DataError(
                f"{path}: {unpacked} bytes of arrays in a file of {size} bytes: more than {_MOST_EXPANSION} times its "
                "size is not unpacked; if it is sound, save it with numpy.savez, not numpy.savez_compressed"
            )
        arrays = [_read_array(path, archive, info) for info in wanted]
    return held, arrays[0], arrays[1] if len(arrays) > 1 else None


def _read_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    name = shortened(info.filename)
    if info.flag_bits & 1:
        raise DataError(f"{path}: {name} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: {name} is compressed by method {info.compress_type}; NPZ files use deflate or none")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise DataError(f"{path}: {name} is of NPY version {version}")
        # Versions 2 and 3 have the same layout; 3 is for names of fields, which no table has.
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(member)
        if dtype.hasobject:
            raise DataError(f"{path}: not a readable NPZ file: {name} holds Python objects, which are never unpickled")
        count = math.prod(shape)
        if count * dtype.itemsize != info.file_size - member.tell() or any(length < 0 for length in shape):
            raise DataError(f"{path}: {name} is damaged: {info.file_size} bytes do not hold {dtype} {shape}")
        array = np.empty(count, dtype)
        view = array.view(np.uint8).data if array.nbytes else memoryview(b"")
        done = 0
        while done < len(view) and (piece := member.read(1 << 16)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        if done < len(view) or member.read(1):  # the read at the end compares the checksum
            raise DataError(f"{path}: {name} is truncated")
    return array.reshape(shape[::-1]).T if columns_first else array.reshape(shape)


def _npz_labels(path: Path, target: str, y: NDArray[Any], rows: int) -> list[str]:
    if y.shape not in ((rows,), (rows, 1)):
        raise DataError(f"{path}: {target} has shape {y.shape}, but X has {rows} rows, so it must be ({rows},)")
    if y.dtype.kind not in "biufSU":
        raise DataError(f"{path}: {target} holds {y.dtype}; labels are numbers, booleans or text")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise DataError(f"{path}: {target}[{int(np.argwhere(~np.isfinite(y.ravel()))[0, 0])}] is not a finite number")
    values = y.ravel().tolist()
    texts: dict[str, str] = {}  # one object a class, not one a row
    labels = (
        _label_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)) for value in values
    )
    return [texts.setdefault(label, label) for label in labels]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
