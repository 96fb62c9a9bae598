"""What every operation does with the arrays it is given: layouts, dtypes, ranks, `out=`, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import normcore as nc
from operations import OPERATIONS, Arguments, Operation

N, D = 5, 6
SQUARE = 9  # affine maps of so many features have as many outputs, and may be written over their input
WITH_ROWS = [op for op in OPERATIONS if op.rows]
WITH_OUT = [op for op in WITH_ROWS if op.takes_out]
NEED_TWO_AXES = ("batch_norm_forward", "batch_norm_backward", "softmax_cross_entropy", "squared_error", "huber_loss")
NEED_TWO_AXES += ("quantile_loss", "poisson_loss", "logistic_loss")
STATISTICS = ("mean", "rstd")  # double whatever the dtype of the operation


def name_of(op: Operation) -> str:
    return op.name


every_operation = pytest.mark.parametrize("op", WITH_ROWS, ids=name_of)
every_operation_with_out = pytest.mark.parametrize("op", WITH_OUT, ids=name_of)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def make(op: Operation, dtype: Any, n: int = N, d: int = D) -> Arguments:
    return op.make(n, d, dtype, np.random.default_rng(0))


def is_output(op: Operation, name: str) -> bool:
    """Whether it is a running statistic in training. The table passes copies; what is updated has its own tests."""
    return op.name == "batch_norm_forward_training" and name.startswith("running")


def floats(op: Operation) -> list[str]:
    """The arguments that must be of float32 or float64."""
    made = make(op, np.float32)
    return [k for k, a in made.items() if (a.dtype == np.float32 or k in STATISTICS) and not is_output(op, k)]


def result_shape(op: Operation, d: int = D) -> tuple[int, ...]:
    return np.shape(op(make(op, np.float64, d=d))[0])


def may_be_out(op: Operation) -> list[str]:
    """The arguments that the result may be written over."""
    return [k for k, a in make(op, np.float64, d=SQUARE).items() if k in op.rows and a.shape == (N, SQUARE)]


# ---------------------------------------------------------------------------------------------- layouts


def blank(a: np.ndarray, slices: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The values of `a` in a view of a larger array full of NaN, or of an integer that is no class."""
    view: np.ndarray = np.full(shape, np.nan if a.dtype.kind == "f" else -1, a.dtype)[slices]
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
    plain = make(op, dtype)
    expected = op(copies(plain))
    for name, a in plain.items():
        if is_output(op, name):
            continue
        arguments = copies(plain)
        laid_out = LAYOUTS[layout](a)
        values = np.array(laid_out, subok=False)
        np.testing.assert_array_equal(values, a)
        arguments[name] = laid_out
        all_same_bits(op(arguments), expected)
        np.testing.assert_array_equal(np.array(laid_out, subok=False), a)


@every_dtype
@every_operation
def test_inputs_are_left_alone(op: Operation, dtype: Any) -> None:
    plain = make(op, dtype)
    used = copies(plain)
    op(used)
    for name, a in plain.items():
        same_bits(used[name], a)


@every_operation
def test_broadcast_input(op: Operation) -> None:
    """Zero strides along the rows, and along both axes."""
    for name, a in make(op, np.float64).items():
        if a.ndim == 2:
            for source in (a[:1], a[:1, :1], a[:, :1]):
                arguments = copies(make(op, np.float64))
                arguments[name] = np.broadcast_to(source, a.shape)
                broadcast = op(arguments)
                arguments = copies(make(op, np.float64))
                arguments[name] = np.ascontiguousarray(np.broadcast_to(source, a.shape))
                all_same_bits(broadcast, op(arguments))


@every_operation
def test_results_are_plain_arrays(op: Operation) -> None:
    arguments = {k: a if is_output(op, k) else a.view(Subclass) for k, a in make(op, np.float32).items()}
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
    flat = make(op, dtype, n=4)
    expected = op(copies(flat))

    def deeper(name: str, a: np.ndarray) -> np.ndarray:
        return a.reshape(2, 1, 2, *a.shape[1:]) if name in op.rows else a

    for arrange in (lambda a: a, lambda a: np.asfortranarray(a), lambda a: LAYOUTS["gap between rows"](a)):
        got = op({name: arrange(deeper(name, a.copy())) for name, a in flat.items()})
        for result, wanted in zip(got, expected, strict=True):
            if isinstance(wanted, np.ndarray) and wanted.shape[:1] == (4,) and result.shape != wanted.shape:
                assert result.shape == (2, 1, 2, *wanted.shape[1:])
            same_bits(np.asarray(result).reshape(np.shape(wanted)), wanted)
        if op.function != "sum_of_squares":
            assert (2, 1, 2) in [np.shape(result)[:3] for result in got]


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
@pytest.mark.parametrize("op", [op for op in WITH_ROWS if op.function not in NEED_TWO_AXES], ids=name_of)
def test_one_axis_is_one_row(op: Operation, dtype: Any) -> None:
    plain = make(op, dtype)
    single = {k: np.asarray(a[0]) if k in op.rows else a for k, a in plain.items()}
    row = {k: a[:1] if k in op.rows else a for k, a in plain.items()}
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
    for name in [k for k in op.rows if make(op, np.float32)[k].ndim == 2]:
        for ndim in range(2 if op.function in NEED_TWO_AXES else 1):
            arguments = make(op, np.float32)
            arguments[name] = np.asarray(arguments[name].reshape(-1)[0] if ndim == 0 else arguments[name][0])
            with pytest.raises(ValueError, match=rf"{op.function}: {name} is {ndim}-D|{op.function}: {name} is \("):
                op(arguments)


