"""Softmax and SVM losses: cases, references and known mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Array, Call, Case, Function, Outcome, Wrong, outputs_of

__all__ = ["FUNCTIONS"]


def _case(seed: int, n: int, c: int, tag: str = "", *, scale: float = 1.0, dtype: Any = np.float64) -> Case:
    rng = np.random.default_rng(seed)
    x = scale * rng.standard_normal((n, c))
    y = rng.integers(0, c, n)
    if n > 1:
        x[0, y[0]] = x[0].max() + 2  # a row without a positive margin
    return Case({"x": x.astype(dtype), "y": y}, tag)


def _far_case(shifts: list[float], tag: str) -> Case:
    """Scores about a shift of each row, whose exponentials are 0 or infinite."""
    case = _case(84, len(shifts), 3)
    return Case({**case.given, "x": case.given["x"] + np.array(shifts)[:, None]}, tag)


def _gap_case() -> Case:
    """A label whose probability is less than the least float."""
    x = np.array([[0.0, 900.0, 1.0], [0.3, 0.1, -0.2]])
    return Case({"x": x, "y": np.array([0, 1])}, "gap")


_CASES = (
    _case(81, 6, 4),
    _case(82, 5, 3, scale=2.0),
    _case(83, 4, 7),
    _case(85, 1, 4, "one row"),
    _case(86, 5, 2, "two classes"),
    _case(87, 5, 4, "float32", dtype=np.float32),
)
_TAGS = {
    "one row": "for one row",
    "two classes": "for two classes",
    "float32": "for float32",
    "large": "for scores of a thousand, whose exponentials overflow",
    "rows apart": "where the scores of one row are far above those of another: the greatest is to be the row's own",
    "gap": "where the label's score is 900 below the greatest: its probability is 0 and the logarithm infinite",
}


def _subtracted_at(d: Array, y: Array, wrong: Wrong) -> Array:
    if "all labels" in wrong:
        d[:, np.unique(y)] -= 1
    elif "first label" in wrong:
        d[:, y[0]] -= 1
    elif "no label" not in wrong:
        d[np.arange(len(y)), y] -= 1
    return d


def _softmax_loss(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, y = case.given["x"], case.given["y"]
    n, c = x.shape
    rows = np.arange(n)
    shifted = x - x.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    axis = 0 if "over columns" in wrong else None if "over all" in wrong else 1
    if "over columns" in wrong or "over all" in wrong:
        e = np.exp(x)
    p = e / e.sum(axis=axis, keepdims=True)
    cost = -np.log(p[rows, y])
    if "no logarithm" in wrong:
        cost = 1 - p[rows, y]
    if "log10" in wrong:
        cost = cost / np.log(x.dtype.type(10))
    if "log2" in wrong:
        cost = cost / np.log(x.dtype.type(2))
    if "loss sign" in wrong:
        cost = -cost
    if "all classes" in wrong:
        cost = -np.log(p).sum(axis=1)
    if "unnormalised" in wrong:
        cost = -np.log(e[rows, y])
    if "label left out" in wrong:
        cost = np.log(e.sum(axis=1)) + x.max(axis=1)
    if "probability below" in wrong:
        cost = -np.log((e / (e.sum(axis=1, keepdims=True) - e))[rows, y])
    d = p.copy()
    if "dx scores" in wrong:
        d = x.copy()
    d = _subtracted_at(d, y, wrong)
    if "only label" in wrong:
        d = np.zeros_like(p)
        d[rows, y] = p[rows, y] - 1
    if "dx plus" in wrong:
        d = p.copy()
        d[rows, y] += 1
    if "dx label less p" in wrong:
        d = -d
    return _mean({"loss": cost.sum(), "dx": d}, n, c, wrong)


def _softmax_terms(case: Case) -> dict[str, dict[str, Array]]:
    x, y = case.given["x"], case.given["y"]
    labels = np.zeros_like(x)
    labels[np.arange(len(y)), y] = 1
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return {
        "dx": {"the probabilities": e / e.sum(axis=1, keepdims=True) / len(y), "the 1 of the label": -labels / len(y)}
    }


def _mean(found: dict[str, Any], n: int, c: int, wrong: Wrong) -> dict[str, Any]:
    """Loss and gradient, sums over the rows, made means."""
    loss, d = found["loss"], found["dx"]
    if "loss summed" not in wrong and "both summed" not in wrong:
        loss = loss / n
    if "loss over all" in wrong:
        loss = loss / c
    if "loss over classes" in wrong:
        loss = found["loss"] / c
    if "loss floored" in wrong:
        loss = found["loss"] // n
    if "dx summed" not in wrong and "both summed" not in wrong:
        d = d / n
    if "dx over twice" in wrong:
        d = d / n
    if "dx over classes" in wrong:
        d = found["dx"] / c
    return {"loss": np.asarray(loss), "dx": d}


_MEANS = {
    "both summed": "loss and dx are sums over the rows: both lack the division by N",
    "loss summed": "the loss is the sum over the rows, not the mean: it is not divided by N",
    "loss over all": "the loss is divided by N and by the number of classes too",
    "loss over classes": "the loss is divided by the number of classes, not by N",
    "loss floored": "the loss is divided by N with //, which drops the fraction",
    "dx summed": "dx is not divided by N",
    "dx over twice": "dx is divided by N twice",
    "dx over classes": "dx is divided by the number of classes, not by N",
}


def _svm_loss(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, y = case.given["x"], case.given["y"]
    n, c = x.shape
    rows = np.arange(n)
    delta = 0 if "no delta" in wrong else 1
    margins = np.maximum(0, x - x[rows, y][:, None] + delta)
    if "margin sign" in wrong:
        margins = np.maximum(0, x[rows, y][:, None] - x + delta)
    if "not clamped" in wrong:
        margins = x - x[rows, y][:, None] + delta
    if "label counted" not in wrong:
        if "all labels zero" in wrong:
            margins[:, np.unique(y)] = 0
        else:
            margins[rows, y] = 0
    positive = (margins > 0).astype(x.dtype)
    positive[rows, y] = 0  # where it is counted, it comes off again below
    loss = margins.sum()
    if "squared" in wrong:
        loss = (margins**2).sum()
    d = positive.copy()
    if "dx of label one" in wrong:
        d[rows, y] -= (positive.sum(axis=1) > 0).astype(x.dtype)
    elif "dx label set" in wrong:
        d[rows, y] = -1
    elif "dx no label" not in wrong:
        d[rows, y] -= positive.sum(axis=1)
    if "dx label plus" in wrong:
        d[rows, y] = positive.sum(axis=1)
    if "dx margins" in wrong:
        d = margins.copy()
        d[rows, y] -= margins.sum(axis=1)
    return _mean({"loss": loss, "dx": d}, n, c, wrong)


def _calls(function: str) -> Any:
    def calls(case: Case) -> list[Call]:
        return [Call(function, {"x": case.given["x"], "y": case.given["y"]}, ("x", "y"))]

    return calls


def _observed(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
    return outputs_of(calls[0], ("loss", "dx"))


FUNCTIONS = (
    Function(
        "softmax_loss",
        ("loss", "dx"),
        (*_CASES, _far_case([1000.0] * 4, "large"), _far_case([0.0, 1000.0, -1000.0, 0.0], "rows apart"), _gap_case()),
        _calls("softmax_loss"),
        _softmax_loss,
        {
            **_MEANS,
            "over columns": "the exponentials are divided by their sum over the rows, not over the classes",
            "over all": "the exponentials are divided by the sum of the whole array, not by that of their row",
            "no logarithm": "the loss lacks the logarithm: it is 1 - p of the label, not -log p",
            "log10": "the logarithm has the base 10",
            "log2": "the logarithm has the base 2",
            "loss sign": "the loss has the wrong sign: it is log p of the label, not -log p",
            "all classes": "the loss sums -log p over all classes, not that of the label alone",
            "unnormalised": "the loss is that of exponentials that are not divided by their sum",
            "label left out": "the loss leaves out the label's score: it is the log of the sum of exponentials alone",
            "probability below": "the sum of exponentials leaves out the label's own",
            "no label": "dx is p: the 1 of the label is not subtracted",
            "all labels": "dx subtracts 1 for all labels in every row: dx[:, y] in place of dx[range(N), y]",
            "first label": "dx subtracts 1 in one column of every row",
            "only label": "dx is 0 but for the label: the probabilities of the other classes are missing",
            "dx plus": "dx adds 1 at the label in place of subtracting it",
            "dx label less p": "dx has the wrong sign",
            "dx scores": "dx has the scores in place of the probabilities",
        },
        _observed,
        tags=_TAGS,
        terms=_softmax_terms,
        remarks={"gap": "loss"},
    ),
    Function(
        "svm_loss",
        ("loss", "dx"),
        _CASES,
        _calls("svm_loss"),
        _svm_loss,
        {
            **_MEANS,
            "no delta": "the margin of 1 is left out",
            "label counted": "the loss counts the label itself: it is too large by 1",
            "all labels zero": "the margins are set to 0 for all labels in every row: [:, y] in place of [range(N), y]",
            "margin sign": "the margins have the wrong sign: the label's score less the others'",
            "not clamped": "negative margins count: max(0, ...) is missing",
            "squared": "the loss sums squares of the margins, not the margins",
            "dx no label": "dx lacks the label: minus the number of positive margins of the row",
            "dx of label one": "dx has -1 at the label, not minus the number of positive margins of the row",
            "dx label set": "dx has -1 at the label of every row, not minus the number of its positive margins",
            "dx label plus": "dx has the wrong sign at the label",
            "dx margins": "dx has the margins themselves, not 1 where they are positive",
        },
        _observed,
        tags=_TAGS,
    ),
)
