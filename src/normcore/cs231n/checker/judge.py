"""Finds what explains the outputs of somebody's function: that it is right, a known mistake, or none that is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from normcore.cs231n.checker.compare import Expected, case_words, describe, distance
from normcore.cs231n.checker.function import Case, Function, MalformedError, Wrong

__all__ = ["Finding", "Run", "Verdict", "judge"]


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing to say about a function: the sentence, the name of the mistake if it is a known one, and a case."""

    text: str
    mistake: str | None = None
    case: Case | None = None


@dataclass
class Verdict:
    """What is known of a function after it was checked.

    `status` is "right", "wrong", "missing" (not in the files), "unwritten" (returns nothing yet) or "unjudged" (what it
    is given by a function that is wrong does not tell whether it is). `sound`: its ordinary outputs are right, whatever
    else is wrong, so that what takes its cache can be judged.
    """

    function: str
    status: str
    mistakes: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    note: str = ""
    sound: bool = True


@dataclass(frozen=True, eq=False)
class Run:
    """A case and what came of its calls; or the end of a sentence about the code that did not get that far."""

    case: Case
    calls: list[dict[str, Any]]
    failure: str = ""


@dataclass
class _Seen:
    run: Run
    outputs: dict[str, Any]
    failure: str = ""
    unwritten: bool = False
    of_forward: bool = False  # the failure is the forward function's


Gradients = Callable[[Case], dict[str, Any] | None]


def judge(function: Function, runs: Sequence[Run], forward: Verdict | None, gradients: Gradients) -> Verdict:
    """The verdict about a function from the runs of all its cases.

    `forward` is the verdict about the function that made the caches; `gradients` gives those of the code's own forward
    function by finite differences, or None.
    """
    seen = [_look(function, run) for run in runs]
    ordinary = [s for s in seen if not s.run.case.tag]
    if any(s.unwritten for s in ordinary) and all(s.unwritten or s.failure for s in ordinary):
        return Verdict(function.name, "unwritten")
    if any(s.of_forward for s in ordinary):
        name = function.forward or ""
        return Verdict(function.name, "unjudged", note=f"its cache comes from {name}, which does not give one")
    verdict = Verdict(function.name, "right")
    failures = _failures(ordinary)
    if failures:
        verdict.mistakes += failures
    good = [s for s in ordinary if not s.failure]
    expected = [Expected(function, s.run.case, s.outputs) for s in good]
    if good and len(good) * 2 >= len(ordinary):
        _values(function, good, expected, forward, gradients, verdict)
    verdict.sound = not verdict.mistakes and len(good) == len(ordinary)
    _modified(function, seen, verdict)
    if not verdict.mistakes and verdict.status == "right":
        _special(function, [s for s in seen if s.run.case.tag], expected, verdict)
    if verdict.mistakes:
        verdict.status = "wrong"
    return verdict


# ---------------------------------------------------------------- one run


def _look(function: Function, run: Run) -> _Seen:
    if run.failure:
        return _Seen(run, {}, run.failure)
    calls = run.calls
    if function.forward is not None:
        calls = calls[:2]  # the third is the second with the same cache
    for index, call in enumerate(calls):
        of_forward = function.forward is not None and index == 0
        if "error" in call and index and function.steps:
            calls = calls[:index]  # that an earlier call gave weights of another shape may be why
            if _keeps_shape(calls, run.case.given["w"]):
                return _Seen(run, {}, _error_words(call["error"]))
            break
        if "error" in call:
            error = call["error"]
            return _Seen(run, {}, _error_words(error), _is_stub(error), of_forward)
        if of_forward and not call["tuple"]:
            return _Seen(run, {}, "", False, True)
        if call["result"] is None and index and len(function.outputs) <= 2 and function.forward is not None:
            return _Seen(run, {}, "", True)
    try:
        outputs = function.observed(run.case, calls)
    except MalformedError as error:
        text = str(error)
        return _Seen(run, {}, text, False, function.forward is not None and " and cache" in text)
    values = [v for name, v in outputs.items() if name in function.outputs and name not in _NOT_RETURNED]
    if values and all(value is None for value in values):
        return _Seen(run, outputs, "", True)
    missing = [name for name, value in outputs.items() if value is None and name in function.outputs]
    if missing:
        return _Seen(run, outputs, f"returns None as {_listed(missing)}")
    return _Seen(run, outputs)


