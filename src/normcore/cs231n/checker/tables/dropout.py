"""Dropout: cases, what can be told of random masks, and known mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Array, Call, Case, Function, Outcome, Wrong, cache_of, outputs_of

__all__ = ["functions"]

_SHAPE = (60, 50)


def _case(
    seed: int, p: float, keep: float, mode: str, kind: str, shape: tuple[int, ...] = _SHAPE, tag: str = ""
) -> Case:
    rng = np.random.default_rng(seed)
    # No element is near 0, so that those of out tell the mask.
    x = rng.choice([-1.0, 1.0], shape) * (0.5 + rng.random(shape))
    given = {"x": x, "dout": 1 + rng.random(shape), "p": p, "keep": keep, "mode": mode, "kind": kind}
    return Case(given, tag)


def _cases(drops: bool) -> tuple[Case, ...]:
    def case(seed: int, p: float, mode: str, kind: str, shape: tuple[int, ...] = _SHAPE, tag: str = "") -> Case:
        return _case(seed, p, 1 - p if drops else p, mode, kind, shape, tag)

    return (
        case(101, 0.3, "train", "mask"),
        case(102, 0.8, "train", "mask"),
        case(103, 0.3, "test", "mask"),
        case(104, 0.8, "test", "mask"),
        case(105, 0.4, "train", "seed"),
        case(106, 0.4, "train", "fresh"),
        case(107, 0.4, "train", "mask", (40, 2, 5, 5), "images"),
    )


def _parameters(case: Case) -> dict[str, Any]:
    parameters = {"p": case.given["p"], "mode": case.given["mode"]}
    return parameters if case.given["kind"] == "fresh" else {**parameters, "seed": 7}


def _forward_calls(case: Case) -> list[Call]:
    call = Call(
        "dropout_forward", {"x": case.given["x"], "dropout_param": _parameters(case)}, ("x", "dropout_param"), (1,)
    )
    return [call] * (1 if case.given["kind"] == "mask" else 2)


def _kept(case: Case, out: Array) -> tuple[float, float]:
    """The share of elements kept, and in how many directions the mask varies.

    The share is given as that asked for, or as its complement, where the count is within what chance allows.
    """
    mask, keep = out != 0, case.given["keep"]
    rows = mask.reshape(len(mask), -1)
    varies = float((rows != rows[:1]).any()) + 2 * float((rows != rows[:, :1]).any())
    share = float(mask.mean())
    if varies in (1.0, 2.0):
        return keep, varies
    for expected in (keep, 1 - keep):
        if abs(share - expected) < 6 * np.sqrt(keep * (1 - keep) / mask.size):
            share = expected
    return share, varies


def _forward_observed(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
    outs = [outputs_of(call, ("out", "cache"))["out"] for call in calls]
    out, kind = outs[0], case.given["kind"]
    if any(o is None for o in outs):
        return {"out": None, "share": None, "varies": None, "repeats": None}
    if np.shape(out) != case.given["x"].shape:
        return {"out": out}
    if kind == "mask":
        share, varies = _kept(case, out)
        return {"out": out, "share": np.asarray(share), "varies": np.asarray(varies)}
    return {"repeats": np.asarray(float(np.array_equal(outs[0] != 0, outs[1] != 0)))}


def _forward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    given = case.given
    x, keep = given["x"], x_type(given["x"], given["keep"])
    if given["kind"] == "seed":
        return {"repeats": np.asarray(0.0 if "seed ignored" in wrong else 1.0)}
    if given["kind"] == "fresh":
        return {"repeats": np.asarray(1.0 if "always the same" in wrong else 0.0)}
    mask = np.asarray(seen["out"]) != 0 if seen.get("out") is not None else np.ones(x.shape, bool)
    if given["mode"] == "test":
        factor: Any = 1.0
        if "test scales" in wrong or "vanilla" in wrong:
            factor = keep
        if "test scales by the other" in wrong or "vanilla exchanged" in wrong:
            factor = 1 - keep
        if "test divides" in wrong:
            factor = 1 / keep
        if "test zero" in wrong:
            factor = 0 * keep
        if "test drops" in wrong:
            return {"out": x * mask / keep, "share": given["keep"], "varies": 3.0}
        if "test drops unscaled" in wrong:
            return {"out": x * mask, "share": given["keep"], "varies": 3.0}
        return {"out": x * factor, "share": 0.0 if "test zero" in wrong else 1.0, "varies": 0.0}
    share, varies, factor = given["keep"], 3.0, 1 / keep
    if "not scaled" in wrong or "vanilla" in wrong or "vanilla exchanged" in wrong:
        factor = 1
    if "multiplied" in wrong:
        factor = keep
    if "scaled by the other" in wrong:
        factor = 1 / (1 - keep)
    if "inverted" in wrong or "p exchanged" in wrong or "vanilla exchanged" in wrong:
        share = 1 - share
    if "p exchanged" in wrong:
        factor = 1 / (1 - keep)
    if "inverted unscaled" in wrong:
        share, factor = 1 - share, 1
    if "drops nothing" in wrong:
        return {"out": x, "share": 1.0, "varies": 0.0}
    if "mask alone" in wrong:
        return {"out": mask * factor * np.ones_like(x), "share": share, "varies": varies}
    if "one mask for rows" in wrong:
        varies = 2.0
    if "one mask for columns" in wrong:
        varies = 1.0
    return {"out": x * mask * factor, "share": share, "varies": varies}


def x_type(x: Array, value: float) -> Any:
    return x.dtype.type(value)


def _backward_calls(case: Case) -> list[Call]:
    forward = {"x": case.given["x"], "dropout_param": _parameters(case)}
    back = Call("dropout_backward", {"dout": case.given["dout"], "cache": cache_of(0)}, ("dout",))
    return [Call("dropout_forward", forward, (), (1,)), back, back]


def _backward_observed(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
    out = outputs_of(calls[0], ("out", "cache"))["out"]
    return {**outputs_of(calls[1], ("dx",)), "forward": out}


def _backward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    """What the code's own forward pass did to x, done to dout."""
    x, dout, keep = case.given["x"], case.given["dout"], x_type(case.given["x"], case.given["keep"])
    out = seen["forward"]
    if case.given["mode"] == "test":
        factor: Any = 1
        if "test scaled" in wrong:
            factor = keep
        if "test divided" in wrong:
            factor = 1 / keep
        if "test zero" in wrong:
            factor = 0
        return {"dx": dout * factor, "forward": out}
    ratio = np.asarray(out, x.dtype) / x if out is not None and np.shape(out) == x.shape else np.ones_like(x)
    mask = ratio != 0
    if "no mask" in wrong:
        ratio = np.ones_like(x)
    if "mask not scaled" in wrong:
        ratio = mask * np.ones_like(x)
    if "scale alone" in wrong:
        ratio = 1 / keep
    if "scaled twice" in wrong:
        ratio = ratio / keep
    if "multiplied" in wrong:
        ratio = mask * keep
    if "mask alone" in wrong:
        return {"dx": ratio * np.ones_like(x), "forward": out}
    if "inverted" in wrong:
        ratio = ~mask / keep
    if "another mask" in wrong and seen.get("dx") is not None and np.shape(seen["dx"]) == x.shape:
        ratio = (np.asarray(seen["dx"]) != 0) / keep
    if "times out" in wrong:
        ratio = np.asarray(out, x.dtype)
    return {"dx": dout * ratio, "forward": out}


