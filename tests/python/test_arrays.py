"""What every function does with the arrays it is given: layouts, dtypes, ranks, `out=`, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import normcore as nc

N, D, K, M = 5, 6, 4, 3
LABELS = np.array([0, 5, 2, 3, 1])


@dataclass(frozen=True)
class Operation:
    """One function: shapes of its float arrays, how to call it, what `out` may be."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    call: Callable[..., Any]
    in_place: tuple[str, ...] = ()  # arguments that `out` may be
    out_shape: tuple[int, ...] | None = None
    rows: tuple[str, ...] = ("x",)  # arguments of shape (..., d), whose leading axes are flattened
    min_ndim: int = 1
    statistics: tuple[str, ...] = ()  # arguments that are double whatever the dtype of the operation

    def arguments(self, dtype: Any, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        made = {}
        for name, shape in self.shapes.items():
            values = rng.normal(size=shape)
            if name in ("running_var", "rstd"):
                values = np.abs(values) + 0.5
            made[name] = values.astype(np.float64 if name in self.statistics else dtype)
        return made

    def __call__(self, arguments: dict[str, Any], **options: Any) -> tuple[np.ndarray, ...]:
        result = self.call(**arguments, **options)
        return result if isinstance(result, tuple) else (result,)


def cross_entropy(reduction: str) -> Callable[..., Any]:
    def call(logits: Any) -> Any:
        rows = int(np.prod(np.shape(logits)[:-1])) if isinstance(logits, np.ndarray) else N
        labels = LABELS[:rows].reshape(np.shape(logits)[:-1]) if isinstance(logits, np.ndarray) else LABELS
        return nc.softmax_cross_entropy(logits, labels, reduction=reduction)

    return call


def soft_targets(logits: Any, labels: Any) -> Any:
    return nc.softmax_cross_entropy(logits, labels)


def batch_norm_training(x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, **options: Any) -> Any:
    return nc.batch_norm_forward(x, gamma, beta, running_mean, running_var, **options)


def batch_norm_evaluation(x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, **options: Any) -> Any:
    return nc.batch_norm_forward(x, gamma, beta, running_mean, running_var, training=False, **options)


def dropout_forward(x: Any, **options: Any) -> Any:
    return nc.dropout_forward(x, 0.5, seed=1, stream=2, offset=3, **options)


def dropout_backward(dy: Any, **options: Any) -> Any:
    return nc.dropout_backward(dy, 0.5, seed=1, stream=2, offset=3, **options)


MATRIX, VECTOR = (N, D), (D,)
OPERATIONS = [
    Operation("affine_forward", {"x": (N, K), "w": (K, M), "b": (M,)}, nc.affine_forward, ("x",), (N, M)),
    Operation("affine_backward", {"dy": (N, M), "x": (N, K), "w": (K, M)}, nc.affine_backward, rows=("dy", "x")),
    Operation("relu_forward", {"x": MATRIX}, nc.relu_forward, ("x",), MATRIX),
    Operation("relu_backward", {"dy": MATRIX, "y": MATRIX}, nc.relu_backward, ("dy", "y"), MATRIX, ("dy", "y")),
    Operation("leaky_relu_forward", {"x": MATRIX}, nc.leaky_relu_forward, ("x",), MATRIX),
    Operation("silu_forward", {"x": MATRIX}, nc.silu_forward, ("x",), MATRIX),
    Operation("tanh_backward", {"dy": MATRIX, "y": MATRIX}, nc.tanh_backward, ("dy", "y"), MATRIX, ("dy", "y")),
    Operation("silu_backward", {"dy": MATRIX, "x": MATRIX}, nc.silu_backward, ("dy", "x"), MATRIX, ("dy", "x")),
    Operation("softmax", {"x": MATRIX}, nc.softmax, ("x",), MATRIX),
    Operation("log_softmax", {"x": MATRIX}, nc.log_softmax, ("x",), MATRIX),
    Operation("softmax_backward", {"dy": MATRIX, "y": MATRIX}, nc.softmax_backward, ("dy", "y"), MATRIX, ("dy", "y")),
    Operation(
        "log_softmax_backward", {"dy": MATRIX, "y": MATRIX}, nc.log_softmax_backward, ("dy", "y"), MATRIX, ("dy", "y")
    ),
    Operation("softmax_cross_entropy", {"logits": MATRIX}, cross_entropy("mean"), rows=("logits",), min_ndim=2),
    Operation("softmax_cross_entropy", {"logits": MATRIX}, cross_entropy("none"), rows=("logits",), min_ndim=2),
    Operation(
        "softmax_cross_entropy",
        {"logits": MATRIX, "labels": MATRIX},
        soft_targets,
        rows=("logits", "labels"),
        min_ndim=2,
    ),
    Operation(
        "batch_norm_forward",
        {"x": MATRIX, "gamma": VECTOR, "beta": VECTOR},
        nc.batch_norm_forward,
        ("x",),
        MATRIX,
        min_ndim=2,
    ),
    Operation(
        "batch_norm_forward",
        {"x": MATRIX, "gamma": VECTOR, "beta": VECTOR, "running_mean": VECTOR, "running_var": VECTOR},
        batch_norm_training,
        ("x",),
        MATRIX,
        min_ndim=2,
    ),
    Operation(
        "batch_norm_forward",
        {"x": MATRIX, "gamma": VECTOR, "beta": VECTOR, "running_mean": VECTOR, "running_var": VECTOR},
        batch_norm_evaluation,
        ("x",),
        MATRIX,
        min_ndim=2,
    ),
    Operation(
        "batch_norm_backward",
        {"dy": MATRIX, "x": MATRIX, "gamma": VECTOR, "mean": VECTOR, "rstd": VECTOR},
        nc.batch_norm_backward,
        rows=("dy", "x"),
        min_ndim=2,
        statistics=("mean", "rstd"),
    ),
    Operation(
        "layer_norm_forward",
        {"x": MATRIX, "gamma": VECTOR, "beta": VECTOR},
        nc.layer_norm_forward,
        ("x",),
        MATRIX,
    ),
    Operation(
        "layer_norm_backward",
        {"dy": MATRIX, "x": MATRIX, "gamma": VECTOR, "mean": (N,), "rstd": (N,)},
        nc.layer_norm_backward,
        rows=("dy", "x"),
        statistics=("mean", "rstd"),
    ),
    Operation("dropout_forward", {"x": MATRIX}, dropout_forward, ("x",), MATRIX),
    Operation("dropout_backward", {"dy": MATRIX}, dropout_backward, ("dy",), MATRIX, ("dy",)),
    Operation("sum_of_squares", {"x": MATRIX}, nc.sum_of_squares),
]
WITH_OUT = [op for op in OPERATIONS if op.out_shape is not None]


def ids(operations: list[Operation]) -> list[str]:
    return [f"{op.name}-{len(op.shapes)}-{i}" for i, op in enumerate(operations)]


every_operation = pytest.mark.parametrize("op", OPERATIONS, ids=ids(OPERATIONS))
every_operation_with_out = pytest.mark.parametrize("op", WITH_OUT, ids=ids(WITH_OUT))
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


# ---------------------------------------------------------------------------------------------- layouts


def blank(a: np.ndarray, slices: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The values of `a` in a view of a larger array full of NaN."""
    view: np.ndarray = np.full(shape, np.nan, a.dtype)[slices]
    view[...] = a
    return view


def misaligned(a: np.ndarray) -> np.ndarray:
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = buffer[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a: np.ndarray) -> np.ndarray:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


class Subclass(np.ndarray):
    """Overrides what a careless caller would use."""

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("an operation looked at the elements of a subclass")


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "gap between rows": lambda a: blank(
        a, tuple(slice(0, n) for n in a.shape), (*a.shape[:-1], a.shape[-1] + 3) if a.ndim > 1 else (a.shape[0] + 3,)
    ),
    "every second row": lambda a: blank(a, (slice(None, None, 2),), (2 * a.shape[0] - 1, *a.shape[1:])),
    "every second column": lambda a: blank(a, (..., slice(None, None, 2)), (*a.shape[:-1], 2 * a.shape[-1])),
    "rows backwards": lambda a: blank(a, (slice(None, None, -1),), a.shape),
    "columns backwards": lambda a: blank(a, (..., slice(None, None, -1)), a.shape),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": misaligned,
    "read-only": read_only,
    "subclass": lambda a: a.copy().view(Subclass),
    "memmap": lambda a: a.copy().view(np.memmap),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def copies(arguments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a.copy() for name, a in arguments.items()}


def same_bits(left: Any, right: Any) -> None:
    left, right = np.asarray(left), np.asarray(right)
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes()


def all_same_bits(left: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        same_bits(a, b)


@every_layout
@every_dtype
@every_operation
def test_any_layout_gives_the_same_bits(op: Operation, dtype: Any, layout: str) -> None:
    plain = op.arguments(dtype)
    expected = op(copies(plain))
    for name, a in plain.items():
        arguments = copies(plain)
        laid_out = LAYOUTS[layout](a)
        values = np.array(laid_out, subok=False)
        np.testing.assert_array_equal(values, a)
        arguments[name] = laid_out
        if layout == "read-only" and name.startswith("running") and op.call is batch_norm_training:
            continue  # an output: its own test
        all_same_bits(op(arguments), expected)
        if not (name.startswith("running") and op.call is batch_norm_training):
            np.testing.assert_array_equal(np.array(laid_out, subok=False), a)


@every_dtype
@every_operation
def test_inputs_are_left_alone(op: Operation, dtype: Any) -> None:
    plain = op.arguments(dtype)
    used = copies(plain)
    op(used)
    for name, a in plain.items():
        if not (name.startswith("running") and op.call is batch_norm_training):
            same_bits(used[name], a)


@every_operation
def test_broadcast_input(op: Operation) -> None:
    """Zero strides along the rows, and along both axes."""
    for name, a in op.arguments(np.float64).items():
        if a.ndim == 2:
            for source in (a[:1], a[:1, :1], a[:, :1]):
                arguments = copies(op.arguments(np.float64))
                arguments[name] = np.broadcast_to(source, a.shape)
                broadcast = op(arguments)
                arguments = copies(op.arguments(np.float64))
                arguments[name] = np.ascontiguousarray(np.broadcast_to(source, a.shape))
                all_same_bits(broadcast, op(arguments))


@every_operation
def test_results_are_plain_arrays(op: Operation) -> None:
    arguments = {name: a.view(Subclass) for name, a in copies(op.arguments(np.float32)).items()}
    for result in op(arguments):
        assert type(result) in (np.ndarray, float)


def test_matrix_is_taken_as_an_array() -> None:
    x = np.array([[1.0, -2.0], [3.0, 4.0]]).view(np.matrix)
    y = nc.relu_forward(x)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, [[1.0, 0.0], [3.0, 4.0]])


# ---------------------------------------------------------------------------------------------- ranks


@every_dtype
@every_operation
def test_leading_axes_are_rows(op: Operation, dtype: Any) -> None:
    flat = op.arguments(dtype)
    flat = {
        k: (a[:4] if a.shape[:1] == (N,) and (a.ndim == 2 or op.name == "layer_norm_backward") else a)
        for k, a in flat.items()
    }
    expected = op(copies(flat))

    def deeper(name: str, a: np.ndarray) -> np.ndarray:
        rows = name in op.rows or (op.name == "layer_norm_backward" and name in op.statistics)
        return a.reshape(2, 1, 2, *a.shape[1:]) if rows else a

    for arrange in (lambda a: a, lambda a: np.asfortranarray(a), lambda a: LAYOUTS["gap between rows"](a)):
        got = op({name: arrange(deeper(name, a.copy())) for name, a in flat.items()})
        for result, wanted in zip(got, expected, strict=True):
            if isinstance(wanted, np.ndarray) and wanted.shape[:1] == (4,) and result.shape != wanted.shape:
                assert result.shape == (2, 1, 2, *wanted.shape[1:])
            same_bits(np.asarray(result).reshape(np.shape(wanted)), wanted)
        shapes = [np.shape(result)[:3] for result in got]
        if op.name not in ("sum_of_squares", "softmax_cross_entropy"):
            assert (2, 1, 2) in shapes


def test_leading_axes_that_one_step_cannot_walk() -> None:
    """Leading axes swapped, sliced and reversed: no single row stride leads through them."""
    base = np.random.default_rng(1).normal(size=(3, 4, 5, 6))
    for view in (
        base.transpose(1, 0, 2, 3),
        base[:, ::2],
        base[:, :, 1:4],
        base[::-1],
        base[:, :1],
        base[:1, :, ::3],
        base.transpose(0, 2, 1, 3)[:, 1:3],
        np.broadcast_to(base[:, :, :1], (3, 4, 5, 6)),
    ):
        same_bits(nc.softmax(view), nc.softmax(np.ascontiguousarray(view)))


@every_dtype
@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.min_ndim == 1], ids=lambda op: op.name)
def test_one_axis_is_one_row(op: Operation, dtype: Any) -> None:
    plain = op.arguments(dtype)
    single = {
        k: a[0] if k in op.rows or (op.name == "layer_norm_backward" and k in op.statistics) else a
        for k, a in plain.items()
    }
    row = {
        k: a[:1] if k in op.rows or (op.name == "layer_norm_backward" and k in op.statistics) else a
        for k, a in plain.items()
    }
    single = {k: np.asarray(a) for k, a in single.items()}
    for got, expected in zip(op(single), op(row), strict=True):
        if np.shape(expected)[:1] == (1,):
            same_bits(got, np.asarray(expected)[0])
        else:
            same_bits(got, expected)


def test_one_row_of_layer_norm_has_0d_statistics() -> None:
    x, ones = np.arange(4.0), np.ones(4)
    _, mean, rstd = nc.layer_norm_forward(x, ones, ones)
    assert isinstance(mean, np.ndarray)
    assert mean.shape == rstd.shape == ()
    expected = nc.layer_norm_backward(x, x, ones, mean, rstd)
    # Arithmetic turns 0-d arrays into scalars.
    all_same_bits(nc.layer_norm_backward(x, x, ones, mean + 0.0, rstd * 1.0), expected)


@every_operation
def test_too_few_axes(op: Operation) -> None:
    for name in op.rows:
        for ndim in range(op.min_ndim):
            arguments = op.arguments(np.float32)
            arguments[name] = arguments[name].reshape(-1)[0] if ndim == 0 else arguments[name][0]
            arguments[name] = np.asarray(arguments[name])
            with pytest.raises(ValueError, match=rf"{op.name}: {name} is {ndim}-D|{op.name}: {name} is \("):
                op(arguments)


# ---------------------------------------------------------------------------------------------- empty arrays


@every_dtype
@every_operation
def test_no_rows(op: Operation, dtype: Any) -> None:
    arguments = op.arguments(dtype)
    rows = {*op.rows, *(op.statistics if op.name == "layer_norm_backward" else ())}
    arguments = {k: a[:0] if k in rows else a for k, a in arguments.items()}
    running = {k: a.copy() for k, a in arguments.items() if k.startswith("running")}
    for result in op(arguments):
        if isinstance(result, float):
            assert result == 0.0
        elif result.shape[:1] != (0,) and op.name.endswith("backward"):
            np.testing.assert_array_equal(result, 0.0)  # gradients of parameters
        elif op.name != "batch_norm_forward":
            assert result.size == 0
    for name, before in running.items():
        same_bits(arguments[name], before)


@pytest.mark.parametrize(
    "op", [op for op in OPERATIONS if "cross" not in op.name and "affine" not in op.name], ids=lambda op: op.name
)
def test_no_columns(op: Operation) -> None:
    arguments = {k: a[..., :0] if a.shape[-1] == D else a for k, a in op.arguments(np.float32).items()}
    result = op(arguments)[0]
    assert result == 0.0 if isinstance(result, float) else result.shape == (N, 0)


def test_affine_over_nothing_is_the_bias() -> None:
    b = np.array([1.0, -2.0])
    np.testing.assert_array_equal(nc.affine_forward(np.empty((3, 0)), np.empty((0, 2)), b), [b, b, b])
    dx, dw, db = nc.affine_backward(np.ones((3, 2)), np.empty((3, 0)), np.empty((0, 2)))
    assert dx.shape == (3, 0)
    assert dw.shape == (0, 2)
    np.testing.assert_array_equal(db, [3.0, 3.0])


def test_rows_without_classes() -> None:
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: logits is \(3, 0\); .* at least one class"):
        nc.softmax_cross_entropy(np.empty((3, 0)), np.zeros(3, int))
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(np.empty((0, 0)), np.zeros(0, int))
    assert (loss, dlogits.shape, weight_sum) == (0.0, (0, 0), 0.0)


# ---------------------------------------------------------------------------------------------- dtypes


@every_operation
def test_mixed_dtypes_promote(op: Operation) -> None:
    narrow = op.arguments(np.float32)
    expected = op({name: a.astype(np.float64) for name, a in narrow.items()})
    names = [name for name in narrow if name not in op.statistics and not name.startswith("running")]
    for name in names:
        arguments = copies(narrow)
        arguments[name] = arguments[name].astype(np.float64)
        for running in ("running_mean", "running_var"):
            if running in arguments:
                arguments[running] = arguments[running].astype(np.float64)
        all_same_bits(op(arguments), expected)


def test_statistics_do_not_promote() -> None:
    for op in OPERATIONS:
        if op.statistics:
            arguments = op.arguments(np.float32)
            expected = op(arguments)
            assert expected[0].dtype == np.float32
            arguments = {k: a.astype(np.float32) if k in op.statistics else a for k, a in arguments.items()}
            assert op(arguments)[0].dtype == np.float32


REFUSED: dict[str, Callable[[np.ndarray], Any]] = {
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int64": lambda a: a.astype(np.int64),
    "uint8": lambda a: a.astype(np.uint8),
    "bool": lambda a: a.astype(bool),
    "complex64": lambda a: a.astype(np.complex64),
    "complex128": lambda a: a.astype(np.complex128),
    "object": lambda a: a.astype(object),
    "str": lambda a: a.astype(str),
    "structured": lambda a: a.view([("value", a.dtype)]),
    "datetime": lambda a: a.astype("m8[s]"),
    "masked": lambda a: np.ma.masked_array(a),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a),
    "scalar": lambda a: 1.5,
    "numpy scalar": lambda a: np.float32(1.5),
    "string": lambda a: "x",
    "bytes": lambda a: a.tobytes(),
    "memoryview": lambda a: a.data,
}


@pytest.mark.parametrize("kind", REFUSED)
@every_operation
def test_refused_types(op: Operation, kind: str) -> None:
    for name, a in op.arguments(np.float32).items():
        if name == "labels":
            continue  # its own rules: test_api
        if kind == "numpy scalar" and name in op.statistics:
            continue  # a 0-d statistic: refused for its shape
        arguments = op.arguments(np.float32)
        arguments[name] = REFUSED[kind](a)
        wanted = "NumPy array of float32"  # a running statistic must be of the operation's dtype
        if name.startswith("running"):
            wanted = "float32"
        with pytest.raises(TypeError, match=rf"^{op.name}: {name} is an? .*{wanted}"):
            op(arguments)


def test_array_likes_are_refused() -> None:
    """Objects that would turn into arrays, as data frames do, are not turned into arrays behind the caller's back."""

    class Frame:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise AssertionError("converted")

    with pytest.raises(TypeError, match=r"softmax: x is a Frame; it must be a NumPy array of float32 or float64"):
        nc.softmax(Frame())  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- out=


def fresh_out(op: Operation, dtype: Any) -> np.ndarray:
    assert op.out_shape is not None
    return np.full(op.out_shape, np.nan, dtype)


OUT_LAYOUTS = {k: v for k, v in LAYOUTS.items() if k not in ("byte-swapped", "read-only", "subclass")}


@pytest.mark.parametrize("layout", ["contiguous", *OUT_LAYOUTS])
@every_dtype
@every_operation_with_out
def test_out_of_any_layout(op: Operation, dtype: Any, layout: str) -> None:
    expected = op(op.arguments(dtype))
    out = fresh_out(op, dtype)
    if layout != "contiguous":
        out = OUT_LAYOUTS[layout](out)
    result = op(op.arguments(dtype), out=out)
    assert result[0] is out
    all_same_bits((np.array(out, subok=False, order="C"), *result[1:]), expected)


@every_operation_with_out
def test_nothing_is_written_between_the_rows(op: Operation) -> None:
    assert op.out_shape is not None
    rows, columns = op.out_shape
    for inner in ((slice(1, -1), slice(2, 2 + columns)), (slice(1, -1), slice(2, 2 + 2 * columns, 2))):
        whole = np.full((rows + 2, 2 * columns + 5), 7.0)
        op(op.arguments(np.float64), out=whole[inner])
        np.testing.assert_array_equal(whole[inner], op(op.arguments(np.float64))[0])
        whole[inner] = 7.0
        np.testing.assert_array_equal(whole, 7.0)


@pytest.mark.parametrize("layout", ["contiguous", *OUT_LAYOUTS])
@every_dtype
@every_operation_with_out
def test_in_place_has_the_same_bits(op: Operation, dtype: Any, layout: str) -> None:
    shapes = dict(op.shapes)
    if op.name == "affine_forward":
        op = Operation(op.name, {"x": (N, K), "w": (K, K), "b": (K,)}, op.call, op.in_place, (N, K))
        shapes = dict(op.shapes)
    for name in op.in_place:
        assert shapes[name] == op.out_shape
        expected = op(op.arguments(dtype))
        for view in (False, True):
            arguments = op.arguments(dtype)
            if layout != "contiguous":
                arguments[name] = OUT_LAYOUTS[layout](arguments[name])
            out = arguments[name].view() if view else arguments[name]
            result = op(arguments, out=out)
            assert result[0] is out
            all_same_bits((np.array(arguments[name], subok=False, order="C"), *result[1:]), expected)


def refuse(op: Operation, arguments: dict[str, Any], out: Any, error: type[Exception], match: str) -> None:
    """The call raises, and writes nothing."""
    watched = [a for a in [*arguments.values(), out] if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in watched]
    with pytest.raises(error, match=match):
        op(arguments, out=out)
    assert [a.tobytes() for a in watched] == before


@every_operation_with_out
def test_bad_out(op: Operation) -> None:
    assert op.out_shape is not None
    n, d = op.out_shape
    arguments = op.arguments(np.float32)
    name = rf"^{op.name}: out is "
    shape = rf"\({n}, {d}\)"
    for wrong in ((n + 1, d), (n, d + 1), (n * d,), (1, n, d), (d, n), (n, 1), (1, d), ()):
        refuse(op, arguments, np.zeros(wrong, np.float32), ValueError, name + rf"\(.*\) but the result is {shape}")
    for wrong_dtype in (np.float64, np.float16, np.int32, ">f4" if np.little_endian else "<f4"):
        out = np.zeros(op.out_shape, wrong_dtype)
        refuse(op, arguments, out, ValueError, name + r"an array of .* but the result is float32")
    refuse(op, op.arguments(np.float64), np.zeros(op.out_shape, np.float32), ValueError, "but the result is float64")
    refuse(op, arguments, read_only(np.zeros(op.out_shape, np.float32)), ValueError, name + "read-only")
    refuse(op, arguments, np.zeros(op.out_shape).tolist(), TypeError, name + "a list")
    refuse(op, arguments, np.ma.zeros(op.out_shape, np.float32), TypeError, name + "a MaskedArray")
    shared = np.lib.stride_tricks.as_strided(np.zeros(n * d, np.float32), op.out_shape, (4, 4))
    refuse(op, arguments, shared, ValueError, "out has elements that share memory")
    shared = np.lib.stride_tricks.as_strided(np.zeros(d, np.float32), op.out_shape, (0, 4))
    refuse(op, arguments, shared, ValueError, "out has elements that share memory")


@every_operation_with_out
def test_out_that_overlaps_an_argument(op: Operation) -> None:
    assert op.out_shape is not None
    for name, shape in op.shapes.items():
        arguments = op.arguments(np.float64)
        n, d = op.out_shape
        buffer = np.zeros(4 * n * d + 4 * K * M)
        size = int(np.prod(shape))
        at = n * d - 1  # the last element of out is the first of the argument
        argument = buffer[at : at + size].reshape(shape)
        argument[...] = arguments[name]
        arguments[name] = argument
        refuse(op, arguments, buffer[: n * d].reshape(n, d), ValueError, rf"^{op.name}: out overlaps {name}")
        # One element further on they only touch.
        expected = op({k: a.copy() for k, a in arguments.items()})[0]
        apart = buffer[2 * n * d + K * M :][: n * d].reshape(n, d)
        same_bits(op(arguments, out=apart)[0], expected)


@every_operation_with_out
def test_out_shifted_or_turned_against_its_input(op: Operation) -> None:
    if op.name == "affine_forward":
        op = Operation(op.name, {"x": (N, K), "w": (K, K), "b": (K,)}, op.call, op.in_place, (N, K))
    assert op.out_shape is not None
    n, d = op.out_shape
    for name in op.in_place:
        for make in (
            lambda b: (b[:n, :d], b[1 : n + 1, :d]),  # a row down
            lambda b: (b[:n, :d], b[:n, 1 : d + 1]),  # a column to the right
            lambda b: (b[:n, :d], b[n - 1 :: -1, :d]),  # upside down
            lambda b: (b[:n, :d], b.reshape(-1)[: n * d].reshape(n, d)),  # another row stride
            lambda b: (np.broadcast_to(b[:1, :d], (n, d)), b[:n, :d]),
        ):
            arguments = op.arguments(np.float64)
            whole = np.zeros((n + 2, d + 2))
            argument, out = make(whole)
            (whole[:n, :d] if not argument.flags.writeable else argument)[...] = arguments[name]
            arguments[name] = argument
            refuse(op, arguments, out, ValueError, rf"^{op.name}: out overlaps {name} without being {name}")


@every_operation_with_out
def test_out_interleaved_with_its_input(op: Operation) -> None:
    """Two halves of a wider array share address ranges and no element: that is no overlap."""
    if op.name == "affine_forward":
        op = Operation(op.name, {"x": (N, K), "w": (K, K), "b": (K,)}, op.call, op.in_place, (N, K))
    assert op.out_shape is not None
    n, d = op.out_shape
    for name in op.in_place:
        for first, second in ((np.s_[:, :d], np.s_[:, d:]), (np.s_[:, ::2], np.s_[:, 1::2])):
            arguments = op.arguments(np.float64)
            expected = op(copies(arguments))[0]
            whole = np.zeros((n, 2 * d))
            argument, out = whole[first], whole[second]
            argument[...] = arguments[name]
            arguments[name] = argument
            op(arguments, out=out)
            np.testing.assert_array_equal(out, expected)


def test_out_that_is_a_parameter_is_refused() -> None:
    w = np.eye(4)
    with pytest.raises(ValueError, match=r"affine_forward: out overlaps w$"):
        nc.affine_forward(np.ones((4, 4)), w, out=w)
    np.testing.assert_array_equal(w, np.eye(4))


def test_promotion_in_place_is_refused() -> None:
    """The result is float64, so a float32 input cannot hold it."""
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="layer_norm_forward: out is an array of float32 but the result is float64"):
        nc.layer_norm_forward(x, np.ones(3), np.ones(3), out=x)


# ---------------------------------------------------------------------------------------------- running statistics


def running_arguments(dtype: Any = np.float64) -> dict[str, Any]:
    return next(op for op in OPERATIONS if op.call is batch_norm_training).arguments(dtype)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("read-only", "subclass")])