def _keeps_shape(calls: Sequence[dict[str, Any]], w: Any) -> bool:
    results = [call["result"] for call in calls]
    return all(isinstance(r, list) and r and np.shape(r[0]) == np.shape(w) for r in results)


_NOT_RETURNED = ("running_mean", "running_var", "forward", "share", "varies", "repeats")


def _is_stub(error: dict[str, Any]) -> bool:
    """Whether a function is as it was handed out: what is to be written is left open."""
    return error["kind"] == "NotImplementedError" or (
        error["kind"] == "AttributeError" and "'NoneType' object has no attribute 'astype'" in error["text"]
    )


def _error_words(error: dict[str, Any]) -> str:
    if error["kind"] == "SystemExit":
        return f"calls sys.exit{_line(error)}"
    if error["kind"] == "MemoryError":
        return f"needs more memory than it may have{_line(error)}"
    text = f": {error['text']}" if error["text"] else ""
    return f"raises {error['kind']}{_line(error)}{text}"


def _line(error: dict[str, Any]) -> str:
    return f" in line {error['line']} of {error['file']}" if error["line"] else ""


def _failures(seen: Sequence[_Seen]) -> list[Finding]:
    """One finding for each way to fail, with the first case that does."""
    found: dict[str, Finding] = {}
    for s in seen:
        failure = s.failure or ("returns None" if s.unwritten else "")
        key = failure.partition(": ")[0]
        if failure and key not in found:
            every = all(other.failure.partition(": ")[0] == key for other in seen)
            words = "" if every and failure.startswith("returns") else f" ({case_words(s.run.case)})"
            found[key] = Finding(failure + words, None, s.run.case)
    return list(found.values())


# ---------------------------------------------------------------- values


def _values(
    function: Function,
    seen: Sequence[_Seen],
    expected: Sequence[Expected],
    forward: Verdict | None,
    gradients: Gradients,
    verdict: Verdict,
) -> None:
    wrong = [n for n in function.outputs if any(not _right(n, s, e) for s, e in zip(seen, expected, strict=True))]
    if not wrong:
        return
    narrow = _narrowed(wrong, seen, expected)
    if narrow:
        verdict.mistakes.append(narrow)
        return
    base: Wrong = frozenset()
    doubtful = forward is not None and not forward.sound
    if forward is not None and doubtful:
        base = frozenset(f.mistake for f in forward.mistakes if f.mistake)
        carried = [
            n for n in wrong if (base and _fits(base, n, seen, expected)) or _follows(function, n, seen, gradients)
        ]
        wrong = [name for name in wrong if name not in carried]
        if carried:
            verdict.status = "unjudged"
            verdict.note = f"right for what {forward.function} computes: {_listed(carried)}"
        if not wrong:
            return
    keys, left = _explained(function, wrong, seen, expected, frozenset())
    if left and base:
        more, left = _explained(function, left, seen, expected, base)
        keys += [key for key in more if key not in keys]
    case = min((s.run.case for s in seen), key=_size)
    for key in sorted(keys, key=list(function.mistakes).index):
        if key in function.remarks:
            verdict.remarks.append(Finding(f"right, but {function.mistakes[key]}", key, case))
        else:
            verdict.mistakes.append(Finding(function.mistakes[key], key, case))
    if not left:
        return
    if doubtful and forward is not None:
        if not verdict.mistakes:
            verdict.status = "unjudged"
        verdict.note = f"before {forward.function} is right, {_listed(left)} cannot be judged"
        return
    for text in _exchanged(function, left, seen, expected) or ():
        verdict.mistakes.append(Finding(text, None, case))
        return
    for name in left:
        values = [s.outputs.get(name) for s in seen]
        if all(_nearly(name, s, e) for s, e in zip(seen, expected, strict=True)):
            verdict.remarks.append(_inexact(name, values, expected))
        else:
            pairs = [(v, e) for v, e in zip(values, expected, strict=True) if v is not None and name in e.right]
            if pairs:
                text = describe(name, [value for value, _ in pairs], [e for _, e in pairs])
                verdict.mistakes.append(Finding(text, None, case))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _size(case: Case) -> int:
    return sum(v.size for v in case.given.values() if isinstance(v, np.ndarray))


