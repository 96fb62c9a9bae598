"""What is printed: lines with a goal beside them, tables of lines, the closing summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Goal:
    """A limit for a line's figure."""

    limit: float
    at_least: bool = True

    def met_by(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit


@dataclass(frozen=True)
class Line:
    """One thing measured. Without a unit, `ours` and `peer` are seconds; the figure is in `figure_unit`."""

    name: str
    peer_name: str = ""
    ours: float | None = None
    peer: float | None = None
    figure: float | None = None
    figure_unit: str = ""
    goal: Goal | None = None
    unit: str = "s"

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None if there is none or nothing was measured."""
        return None if self.goal is None or self.figure is None else self.goal.met_by(self.figure)

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"met": self.met}


def against(name: str, peer_name: str, ours: float, peer: float, goal: float | None = None) -> Line:
    """The peer's time over ours: above 1, normcore is faster."""
    return Line(name, peer_name, ours, peer, peer / ours, goal=None if goal is None else Goal(goal))


def alone(name: str, ours: float, note: str = "") -> Line:
    """A time without a peer to compare it with."""
    return Line(name, note, ours)


def geometric_means(lines: Iterable[Line], goal: float | None) -> Iterator[Line]:
    """One line for each peer: the geometric mean of the ratios with it."""
    ratios: dict[str, list[float]] = {}
    for line in lines:
        if line.figure is not None and line.peer is not None:
            ratios.setdefault(line.peer_name, []).append(line.figure)
    for peer_name, of_peer in ratios.items():
        mean = math.exp(math.fsum(map(math.log, of_peer)) / len(of_peer))
        yield Line("geometric mean", peer_name, figure=mean, goal=None if goal is None else Goal(goal))


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit != "s":
        return f"{value:.1f} {unit}"
    scale, name = next(((s, n) for s, n in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")) if value >= s), (1e-9, "ns"))
    return f"{value / scale:.3g} {name}" if value / scale < 1000 else f"{value / scale:.0f} {name}"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if not unit else f"{value:.0f} {unit}"


def show(title: str, lines: list[Line], columns: tuple[str, str] = ("normcore", "peer")) -> None:
    """Print one table; `columns` are what `ours` and `peer` of its lines are."""
    width = max([len(line.name) for line in lines], default=0)
    print(f"\n{title}\n{'':{width}}  {columns[0]:>12}  {columns[1]:>12}  {'figure':>9}  {'goal':>10}")
    for line in lines:
        goal, verdict = "", ""
        if line.goal:
            sign = ">=" if line.goal.at_least else "<="
            goal = f"{sign} {line.goal.limit:.3g}{' ' + line.figure_unit if line.figure_unit else ''}"
            verdict = {True: "met", False: "MISSED", None: "not measured"}[line.met]
        text = (
            f"{line.name:{width}}  {_quantity(line.ours, line.unit):>12}  {_quantity(line.peer, line.unit):>12}  "
            f"{_figure(line.figure, line.figure_unit):>9}  {goal:>10}  {verdict:6}  {line.peer_name}"
        )
        print(text.rstrip())


def summarise(tables: dict[str, list[Line]]) -> None:
    """Print how many goals were met, and each one that was not."""
    with_goal = [(title, line) for title, lines in tables.items() for line in lines if line.goal]
    print(f"\n{sum(line.met is True for _, line in with_goal)} of {len(with_goal)} goals met")
    for title, line in with_goal:
        if line.met is not True:
            short = "not measured" if line.figure is None else _figure(line.figure, line.figure_unit)
            assert line.goal is not None
            peer = f" ({line.peer_name})" if line.peer_name else ""
            print(f"  {title}: {line.name}{peer}: {short}, goal {line.goal.limit:.3g}")
