"""What the numbers of the experiments show, in sentences.

Every sentence is made from the records alone; nothing is said because it was expected. A number is given as *median
[least … greatest]* over the seeds. A difference is put into words only where two such ranges are clearly apart
(`Summary.above`), so that other seeds say the same; otherwise the sentence says that it does not show.
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
    """Something measured: three digits; counts whole."""
    whole = all(float(number).is_integer() for number in (value.median, value.least, value.greatest))
    return _range(value, lambda number: _short(number, "" if whole else "#"))


def _setting(value: Summary) -> str:
    return _range(value, _short)


def _short(value: float, zeros: str = "") -> str:
    """Three digits; with `zeros` "#", those at the end too."""
    if math.isinf(value):
        return "infinite"
    if abs(value) >= 1e5 or 0.0 < abs(value) < 1e-3:
        digits, exponent = f"{value:.1e}".split("e")
        return f"{digits if zeros else digits.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.0f}" if abs(value) >= 100.0 else f"{value:{zeros}.3g}"


def _verdict(value: Summary, other: Summary, higher: str, lower: str) -> tuple[str, bool]:
    """`higher` or `lower`, if the ranges are apart, and whether it is `higher`."""
    if value.above(other):
        return higher, True
    if other.above(value):
        return lower, False
    if value.seeds == 1:
        return "one seed cannot tell whether there is a difference", False
    return "a difference does not show, for the ranges overlap or nearly do", False


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _spelled(values: Mapping[Norm, Summary], text: Callable[[Summary], str] = _number) -> str:
    return _listed([f"{text(value)} with {NAMES[norm]}" for norm, value in values.items()])


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
    a, b = (summary(_steps_to(record, _MOST * record.val_accuracy[-1]) for record in those) for those in (plain, batch))
    words, shows = _verdict(a, b, "batch norm converges faster", "batch norm converges more slowly")
    yield Finding(
        f"{_sentence(words)}: batch norm comes to {100 * _MOST:.0f} % of its final validation accuracy after "
        f"{_number(b)} steps, no norm after {_number(a)}.",
        shows,
    )
    ends = {
        images: (_final(batch, curve), _final(plain, curve))
        for images, curve in (("training", "train_accuracy"), ("validation", "val_accuracy"))
    }
    for images, (a, b) in ends.items():
        words, shows = _verdict(a, b, "batch norm ends better", "batch norm ends worse")
        yield Finding(
            f"On the {images} images {words}: after {plain[0].run.epochs} epochs batch norm classifies {_percent(a)} "
            f"of them correctly, no norm {_percent(b)}.",
            shows,
        )
    passed = [_steps_to(one, other.val_accuracy[-1]) for one, other in zip(batch, plain, strict=True)]
    if all(map(math.isfinite, passed)):
        yield Finding(
            f"Batch norm is as good in validation as no norm is in the end after {_number(summary(passed))} of "
            f"{len(batch[0].loss)} steps."
        )
    if a.seeds > 1:
        spread = [100.0 * (value.greatest - value.least) for value in (a, b)]
        yield Finding(
            f"From seed to seed its final validation accuracy differs by up to {spread[0]:.1f} points, that of no norm "
            f"by up to {spread[1]:.1f}."
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
    less = [NAMES[norm] for norm in norms[1:] if counts[norm].above(counts[None])]
    others = [norm for norm in norms[1:] if NAMES[norm] not in less]
    words = [f"with {_listed(less)} training is less sensitive to the initial weights"] if less else []
    words += [
        f"for {NAMES[norm]} " + _verdict(counts[norm], counts[None], "", "training is more sensitive")[0]
        for norm in others
    ]
    yield Finding(
        f"{_sentence(_listed(words))}: {100 * WORKABLE:.0f} % of the best validation accuracy of all is reached at "
        f"{_spelled(counts)}, of {len(scales)} weight scales from {_short(scales[0])} to {_short(scales[-1])}.",
        not others,
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
    text = f"At chance with every seed stays {_listed(parts)}" if parts else "No scale leaves a network at chance"
    he = math.sqrt(2.0 / trainings[0].run.hidden[0])
    yield Finding(text + (f"; {_listed(free)} nowhere" if parts and free else "") + f". He's scale is {_short(he)}.")
    peaks = {
        norm: summary(
            max(map(_best, those)) for those in _of_seeds(t for t in trainings if t.run.norm == norm).values()
        )
        for norm in norms
    }
    parts = [f"{NAMES[norm]} {_percent(peaks[norm])}" for norm in norms]
    yield Finding(f"With the best scale for each the validation accuracies are {_listed(parts)}.")


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


def _compared_size(sizes: Iterable[int]) -> int:
    """The largest batch size that still makes enough updates."""
    return max(size for size in sizes if size <= _ENOUGH_UPDATES)


def _sizes_in_words(name: str, by_size: _Sizes) -> str:
    """The final training accuracies by batch size."""
    ends = {size: _final(those, "train_accuracy") for size, those in by_size.items()}
    compared, largest = _compared_size(ends), max(ends)
    parts = [f"{_percent(end)} at {size}" for size, end in ends.items()]
    text = f"By batch size {name} ends with {_listed(parts)} of the training images."
    if largest > compared and ends[compared].above(ends[largest]):
        steps = [len(by_size[size][0].loss) for size in (largest, compared)]
        text += f" At {largest} it ends lower than at {compared}, after {steps[0]} updates instead of {steps[1]}."
    return text


def _gains(normed: _Sizes, plain: _Sizes) -> dict[int, Summary]:
    """In validation accuracy, seed by seed: both see the same weights and minibatches."""
    return {
        size: summary(a.val_accuracy[-1] - b.val_accuracy[-1] for a, b in zip(those, plain[size], strict=True))
        for size, those in normed.items()
    }


def _gains_in_words(name: str, gains: Mapping[int, Summary]) -> str:
    parts = [f"{_points(gain)} at {size}" for size, gain in gains.items()]
    helpful, harmful = (
        [str(size) for size, gain in gains.items() if sign * gain.median > 0.0 and _sure(gain)] for sign in (1.0, -1.0)
    )
    words = [f"it helps at {_listed(helpful)}"] if helpful else []
    words += [f"it does harm at {_listed(harmful)}"] if harmful else []
    rest = len(gains) - len(helpful) - len(harmful)
    words += ["elsewhere a difference does not show" if words else "a difference does not show"] if rest else []
    return (
        f"Against no norm at the same batch size {name} gains {_listed(parts)} points of validation accuracy: "
        f"{_listed(words)}."
    )


def _sure(gain: Summary) -> bool:
    """Whether its range is apart from 0, as in `Summary.above`."""
    nothing = Summary(0.0, 0.0, 0.0, gain.seeds)
    return gain.above(nothing) or nothing.above(gain)


def _e3(records: Records, data: DataFacts) -> Iterable[Finding]:
    trainings = _trainings(records, "E3")
    plain, normed = _by_size(trainings, None), _by_size(trainings, "batch")
    smallest, compared = min(normed), _compared_size(normed)
    a, b = (_final(normed[size], "train_accuracy") for size in (compared, smallest))
    words, shows = _verdict(
        a, b, "batch norm does better with larger batches", "batch norm does worse with larger batches"
    )
    c, d = (_final(plain[size], "train_accuracy") for size in (smallest, compared))
    yield Finding(
        f"{_sentence(words)}: batch norm ends with {_percent(b)} of the training images classified correctly at batch "
        f"{smallest} and {_percent(a)} at {compared}, no norm with {_percent(c)} and {_percent(d)}.",
        shows,
    )
    yield Finding(_sizes_in_words("batch norm", normed))
    gains = _gains(normed, plain)
    words, more = _verdict(
        gains[compared],
        gains[smallest],
        f"It gains more at {compared} than at {smallest}",
        f"It gains less at {compared} than at {smallest}",
    )
    yield Finding(f"{_gains_in_words('batch norm', gains)} {_sentence(words)}.", more)


def _e4(records: Records, data: DataFacts) -> Iterable[Finding]:
    trainings = _trainings(records, "E4")
    plain, normed = _by_size(trainings, None), _by_size(trainings, "layer")
    smallest, compared = min(normed), _compared_size(normed)
    a, b = _final(normed[smallest]), _final(plain[smallest])
    words, shows = _verdict(
        a, b, f"layer norm helps at batch {smallest} too", f"layer norm does harm at batch {smallest}"
    )
    text = f"{_sentence(words)}: layer norm ends with {_percent(a)} of the validation images classified correctly, no "
    text += f"norm with {_percent(b)}"
    batch = _by_size(_trainings(records, "E3"), "batch")
    if batch:
        text += f", batch norm (E3) with {_percent(_final(batch[smallest]))}"
    yield Finding(f"{text}; at {compared} layer norm with {_percent(_final(normed[compared]))}.", shows)
    yield Finding(_sizes_in_words("layer norm", normed))
    gains = _gains(normed, plain)
    yield Finding(_gains_in_words("layer norm", gains), all(map(_sure, gains.values())) and gains[smallest].least > 0.0)
    effects = summary(record.company_effect or 0.0 for record in trainings if record.run.norm == "layer")
    if effects.greatest == 0.0:
        text = "Through layer norm an image has exactly the same outputs alone and in company"
    else:
        text = f"Through layer norm an image's outputs change in company by {_percent(effects)} of the largest"
    if batch:
        changed = summary(
            record.company_effect for those in batch.values() for record in those if record.company_effect is not None
        )
        text += f"; through batch norm they change by {_percent(changed)} of the largest (E3, all batch sizes)"
    yield Finding(text + ".", effects.greatest == 0.0)
    if not batch:
        return
    ends = {size: (_final(those), _final(batch[size])) for size, those in normed.items()}
    parts = [f"{_percent(a)} and {_percent(b)} at {size}" for size, (a, b) in ends.items()]
    a, b = ends[smallest]
    words, shows = _verdict(a, b, f"at {smallest} layer norm is better", f"at {smallest} batch norm is better")
    yield Finding(f"{_sentence(words)}: layer norm and batch norm (E3) end in validation with {_listed(parts)}.", shows)


# ---------------------------------------------------------------------- E5


def _e5(records: Records, data: DataFacts) -> Iterable[Finding]:
    rows = [record for record in records["E5"] if isinstance(record, Timing)]
    by_name: dict[str, list[Timing]] = {}
    for row in rows:
        by_name.setdefault(row.implementation, []).append(row)
    texts, always = [], True
    for name, own in by_name.items():
        low, high = (f"{chosen(row.speedup[1] for row in own):.1f}" for chosen in (min, max))
        faster = sum(row.speedup[0] > 1.0 for row in own)
        texts.append(f"at {faster} of {len(own)} shapes in {name} ({low} to {high} times as fast)")
        always &= faster == len(own)
    yield Finding(
        f"The closed form is faster than the graph {_listed(texts)} (medians; faster: in three of four measurements).",
        always,
    )
    counts = []
    for name, own in by_name.items():
        row = max(own, key=lambda row: row.n * row.d)
        each = [value / (row.n * row.d) for value in (row.fused_operations, row.graph_operations)]
        each += [value / (row.n * row.d) for value in (row.fused_bytes, row.graph_bytes)]
        counts.append(
            "in {} {:.0f} operations instead of {:.0f} and {:.0f} bytes instead of {:.0f}".format(name, *each)
        )
    yield Finding(f"For each number of the batch it needs {'; '.join(counts)}, read and written.")
    # The batch sizes at one width: the width with most of them.
    widths = [row.d for row in rows]
    width = max(sorted(set(widths)), key=widths.count)
    texts, shows = [], True
    for name, own in by_name.items():
        own = sorted((row for row in own if row.d == width), key=lambda row: row.n)
        largest, greatest = own[-1], max(own, key=lambda row: row.speedup[1])
        texts.append(
            f"in {name} it is {_quartiles(largest)} as fast at {largest.n} rows"
            + ("" if greatest is largest else f" and {_quartiles(greatest)} at {greatest.n}")
        )
        shows &= all(largest.speedup[0] > row.speedup[2] for row in own[:-1])
    words = "it gains most with the largest batch" if shows else "that it gains most with large batches does not show"
    yield Finding(f"{_sentence(words)}: with {width} features {_listed(texts)} (median and quartiles).", shows)
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
        f"before training what the ReLUs see has, from the first to the last of {layers} layers, a spread of "
        f"{_number(before[None][0])} to {_number(before[None][1])} without a norm"
    )
    normed = [norm for norm in by_norm if norm is not None]
    changes = {norm: summary(_factor(record.spread[0]) for record in those) for norm, those in by_norm.items()}
    texts = [f"{_number(before[norm][0])} to {_number(before[norm][1])} with {NAMES[norm]}" for norm in normed]
    kept = all(_orders(changes[None]).above(_orders(changes[norm])) for norm in normed)
    words = "the norms keep it" if kept else "that the norms keep it does not show"
    yield Finding(f"{_sentence(words)}: {text}, {_listed(texts)}.", kept)

    ranges = {
        norm: summary(_factor([value for row in record.spread for value in row]) for record in those)
        for norm, those in by_norm.items()
    }
    kept = all(_orders(ranges[None]).above(_orders(ranges[norm])) for norm in normed)
    parts = [f"{_number(ranges[norm])} with {NAMES[norm]}" for norm in normed]
    words = "they keep it during training too" if kept else "that they keep it during training does not show"
    yield Finding(
        f"{_sentence(words)}: over all layers and steps the largest spread is {_number(ranges[None])} times the "
        f"smallest without a norm, {_listed(parts)}.",
        kept,
    )

    steps = by_norm[None][0].steps
    early = [i for i, step in enumerate(steps) if step <= 20]
    late = [i for i, step in enumerate(steps) if step >= steps[-1] / 2]

    def shifts(looks: Sequence[int]) -> dict[Norm, Summary]:
        """On the median look, in the layer that moves most."""
        return {
            norm: summary(median(max(record.shift[i]) for i in looks) for record in those)
            for norm, those in by_norm.items()
        }

    at_first = shifts(early)
    less = [NAMES[norm] for norm in normed if at_first[None].above(at_first[norm])]
    words = f"less with {_listed(less)}" if less else "and that it does so less with a norm does not show"
    yield Finding(
        f"In the first 20 updates each moves the distributions {words}: in the layer that moves most by "
        f"{_spelled(at_first)}, in spreads.",
        NAMES["batch"] in less,
    )
    # No verdict: what is left by then is too small for one that every set of seeds would confirm.
    yield Finding(f"In the second half of all updates each moves them by {_spelled(shifts(late))}.")


def _factor(values: Sequence[float]) -> float:
    return _ratio(max(values), min(values))


def _ratio(value: float, other: float) -> float:
    return value / other if other > 0.0 else math.inf


# ---------------------------------------------------------------------- E7


def _orders(value: Summary) -> Summary:
    """Its logarithm."""
    low, high = 1e-300, 1e300
    least, middle, greatest = (
        math.log10(min(max(number, low), high)) for number in (value.least, value.median, value.greatest)
    )
    return Summary(middle, least, greatest, value.seeds)


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
    shallow_plain = first(None, shallow, small)
    # Gradients differ by orders of magnitude, and so they are compared.
    kept = all(_orders(first(norm, deep, small)).above(_orders(plain)) for norm in normed)
    vanishes = _orders(shallow_plain).above(_orders(plain))
    words = "the norms keep" if kept and vanishes else "it does not show that the norms keep"
    yield Finding(
        f"{_sentence(words)} the gradient from vanishing: with {deep} hidden layers and weight scale {_short(small)} "
        f"that of the first weights has norm {_number(plain)} without a norm (with {shallow} layers "
        f"{_number(shallow_plain)}), {_listed(parts)}.",
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
    steadier = all(_orders(factors[None]).above(_orders(factors[norm])) for norm in normed)
    yield Finding(
        f"Over {shallow} to {deep} layers and weight scales from {_short(scales[0])} to {_short(scales[-1])} the "
        f"largest of these norms is {_number(factors[None])} times the smallest without a norm, {_listed(parts)}.",
        steadier,
    )
    deep_he, shallow_he = first(None, deep, he), first(None, shallow, he)
    words = "vanishes too" if shallow_he.least > 100.0 * deep_he.greatest else "does not vanish"
    yield Finding(
        f"With He's weight scale, {_short(he)}, it {words} without a norm: {_number(shallow_he)} with {shallow} "
        f"layers, {_number(deep_he)} with {deep}."
    )

    texts, growing = [], []
    for norm in normed:
        shallow_ratio, deep_ratio = (
            summary(_ratio(record.norms[0], record.norms[-2]) for record in cells[norm, depth, small])
            for depth in (shallow, deep)
        )
        if _orders(deep_ratio).above(_orders(shallow_ratio)) and deep_ratio.least > 10.0:
            growing.append(NAMES[norm])
        texts.append(
            f"{_number(shallow_ratio)} and {_number(deep_ratio)} times the last hidden layer's with {NAMES[norm]}"
        )
    words = (
        f"With {_listed(growing)} it grows on its way back instead" if growing else "It hardly grows on its way back"
    )
    yield Finding(f"{words}: with {shallow} and with {deep} layers the first weights' gradient is {_listed(texts)}.")


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

    bands = typical(lambda record, i: record.highest[i] - record.lowest[i])
    words, shows = _order("the loss", bands, "smoother", "rougher")
    yield Finding(
        f"{_sentence(words)}: within a distance of {_short(farthest)} along the gradient it varies by "
        f"{_spelled(bands)} (median step of the last three quarters of training).",
        shows,
    )
    changes = typical(lambda record, i: record.change[i])
    words, shows = _order("the gradient", changes, "steadier", "less steady")
    yield Finding(f"{_sentence(words)}: there it changes by {_spelled(changes)} times its length.", shows)
    turns = typical(lambda record, i: record.turn[i])
    less = [NAMES[norm] for norm, turn in turns.items() if turns[None].above(turn)]
    words = f"less with {_listed(less)}" if less else "not visibly less with a norm"
    yield Finding(f"It turns {words}: by {_spelled(turns)} degrees.", NAMES["batch"] in less)


def _order(subject: str, values: Mapping[Norm, Summary], less: str, more: str) -> tuple[str, bool]:
    """Which norms have less and more than no norm, and whether batch norm has less."""
    below = [NAMES[norm] for norm, value in values.items() if values[None].above(value)]
    above = [NAMES[norm] for norm, value in values.items() if value.above(values[None])]
    parts = [f"{less} with {_listed(below)}"] if below else []
    parts += [f"{more} with {_listed(above)}"] if above else []
    words = f"{subject} is {_listed(parts)}" if parts else f"that {subject} is {less} with a norm does not show"
    return words, NAMES["batch"] in below


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
    allowing = [NAMES[norm] for norm in norms[1:] if highest[norm].above(highest[None])]
    demanding = [NAMES[norm] for norm in norms[1:] if highest[None].above(highest[norm])]
    others = [NAMES[norm] for norm in norms[1:] if NAMES[norm] not in (*allowing, *demanding)]
    verdicts = [f"{_listed(allowing)} allow{'s' * (len(allowing) == 1)} higher learning rates"] if allowing else []
    verdicts += [f"{_listed(demanding)} demand{'s' * (len(demanding) == 1)} lower ones"] if demanding else []
    verdicts += [f"that {_listed(others)} allow{'s' * (len(others) == 1)} higher ones does not show"] if others else []
    yield Finding(
        f"{_sentence('; '.join(verdicts))}: the highest to come to {100 * WORKABLE:.0f} % of the best final validation "
        f"accuracy of all is {_spelled(highest, _setting)}.",
        NAMES["batch"] in allowing,
    )
    counts = {norm: summary(len(found) for found in rates[norm].values()) for norm in norms}
    wider = [NAMES[norm] for norm in norms[1:] if counts[norm].above(counts[None])]
    words = f"more rates work with {_listed(wider)}" if wider else "that more rates work with a norm does not show"
    tried = len({record.run.learning_rate for record in trainings})
    yield Finding(f"{_sentence(words)}: of {tried} rates {_spelled(counts)}.", NAMES["batch"] in wider)
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