def _within(name: str, s: _Seen, e: Expected, room: float) -> bool:
    """Whether an output that a case has is right but for `room`, in shape too."""
    if name not in e.right:
        return True
    value, right = s.outputs.get(name), e.right[name]
    if value is None or (np.shape(value) != np.shape(right) and name not in e.shapeless):
        return False
    return distance(value, right) <= room


def _right(name: str, s: _Seen, e: Expected) -> bool:
    return _within(name, s, e, e.sound(name) if name in e.right else 0.0)


def _nearly(name: str, s: _Seen, e: Expected) -> bool:
    return _within(name, s, e, e.small(name) if name in e.right else 0.0)


def _narrowed(wrong: Sequence[str], seen: Sequence[_Seen], expected: Sequence[Expected]) -> Finding | None:
    """Right to the precision of a type that is narrower than that of the inputs."""
    for name in wrong:
        for s, e in zip(seen, expected, strict=True):
            value = np.asarray(s.outputs.get(name))
            if name not in e.right or value.dtype.kind != "f" or value.dtype.itemsize >= 8 or e.unit > 1e-12:
                continue
            rounding = 4000 * float(np.finfo(value.dtype).eps)
            pairs = list(zip(seen, expected, strict=True))
            if all(_within(w, s2, e2, rounding * e2.scales.get(w, 0.0)) for w in wrong for s2, e2 in pairs):
                text = f"{name} is {value.dtype} where the inputs are float64: half of the digits are lost"
                return Finding(text, "narrow", s.run.case)
    return None


def _inexact(name: str, values: Sequence[Any], expected: Sequence[Expected]) -> Finding:
    worst = max(distance(v, e.right[name]) / e.scales[name] for v, e in zip(values, expected, strict=True))
    digits = int(-np.log10(worst))
    cause = ": is something in it float32" if 6 <= digits <= 8 else ""
    return Finding(f"right, but {name} has {digits} correct digits of 16{cause}", None, expected[0].case)


# ---------------------------------------------------------------- explanations


def _changes(key_set: Wrong, name: str, expected: Sequence[Expected]) -> bool:
    """Whether mistakes show in an output."""
    for e in expected:
        other = e.with_mistakes(key_set)
        if other is None or name not in e.right:
            continue
        value = other.get(name)
        if (
            value is None
            or np.shape(value) != np.shape(e.right[name])
            or distance(value, e.right[name]) > 10 * e.sound(name)
        ):
            return True
    return False


def _fits(key_set: Wrong, name: str, seen: Sequence[_Seen], expected: Sequence[Expected]) -> bool:
    for s, e in zip(seen, expected, strict=True):
        if name not in e.right:
            continue
        other = e.with_mistakes(key_set)
        if other is None or name not in s.outputs or not e.fits(name, s.outputs[name], other.get(name)):
            return False
    return True


def _explained(
    function: Function, wrong: Sequence[str], seen: Sequence[_Seen], expected: Sequence[Expected], base: Wrong
) -> tuple[list[str], list[str]]:
    """Mistakes that explain wrong outputs, as few as there can be, and the outputs that none explains."""
    left = list(wrong)
    keys: list[str] = []
    known = [key for key in function.mistakes if key not in base]
    sets: list[tuple[str, ...]] = [(key,) for key in known]
    chosen = _best(sets, left, seen, expected, base)
    while chosen:
        keys += [key for key in chosen[0] if key not in keys]
        left = [name for name in left if name not in chosen[1]]
        chosen = _best(sets, left, seen, expected, base) if left else None
    if left:
        chosen = _best(list(itertools.combinations(known, 2)), left, seen, expected, base)
        while chosen:
            keys += [key for key in chosen[0] if key not in keys]
            left = [name for name in left if name not in chosen[1]]
            chosen = _best(list(itertools.combinations(known, 2)), left, seen, expected, base) if left else None
    for name in list(left):  # mistakes of one output beside others of another
        for key in known:
            if _fits(base | {key}, name, seen, expected) and _changes(base | {key}, name, expected):
                keys += [] if key in keys else [key]
                left.remove(name)
                break
    return keys, left