# ---------------------------------------------------------------------------------------------- dtypes


@every_operation
def test_mixed_dtypes_promote(op: Operation) -> None:
    narrow = make(op, np.float32)
    wide = {k: a.astype(np.float64) if a.dtype == np.float32 else a for k, a in narrow.items()}
    running = {k: a for k, a in wide.items() if k.startswith("running")}
    expected = op(wide)
    for name in floats(op):
        if name not in (*STATISTICS, *running):
            all_same_bits(op(copies(narrow) | {name: wide[name]} | running), expected)


@pytest.mark.parametrize("op", [op for op in WITH_ROWS if "rstd" in make(op, np.float32)], ids=name_of)
def test_statistics_do_not_promote(op: Operation) -> None:
    arguments = make(op, np.float32)
    assert op(arguments)[0].dtype == np.float32
    arguments |= {k: arguments[k].astype(np.float32) for k in STATISTICS}
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
    for name in floats(op):
        if name == "labels":
            continue  # its own rules: test_labels
        if kind == "numpy scalar" and name in STATISTICS:
            continue  # a 0-d statistic: refused for its shape
        arguments = make(op, np.float32)
        arguments[name] = REFUSED[kind](arguments[name])
        # a running statistic must be of the operation's dtype
        wanted = "float32" if name.startswith("running") else "NumPy array of float32"
        with pytest.raises(TypeError, match=rf"^{op.function}: {name} is an? .*{wanted}"):
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
    return np.full(result_shape(op), np.nan, dtype)


OUT_LAYOUTS = {k: v for k, v in LAYOUTS.items() if k not in ("byte-swapped", "read-only", "subclass")}


@pytest.mark.parametrize("layout", ["contiguous", *OUT_LAYOUTS])
@every_dtype
@every_operation_with_out
def test_out_of_any_layout(op: Operation, dtype: Any, layout: str) -> None:
    expected = op(make(op, dtype))
    out = fresh_out(op, dtype)
    if layout != "contiguous":
        out = OUT_LAYOUTS[layout](out)
    result = op(make(op, dtype), out=out)
    assert result[0] is out
    all_same_bits((np.array(out, subok=False, order="C"), *result[1:]), expected)


@every_operation_with_out
def test_nothing_is_written_between_the_rows(op: Operation) -> None:
    rows, columns = result_shape(op)
    for inner in ((slice(1, -1), slice(2, 2 + columns)), (slice(1, -1), slice(2, 2 + 2 * columns, 2))):
        whole = np.full((rows + 2, 2 * columns + 5), 7.0)
        op(make(op, np.float64), out=whole[inner])
        np.testing.assert_array_equal(whole[inner], op(make(op, np.float64))[0])
        whole[inner] = 7.0
        np.testing.assert_array_equal(whole, 7.0)


