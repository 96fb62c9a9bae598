"""The results of the experiments for the terminal: each question, and the sentences that answer it."""

from __future__ import annotations

import textwrap

from normcore.experiments.results import Results

__all__ = ["to_text"]


def to_text(results: Results) -> str:
    """The report, no line wider than 100 columns."""
    data, count = results.data, len(results.settings["seeds"])
    seeds = "one seed" if count == 1 else f"{count} seeds: median [least ... greatest]"
    facts = (
        f"Data: {data.description}; {data.training_images} training and {data.validation_images} validation images, "
        f"{data.features} pixels, {data.classes} classes. Always answering the most frequent class scores "
        f"{100 * data.training_chance:.1f} % in training, {100 * data.validation_chance:.1f} % in validation. "
        f"Numbers are of {seeds}."
    )
    blocks = [textwrap.fill(facts, 100)]
    for experiment in results.experiments:
        lines = [f"{experiment.id}  {experiment.title}"]
        lines += [_wrapped(finding.text) for finding in experiment.findings]
        if experiment.softmax_deviation is not None:
            lines.append(
                f"    (Probabilities of an image sum to 1 within {experiment.softmax_deviation:.1e} in every run.)"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _wrapped(sentence: str) -> str:
    # Not every terminal has the sign.
    sentence = sentence.replace("…", "...")
    return textwrap.fill(sentence, 100, initial_indent="  => ", subsequent_indent="     ", break_on_hyphens=False)
