"""The table of operations, for what holds for all of them: arrays of any layout, refusals, bits, cuts, edges."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import sprinkle_special
from normcore.testing.strategies import LOSSES

Arguments = dict[str, Any]
# Of each optimiser: whether it has a first and a second moment.
SLOTS = {"sgd": (0, 0), "momentum": (1, 0), "nesterov": (1, 0), "rmsprop": (0, 1), "adam": (1, 1)}


@dataclass(frozen=True)
class Operation:
    """One operation: how to make its arguments for n rows of d elements, and how to call it.

    `name` begins with that of the public function. `by_row` names the arguments that are cut together with the rows;
    `row_results` the results that go along with them. `first_row` is passed with the index of the first row where the
    operation needs it (dropout).
    """

    name: str
    make: Callable[[int, int, Any, np.random.Generator], Arguments]
    call: Callable[..., Any]
    by_row: tuple[str, ...] = ()
    row_results: tuple[int, ...] = ()
    needs_first_row: bool = False

    def __call__(self, arguments: Arguments, **options: Any) -> tuple[Any, ...]:
        result = self.call(**arguments, **options)
        return result if isinstance(result, tuple) else (result,)

    @cached_property
    def function(self) -> str:
        """The name of the public function."""
        return max((name for name in vars(nc) if self.name.startswith(name)), key=len)

    @cached_property
    def takes_out(self) -> bool:
        return "out" in inspect.signature(getattr(nc, self.function)).parameters

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The arguments that have an entry for each row, in order: their leading axes may be any number."""
        few, more = (self.make(n, 5, np.float32, np.random.default_rng(0)) for n in (2, 3))
        return tuple(name for name in few if few[name].shape[0] == 2 and more[name].shape[0] == 3)


def width(d: int) -> int:
    """Another size, for the outputs of affine maps."""
    return d * 5 % 37 + 1


def _float(*shape_of: str) -> Callable[[int, int, Any, np.random.Generator], Arguments]:
    """Arguments that are arrays of normal deviates: each is `name:shape`, the shape in letters n, d, m."""

    def make(n: int, d: int, dtype: Any, random: np.random.Generator) -> Arguments:
        size = {"n": n, "d": d, "m": width(d)}
        out = {}
        for item in shape_of:
            name, axes = item.split(":")
            shape = tuple(size[a] for a in axes)
            # gamma and the like stay moderate: they are no place where special values teach anything new
            out[name] = random.normal(size=shape).astype(dtype)
        return out

    return make


def _norm(by: str) -> Callable[[int, int, Any, np.random.Generator], Arguments]:
    def make(n: int, d: int, dtype: Any, random: np.random.Generator) -> Arguments:
        out = _float("dy:nd", "x:nd", "gamma:d")(n, d, dtype, random)
        length = n if by == "row" else d
        return out | {
            "mean": random.normal(size=length),
            "rstd": random.exponential(size=length),
        }

    return make


def _running(n: int, d: int, dtype: Any, random: np.random.Generator) -> Arguments:
    out = _float("x:nd", "gamma:d", "beta:d", "running_mean:d")(n, d, dtype, random)
    return out | {"running_var": random.exponential(size=d).astype(dtype)}


def _logits(n: int, d: int, dtype: Any, random: np.random.Generator) -> Arguments:
    d = max(d, 2)  # the softmax over one class is refused
    out: Arguments = {
        "logits": (random.normal(size=(n, d)) * 5).astype(dtype),
        "labels": random.integers(0, d, n),
    }
    return out | {
        "sample_weight": random.exponential(size=n),
        "class_weight": random.exponential(size=d),
    }


def _soft(n: int, d: int, dtype: Any, random: np.random.Generator) -> Arguments:
    d = max(d, 2)
    out: Arguments = {"logits": (random.normal(size=(n, d)) * 5).astype(dtype)}
    return out | {
        "labels": random.random((n, d)).astype(dtype),
        "sample_weight": random.exponential(size=n),
        "class_weight": random.exponential(size=d),
    }


def _loss(n: int, d: int, dtype: Any, random: np.random.Generator) -> Arguments:
    return {
        "outputs": random.normal(size=(n, d)).astype(dtype),
        "targets": random.integers(0, 2, (n, d)),
        "sample_weight": random.exponential(size=n),
    }


def _update(n: int, d: int, dtype: Any, random: np.random.Generator) -> Arguments:
    out: Arguments = {name: random.normal(size=n * d).astype(dtype) for name in ("params", "grads", "slot1")}
    return out | {"slot2": random.exponential(size=n * d).astype(dtype)}


def _batch_norm_training(running_mean: Any, running_var: Any, **others: Any) -> tuple[Any, ...]:
    running = {"running_mean": running_mean.copy(), "running_var": running_var.copy()}
    done = nc.batch_norm_forward(**others, **running, momentum=0.8, eps=1e-3)
    return (*done, *running.values())


def _batch_norm_evaluation(**arrays: Any) -> tuple[Any, ...]:
    return tuple(nc.batch_norm_forward(**arrays, training=False))


def _batch_norm_backward(**options: Any) -> Callable[..., Any]:
    return lambda **arrays: nc.batch_norm_backward(**arrays, **options)


def _cross_entropy(**options: Any) -> Callable[..., Any]:
    return lambda **arrays: nc.softmax_cross_entropy(**arrays, **options)


def _loss_of(name: str) -> Callable[..., Any]:
    return lambda **arrays: getattr(nc, name)(**arrays, reduction="none")