@pytest.mark.parametrize("layout", ["contiguous", *OUT_LAYOUTS])
@every_dtype
@every_operation_with_out
def test_in_place_has_the_same_bits(op: Operation, dtype: Any, layout: str) -> None:
    assert may_be_out(op)
    for name in may_be_out(op):
        expected = op(make(op, dtype, d=SQUARE))
        for view in (False, True):
            arguments = make(op, dtype, d=SQUARE)
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
    n, d = shape_of_result = result_shape(op)
    arguments = make(op, np.float32)
    name = rf"^{op.function}: out is "
    shape = rf"\({n}, {d}\)"
    for wrong in ((n + 1, d), (n, d + 1), (n * d,), (1, n, d), (d, n), (n, 1), (1, d), ()):
        refuse(op, arguments, np.zeros(wrong, np.float32), ValueError, name + rf"\(.*\) but the result is {shape}")
    for wrong_dtype in (np.float64, np.float16, np.int32, ">f4" if np.little_endian else "<f4"):
        out = np.zeros(shape_of_result, wrong_dtype)
        refuse(op, arguments, out, ValueError, name + r"an array of .* but the result is float32")
    refuse(op, make(op, np.float64), np.zeros(shape_of_result, np.float32), ValueError, "but the result is float64")
    refuse(op, arguments, read_only(np.zeros(shape_of_result, np.float32)), ValueError, name + "read-only")
    refuse(op, arguments, np.zeros(shape_of_result).tolist(), TypeError, name + "a list")
    refuse(op, arguments, np.ma.zeros(shape_of_result, np.float32), TypeError, name + "a MaskedArray")
    shared = np.lib.stride_tricks.as_strided(np.zeros(n * d, np.float32), shape_of_result, (4, 4))
    refuse(op, arguments, shared, ValueError, "out has elements that share memory")
    shared = np.lib.stride_tricks.as_strided(np.zeros(d, np.float32), shape_of_result, (0, 4))
    refuse(op, arguments, shared, ValueError, "out has elements that share memory")


@every_operation_with_out
def test_out_that_overlaps_an_argument(op: Operation) -> None:
    n, d = result_shape(op)
    for name, a in make(op, np.float64).items():
        if is_output(op, name):
            continue
        arguments = make(op, np.float64)
        buffer = np.zeros(2 * n * d + a.size)
        at = n * d - 1  # the last element of out is the first of the argument
        argument = buffer[at : at + a.size].reshape(a.shape)
        argument[...] = a
        arguments[name] = argument
        refuse(op, arguments, buffer[: n * d].reshape(n, d), ValueError, rf"^{op.function}: out overlaps {name}")
        # One element further on they only touch.
        expected = op(copies(arguments))[0]
        apart = buffer[at + a.size :][: n * d].reshape(n, d)
        same_bits(op(arguments, out=apart)[0], expected)


@every_operation_with_out
def test_out_shifted_or_turned_against_its_input(op: Operation) -> None:
    n, d = N, SQUARE
    for name in may_be_out(op):
        for view in (
            lambda b: (b[:n, :d], b[1 : n + 1, :d]),  # a row down
            lambda b: (b[:n, :d], b[:n, 1 : d + 1]),  # a column to the right
            lambda b: (b[:n, :d], b[n - 1 :: -1, :d]),  # upside down
            lambda b: (b[:n, :d], b.reshape(-1)[: n * d].reshape(n, d)),  # another row stride
            lambda b: (np.broadcast_to(b[:1, :d], (n, d)), b[:n, :d]),
        ):
            arguments = make(op, np.float64, d=d)
            whole = np.zeros((n + 2, d + 2))
            argument, out = view(whole)
            (whole[:n, :d] if not argument.flags.writeable else argument)[...] = arguments[name]
            arguments[name] = argument
            refuse(op, arguments, out, ValueError, rf"^{op.function}: out overlaps {name} without being {name}")


@every_operation_with_out
def test_out_interleaved_with_its_input(op: Operation) -> None:
    """Two halves of a wider array share address ranges and no element: that is no overlap."""
    n, d = N, SQUARE
    for name in may_be_out(op):
        for first, second in ((np.s_[:, :d], np.s_[:, d:]), (np.s_[:, ::2], np.s_[:, 1::2])):
            arguments = make(op, np.float64, d=d)
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
    return make(next(op for op in OPERATIONS if op.name == "batch_norm_forward_training"), dtype)


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
    refused(ValueError, "momentum is 1.5", momentum=1.5)
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


@every_dtype
@every_operation
def test_no_call_reads_or_writes_outside(op: Operation, dtype: Any) -> None:
    """Sentinels around every array of every call keep their bits; the C tests do the same with unmapped pages."""
    arguments, frames = {}, []

    def framed(shape: tuple[int, ...], kind: Any) -> np.ndarray:
        sentinel = np.nan if np.dtype(kind).kind == "f" else -1
        frame = np.full(tuple(n + 2 for n in shape), sentinel, kind)
        inner = frame[tuple(slice(1, -1) for _ in shape)]
        frames.append((frame, inner, sentinel))
        return inner

    for name, a in make(op, dtype).items():
        arguments[name] = framed(a.shape, a.dtype)
        arguments[name][...] = a
    options = {"out": framed(result_shape(op), dtype)} if op.takes_out else {}
    for result in op(arguments, **options):
        assert np.isfinite(result).all()  # a NaN read from a frame would show
    for frame, inner, sentinel in frames:
        inner[...] = sentinel
        np.testing.assert_array_equal(frame, sentinel)