def _places(wrong: Wrong, names: Sequence[str], expected: Sequence[Expected]) -> set[tuple[int, str]]:
    """The cases and outputs in which mistakes show."""
    return {(i, name) for i, e in enumerate(expected) for name in names if _changes(wrong, name, [e])}


def _best(
    sets: list[tuple[str, ...]], left: Sequence[str], seen: Sequence[_Seen], expected: Sequence[Expected], base: Wrong
) -> tuple[tuple[str, ...], list[str]] | None:
    """Of those sets of mistakes that claim nothing that is not so, the one that explains the most outputs.

    Among equals that whose single mistakes show in the fewest places, then the first. Where one mistake would hide
    another, as an inverted mask hides an exchanged probability, they explain nothing.
    """
    best: tuple[tuple[str, ...], list[str]] | None = None
    rank = (0, 0)
    names = list(dict.fromkeys(name for e in expected for name in e.right))
    for keys in sets:
        wrong = base | frozenset(keys)
        if not any(_fits(wrong, name, seen, expected) for name in left):
            continue
        changed = [name for name in names if _changes(wrong, name, expected)]
        explains = [name for name in changed if name in left]
        if not explains or not all(_fits(wrong, name, seen, expected) for name in changed):
            continue
        places = [_places(base | {key}, names, expected) for key in keys]
        if not set().union(*places) <= _places(wrong, names, expected):
            continue
        if best is None or (len(explains), -sum(map(len, places))) > rank:
            best, rank = (keys, explains), (len(explains), -sum(map(len, places)))
    return best


def _follows(function: Function, name: str, seen: Sequence[_Seen], gradients: Gradients) -> bool:
    """Whether a wrong gradient is that of the code's own forward function."""
    if name not in function.gradients:
        return False
    for s in sorted(seen, key=lambda s: _size(s.run.case))[:2]:
        own = gradients(s.run.case)
        if own is None:
            return False
        slopes, value = own[function.gradients[name]], s.outputs[name]
        if np.shape(value) != np.shape(slopes) or not distance(value, slopes) <= 1e-5 * (1 + np.abs(slopes).max()):
            return False
    return True


def _exchanged(
    function: Function, wrong: Sequence[str], seen: Sequence[_Seen], expected: Sequence[Expected]
) -> list[str] | None:
    """Outputs that are right but stand in each other's place."""
    for order in itertools.permutations(wrong):
        if list(order) == list(wrong):
            continue
        if all(
            np.shape(s.outputs[a]) == np.shape(e.right[b]) and distance(s.outputs[a], e.right[b]) <= e.sound(b)
            for a, b in zip(wrong, order, strict=True)
            for s, e in zip(seen, expected, strict=True)
            if a in s.outputs and b in e.right
        ):
            if len(wrong) == 2:
                return [f"{wrong[0]} and {wrong[1]} are exchanged: each stands in the other's place"]
            given = {a: b for a, b in zip(wrong, order, strict=True)}
            returned = ", ".join(given.get(name, name) for name in function.outputs)
            return [f"returns its gradients in the order {returned}, not {', '.join(function.outputs)}"]
    return None


# ---------------------------------------------------------------- inputs and special cases


def _modified(function: Function, seen: Sequence[_Seen], verdict: Verdict) -> None:
    found: dict[str, Case] = {}
    again = None
    for s in seen:
        for index, call in enumerate(s.run.calls):
            if function.forward is None or index:
                for name in call.get("changed", ()):
                    found.setdefault(name, s.run.case)
        if function.forward is not None and len(s.run.calls) == 3 and not s.failure and not s.unwritten:
            again = again or _other_result(s)
    for name, case in found.items():
        verdict.mistakes.append(Finding(f"{name} was modified: work on a copy of it", "modified", case))
    if again and not verdict.mistakes:
        verdict.mistakes.append(Finding(again, "cache", seen[0].run.case))