@every_dtype
def test_running_statistics_of_any_layout_are_updated(layout: str, dtype: Any) -> None:
    expected: dict[str, Any] = running_arguments(dtype)
    nc.batch_norm_forward(*expected.values())
    laid_out = running_arguments(dtype)
    for name in ("running_mean", "running_var"):
        laid_out[name] = LAYOUTS[layout](laid_out[name])
    nc.batch_norm_forward(*laid_out.values())
    for name in ("running_mean", "running_var"):
        assert not np.array_equal(expected[name], running_arguments(dtype)[name])
        np.testing.assert_array_equal(laid_out[name], expected[name])


def test_bad_running_statistics() -> None:
    def refused(error: type[Exception], match: str, **changed: Any) -> None:
        arguments = {**running_arguments(), **changed}
        before = {k: a.copy() for k, a in arguments.items() if isinstance(a, np.ndarray)}
        with pytest.raises(error, match="^batch_norm_forward: " + match):
            nc.batch_norm_forward(**arguments)
        for name, a in before.items():
            same_bits(arguments[name], a)

    for name in ("running_mean", "running_var"):
        refused(TypeError, rf"{name} is a list", **{name: [0.0] * D})
        refused(TypeError, rf"{name} is an array of float32; the operation is in float64", **{name: np.ones(D, "f4")})
        refused(TypeError, rf"{name} is a MaskedArray", **{name: np.ma.ones(D)})
        refused(ValueError, rf"{name} is \(7,\) but x is \(5, 6\); {name} must be \(6,\)", **{name: np.ones(7)})
        refused(ValueError, rf"{name} is \(1, 6\)", **{name: np.ones((1, D))})
        refused(ValueError, rf"{name} is read-only", **{name: read_only(np.ones(D))})
        refused(
            ValueError,
            rf"{name} has elements that share memory",
            **{name: np.lib.stride_tricks.as_strided(np.ones(1), (D,), (0,))},
        )
        refused(ValueError, r"running_\w+ is given but running_\w+ is not; give both or neither", **{name: None})
    both = np.ones(D)
    refused(ValueError, "running_mean overlaps running_var", running_mean=both, running_var=both)
    x = running_arguments()["x"]
    refused(ValueError, "running_mean overlaps x", x=x, running_mean=x[2])
    refused(ValueError, "running_var overlaps gamma", gamma=both, running_var=both)
    with pytest.raises(ValueError, match="training is False, which needs running_mean and running_var"):
        nc.batch_norm_forward(x, both, both, training=False)
    out = np.zeros_like(x)
    with pytest.raises(ValueError, match="out overlaps running_mean"):
        nc.batch_norm_forward(**{**running_arguments(), "running_mean": out[0]}, out=out)


