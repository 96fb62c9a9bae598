"""index.html: the figures, what each shows and how to read it, and where the numbers come from. Needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from normcore.experiments.figures import HOW_TO_READ, settings_line
from normcore.experiments.numbers import table
from normcore.experiments.results import ExperimentResult, Results

__all__ = ["to_html"]

_HEADING = "Batch and layer normalisation: what is claimed, and what comes out"

_STYLE = """
:root { color-scheme: light; --ink: #222; --soft: #5a5a5a; --line: #ddd; --accent: #0060a0; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1.25rem 4rem; background: #fff; color: var(--ink);
  font: 1.0625rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.4rem; line-height: 1.3; margin: 3.5rem 0 .4rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h2 .id { color: var(--soft); margin-right: .5rem; }
h2 a { color: inherit; text-decoration: none; }
a { color: var(--accent); }
p, ul { max-width: 46rem; }
.answer { font-size: 1.15rem; font-weight: 600; margin: .4rem 0 .8rem; }
.claim, .settings, figcaption { color: var(--soft); }
.claim { margin: 0 0 .4rem; }
.settings { font-size: .9rem; margin: 0 0 1rem; }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .95rem; max-width: 46rem; margin-top: .6rem; }
nav ol { list-style: none; margin: 1.5rem 0 0; padding: 0; max-width: 60rem; }
nav li { padding: .45rem 0 .45rem 2.6rem; text-indent: -2.6rem; border-top: 1px solid var(--line); }
nav .id { display: inline-block; width: 2.6rem; text-indent: 0; color: var(--soft); }
nav .short { display: block; text-indent: 0; color: var(--soft); font-size: .95rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--accent); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { text-align: right; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.facts th { font-weight: 400; color: var(--soft); }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
@media print { details:not([open]) { display: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
""".strip()


def to_html(results: Results, alternatives: Mapping[str, str]) -> str:
    """The page as text; it shows ``<id>.svg`` and links ``<id>.png`` and ``results.json``, which lie beside it.

    Parameters
    ----------
    alternatives : of each experiment, its figure in words, for readers who do not see it
    """
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_HEADING}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>",
        f"<header>\n<h1>{_HEADING}</h1>\n<p>{escape(_introduction(results))}</p>\n</header>\n<main>",
        _contents(results.experiments),
        *(_section(found, results, alternatives[found.id]) for found in results.experiments),
        _provenance(_facts(results)),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _introduction(results: Results) -> str:
    data, seeds = results.data, len(results.settings["seeds"])
    over = f"{seeds} seeds: the median and, in brackets, the least and the greatest" if seeds > 1 else "one seed"
    return (
        f"The data is {data.description}: {data.training_images} images to train on and {data.validation_images} to "
        f"validate, {data.features} pixels each, {data.classes} classes. Numbers are of {over}. A difference is put "
        "into words only where the ranges are apart."
    )


def _contents(experiments: Sequence[ExperimentResult]) -> str:
    items = [
        f'<li><span class="id">{found.id}</span><a href="#{found.id}">{escape(found.title)}</a>'
        f'<span class="short">{escape(found.findings[0].text)}</span></li>'
        for found in experiments
    ]
    return "\n".join(['<nav aria-label="Experiments">\n<ol>', *items, "</ol>\n</nav>"])


def _section(found: ExperimentResult, results: Results, alternative: str) -> str:
    id, (answer, *others) = found.id, found.findings
    if found.softmax_deviation is not None:
        sums = [f"The probabilities of an image sum to 1 within {found.softmax_deviation:.1e} in every run."]
    else:
        sums = []
    points = [*(finding.text for finding in others), *sums]
    parts = [
        f'<section aria-labelledby="{id}">',
        f'<h2 id="{id}"><span class="id">{id}</span><a href="#{id}">{escape(found.title)}</a></h2>',
        f'<p class="claim">The claim: {escape(found.claim)}</p>',
        f'<p class="answer">{escape(answer.text)}</p>',
        f'<figure>\n<a href="{id}.svg"><img src="{id}.svg" alt="{escape(alternative)}"></a>',
        f'<figcaption>{escape(HOW_TO_READ[id])} (<a href="{id}.png">PNG</a>, <a href="{id}.svg">SVG</a>)</figcaption>',
        "</figure>",
    ]
    if points:
        parts += ["<ul>", *(f"<li>{escape(point)}</li>" for point in points), "</ul>"]
    parts += [
        f'<p class="settings">{escape(settings_line(found, results.data))}</p>',
        f"<details>\n<summary>The numbers of {id}</summary>\n{_table(table(found))}\n</details>\n</section>",
    ]
    return "\n".join(parts)


def _facts(results: Results) -> dict[str, str]:
    """Where the numbers come from, in the order in which it is shown."""
    settings, machine, data = results.settings, results.machine, results.data
    return {
        "normcore": f"{results.normcore['version']}, contract {results.normcore['contract']}",
        "begun": f"{results.started}, for {results.seconds:.0f} seconds",
        "experiments": ", ".join(settings["experiments"]) + (", fewer settings (--quick)" if settings["quick"] else ""),
        "seeds": ", ".join(map(str, settings["seeds"])),
        "data": f"{data.name}, SHA-256 {data.sha256}",
        "machine": f"{machine['system']}, {machine['processors']} processors, {machine['isa']}",
        "workers": f"{settings['jobs']}, {settings['executor']}",
        "Python, NumPy": f"{machine['python']}, {machine['numpy']}",
    }


def _table(table: Sequence[Sequence[str]]) -> str:
    head, *rows = table
    lines = ['<div class="wide"><table>', _row(head, "th"), *(_row(row, "td") for row in rows), "</table></div>"]
    return "\n".join(lines)


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _provenance(facts: Mapping[str, str]) -> str:
    rows = [f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()]
    return "\n".join(
        [
            '<section aria-labelledby="provenance">\n<h2 id="provenance">Where the numbers come from</h2>',
            '<p>Every number stands in <a href="results.json">results.json</a>.</p>',
            '<table class="facts">',
            *rows,
            "</table>\n</section>",
        ]
    )
