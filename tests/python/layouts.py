"""Operations on random views of one buffer: any strides, negative, zero, misaligned, inputs and `out` over one another.

Whatever NumPy can make is either refused with nothing written, or gives the bits that contiguous copies give and writes
no byte outside the elements of `out`. Used by test_layouts.py and, for as long as one likes, by tests/fuzz/layouts.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from operations import OPERATIONS, Operation, width

Array = np.ndarray[Any, Any]

# Not the optimisers, whose arrays must be contiguous.
VIEWED = [operation for operation in OPERATIONS if not operation.function.startswith("optimizer")]


def _call(operation: Operation, x: Array, y: Array, out: Array | None) -> tuple[Array, ...]:
    """The operation with x and y as the first of its arrays that are of x's shape; the others are always the same."""
    lead, d = x.shape[:-1], x.shape[-1]
    n = int(np.prod(lead))
    arguments = operation.make(n, d, x.dtype, np.random.default_rng(0))
    views = [x, y]
    for name, array in arguments.items():
        if views and array.shape == (n, d) and array.dtype.kind == "f":
            arguments[name] = views.pop(0)
        elif name in operation.rows:
            arguments[name] = array.reshape(lead + array.shape[1:])
    options = {} if out is None else {"out": out}
    return tuple(np.asarray(result) for result in operation(arguments, **options))


def _view(random: np.random.Generator, memory: bytearray, dtype: Any, shape: tuple[int, ...]) -> Array | None:
    """Some view of `memory`, or None where the strides that were drawn do not fit."""
    size, ndim = np.dtype(dtype).itemsize, len(shape)
    packed = np.cumprod((1, *shape[::-1]))[:-1][::-1] * size
    kind = random.integers(5)
    if kind == 0:
        strides = packed
    elif kind == 1:  # rows of wider matrices
        strides = packed + size * random.integers(0, 5, ndim)
        strides[-1] = size
    elif kind == 2:
        strides = random.integers(-12, 13, ndim) * size
    elif kind == 3:  # transposed, every other, backwards
        strides = random.permutation(packed) * random.choice([1, 2, -1])
    else:
        strides = random.integers(-30, 31, ndim)
    reach = [(n - 1) * int(stride) for n, stride in zip(shape, strides, strict=True)]
    low, high = (0, size) if 0 in shape else (sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + size)
    step = 1 if kind == 4 or random.random() < 0.1 else 8
    places = range(-low if step == 1 else -(low // 8) * 8, len(memory) - high + 1, step)
    if not places:
        return None
    return np.ndarray(shape, dtype, memory, int(random.choice(places)), tuple(int(stride) for stride in strides))


def _bytes_of(view: Array) -> set[int]:
    start = view.__array_interface__["data"][0]
    found: set[int] = set()
    for index in np.ndindex(*view.shape):
        at = start + sum(i * stride for i, stride in zip(index, view.strides, strict=True))
        found.update(range(at, at + view.itemsize))
    return found


def trial(random: np.random.Generator) -> str:
    """One call: "refused" or "computed", or "" where no such views were found. AssertionError says what is wrong."""
    operation = VIEWED[random.integers(len(VIEWED))]
    dtype = random.choice([np.float32, np.float64])
    memory = bytearray(random.normal(size=200).astype(dtype).tobytes())
    ndim = int(random.integers(1, 4))
    shape = tuple(int(n) for n in random.integers(0 if random.random() < 0.05 else 1, 6, ndim))
    x = _view(random, memory, dtype, shape)
    y = x if random.random() < 0.3 else _view(random, memory, dtype, shape)
    wanted = (*shape[:-1], width(shape[-1])) if operation.function == "affine_forward" else shape
    out = x if random.random() < 0.3 and wanted == shape else _view(random, memory, dtype, wanted)
    if x is None or y is None or out is None:
        return ""
    if not operation.takes_out:
        out = None
    written = None if out is None else out.strides
    said = f"{operation.name} {np.dtype(dtype)} x {x.shape} {x.strides} y {y.strides} out {written}"
    before = bytes(memory)
    try:
        expected = [np.array(result) for result in _call(operation, np.array(x), np.array(y), None)]
    except ValueError as error:  # of the shape or the values, not of how they lie
        expected = None
        said += f": {error}"
    assert bytes(memory) == before, f"{said}: a call on copies has written"
    results: tuple[Array, ...] = ()
    try:
        results = _call(operation, x, y, out)
    except ValueError as error:
        said += f": {error}"
    if not results:
        assert bytes(memory) == before, f"{said}: refused, and written all the same"
        assert out is not None or expected is None, f"{said}: copies are taken, views are not"
        return "refused"
    assert expected is not None, f"{said}: copies are refused, views are not"
    for result, value in zip(results, expected, strict=True):
        assert np.array(result).tobytes() == value.tobytes(), f"{said}: other bits"
    own = set() if out is None else _bytes_of(out)
    start = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    outside = [i for i in range(len(memory)) if memory[i] != before[i] and start + i not in own]
    assert not outside, f"{said}: bytes written outside out"
    return "computed"