def test_evaluation_leaves_running_statistics_alone() -> None:
    arguments: dict[str, Any] = {k: read_only(a) for k, a in running_arguments().items()}
    nc.batch_norm_forward(**arguments, training=False)
    for name, a in running_arguments().items():
        same_bits(arguments[name], a)


def test_running_statistics_in_the_gaps_of_the_data() -> None:
    """Rows of a table that hold data and, beside them, the running statistics."""
    table = np.zeros((N, 3 * D))
    arguments = running_arguments()
    expected: dict[str, Any] = copies(arguments)
    nc.batch_norm_forward(**expected)
    views = {"x": table[:, :D], "running_mean": table[1, D : 2 * D], "running_var": table[2, 2 * D :]}
    for name, view in views.items():
        view[...] = arguments[name]
    nc.batch_norm_forward(**{**arguments, **views})
    for name, view in views.items():
        np.testing.assert_array_equal(view, expected[name])


# ---------------------------------------------------------------------------------------------- shapes

F = np.zeros


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: nc.affine_forward(F((3, 4)), F((5, 2))),
            r"affine_forward: x is \(3, 4\) but w is \(5, 2\); x's last axis must equal w's first",
        ),
        (lambda: nc.affine_forward(F((3, 4)), F(4)), r"affine_forward: w is \(4,\); it must have two axes"),
        (lambda: nc.affine_forward(F((3, 4)), F((1, 4, 2))), r"affine_forward: w is \(1, 4, 2\)"),
        (
            lambda: nc.affine_forward(F((3, 4)), F((4, 2)), F(3)),
            r"affine_forward: b is \(3,\) but w is \(4, 2\); b must be \(2,\)",
        ),
        (lambda: nc.affine_forward(F((3, 4)), F((4, 2)), F((1, 2))), r"affine_forward: b is \(1, 2\)"),
        (
            lambda: nc.affine_backward(F((3, 2)), F((4, 4)), F((4, 2))),
            r"affine_backward: dy is \(3, 2\) but x is \(4, 4\); all axes but the last must be equal",
        ),
        (
            lambda: nc.affine_backward(F((1, 3, 2)), F((3, 4)), F((4, 2))),
            r"affine_backward: dy is \(1, 3, 2\) but x is \(3, 4\)",
        ),
        (
            lambda: nc.affine_backward(F((3, 5)), F((3, 4)), F((4, 2))),
            r"affine_backward: dy is \(3, 5\) but w is \(4, 2\); dy's last axis must equal w's last",
        ),
        (
            lambda: nc.affine_backward(F((3, 2)), F((3, 5)), F((4, 2))),
            r"affine_backward: x is \(3, 5\) but w is \(4, 2\)",
        ),
        (lambda: nc.affine_backward(F((3, 2)), F((3, 4)), F(4)), r"affine_backward: w is \(4,\)"),
        (lambda: nc.relu_backward(F((3, 2)), F((2, 3))), r"relu_backward: dy is \(3, 2\) but y is \(2, 3\)"),
        (lambda: nc.relu_backward(F(2), F((1, 2))), r"relu_backward: dy is \(2,\) but y is \(1, 2\)"),
        (lambda: nc.tanh_backward(F((3, 2)), F((2, 3))), r"tanh_backward: dy is \(3, 2\) but y is \(2, 3\)"),
        (lambda: nc.silu_backward(F((3, 2)), F((2, 3))), r"silu_backward: dy is \(3, 2\) but x is \(2, 3\)"),
        (lambda: nc.softmax_backward(F((3, 2)), F((3, 1))), r"softmax_backward: dy is \(3, 2\) but y is \(3, 1\)"),
        (lambda: nc.log_softmax_backward(F((3, 2)), F(2)), r"log_softmax_backward: dy is \(3, 2\) but y is \(2,\)"),
        (
            lambda: nc.batch_norm_forward(F((3, 4)), F(3), F(4)),
            r"batch_norm_forward: gamma is \(3,\) but x is \(3, 4\); gamma must be \(4,\)",
        ),
        (lambda: nc.batch_norm_forward(F((3, 4)), F(4), F((1, 4))), r"batch_norm_forward: beta is \(1, 4\) but x is"),
        (
            lambda: nc.batch_norm_backward(F((3, 4)), F((4, 3)), F(3), F(3), F(3)),
            r"batch_norm_backward: dy is \(3, 4\) but x is \(4, 3\); they must have the same shape",
        ),
        (
            lambda: nc.batch_norm_backward(F((3, 4)), F((3, 4)), F(4), F(3), F(4)),
            r"batch_norm_backward: mean is \(3,\) but x is \(3, 4\); mean must be \(4,\)",
        ),
        (lambda: nc.batch_norm_backward(F((3, 4)), F((3, 4)), F(4), F(4), F(())), r"batch_norm_backward: rstd is \(\)"),
        (lambda: nc.layer_norm_forward(F((3, 4)), F(()), F(4)), r"layer_norm_forward: gamma is \(\) but x is \(3, 4\)"),
        (lambda: nc.layer_norm_forward(F(4), F(4), F(1)), r"layer_norm_forward: beta is \(1,\) but x is \(4,\)"),
        (
            lambda: nc.layer_norm_backward(F((3, 4)), F((3, 4)), F(4), F(4), F(3)),
            r"layer_norm_backward: mean is \(4,\) but x is \(3, 4\); mean must be \(3,\)",
        ),
        (
            lambda: nc.layer_norm_backward(F((2, 3, 4)), F((2, 3, 4)), F(4), F((2, 3)), F(6)),
            r"layer_norm_backward: rstd is \(6,\) but x is \(2, 3, 4\); rstd must be \(2, 3\)",
        ),
        (
            lambda: nc.softmax_cross_entropy(F((3, 4)), np.zeros(4, int)),
            r"softmax_cross_entropy: labels is \(4,\) but logits is \(3, 4\); labels must be \(3,\)",
        ),
        (lambda: nc.softmax_cross_entropy(F((3, 4)), np.zeros((3, 4), int)), r"labels is \(3, 4\) but logits is"),
        (
            lambda: nc.softmax_cross_entropy(F((3, 4)), F((4, 3))),
            r"labels is \(4, 3\) but logits is \(3, 4\); soft targets must be \(3, 4\)",
        ),
        (
            lambda: nc.softmax_cross_entropy(F((3, 4)), np.zeros(3, int), class_weight=np.ones(3)),
            r"class_weight is \(3,\) but logits is \(3, 4\); class_weight must be \(4,\)",
        ),
        (
            lambda: nc.softmax_cross_entropy(F((3, 4)), np.zeros(3, int), sample_weight=np.ones((3, 1))),
            r"sample_weight is \(3, 1\) but logits is \(3, 4\); sample_weight must be \(3,\)",
        ),
    ],
)
def test_shape_errors_name_operation_and_shapes(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


def test_no_call_reads_or_writes_outside() -> None:
    """Sentinels around every array of every call keep their bits; the C tests do the same with unmapped pages."""
    for op in OPERATIONS:
        for dtype in (np.float32, np.float64):
            arguments, frames = {}, []
            for name, a in op.arguments(dtype).items():
                frame = np.full(tuple(n + 2 for n in a.shape), np.nan, a.dtype)
                inner = frame[tuple(slice(1, -1) for _ in a.shape)]
                inner[...] = a
                arguments[name] = inner
                frames.append((frame, inner))
            options = {}
            if op.out_shape is not None:
                frame = np.full(tuple(n + 2 for n in op.out_shape), np.nan, dtype)
                options["out"] = frame[1:-1, 1:-1]
                frames.append((frame, options["out"]))
            results = op(arguments, **options)
            for result in results:
                assert np.isfinite(result).all()  # a NaN read from a frame would show
            for frame, inner in frames:
                inner[...] = np.nan
                assert np.isnan(frame).all()