_WORDS = {
    "share": "the share of elements that are kept",
    "varies": "the shape of the mask",
    "repeats": "how far two calls agree",
}


def functions(drops: bool) -> tuple[Function, ...]:
    """The functions where p is the probability to drop (editions before 2018) or to keep."""
    meant, other = ("drop", "keep") if drops else ("keep", "drop")
    keep, drop = ("1 - p", "p") if drops else ("p", "1 - p")
    edition = "since 2018 it is that to keep (--edition)" if drops else "before 2018 it was that to drop (--edition)"
    cases = _cases(drops)
    forward: Mapping[str, str] = {
        "p exchanged": f"p is taken for the probability to {other}; it is that to {meant}: {edition}",
        "vanilla exchanged": f"p is taken for the probability to {other}, and what is kept is scaled in test mode, in "
        f"place of train mode; it is that to {meant}: {edition}",
        "vanilla": f"what is kept is multiplied by {keep} in test mode, in place of divided by {keep} in train mode",
        "not scaled": f"what is kept is not divided by {keep} in train mode",
        "multiplied": f"what is kept is multiplied by {keep} in train mode, not divided by it",
        "scaled by the other": f"what is kept is divided by {drop} in train mode, not by {keep}",
        "inverted unscaled": "the mask is inverted: it drops what it is to keep, and nothing is scaled",
        "inverted": "the mask is inverted: it drops what it is to keep",
        "drops nothing": "nothing is dropped in train mode",
        "mask alone": "out is the mask in train mode: x is left out",
        "one mask for rows": "all rows have the same mask: the mask is to have the shape of x",
        "one mask for columns": "all columns have the same mask: the mask is to have the shape of x",
        "test drops unscaled": "drops in test mode too",
        "test drops": "drops and scales in test mode too",
        "test scales": f"out is multiplied by {keep} in test mode, where it is to be x",
        "test scales by the other": f"out is multiplied by {drop} in test mode, where it is to be x",
        "test divides": f"out is divided by {keep} in test mode, where it is to be x",
        "test zero": "out is 0 in test mode, where it is to be x",
        "seed ignored": "the seed of dropout_param is not used: no two calls agree, as gradient checks need",
        "always the same": "the mask is the same at every call, without a seed too",
    }
    backward: Mapping[str, str] = {
        "no mask": "dx is dout in train mode: the mask is not used",
        "mask not scaled": f"dx lacks the division by {keep} in train mode, which the forward pass has",
        "scale alone": "dx is scaled but not masked",
        "scaled twice": f"dx is divided by {keep} twice: the mask is scaled already",
        "multiplied": f"dx is multiplied by {keep}, not divided by it",
        "mask alone": "dx is the mask: dout is left out",
        "inverted": "dx passes where the forward pass drops: the mask is inverted",
        "another mask": "the mask is not that of the forward pass but drawn anew",
        "times out": "dout is multiplied by out, not by the mask",
        "test scaled": f"dx is multiplied by {keep} in test mode, where it is to be dout",
        "test divided": f"dx is divided by {keep} in test mode, where it is to be dout",
        "test zero": "dx is 0 in test mode, where it is to be dout",
    }
    tags = {"images": "for x of more than two axes"}
    return (
        Function(
            "dropout_forward", ("out", "share", "varies", "repeats"), cases, _forward_calls, _forward, forward,
            _forward_observed, tags=tags, words=_WORDS,
        ),
        Function(
            "dropout_backward", ("dx", "forward"), tuple(case for case in cases if case.given["kind"] == "mask"),
            _backward_calls, _backward, backward, _backward_observed, "dropout_forward", tags=tags,
        ),
    )  # fmt: skip
