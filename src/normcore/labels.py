"""Class labels of any hashable kind, as the integers which training needs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["encode_labels"]


def encode_labels(y: Iterable[Hashable]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Number the classes of `y`. Do it once, before the data are split, so that every part has the same classes.

    Parameters
    ----------
    y : iterable of n hashable values
        Numbers, strings, tuples ... NaN is refused, for it equals nothing, itself included; None is a class like any.

    Returns
    -------
    codes : int64 (n,)
    classes : list
        The value that each code stands for: ``classes[codes[i]] == y[i]``. In ascending order, or, where the values
        have no common order (as 1 and "a"), in that of their first appearance. NumPy scalars come out as Python's.

    Examples
    --------
    >>> codes, classes = nc.encode_labels(["dog", "cat", "dog"])
    >>> codes.tolist(), classes
    ([1, 0, 1], ['cat', 'dog'])
    """
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError("encode_labels: masked arrays are not accepted")
    if isinstance(y, np.ndarray):
        if y.ndim != 1:
            raise ValueError(f"encode_labels: y is {y.shape}; it must have one axis")
        y = y.tolist()
    elif isinstance(y, (str, bytes)):
        raise TypeError(f"encode_labels: y is one {type(y).__name__}; it must be a sequence of labels")
    elif not isinstance(y, Iterable):
        raise TypeError(f"encode_labels: y is {y!r}; it must be a sequence of labels")
    first: dict[Hashable, int] = {}
    positions: list[int] = []
    for row, label in enumerate(y):
        value = label.item() if isinstance(label, np.generic) else label
        try:
            position = first.setdefault(value, len(first))
        except TypeError:
            raise TypeError(f"encode_labels: the label of row {row} is not hashable: {value!r}") from None
        if value != value:
            raise ValueError(f"encode_labels: the label of row {row} is NaN")
        positions.append(position)
    appearance: list[Any] = list(first)
    try:
        classes = sorted(appearance)
    except TypeError:
        classes = appearance
    rank = {value: code for code, value in enumerate(classes)}
    codes = np.array([rank[value] for value in appearance], dtype=np.int64)
    return codes[np.array(positions, dtype=np.intp)], classes