def _optimizer(name: str) -> Callable[..., Any]:
    def call(params: Any, grads: Any, slot1: Any, slot2: Any) -> tuple[Any, ...]:
        p = np.array(params, params.dtype.newbyteorder("="), order="C")
        g = np.array(grads, grads.dtype.newbyteorder("="), order="C")
        slots = [np.array(s, s.dtype.newbyteorder("="), order="C") for s in (slot1, slot2)]
        v, s = (slot if use else None for slot, use in zip(slots, SLOTS[name], strict=True))
        nc.optimizer_update(name, p, g, v, s, learning_rate=0.01, l2=0.1, gradient_scale=0.5, step=3)
        return p, v, s

    return call


def _dropout(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any = None, dy: Any = None, first_row: int = 0, **options: Any) -> Any:
        data = dy if x is None else x
        offset = first_row * np.shape(data)[-1] if first_row else 0
        return function(data, 0.7, seed=11, stream=5, offset=offset, **options)

    return call


OPERATIONS = [
    Operation("affine_forward", _float("x:nd", "w:dm", "b:m"), nc.affine_forward, ("x",), (0,)),
    Operation(
        "affine_forward_relu",
        _float("x:nd", "w:dm"),
        lambda **arrays: nc.affine_forward(**arrays, relu=True),
        ("x",),
        (0,),
    ),
    Operation(
        "affine_backward",
        _float("dy:nm", "x:nd", "w:dm"),
        nc.affine_backward,
        ("dy", "x"),
        (0,),
    ),
    *(
        Operation(f"{name}_forward", _float("x:nd"), getattr(nc, f"{name}_forward"), ("x",), (0,))
        for name in nc.ACTIVATIONS
    ),
    *(
        Operation(f"{name}_backward", _float("dy:nd", f"{of}:nd"), getattr(nc, f"{name}_backward"), ("dy", of), (0,))
        for name, of in ((name, "x" if name == "silu" else "y") for name in nc.ACTIVATIONS)
    ),
    Operation("softmax", _float("x:nd"), nc.softmax, ("x",), (0,)),
    Operation("log_softmax", _float("x:nd"), nc.log_softmax, ("x",), (0,)),
    Operation(
        "softmax_backward",
        _float("dy:nd", "y:nd"),
        nc.softmax_backward,
        ("dy", "y"),
        (0,),
    ),
    Operation(
        "log_softmax_backward",
        _float("dy:nd", "y:nd"),
        nc.log_softmax_backward,
        ("dy", "y"),
        (0,),
    ),
    Operation("softmax_cross_entropy_mean", _logits, _cross_entropy(label_smoothing=0.1)),
    Operation(
        "softmax_cross_entropy_sum",
        _logits,
        _cross_entropy(reduction="sum"),
        ("logits", "labels", "sample_weight"),
        (1,),
    ),
    Operation(
        "softmax_cross_entropy_none",
        _soft,
        _cross_entropy(reduction="none"),
        ("logits", "labels", "sample_weight"),
        (0, 1),
    ),
    Operation("squared_error_mean", _loss, nc.squared_error),
    *(
        Operation(f"{name}_none", _loss, _loss_of(name), ("outputs", "targets", "sample_weight"), (0, 1))
        for name in LOSSES
        if name != "squared_error"
    ),
    Operation("batch_norm_forward_training", _running, _batch_norm_training),
    Operation("batch_norm_forward_evaluation", _running, _batch_norm_evaluation, ("x",), (0,)),
    Operation(
        "batch_norm_backward_fused",
        _norm("column"),
        _batch_norm_backward(algorithm="fused"),
    ),
    Operation(
        "batch_norm_backward_graph",
        _norm("column"),
        _batch_norm_backward(algorithm="graph"),
    ),
    Operation(
        "batch_norm_backward_evaluation",
        _norm("column"),
        _batch_norm_backward(training=False),
        ("dy", "x"),
        (0,),
    ),
    Operation(
        "layer_norm_forward",
        _float("x:nd", "gamma:d", "beta:d"),
        nc.layer_norm_forward,
        ("x",),
        (0, 1, 2),
    ),
    Operation(
        "layer_norm_backward",
        _norm("row"),
        nc.layer_norm_backward,
        ("dy", "x", "mean", "rstd"),
        (0,),
    ),
    Operation(
        "dropout_forward",
        _float("x:nd"),
        _dropout(nc.dropout_forward),
        ("x",),
        (0,),
        needs_first_row=True,
    ),
    Operation(
        "dropout_backward",
        _float("dy:nd"),
        _dropout(nc.dropout_backward),
        ("dy",),
        (0,),
        needs_first_row=True,
    ),
    Operation("sum_of_squares", _float("x:nd"), nc.sum_of_squares),
    *(Operation(f"optimizer_update_{name}", _update, _optimizer(name)) for name in SLOTS),
]

NAMES = [operation.name for operation in OPERATIONS]
ROW_WISE = [operation for operation in OPERATIONS if operation.by_row]

_DATA = ("x", "dy", "y", "w", "b", "logits", "params", "grads")


@st.composite
def arguments(draw: st.DrawFn, operation: Operation, shape: tuple[int, int], dtype: Any) -> Arguments:
    """Arguments of `operation`; in half of the examples a tenth of the data is special, as `special_values` says."""
    seed = draw(st.integers(0, 2**32 - 1))
    made = operation.make(*shape, dtype, np.random.default_rng(seed))
    if draw(st.booleans()):
        made = {k: sprinkle_special(v, seed + i) if k in _DATA else v for i, (k, v) in enumerate(made.items())}
    return made