def _other_result(s: _Seen) -> str | None:
    first, second = s.run.calls[1], s.run.calls[2]
    if "error" in second:
        return f"the cache was modified: a second call with it {_error_words(second['error'])}"
    values = [call["result"] if isinstance(call["result"], list) else [call["result"]] for call in (first, second)]
    for a, b in zip(*values, strict=False):
        if not isinstance(a, (np.ndarray, float, int)):
            continue
        if not distance(a, b) <= 1e-9 * (1 + np.abs(np.nan_to_num(np.asarray(a))).max(initial=0)):
            return "the cache was modified: a second call with it gives another result"
    return None


def _special(function: Function, seen: Sequence[_Seen], ordinary: Sequence[Expected], verdict: Verdict) -> None:
    """What only some inputs show. As the ordinary ones are right, what would show in them is no mistake of the code."""
    hidden = [
        frozenset([key])
        for key in function.mistakes
        if not any(_changes(frozenset([key]), name, ordinary) for name in function.outputs)
    ]
    told_infinite = False
    for tag in dict.fromkeys(s.run.case.tag for s in seen):
        words = function.tags.get(tag, tag)
        cases = [s for s in seen if s.run.case.tag == tag]
        failed = next((s for s in cases if s.failure or s.unwritten), None)
        if failed:
            failure = failed.failure or "returns None"
            verdict.mistakes.append(Finding(f"fails {words}: {failure}", tag, failed.run.case))
            continue
        expected = [Expected(function, s.run.case, s.outputs) for s in cases]
        if tag == "far":
            _accuracy(function, cases[0], expected[0], verdict)
            continue
        wrong = [n for n in function.outputs if any(not _nearly(n, s, e) for s, e in zip(cases, expected, strict=True))]
        accepted = frozenset(f.mistake for f in verdict.remarks if f.mistake and f.mistake in function.remarks)
        if accepted and all(_fits(accepted, name, cases, expected) for name in wrong):
            continue
        infinite = any(not np.isfinite(np.asarray(s.outputs[name])).all() for s in cases for name in wrong)
        if not wrong or (infinite and told_infinite):
            continue
        told_infinite = infinite  # once is enough: one cause shows for several inputs
        case = cases[0].run.case
        keys = next((k for k in hidden if all(_fits(k, n, cases, expected) for n in function.outputs)), None)
        if keys is not None:
            (key,) = keys
            text = function.mistakes[key]
            if key in function.remarks:
                verdict.remarks.append(Finding(f"right, but {text}", key, case))
            else:
                verdict.mistakes.append(Finding(text, key, case))
            continue
        if function.remarks.get(tag) in wrong and len(wrong) == 1:
            value = float(np.asarray(cases[0].outputs[wrong[0]]).reshape(-1)[0])
            verdict.remarks.append(Finding(f"right, but {wrong[0]} is {value:g} {words}", tag, case))
            continue
        name = wrong[0]
        told = describe(name, [s.outputs[name] for s in cases], expected)
        verdict.mistakes.append(Finding(f"fails {words}: {told}", tag, case))


def _accuracy(function: Function, s: _Seen, e: Expected, verdict: Verdict) -> None:
    """Digits that are lost where the spread of x is small beside its mean."""
    name = function.outputs[0]
    assert function.lossy is not None  # as of every function with such a case
    error = distance(s.outputs[name], e.right[name])
    lost = np.log10(max(error, 1e-300) / (4 * e.unit * e.scales[name]))
    if not lost >= 2:
        return
    words, size = function.lossy(s.run.case)
    known = size / 1000 <= error <= size * 1000
    digits = f"loses {round(lost)} digits" if np.isfinite(error) else "gives NaN"
    where, _, formula = words.partition(": ")
    verdict.remarks.append(
        Finding(f"right, but {digits} {where}" + (f": {formula}" if known else ""), "far", s.run.case)
    )
