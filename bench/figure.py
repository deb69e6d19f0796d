"""One line of the table, and how a measurement becomes one: alternating pairs, the median, the range."""

import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from longhaul.output import emit_table

COLUMNS: Final = ("figure", "ours", "theirs", "median", "range", "goal", "met")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: pairs (or windows) a figure, seconds a window, the share of each bench's own counts."""

    pairs: int
    seconds: float
    share: float

    def of(self, count: int) -> int:
        """So many of `count`, at least two: a percentile wants two."""
        return max(2, round(count * self.share))


FULL: Final = Scale(pairs=5, seconds=10, share=1)
QUICK: Final = Scale(pairs=2, seconds=3, share=0.1)
"""Whether it works, and a rough number."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`value` in the figure's unit; the median has to be at least that, or at most."""

    value: float
    at_most: bool = False

    def met(self, median: float) -> bool:
        return median <= self.value if self.at_most else median >= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured. `judged` holds one value for each pair or window: the goal is about their median."""

    what: str
    judged: Sequence[float]
    unit: str
    goal: Goal | None
    ours: str = ""
    theirs: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.judged)

    @property
    def met(self) -> bool:
        return self.goal is None or self.goal.met(self.median)


def ratios(what: str, pairs: Sequence[tuple[float, float]], unit: str, goal: Goal | None) -> Figure:
    """Ours over theirs, pair by pair; `unit` is that of the two sides, shown by their medians."""
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    judged = [mine / other for mine, other in pairs]
    return Figure(what, judged, "x", goal, said(ours, unit), said(theirs, unit))


async def alternate(
    pairs: int, ours: Callable[[int], Awaitable[float]], theirs: Callable[[int], Awaitable[float]]
) -> list[tuple[float, float]]:
    """Measure both sides in turn; who begins changes from pair to pair, so that a drift favours nobody."""
    measured = []
    for pair in range(pairs):
        if pair % 2:
            other = await theirs(pair)
            mine = await ours(pair)
        else:
            mine = await ours(pair)
            other = await theirs(pair)
        say(f"  pair {pair + 1} of {pairs}: ours {mine:,.4g}, theirs {other:,.4g}")
        measured.append((mine, other))
    return measured


async def windows(count: int, measure: Callable[[int], Awaitable[float]]) -> list[float]:
    """Measure one side `count` times."""
    measured = []
    for window in range(count):
        measured.append(await measure(window))
        say(f"  {window + 1} of {count}: {measured[-1]:,.4g}")
    return measured


def say(message: str) -> None:
    """Progress, for the person who waits."""
    print(message, file=sys.stderr, flush=True)


def said(value: float, unit: str) -> str:
    """A value as the table shows it: `0.973x`, `3,204/s`, `6.1 ms`."""
    if unit == "x":
        return f"{value:.3f}x"
    digits = 0 if abs(value) >= 200 else 1 if abs(value) >= 20 else 2
    return f"{value:,.{digits}f}{'' if unit.startswith('/') else ' '}{unit}"


def show(figures: Sequence[Figure]) -> None:
    """The table, side by side."""
    emit_table(COLUMNS, [_row(figure) for figure in figures])


def _row(figure: Figure) -> tuple[object, ...]:
    spread = f"{said(min(figure.judged), figure.unit)} .. {said(max(figure.judged), figure.unit)}"
    goal, met = "", ""
    if figure.goal:
        unit = "" if figure.unit == "x" else f" {figure.unit}"
        goal = f"{'<=' if figure.goal.at_most else '>='} {figure.goal.value:,g}{unit}"
        met = "yes" if figure.met else "NO"
    return (figure.what, figure.ours, figure.theirs, said(figure.median, figure.unit), spread, goal, met)
