"""Arrays that hold the same values in other memory: strided, padded, reversed, misaligned, of the other byte order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .comparison import assert_same_bits, same_bits

Array = NDArray[Any]

__all__ = ["LAYOUTS", "VECTOR_LAYOUTS", "apply_layout", "check_layouts", "plain"]


def plain(x: ArrayLike) -> Array:
    """A native, aligned, C-contiguous, writable copy of `x`.

    Examples
    --------
    >>> from normcore.testing import plain
    >>> plain(np.arange(6)[::-2]).strides
    (8,)
    """
    a = np.asarray(x)
    return np.array(a, dtype=a.dtype.newbyteorder("="), order="C", copy=True)


def _inside(shape: Sequence[int], dtype: Any, index: Any) -> Array:
    """A view of `shape` into a larger array, taken by `index`; what lies around it is NaN, so that reading it shows."""
    kind = np.dtype(dtype)
    big = np.empty(shape, dtype=kind)
    big[...] = np.nan if kind.kind == "f" else np.iinfo(kind).max if kind.kind in "iu" else True
    return np.asarray(big[index])


def _padded_rows(x: Array) -> Array:
    out = _inside((*x.shape[:-1], x.shape[-1] + 3), x.dtype, (..., slice(1, x.shape[-1] + 1)))
    out[...] = x
    return out


def _every_other_column(x: Array) -> Array:
    out = _inside((*x.shape[:-1], 2 * x.shape[-1]), x.dtype, (..., slice(None, None, 2)))
    out[...] = x
    return out


def _every_other_row(x: Array) -> Array:
    out = _inside((2 * x.shape[0], *x.shape[1:]), x.dtype, slice(None, None, 2))
    out[...] = x
    return out


def _reversed(x: Array, axis: int) -> Array:
    return np.flip(np.flip(x, axis).copy(), axis)


def _misaligned(x: Array) -> Array:
    if not x.size:
        return x.copy()
    memory = np.empty(x.nbytes + 1, np.uint8)
    out: Array = np.ndarray(x.shape, x.dtype, memory.data, offset=1)
    out[...] = x
    return out


def _byte_swapped(x: Array) -> Array:
    return x.astype(x.dtype.newbyteorder("S")) if x.dtype.itemsize > 1 else x.copy()


def _read_only(x: Array) -> Array:
    out = x.copy()
    out.flags.writeable = False
    return out


_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda x: x.copy(),
    "padded_rows": _padded_rows,
    "every_other_row": _every_other_row,
    "every_other_column": _every_other_column,
    "fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "reversed_rows": lambda x: _reversed(x, 0),
    "reversed_columns": lambda x: _reversed(x, -1),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "misaligned": _misaligned,
    "byte_swapped": _byte_swapped,
    "read_only": _read_only,
}

LAYOUTS = tuple(_LAYOUTS)
"""Names of the layouts that :func:`apply_layout` makes."""

VECTOR_LAYOUTS = (
    "contiguous",
    "every_other_column",
    "reversed_columns",
    "misaligned",
    "byte_swapped",
    "read_only",
)
"""The layouts that mean something for vectors."""


def apply_layout(x: ArrayLike, layout: str) -> Array:
    """The values of `x` (of rank 1 or more) in memory laid out as one of `LAYOUTS`.

    All but ``"broadcast"``, which repeats the first row with a stride of 0, keep the values. ``broadcast`` and
    ``read_only`` arrays are not writable. What lies between the elements of a strided array is NaN (of integers, the
    greatest), so that reading it shows.

    Examples
    --------
    >>> from normcore.testing import LAYOUTS, apply_layout
    >>> x = np.arange(6.0).reshape(2, 3)
    >>> apply_layout(x, "fortran").strides, apply_layout(x, "reversed_rows").strides
    ((8, 16), (-24, 8))
    >>> LAYOUTS[:4]
    ('contiguous', 'padded_rows', 'every_other_row', 'every_other_column')
    """
    a = plain(x)
    if a.ndim == 0:
        raise ValueError("apply_layout: x must have at least one axis")
    if layout not in _LAYOUTS:
        raise ValueError(f"apply_layout: no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    return np.asarray(_LAYOUTS[layout](a))


def check_layouts(
    function: Callable[..., Any],
    *arrays: ArrayLike,
    layouts: Sequence[str] = LAYOUTS,
    compare: Callable[[Any, Any], None] = assert_same_bits,
) -> None:
    """Check that a function gives the same results however its arrays lie in memory, and does not write to them.

    ``function(*arrays)`` is called with plain copies, then with one array at a time, and at last all of them, in every
    layout. Arrays of rank 0 stay as they are.

    Parameters
    ----------
    function : callable
        Its result is anything that `compare` takes.
    *arrays : array_like
    layouts : sequence of str
        Names of `LAYOUTS`. Leave out what the function refuses.
    compare : callable
        ``compare(actual, expected)`` raises AssertionError where they differ. By default every bit counts; a function
        that may sum in another order where the strides are others needs a tolerance, as
        ``lambda a, e: assert_ulp(a, e, 4, axis=0)``.

    Raises
    ------
    AssertionError
        A result differs, or an array was written to; a note names the array and the layout.
    Exception
        Whatever `function` raises, with the same note.

    Examples
    --------
    >>> from normcore.testing import check_layouts
    >>> x = np.arange(6.0).reshape(2, 3)
    >>> check_layouts(nc.softmax, x)
    >>> check_layouts(lambda x: np.frombuffer(x.data.tobytes("A")), x)  # of the memory as it lies
    Traceback (most recent call last):
        ...
    AssertionError: result: 4 of 6 elements differ in bits, first at (1,): np.float64(3.0) and np.float64(1.0)
    argument 0 was laid out as fortran
    """
    values = [plain(x) for x in arrays]
    single = [(i,) for i, x in enumerate(values) if x.ndim]
    together = [tuple(i for (i,) in single)] if len(single) > 1 else []
    for layout in layouts:
        for chosen in single + together:
            given = [apply_layout(x, layout) if i in chosen else x.copy() for i, x in enumerate(values)]
            before = [plain(x) for x in given]
            try:
                expected = function(*(x.copy() for x in before))
                compare(function(*given), expected)
                for i, (x, y) in enumerate(zip(given, before, strict=True)):
                    if not same_bits(x, y):
                        raise AssertionError(f"argument {i} was written to")
            except Exception as error:
                which = f"argument {chosen[0]} was" if len(chosen) == 1 else "all arguments were"
                error.add_note(f"{which} laid out as {layout}")
                raise
