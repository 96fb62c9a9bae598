"""What the numbers of the experiments show, in sentences.

Every sentence is made from the records alone; nothing is said because it was expected. A number is given as *median
[least … greatest]* over the seeds. A difference is put into words only where two such ranges are apart; where they
overlap, or there is one seed only, the sentence says that it does not show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from normcore.experiments.definitions import Norm
from normcore.experiments.results import (
    DataFacts,
    Distributions,
    Finding,
    Gradients,
    Record,
    Smoothness,
    Summary,
    Timing,
    Training,
    by_setting,
    summary,
)

__all__ = ["NAMES", "WORKABLE", "findings_of"]

NAMES: dict[Norm, str] = {None: "no norm", "batch": "batch norm", "layer": "layer norm"}

#: A weight scale or learning rate is called "workable" where a network comes to this part of the best validation
#: accuracy of all networks of the experiment with the same seed.
WORKABLE = 0.8

#: A network is called "at chance" while its best training accuracy is no more than this above the most frequent class.
_CHANCE_MARGIN = 0.02

#: E1: what part of its final accuracy a network is asked to reach.
_MOST = 0.9

#: A batch size of E3 and E4 with which every network still does enough updates to be compared with smaller ones.
_ENOUGH_UPDATES = 50

Records = Mapping[str, Sequence[Record]]


def findings_of(id: str, records: Records, data: DataFacts) -> tuple[Finding, ...]:
    """The sentences of one experiment, from the records of all that were run."""
    return tuple(_FINDINGS[id](records, data))


# ---------------------------------------------------------------------- numbers and comparisons in words


def _range(value: Summary, text: Callable[[float], str], unit: str = "") -> str:
    """ "73.1 % [73.0 … 75.7]"; of one seed, and of equal numbers, the number alone."""
    middle, least, greatest = map(text, (value.median, value.least, value.greatest))
    return (
        f"{middle}{unit}"
        if value.seeds == 1 or least == greatest == middle
        else f"{middle}{unit} [{least} … {greatest}]"
    )


def _percent(value: Summary) -> str:
    return _range(value, lambda fraction: f"{100.0 * fraction:.1f}", " %")


def _points(value: Summary) -> str:
    """A difference of fractions, with its sign."""
    return _range(value, lambda fraction: f"{100.0 * fraction:+.1f}")


def _number(value: Summary) -> str:
    return _range(value, _short)


def _short(value: float) -> str:
    """Three digits, whole numbers whole."""
    if value == 0.0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 100.0 or value == round(value) else f"{value:.3g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def _verdict(subject: str, value: Summary, other: Summary, higher: str, lower: str) -> tuple[str, bool]:
    """Which it is, if the ranges are apart, and whether `higher` is."""
    if value.above(other):
        return f"{subject} {higher}", True
    if other.above(value):
        return f"{subject} {lower}", False
    if value.seeds == 1:
        return "one seed cannot tell whether that is a difference", False
    return "the ranges overlap, so that a difference does not show", False


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


# ---------------------------------------------------------------------- records


def _trainings(records: Records, id: str) -> list[Training]:
    return [record for record in records.get(id, ()) if isinstance(record, Training)]


def _final(trainings: Iterable[Training], curve: str = "val_accuracy") -> Summary:
    return summary(getattr(record, curve)[-1] for record in trainings)


def _of_seeds(trainings: Iterable[Training]) -> dict[int, list[Training]]:
    grouped: dict[int, list[Training]] = {}
    for record in trainings:
        grouped.setdefault(record.run.seed, []).append(record)
    return grouped


# ---------------------------------------------------------------------- E1


def _steps_to(record: Training, accuracy: float) -> float:
    """Updates until an epoch ends with at least this validation accuracy; infinite where none does."""
    epochs = next((i for i, value in enumerate(record.val_accuracy) if value >= accuracy), math.inf)
    return epochs * len(record.loss) / record.run.epochs


def _e1(records: Records, data: DataFacts) -> Iterable[Finding]:
    by_norm = by_setting(_trainings(records, "E1"), lambda run: run.norm)
    plain, batch = by_norm[None], by_norm["batch"]
    epochs = plain[0].run.epochs
    a, b = _final(batch), _final(plain)
    words, shows = _verdict("batch norm", a, b, "is better", "is worse")
    yield Finding(
        f"After {epochs} epochs batch norm classifies {_percent(a)} of the validation images correctly, no norm "
        f"{_percent(b)}: {words}. Of the training images it is {_percent(_final(batch, 'train_accuracy'))} against "
        f"{_percent(_final(plain, 'train_accuracy'))}.",
        shows,
    )
    a, b = (summary(_steps_to(record, _MOST * record.val_accuracy[-1]) for record in those) for those in (batch, plain))
    words, slower = _verdict("it", a, b, "converges more slowly", "converges faster")
    yield Finding(
        f"Batch norm comes to {_MOST:.0%} of its final validation accuracy after {_number(a)} steps, no norm after "
        f"{_number(b)}: {words}.",
        not slower and b.above(a),
    )
    passed = [_steps_to(one, other.val_accuracy[-1]) for one, other in zip(batch, plain, strict=True)]
    if all(map(math.isfinite, passed)):
        yield Finding(
            f"It is as good as no norm ever gets by the end after {_number(summary(passed))} of {len(batch[0].loss)} "
            "steps."
        )
    if a.seeds > 1:
        spread = [100.0 * (value.greatest - value.least) for value in (_final(batch), _final(plain))]
        yield Finding(
            f"From seed to seed its final accuracy differs by up to {spread[0]:.1f} points, that of no norm by up to "
            f"{spread[1]:.1f}."
        )


# ---------------------------------------------------------------------- E2


def _best(record: Training) -> float:
    return max(record.val_accuracy)


def _workable(trainings: Iterable[Training], score: Callable[[Training], float]) -> list[Training]:
    """Those that come to `WORKABLE` of the best of all with the same seed."""
    kept = []
    for those in _of_seeds(trainings).values():
        best = max(map(score, those))
        kept += [record for record in those if score(record) >= WORKABLE * best]
    return kept


def _e2(records: Records, data: DataFacts) -> Iterable[Finding]:
    trainings = _trainings(records, "E2")
    norms = list(by_setting(trainings, lambda run: run.norm))
    scales = sorted({record.run.weight_scale for record in trainings})
    seeds = list(_of_seeds(trainings))
    good = _workable(trainings, _best)
    counts = {
        norm: summary(sum(record.run.norm == norm and record.run.seed == seed for record in good) for seed in seeds)
        for norm in norms
    }
    parts = [f"{NAMES[norm]} at {_number(counts[norm])}" for norm in norms]
    verdicts, shows = [], True
    for norm in norms[1:]:
        words, above = _verdict(NAMES[norm], counts[norm], counts[None], "is less sensitive", "is more sensitive")
        verdicts.append(words)
        shows &= above
    if len(set(verdicts)) == 1:
        verdicts = verdicts[:1]
    elif shows:
        verdicts = ["both norms are less sensitive to the initial weights"]
    yield Finding(
        f"At least {WORKABLE:.0%} of the best validation accuracy of all is reached, of {len(scales)} scales of the "
        f"initial weights from {_short(scales[0])} to {_short(scales[-1])}, by {_listed(parts)}: {_listed(verdicts)}.",
        shows,
    )
    cells = by_setting(trainings, lambda run: (run.norm, run.weight_scale))
    stuck = {
        norm: [
            all(max(record.train_accuracy) <= data.training_chance + _CHANCE_MARGIN for record in cells[norm, scale])
            for scale in scales
        ]
        for norm in norms
    }
    parts = [f"{NAMES[norm]} {_listed(stretches)}" for norm in norms if (stretches := _stretches(scales, stuck[norm]))]
    free = [NAMES[norm] for norm in norms if not any(stuck[norm])]
    text = f"At chance with every seed stays {_listed(parts)}" if parts else "At chance with every seed stays nothing"
    yield Finding(text + (f"; {_listed(free)} nowhere." if parts and free else "."))
    peaks = {
        norm: summary(
            max(map(_best, those)) for those in _of_seeds(t for t in trainings if t.run.norm == norm).values()
        )
        for norm in norms
    }
    parts = [f"{NAMES[norm]} {_percent(peaks[norm])}" for norm in norms]
    verdicts = [
        f"{NAMES[norm]} is {'better' if peaks[norm].above(peaks[None]) else 'worse'} than no norm"
        for norm in norms[1:]
        if peaks[norm].above(peaks[None]) or peaks[None].above(peaks[norm])
    ]
    yield Finding(
        f"With the best scale for each the validation accuracies are {_listed(parts)}: "
        f"{_listed(verdicts) if verdicts else 'the ranges overlap, a difference does not show'}."
    )


def _stretches(scales: Sequence[float], holds: Sequence[bool]) -> list[str]:
    """In words, the stretches of the scale on which something holds."""
    words = []
    start = 0
    for end in range(1, len(scales) + 1):
        if end < len(scales) and holds[end] == holds[start]:
            continue
        first, last = _short(scales[start]), _short(scales[end - 1])
        if holds[start]:
            if end - start == len(scales):
                words.append("throughout")
            elif start == 0:
                words.append(f"up to {last}")
            elif end == len(scales):
                words.append(f"from {first} on")
            else:
                words.append(f"at {first}" if first == last else f"from {first} to {last}")
        start = end
    return words


# ---------------------------------------------------------------------- E3 and E4


_Sizes = dict[int, list[Training]]


def _by_size(trainings: Sequence[Training], norm: Norm) -> _Sizes:
    return by_setting((record for record in trainings if record.run.norm == norm), lambda run: run.batch_size)


def _gain(normed: Sequence[Training], plain: Sequence[Training]) -> Summary:
    """In validation, seed by seed: both see the same weights and minibatches."""
    return summary(a.val_accuracy[-1] - b.val_accuracy[-1] for a, b in zip(normed, plain, strict=True))


def _compared_size(sizes: Iterable[int]) -> int:
    """The largest batch size that still makes enough updates."""
    return max(size for size in sizes if size <= _ENOUGH_UPDATES)


def _sizes_in_words(name: str, by_size: _Sizes) -> tuple[str, bool]:
    """How the final training accuracy goes with the batch size, and whether it rises."""
    ends = {size: _final(those, "train_accuracy") for size, those in by_size.items()}
    smallest, compared, largest = min(ends), _compared_size(ends), max(ends)
    parts = [f"{_percent(end)} at {size}" for size, end in ends.items()]
    words, rises = _verdict(
        f"from {smallest} to {compared} the accuracy", ends[compared], ends[smallest], "rises", "falls"
    )
    text = f"After training with batches of {', '.join(map(str, ends))} images {name} classifies {_listed(parts)} of "
    text += f"the training images correctly: {words}."
    if largest > compared and ends[compared].above(ends[largest]):
        steps = [len(by_size[size][0].loss) for size in (largest, compared)]
        text += f" At {largest} it is lower again, with {steps[0]} updates instead of {steps[1]}."
    return text, rises


def _gains_in_words(name: str, normed: _Sizes, plain: _Sizes) -> tuple[str, dict[int, Summary]]:
    gains = {size: _gain(those, plain[size]) for size, those in normed.items()}
    parts = [f"{_points(gain)} at {size}" for size, gain in gains.items()]
    return (
        f"Against no norm at the same batch size {name} gains, in points of validation accuracy, {_listed(parts)}",
        gains,
    )


def _e3(records: Records, data: DataFacts) -> Iterable[Finding]:
    trainings = _trainings(records, "E3")
    plain, normed = _by_size(trainings, None), _by_size(trainings, "batch")
    text, rises = _sizes_in_words("batch norm", normed)
    yield Finding(text, rises)
    text, gains = _gains_in_words("batch norm", normed, plain)
    smallest, compared = min(gains), _compared_size(gains)
    words, more = _verdict(
        f"at {compared} it gains",
        gains[compared],
        gains[smallest],
        f"more than at {smallest}",
        f"less than at {smallest}",
    )
    harmful = [str(size) for size, gain in gains.items() if gain.seeds > 1 and gain.greatest < 0.0]
    harm = f", and at {_listed(harmful)} it does harm" if harmful else ""
    yield Finding(f"{text}: {words}{harm}.", more)


def _e4(records: Records, data: DataFacts) -> Iterable[Finding]:
    trainings = _trainings(records, "E4")
    plain, normed = _by_size(trainings, None), _by_size(trainings, "layer")
    text, _ = _sizes_in_words("layer norm", normed)
    yield Finding(text)
    text, gains = _gains_in_words("layer norm", normed, plain)
    helpful = [str(size) for size, gain in gains.items() if gain.seeds > 1 and gain.least > 0.0]
    words = f"it helps at {_listed(helpful)}" if helpful else "that it helps does not show"
    yield Finding(f"{text}: {words}.", bool(helpful))
    effects = summary(record.company_effect or 0.0 for record in trainings if record.run.norm == "layer")
    batch = _by_size(_trainings(records, "E3"), "batch")
    if effects.greatest == 0.0:
        text = "An image has exactly the same outputs through layer norm alone and in company, whatever the batch"
    else:
        text = f"Through layer norm an image's outputs change in company by {_percent(effects)} of the largest"
    if batch:
        changed = summary(
            record.company_effect for those in batch.values() for record in those if record.company_effect is not None
        )
        text += f"; through batch norm they change by {_percent(changed)} of the largest output (E3, all batch sizes)"
    yield Finding(text + ".", effects.greatest == 0.0)
    if not batch:
        return
    parts = []
    better = []
    for size, those in normed.items():
        a, b = _final(those), _final(batch[size])
        parts.append(f"{_percent(a)} against {_percent(b)} at {size}")
        if a.above(b):
            better.append(str(size))
    words = f"layer norm is better at {_listed(better)}" if better else "that it is better does not show"
    yield Finding(
        f"Beside batch norm (E3) its validation accuracy is {_listed(parts)}: {words}.", str(min(normed)) in better
    )


# ---------------------------------------------------------------------- E5


def _e5(records: Records, data: DataFacts) -> Iterable[Finding]:
    rows = [record for record in records["E5"] if isinstance(record, Timing)]
    # The batch sizes at one width: the width with most of them.
    widths = [row.d for row in rows]
    width = max(sorted(set(widths)), key=widths.count)
    for name in dict.fromkeys(row.implementation for row in rows):
        own = [row for row in rows if row.implementation == name]
        first = own[0]
        elements = first.n * first.d
        slower = [row for row in own if row.speedup[0] <= 1.0]
        low, high = (f"{chosen(row.speedup[1] for row in own):.1f}" for chosen in (min, max))
        words = f"is {low} to {high} times as fast as the graph"
        if slower:
            words += f", and at {len(slower)} of {len(own)} shapes does not show to be faster"
        yield Finding(
            f"In {name} the closed form, of {first.fused_operations / elements:.0f} operations and "
            f"{first.fused_bytes / elements:.0f} bytes read and written for each number instead of "
            f"{first.graph_operations / elements:.0f} and {first.graph_bytes / elements:.0f}, "
            f"{words} (medians).",
            not slower,
        )
    texts, shows = [], True
    for name in dict.fromkeys(row.implementation for row in rows):
        own = sorted((row for row in rows if row.implementation == name and row.d == width), key=lambda row: row.n)
        largest, greatest = own[-1], max(own, key=lambda row: row.speedup[1])
        texts.append(
            f"in {name} it gains {_quartiles(largest)} at {largest.n} rows"
            + ("" if greatest is largest else f" and most, {_quartiles(greatest)}, at {greatest.n}")
        )
        shows &= all(largest.speedup[0] > row.speedup[2] for row in own[:-1])
    words = (
        "the gain is greatest with the largest batch"
        if shows
        else "that it gains most with large batches does not show"
    )
    yield Finding(f"By batch size (at {width} features, quartiles in brackets) {_listed(texts)}: {words}.", shows)
    yield Finding(
        f"The two results differ by at most {max(row.max_relative_difference for row in rows):.0e} of the largest "
        "gradient."
    )


def _quartiles(row: Timing) -> str:
    low, middle, high = row.speedup
    return f"{middle:.1f} times [{low:.1f} … {high:.1f}]"


# ---------------------------------------------------------------------- E6


def _e6(records: Records, data: DataFacts) -> Iterable[Finding]:
    by_norm = by_setting((r for r in records["E6"] if isinstance(r, Distributions)), lambda run: run.norm)
    before = {
        norm: [summary(record.spread[0][layer] for record in those) for layer in (0, -1)]
        for norm, those in by_norm.items()
    }
    layers = len(by_norm[None][0].spread[0])
    text = (
        f"Before training what the ReLUs see has, from the first to the last of {layers} layers, a spread of "
        f"{_number(before[None][0])} to {_number(before[None][1])} without a norm"
    )
    normed = [norm for norm in by_norm if norm is not None]
    changes = {norm: summary(_factor(record.spread[0]) for record in those) for norm, those in by_norm.items()}
    texts = [f"{_number(before[norm][0])} to {_number(before[norm][1])} with {NAMES[norm]}" for norm in normed]
    kept = all(changes[None].above(changes[norm]) for norm in normed)
    words = "the norms keep it" if kept else "that the norms keep it does not show"
    yield Finding(f"{text}, {_listed(texts)}: {words}.", kept)

    ranges = {
        norm: summary(_factor([value for row in record.spread for value in row]) for record in those)
        for norm, those in by_norm.items()
    }
    kept = all(ranges[None].above(ranges[norm]) for norm in normed)
    parts = [f"{_number(ranges[norm])} with {NAMES[norm]}" for norm in normed]
    words = "the norms keep it during training too" if kept else "that the norms keep it during training does not show"
    yield Finding(
        f"Over all layers and all of training the largest spread is {_number(ranges[None])} times the smallest without "
        f"a norm, {_listed(parts)}: {words}.",
        kept,
    )

    steps = by_norm[None][0].steps
    early = [i for i, step in enumerate(steps) if step <= 20]
    late = [i for i, step in enumerate(steps) if step >= steps[-1] / 2]
    for looks, when in ((early, "In the first 20 updates"), (late, "In the second half of training")):
        shifts = {
            norm: summary(median(max(record.shift[i]) for i in looks) for record in those)
            for norm, those in by_norm.items()
        }
        parts = [f"{_number(shifts[norm])} with {NAMES[norm]}" for norm in normed]
        verdicts, less = [], False
        for norm in normed:
            if shifts[None].above(shifts[norm]):
                verdicts.append(f"less with {NAMES[norm]}")
            elif shifts[norm].above(shifts[None]):
                verdicts.append(f"more with {NAMES[norm]}")
            else:
                verdicts.append(f"with {NAMES[norm]} no difference shows")
            less |= norm == "batch" and verdicts[-1].startswith("less")
        yield Finding(
            f"{when} a single one moves the distributions of the layer that moves most by {_number(shifts[None])} "
            f"spreads without a norm, {_listed(parts)}: {_listed(verdicts)}.",
            less,
        )


def _factor(values: Sequence[float]) -> float:
    return max(values) / min(values)


# ---------------------------------------------------------------------- E7


def _e7(records: Records, data: DataFacts) -> Iterable[Finding]:
    cells = by_setting(
        (r for r in records["E7"] if isinstance(r, Gradients)),
        lambda run: (run.norm, len(run.hidden), run.weight_scale),
    )
    depths = sorted({depth for _, depth, _ in cells})
    shallow, deep = depths[0], depths[-1]
    norms = list(dict.fromkeys(norm for norm, _, _ in cells))
    width = next(iter(cells.values()))[0].run.hidden[0]
    scales = sorted({scale for _, _, scale in cells})
    he = min(scales, key=lambda scale: abs(math.log(scale / math.sqrt(2.0 / width))))
    small = max(scale for scale in scales if scale < he)

    def first(norm: Norm, depth: int, scale: float) -> Summary:
        return summary(record.norms[0] for record in cells[norm, depth, scale])

    plain, normed = first(None, deep, small), [norm for norm in norms if norm is not None]
    parts = [f"{_number(first(norm, deep, small))} with {NAMES[norm]}" for norm in normed]
    kept = all(first(norm, deep, small).above(plain) for norm in normed)
    shallow_plain = first(None, shallow, small)
    vanishes = shallow_plain.above(plain)
    words = "the norms keep it from vanishing" if kept and vanishes else "that the norms keep it does not show"
    yield Finding(
        f"With {deep} hidden layers and a weight scale of {_short(small)} the gradient of the first weights has "
        f"the norm {_number(plain)} without a norm (with {shallow} layers {_number(shallow_plain)}), {_listed(parts)}: "
        f"{words}.",
        kept and vanishes,
    )

    factors = {
        norm: summary(
            _factor([cells[norm, depth, scale][i].norms[0] for depth in depths for scale in scales])
            for i in range(len(cells[norm, deep, small]))
        )
        for norm in norms
    }
    parts = [f"{_number(factors[norm])} with {NAMES[norm]}" for norm in normed]
    steadier = all(factors[None].above(factors[norm]) for norm in normed)
    yield Finding(
        f"Over {shallow} to {deep} layers and weight scales from {_short(scales[0])} to {_short(scales[-1])} the "
        f"largest of these norms is {_number(factors[None])} times the smallest without a norm, {_listed(parts)}. "
        f"He's scale, {_short(he)}, keeps it without a norm too: {_number(first(None, deep, he))} with {deep} layers.",
        steadier,
    )

    texts, grows = [], False
    for norm in normed:
        ratios = {
            depth: summary(record.norms[0] / record.norms[-2] for record in cells[norm, depth, small])
            for depth in (shallow, deep)
        }
        growth = ratios[deep].above(ratios[shallow]) and ratios[deep].least > 2.0
        texts.append(
            f"with {NAMES[norm]} the first weights' is {_number(ratios[shallow])} times the last hidden layer's with "
            f"{shallow} layers and {_number(ratios[deep])} times with {deep}"
            + (": it grows on the way back" if growth else "")
        )
        grows |= growth
    end = ": instead of vanishing it may explode" if grows else ""
    yield Finding(f"{_sentence('; '.join(texts))}{end}.")


# ---------------------------------------------------------------------- E8


def _e8(records: Records, data: DataFacts) -> Iterable[Finding]:
    by_norm = by_setting((r for r in records["E8"] if isinstance(r, Smoothness)), lambda run: run.norm)
    steps = by_norm[None][0].steps
    late = [i for i, step in enumerate(steps) if step >= steps[-1] / 4]
    farthest = max(by_norm[None][0].distances)

    def typical(value: Callable[[Smoothness, int], float]) -> dict[Norm, Summary]:
        return {
            norm: summary(median(value(record, i) for i in late) for record in those) for norm, those in by_norm.items()
        }

    where = f"within a distance of {_short(farthest)} along the gradient, on the median step of the last three quarters"
    bands = typical(lambda record, i: record.highest[i] - record.lowest[i])
    words, shows = _order(bands, "smoother")
    yield Finding(f"The loss varies, {where} of training, by {_spelled(bands)}: {words}.", shows)
    changes = typical(lambda record, i: record.change[i])
    words, shows = _order(changes, "steadier")
    yield Finding(
        f"The gradient changes there by {_spelled(changes)} times its length and turns by "
        f"{_spelled(typical(lambda record, i: record.turn[i]))} degrees: by its change {words}.",
        shows,
    )


def _spelled(values: Mapping[Norm, Summary]) -> str:
    return _listed([f"{_number(value)} with {NAMES[norm]}" for norm, value in values.items()])


def _order(values: Mapping[Norm, Summary], word: str) -> tuple[str, bool]:
    """Which norms have less than no norm, and whether batch norm has."""
    less = [NAMES[norm] for norm, value in values.items() if values[None].above(value)]
    more = [NAMES[norm] for norm, value in values.items() if value.above(values[None])]
    parts = [f"it is {word} with {_listed(less)}"] if less else []
    parts += [f"it is less so with {_listed(more)}"] if more else []
    return (_listed(parts) if parts else "a difference from no norm does not show"), NAMES["batch"] in less


# ---------------------------------------------------------------------- E9


def _e9(records: Records, data: DataFacts) -> Iterable[Finding]:
    trainings = _trainings(records, "E9")
    norms = list(by_setting(trainings, lambda run: run.norm))
    seeds = list(_of_seeds(trainings))
    good = _workable(trainings, lambda record: record.val_accuracy[-1])
    rates = {
        norm: {
            seed: [record.run.learning_rate for record in good if (record.run.norm, record.run.seed) == (norm, seed)]
            for seed in seeds
        }
        for norm in norms
    }
    highest = {norm: summary(max(found, default=0.0) for found in rates[norm].values()) for norm in norms}
    lowest = {norm: summary(min(found, default=math.inf) for found in rates[norm].values()) for norm in norms}
    verdicts, shows = [], False
    for norm in norms[1:]:
        if highest[norm].above(highest[None]):
            verdicts.append(f"{NAMES[norm]} allows higher ones")
            shows |= norm == "batch"
        elif highest[None].above(highest[norm]):
            verdicts.append(f"{NAMES[norm]} demands lower ones")
        else:
            verdicts.append(f"that {NAMES[norm]} allows higher ones does not show")
    yield Finding(
        f"The highest learning rate with at least {WORKABLE:.0%} of the best final validation accuracy of all is "
        f"{_spelled(highest)}: {_listed(verdicts)}.",
        shows,
    )
    verdicts = [
        f"{NAMES[norm]} works with lower ones too"
        for norm in norms[1:]
        if lowest[None].above(lowest[norm])
    ]  # fmt: skip
    yield Finding(
        f"The lowest is {_spelled(lowest)}: "
        f"{_listed(verdicts) if verdicts else 'a difference from no norm does not show'}."
    )
    best = {
        norm: summary(
            max(record.val_accuracy[-1] for record in those if record.run.norm == norm)
            for those in _of_seeds(trainings).values()
        )
        for norm in norms
    }
    parts = [f"{NAMES[norm]} {_percent(best[norm])}" for norm in norms]
    yield Finding(f"With the best rate for each the final validation accuracies are {_listed(parts)}.")


_FINDINGS: dict[str, Callable[[Records, DataFacts], Iterable[Finding]]] = {
    "E1": _e1,
    "E2": _e2,
    "E3": _e3,
    "E4": _e4,
    "E5": _e5,
    "E6": _e6,
    "E7": _e7,
    "E8": _e8,
    "E9": _e9,
}
