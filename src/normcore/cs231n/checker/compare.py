"""How near two results are, and in words how they differ.

An error is measured against what rounding can do: `scale` is the size of an output plus how far it moves, per relative
change, when its inputs move. An error of a few thousand units of rounding of that scale is what any sound way of
computing gives; what is far more is no rounding, and what lies between is told as lost digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Array, Case, Function, Outcome, Wrong

__all__ = ["Expected", "describe", "distance", "plain", "wide"]

_ROUNDINGS = 2000  # units of rounding that are taken for sound
_MOVED = 1e-6  # by which inputs are moved to find how far outputs move


def wide(value: Any) -> Any:
    """Arrays of floats as `numpy.longdouble`, also those in lists and dicts."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.longdouble)
    if isinstance(value, Mapping):
        return {key: wide(entry) for key, entry in value.items()}
    return [wide(entry) for entry in value] if isinstance(value, list) else value


def _moved(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value * (1 + _MOVED * rng.uniform(-1, 1, value.shape))
    if isinstance(value, Mapping):
        return {key: _moved(entry, rng) for key, entry in value.items()}
    return [_moved(entry, rng) for entry in value] if isinstance(value, list) else value


class Expected:
    """The right outputs of a case, how exactly they can be met, and what known mistakes give instead."""

    def __init__(self, function: Function, case: Case, seen: Outcome) -> None:
        self._function, self._seen = function, seen
        self._case = Case(wide(case.given), case.tag)
        self._found: dict[Wrong, dict[str, Any] | None] = {}
        self.case = case
        self.steps, self.words = function.steps, function.words
        self.shapeless = frozenset(function.shapeless)  # outputs of which only the number of elements counts
        self.unit = float(np.finfo(_dtype(case)).eps) / 2
        self.right = self.with_mistakes(frozenset()) or {}
        # What an output is made of may be far greater than itself: the gradient of one row's batch norm is 0.
        least = 1e-3 * max(_size(value) for value in case.given.values() if isinstance(value, np.ndarray))
        self.scales = {name: max(least, _size(value)) for name, value in self.right.items()}
        for name, terms in self.terms().items():
            self.scales[name] = max(_size(term) for term in terms.values())
        rng = np.random.default_rng(5)
        for _ in range(4):
            moved = function.reference(Case(_moved(self._case.given, rng), case.tag), frozenset(), seen)
            for name, value in self.right.items():
                change = _size(np.asarray(moved[name]) - np.asarray(value)) / _MOVED
                self.scales[name] = max(self.scales[name], _size(value) + change)

    def with_mistakes(self, wrong: Wrong) -> dict[str, Any] | None:
        """The outputs of a code with these mistakes; None where it gives none."""
        if wrong not in self._found:
            try:
                with np.errstate(all="ignore"):
                    self._found[wrong] = self._function.reference(self._case, wrong, self._seen)
            except (ValueError, IndexError, ZeroDivisionError):
                self._found[wrong] = None
        return self._found[wrong]

    def terms(self) -> dict[str, dict[str, Array]]:
        return self._function.terms(self._case) if self._function.terms else {}

    def sound(self, name: str) -> float:
        """The error that rounding explains."""
        return _ROUNDINGS * self.unit * self.scales[name] + np.finfo(np.float64).tiny

    def small(self, name: str) -> float:
        """The error above which a result is another one, not an inexact one."""
        return max(self.sound(name), (1e-6 if self.unit < 1e-12 else 2e-2) * self.scales[name])

    def fits(self, name: str, value: Any, other: Any) -> bool:
        """Whether `value` is `other`, an output of a code with a mistake, in shape too."""
        if name not in self.shapeless and np.shape(value) != np.shape(other):
            return False
        room = max(self.sound(name), 1e-9 * self.scales[name]) + 4 * _ROUNDINGS * self.unit * _size(other)
        return distance(value, other) <= room


def _dtype(case: Case) -> Any:
    return next(v.dtype for v in case.given.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f")


def _size(value: Any) -> float:
    array = np.abs(np.asarray(value, np.longdouble))
    finite = array[np.isfinite(array)]
    return float(finite.max()) if finite.size else 0.0


def distance(value: Any, expected: Any) -> float:
    """The greatest difference of two arrays of equally many elements; infinite where only one is finite."""
    a, b = np.asarray(value), np.asarray(expected)
    if a.size != b.size:
        return np.inf
    a, b = a.reshape(-1).astype(np.longdouble), b.reshape(-1).astype(np.longdouble)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        error = np.where(same, 0, np.abs(a - b))
    return float(np.where(np.isfinite(error), error, np.inf).max(initial=0))


# ---------------------------------------------------------------- words


def plain(value: Any) -> str:
    return f"{float(value):.4g}"


def describe(name: str, values: list[Any], expected: list[Expected]) -> str:
    """In words, how an output differs from what it should be over all cases; what is said of it is true of all."""
    text = _difference(name, values, expected)
    return text.replace(name, expected[0].words[name], 1) if name in expected[0].words else text


def _difference(name: str, values: list[Any], expected: list[Expected]) -> str:
    rights = [e.right[name] for e in expected]
    shapes = _of_shape(name, values, rights, expected)
    if shapes:
        return shapes
    bad = [i for i, (v, r) in enumerate(zip(values, rights, strict=True)) if not _near(v, r, expected[i], name)]
    infinite = [i for i in bad if not np.isfinite(np.asarray(values[i])).all()]
    if infinite:
        value = np.asarray(values[infinite[0]])
        at = tuple(int(k) for k in np.argwhere(~np.isfinite(value))[0])
        kind = "NaN" if np.isnan(value[at]) else "infinite"
        return f"{name} is {kind}{f' at {list(at)}' if at else ''} ({case_words(expected[infinite[0]].case)})"
    factor = _factor(name, values, rights, expected)
    if factor:
        return factor
    terms = _of_terms(name, values, expected)
    if terms:
        return terms
    for words, change in _CHANGES:
        with np.errstate(all="ignore"):
            if all(_near(v, change(np.asarray(r)), e, name) for v, r, e in zip(values, rights, expected, strict=True)):
                return f"{name} {words}"
    first = min(bad, key=lambda i: np.asarray(values[i]).size)
    good = [e.case for i, e in enumerate(expected) if i not in bad]
    return _worst(
        name, values[first], rights[first], expected[first], _good_words(good, [expected[i].case for i in bad])
    )


_CHANGES = (
    ("is cut off to whole numbers", np.trunc),
    ("is rounded to whole numbers", np.round),
    ("is the absolute value of what it should be", np.abs),
    ("is the square of what it should be", np.square),
    ("is what it should be but reversed along the last axis", lambda a: a[..., ::-1] if a.ndim else a),
    ("is what it should be but in reversed order of the rows", lambda a: a[::-1] if a.ndim else a),
)


def case_words(case: Case) -> str:
    """The case in a few words: shape, mode, and what else tells it from others."""
    given = case.given
    lead = next((name for name in ("x", "w") if name in given), "")
    words = [f"{lead} of shape {given[lead].shape}"]
    if _mode(case):
        words.append(f"{_mode(case)} mode")
    if "p" in given:
        words.append(f"p = {given['p']}")
    return ", ".join(words)


def _near(value: Any, other: Any, expected: Expected, name: str) -> bool:
    return distance(value, other) <= max(expected.small(name) * 1e-3, expected.sound(name))


def _of_shape(name: str, values: list[Any], rights: list[Any], expected: list[Expected]) -> str | None:
    for value, right, e in zip(values, rights, expected, strict=True):
        given, wanted = np.shape(value), np.shape(right)
        if given == wanted:
            continue
        if name in e.shapeless and np.size(value) == np.size(right):
            continue
        if e.steps:  # what is of another shape comes alone
            return f"{name} has shape {given} instead of {wanted[1:]} ({case_words(e.case)})"
        words = f"{name} has shape {given} instead of {wanted}"
        if not given:
            words = f"{name} is a single number instead of an array of shape {wanted}"
        pairs = list(zip(values, rights, expected, strict=True))
        if all(np.ndim(v) == 2 and np.ndim(r) == 2 and _near(np.asarray(v).T, r, x, name) for v, r, x in pairs):
            return f"{name} is transposed: it has shape {given} instead of {wanted}"
        if all(np.size(v) == np.size(r) and _near(v, r, x, name) for v, r, x in pairs):
            hint = ": leave out keepdims=True" if _with_ones(given, wanted) else ""
            return f"{words}, though its values are right{hint}"
        return f"{words} ({case_words(e.case)})"
    return None


def _with_ones(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(given) > len(wanted) and [n for n in given if n != 1] == [n for n in wanted if n != 1]


def _factor(name: str, values: list[Any], rights: list[Any], expected: list[Expected]) -> str | None:
    """The factor between what is and what should be, where there is one in every case."""
    factors = []
    for value, right, e in zip(values, rights, expected, strict=True):
        v, r = (np.asarray(a).reshape(-1).astype(np.longdouble) for a in (value, right))
        norm = float(r @ r)
        factor = float(v @ r) / norm if norm else np.nan
        if not np.isfinite(factor) or distance(v, factor * r) > max(e.sound(name), 1e-9 * e.scales[name]):
            return None
        factors.append(factor)
    words = _factor_words(factors, expected)
    if words == "0":
        return f"{name} is 0 everywhere"
    if words == "-1":
        return f"{name} has the wrong sign"
    return f"{name} is {words} times what it should be" if words and words != "1" else None


def _factor_words(factors: list[float], expected: list[Expected]) -> str | None:
    f = np.asarray(factors)
    if np.abs(f).max() < 1e-9:
        return "0"
    if np.abs(f - f[0]).max() < 1e-8 * abs(f[0]):
        return plain(f[0])
    shapes = [e.case.given["x"].shape if "x" in e.case.given else e.case.given["w"].shape for e in expected]
    sizes = {"N": [s[0] for s in shapes], "D": [s[1] if len(s) > 1 else 1 for s in shapes]}
    n, d = (np.asarray(size, float) for size in sizes.values())
    for words, ratio in (("N/D", n / d), ("D/N", d / n)):
        if np.allclose(f, ratio, rtol=1e-7, atol=0):
            return words
    for letter, size in sizes.items():
        n = np.asarray(size, float)
        forms = {letter: n, f"1/{letter}": 1 / n, f"{letter}²": n**2, f"1/{letter}²": n**-2}
        with np.errstate(all="ignore"):
            forms |= {f"{letter}/({letter} - 1)": n / (n - 1), f"({letter} - 1)/{letter}": (n - 1) / n}
        for words, form in forms.items():
            for sign in ("", "-"):
                if np.allclose(f, -form if sign else form, rtol=1e-7, atol=0):
                    return f"{sign}{words}"
    return None


def _of_terms(name: str, values: list[Any], expected: list[Expected]) -> str | None:
    """Which summand has which wrong coefficient, where that and nothing else is wrong."""
    found: dict[str, list[float]] = {}
    for value, e in zip(values, expected, strict=True):
        terms = e.terms().get(name)
        if not terms:
            return None
        summands = np.broadcast_arrays(*(np.asarray(t, float) for t in terms.values()))
        matrix = np.stack([t.reshape(-1) for t in summands], axis=1)
        v = np.asarray(value, float).reshape(-1)
        coefficients = np.linalg.lstsq(matrix, v, rcond=None)[0]
        if distance(matrix @ coefficients, v) > 1e-9 * e.scales[name]:
            return None
        for words, coefficient in zip(terms, coefficients, strict=True):
            found.setdefault(words, []).append(float(coefficient))
    told = []
    for words, coefficients in found.items():
        factor = _factor_words([round(c, 10) for c in coefficients], expected)
        if factor is None:
            return None
        if factor == "0":
            told.append(f"{words} is missing")
        elif factor == "-1":
            told.append(f"{words} has the wrong sign")
        elif factor != "1":
            told.append(f"{words} is {factor} times what it should be")
    return f"in {name}, {' and '.join(told)}" if told else None


def _good_words(good: list[Case], bad: list[Case]) -> str:
    """Which cases are right, if there are any."""
    modes = {_mode(case) for case in good}
    if not good:
        return ""
    if len(modes) == 1 and not modes & {_mode(case) for case in bad}:
        return f"; {modes.pop()} mode is right"
    return f"; {len(good)} of {len(good) + len(bad)} cases are right"


def _mode(case: Case) -> str:
    return str(case.given.get("mode") or case.given.get("bn_param", {}).get("mode") or "")


def _worst(name: str, value: Any, right: Any, e: Expected, some: str) -> str:
    v, r = np.asarray(value).astype(float), np.asarray(right).astype(float)
    r = r.reshape(v.shape)
    error = np.abs(v - r)
    wrong = error > 1e-3 * e.small(name)
    at = tuple(int(k) for k in np.unravel_index(int(np.argmax(error)), v.shape))
    found = f"{plain(v[at])} instead of {plain(r[at])}{_pattern(wrong)} ({case_words(e.case)}{some})"
    if not v.ndim:
        return f"{name} is wrong: {found}"
    if e.steps:
        first = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        since = f" from step {first + 1} on" if first else ""
        place = f" at {list(at[1:])}" if v.ndim > 1 else ""
        return f"{name} is wrong{since}, most{place} after step {at[0] + 1}: {found}"
    return f"{name} is wrong in {int(wrong.sum())} of {v.size} elements, most at {list(at)}: {found}"


def _pattern(wrong: Array) -> str:
    """Rows or columns that alone are wrong."""
    if wrong.ndim != 2 or wrong.all():
        return ""
    rows, columns = wrong.any(axis=1), wrong.any(axis=0)
    if rows.sum() == 1 and columns.sum() != 1:
        return f", in row {int(np.argmax(rows))} alone"
    if columns.sum() == 1 and rows.sum() != 1:
        return f", in column {int(np.argmax(columns))} alone"
    return ""
