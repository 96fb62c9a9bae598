"""Affine and ReLU layers: cases, references and known mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Array, Call, Case, Function, Outcome, Wrong, cache_of, outputs_of

__all__ = ["FUNCTIONS"]


def _draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def _affine_case(seed: int, shape: tuple[int, ...], m: int, tag: str = "", dtype: Any = np.float64) -> Case:
    k = int(np.prod(shape[1:]))
    arrays = {
        "x": _draw(seed, *shape),
        "w": _draw(seed + 1, k, m),
        "b": _draw(seed + 2, m),
        "dout": _draw(seed + 3, shape[0], m),
    }
    return Case({name: array.astype(dtype) for name, array in arrays.items()}, tag)


_AFFINE_CASES = (
    _affine_case(1, (4, 3), 5),
    _affine_case(2, (3, 6), 2),
    _affine_case(3, (3, 2, 2, 2), 4, "images"),
    _affine_case(4, (1, 3), 2, "one row"),
    _affine_case(5, (4, 3), 1, "one output"),
    _affine_case(6, (4, 3), 5, "float32", np.float32),
)
_TAGS = {
    "images": "for x of more than two axes",
    "one row": "for one row",
    "one output": "for one output",
    "float32": "for float32",
    "one column": "for one column",
}


def _rows(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


def _affine_forward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, w, b = (case.given[name] for name in "xwb")
    product = _rows(x) @ w
    if "no bias" in wrong:
        return {"out": product}
    if "bias subtracted" in wrong:
        return {"out": product - b}
    if "bias twice" in wrong:
        return {"out": product + 2 * b}
    if "bias summed" in wrong:
        return {"out": product + b.sum()}
    out = product + b
    return {"out": np.maximum(out, 0) if "relu" in wrong else out}


def _affine_terms(case: Case) -> dict[str, dict[str, Array]]:
    product = _rows(case.given["x"]) @ case.given["w"]
    return {"out": {"the product of x and w": product, "the bias": np.broadcast_to(case.given["b"], product.shape)}}


def _affine_backward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, w, dout = (case.given[name] for name in ("x", "w", "dout"))
    n = x.shape[0]
    dx = (dout @ w.T).reshape(x.shape)
    dw = _rows(x).T @ dout
    db = dout.sum(axis=0)
    if "db over axis 1" in wrong:
        db = dout.sum(axis=1)
    if "db whole" in wrong:
        db = np.asarray(dout.sum())
    if "db mean" in wrong:
        db = dout.mean(axis=0)
    if "db unsummed" in wrong:
        db = dout
    if "db ones" in wrong:
        db = np.full(w.shape[1], float(n))
    if "db first row" in wrong:
        db = dout[0]
    if "dw mean" in wrong or "dw db mean" in wrong:
        dw = dw / n
    if "dw db mean" in wrong:
        db = db / n
    if "dw reversed" in wrong:
        dw = dout.T @ _rows(x)
    if "dx mean" in wrong:
        dx = dx / n
    if "dx unshaped" in wrong:
        dx = _rows(dx)
    return {"dx": dx, "dw": dw, "db": db}


def _relu_case(seed: int, shape: tuple[int, ...], tag: str = "", dtype: Any = np.float64) -> Case:
    x = _draw(seed, *shape)
    if tag == "zero":
        x[::2] = 0
    return Case({"x": x.astype(dtype), "dout": _draw(seed + 1, *shape).astype(dtype)}, tag)


_RELU_CASES = (
    _relu_case(11, (4, 5)),
    _relu_case(12, (3, 7)),
    _relu_case(13, (2, 3, 4), "images"),
    _relu_case(14, (1, 6), "one row"),
    _relu_case(15, (4, 5), "float32", np.float32),
    _relu_case(16, (4, 5), "zero"),
)


def _relu_forward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x = case.given["x"]
    out = np.maximum(x, 0)
    if "abs" in wrong:
        out = np.abs(x)
    if "mask" in wrong:
        out = (x > 0).astype(x.dtype)
    if "negative" in wrong:
        out = np.minimum(x, 0)
    if "identity" in wrong:
        out = x
    if "leaky" in wrong:
        out = np.where(x > 0, x, x * x.dtype.type(0.01))
    return {"out": out}


def _relu_backward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, dout = case.given["x"], case.given["dout"]
    mask = (x > 0).astype(x.dtype)
    if "greater or equal" in wrong:
        mask = (x >= 0).astype(x.dtype)
    if "half" in wrong:
        mask = np.where(x == 0, x.dtype.type(0.5), mask)
    if "mask of dout" in wrong:
        mask = (dout > 0).astype(x.dtype)
    if "inverted" in wrong:
        mask = (x <= 0).astype(x.dtype)
    if "no mask" in wrong:
        mask = np.ones_like(x)
    if "leaky" in wrong:
        mask = np.where(x > 0, 1, x.dtype.type(0.01))
    if "times out" in wrong:
        mask = np.maximum(x, 0)
    if "times x" in wrong:
        mask = x
    if "no dout" in wrong:
        return {"dx": mask}
    return {"dx": dout * mask}


def _forward_calls(function: str, *names: str) -> Any:
    def calls(case: Case) -> list[Call]:
        return [Call(function, {name: case.given[name] for name in names}, names, opaque=(1,))]

    return calls


def _backward_calls(function: str, forward: str, *names: str) -> Any:
    """Forward, backward, and backward again: a cache may be read twice."""

    def calls(case: Case) -> list[Call]:
        back = Call(function, {"dout": case.given["dout"], "cache": cache_of(0)}, ("dout",))
        return [Call(forward, {name: case.given[name] for name in names}, (), (1,)), back, back]

    return calls


def _out(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {"out": outputs_of(calls[0], ("out", "cache"))["out"]}


def _gradients(*names: str) -> Any:
    def observed(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
        return outputs_of(calls[1], names)

    return observed


FUNCTIONS = (
    Function(
        "affine_forward",
        ("out",),
        _AFFINE_CASES,
        _forward_calls("affine_forward", "x", "w", "b"),
        _affine_forward,
        {
            "no bias": "the bias b is not added",
            "bias subtracted": "the bias b is subtracted",
            "bias twice": "the bias b is added twice",
            "bias summed": "the sum of b is added to every output, not b[j] to output j",
            "relu": "out goes through a ReLU",
        },
        _out,
        tags=_TAGS,
        terms=_affine_terms,
    ),
    Function(
        "affine_backward",
        ("dx", "dw", "db"),
        _AFFINE_CASES,
        _backward_calls("affine_backward", "affine_forward", "x", "w", "b"),
        _affine_backward,
        {
            "dw db mean": "dw and db are divided by the number of rows, which the loss does already",
            "dw mean": "dw is divided by the number of rows, which the loss does already",
            "dx mean": "dx is divided by the number of rows, which the loss does already",
            "db mean": "db is the mean over the rows, not the sum",
            "db over axis 1": "db sums over axis 1, not over the rows (axis 0)",
            "db whole": "db sums over both axes: one number instead of one per output",
            "db unsummed": "db is dout itself, not summed over the rows",
            "db ones": "db counts the rows and leaves out dout",
            "db first row": "db is the first row of dout, not the sum of the rows",
            "dw reversed": "dw is transposed: it is dout^T x, not x^T dout",
            "dx unshaped": "dx is not given back the shape of x",
        },
        _gradients("dx", "dw", "db"),
        "affine_forward",
        tags=_TAGS,
        gradients={"dx": "x", "dw": "w", "db": "b"},
    ),
    Function(
        "relu_forward",
        ("out",),
        _RELU_CASES,
        _forward_calls("relu_forward", "x"),
        _relu_forward,
        {
            "abs": "negative inputs become positive, not 0: out is |x|",
            "mask": "out is 1 where x is positive, not x",
            "negative": "out keeps the negative inputs: min(x, 0) in place of max(x, 0)",
            "identity": "out is x itself: negative inputs are not set to 0",
            "leaky": "negative inputs are multiplied by 0.01, not set to 0: a leaky ReLU",
        },
        _out,
        tags={**_TAGS, "zero": "for inputs of 0"},
    ),
    Function(
        "relu_backward",
        ("dx",),
        _RELU_CASES,
        _backward_calls("relu_backward", "relu_forward", "x"),
        _relu_backward,
        {
            "no mask": "dx is dout: the gradient passes also where x is negative",
            "no dout": "dx is 1 where x is positive: dout is left out",
            "mask of dout": "the gradient passes where dout is positive, not where x is",
            "inverted": "the gradient passes where x is not positive: the mask is inverted",
            "leaky": "the gradient is multiplied by 0.01 where x is negative: a leaky ReLU",
            "times out": "dout is multiplied by the output, not by 1 where the input is positive",
            "times x": "dout is multiplied by x, not by 1 where x is positive",
            "greater or equal": "the gradient passes where x is 0: >= in place of >",
            "half": "half of the gradient passes where x is 0",
        },
        _gradients("dx"),
        "relu_forward",
        tags={**_TAGS, "zero": "for inputs of 0"},
        remarks={"greater or equal": "", "half": ""},
        gradients={"dx": "x"},
    ),
)
