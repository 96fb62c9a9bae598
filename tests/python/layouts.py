"""Operations on random views of one buffer: any strides, negative, zero, misaligned, inputs and `out` over one another.

Whatever NumPy can make is either refused with nothing written, or gives the bits that contiguous copies give and writes
no byte outside the elements of `out`. Used by test_layouts.py and, for as long as one likes, by tests/fuzz/layouts.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import normcore as nc

Array = np.ndarray[Any, Any]
# (x, a second input of x's shape, out or None) -> all results, out's first
Function = Callable[[Array, Array, "Array | None"], tuple[Array, ...]]


def _row(x: Array, low: float, high: float) -> Array:
    return np.linspace(low, high, x.shape[-1]).astype(x.dtype)


def _weights(x: Array) -> Array:
    return np.linspace(-1, 1, x.shape[-1] * 3).reshape(x.shape[-1], 3).astype(x.dtype)


def _evaluation(x: Array, _y: Array, out: Array | None) -> tuple[Array, ...]:
    mean, var = _row(x, -1, 1), _row(x, 0.5, 2)
    return nc.batch_norm_forward(x, var, mean, mean.copy(), var.copy(), training=False, out=out)


def _backward(x: Array, y: Array, _out: Array | None) -> tuple[Array, ...]:
    return nc.batch_norm_backward(x, y, _row(x, 0.5, 2), np.zeros(x.shape[-1]), np.ones(x.shape[-1]))


def _layer_backward(x: Array, y: Array, _out: Array | None) -> tuple[Array, ...]:
    return nc.layer_norm_backward(x, y, _row(x, 0.5, 2), np.zeros(x.shape[:-1]), np.ones(x.shape[:-1]))


def _loss(x: Array, y: Array, _out: Array | None) -> tuple[Array, ...]:
    loss, gradient, weight = nc.softmax_cross_entropy(x, y, reduction="sum")
    return gradient, np.array(loss), np.array(weight)


FUNCTIONS: dict[str, Function] = {
    "affine_forward": lambda x, y, out: (nc.affine_forward(x, _weights(x), out=out),),
    "relu_forward": lambda x, y, out: (nc.relu_forward(x, out=out),),
    "relu_backward": lambda x, y, out: (nc.relu_backward(x, y, out=out),),
    "softmax": lambda x, y, out: (nc.softmax(x, out=out),),
    "log_softmax": lambda x, y, out: (nc.log_softmax(x, out=out),),
    "softmax_backward": lambda x, y, out: (nc.softmax_backward(x, y, out=out),),
    "log_softmax_backward": lambda x, y, out: (nc.log_softmax_backward(x, y, out=out),),
    "batch_norm_forward": lambda x, y, out: nc.batch_norm_forward(x, _row(x, 0.5, 2), _row(x, -1, 1), out=out),
    "batch_norm_evaluation": _evaluation,
    "layer_norm_forward": lambda x, y, out: nc.layer_norm_forward(x, _row(x, 0.5, 2), _row(x, -1, 1), out=out),
    "dropout_forward": lambda x, y, out: (nc.dropout_forward(x, 0.5, seed=3, out=out),),
    "dropout_backward": lambda x, y, out: (nc.dropout_backward(x, 0.5, seed=3, out=out),),
    # without `out`
    "affine_backward": lambda x, y, out: nc.affine_backward(x, y, _weights(y)[:, :1].repeat(x.shape[-1], 1)),
    "batch_norm_backward": _backward,
    "layer_norm_backward": _layer_backward,
    "softmax_cross_entropy": _loss,
    "sum_of_squares": lambda x, y, out: (np.array(nc.sum_of_squares(x)),),
}
WITH_OUT = list(FUNCTIONS)[:12]
AT_LEAST_2D = {"batch_norm_forward", "batch_norm_evaluation", "batch_norm_backward", "softmax_cross_entropy"}


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
    name = str(random.choice(list(FUNCTIONS)))
    function = FUNCTIONS[name]
    dtype = random.choice([np.float32, np.float64])
    memory = bytearray(random.normal(size=200).astype(dtype).tobytes())
    ndim = int(random.integers(2 if name in AT_LEAST_2D else 1, 4))
    shape = tuple(int(n) for n in random.integers(0 if random.random() < 0.05 else 1, 6, ndim))
    x = _view(random, memory, dtype, shape)
    y = x if random.random() < 0.3 else _view(random, memory, dtype, shape)
    wanted = (*shape[:-1], 3) if name == "affine_forward" else shape
    out = x if random.random() < 0.3 and wanted == shape else _view(random, memory, dtype, wanted)
    if x is None or y is None or out is None:
        return ""
    if name not in WITH_OUT:
        out = None
    said = f"{name} {np.dtype(dtype)} x {x.shape} {x.strides} y {y.strides} out {None if out is None else out.strides}"
    before = bytes(memory)
    try:
        expected = [np.array(result) for result in function(np.array(x), np.array(y), None)]
    except ValueError as error:  # of the shape or the values, not of how they lie
        expected = None
        said += f": {error}"
    assert bytes(memory) == before, f"{said}: a call on copies has written"
    results: tuple[Array, ...] = ()
    try:
        results = function(x, y, out)
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
