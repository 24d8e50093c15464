"""Accuracies as lines in an SVG: by epoch, or by what a scenario varies; for the report and the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from uexcli.io.reports.html import escape
from uexcli.wording import visible

HUES = 8  # colours of report.css; further lines are dashed
TOP, BOTTOM, LEFT, RIGHT = 10, 36, 46, 14
TALL = 230  # from this height on there is room for a number at every fifth
SPACING = 15  # of labels at the right end
LETTER = 6.6  # width of one, at the 12 px of labels
LONGEST = 30  # letters of a label
TICKS = 8


@dataclass(frozen=True)
class Line:
    """Points `(x, accuracy in [0, 1])`; `look` are classes of report.css; `name` is for its end, if there is room."""

    name: str
    points: Sequence[tuple[float, float]]
    look: str
    dotted: bool = False  # each point has a mark


def by_epoch(name: str, curve: Sequence[float], look: str) -> Line:
    """A line of accuracies after each epoch, the first one being 1."""
    return Line(name, [(float(epoch), value) for epoch, value in enumerate(curve, 1)], look)


def hue(number: int) -> str:
    """The look of the line of so many a row."""
    return f"hue-{number % HUES}" + ("" if number < HUES else " dashed" if number < 2 * HUES else " dotted")


def epochs(longest: int) -> dict[float, str]:
    """Ticks for so many epochs: the first one, and at most eight round numbers."""
    step = next(
        step for power in range(12) for step in (10**power, 2 * 10**power, 5 * 10**power) if longest / step <= TICKS
    )
    return {float(epoch): str(epoch) for epoch in sorted({1, *range(step, longest + 1, step)})}


def plot(
    lines: Sequence[Line],
    *,
    said: str,
    ticks: Mapping[float, str],
    across: str = "epoch",
    chance: float | None = None,
    size: tuple[int, int] = (320, 210),
    named: bool = False,
) -> str:
    """Draw lines from 0 to 100 %; `said` is the picture in words, `named` writes the lines' names at their ends."""
    width, height = size
    longest = max((min(LONGEST, len(line.name)) for line in lines), default=0)
    right = RIGHT + (int(LETTER * longest) + 22 if named else 0)
    wide, high = width - LEFT - right, height - TOP - BOTTOM
    known = [x for line in lines for x, _ in line.points] + list(ticks)
    least, most = min(known, default=0.0), max(known, default=1.0)

    def at(x: float) -> float:
        return LEFT + (wide * (x - least) / (most - least) if most > least else wide / 2)

    def level(value: float) -> float:
        return TOP + high * (1 - min(1.0, max(0.0, value)))

    end = width - right
    marks = []
    for percent in range(0, 101, 20 if height >= TALL else 25):
        y = level(percent / 100)
        marks.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{end}"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent}%</text>')
    for x, text in ticks.items():
        marks.append(f'<path class="grid" d="M{at(x):.1f} {TOP + high}v4"/>')
        marks.append(f'<text x="{at(x):.1f}" y="{TOP + high + 16}" text-anchor="middle">{escape(text)}</text>')
    marks.append(
        f'<text class="axis" x="{LEFT + wide / 2:.1f}" y="{height - 5}" text-anchor="middle">{escape(across)}</text>'
    )
    if chance is not None:
        marks.append(f'<path class="chance" d="M{LEFT} {level(chance):.1f}H{end}"/>')
    for line in lines:
        marks.append(_drawn(line, [(at(x), level(value)) for x, value in line.points]))
    if named:
        marks += _names([line for line in lines if line.name and line.points], end, level, high)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{''.join(marks)}</svg>"
    )


def _drawn(line: Line, places: Sequence[tuple[float, float]]) -> str:
    if len(places) == 1:
        x, y = places[0]
        return f'<circle class="{line.look}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = (f'<circle class="{line.look}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places if line.dotted)
    return f'<polyline class="{line.look}" points="{points}"/>{"".join(marks)}'


def _names(lines: Sequence[Line], end: float, level: Callable[[float], float], high: float) -> list[str]:
    """The lines' names to the right of the plot, none upon another, each with a stroke from its line's end."""
    order = sorted(lines, key=lambda line: level(line.points[-1][1]))
    places = _apart([level(line.points[-1][1]) for line in order], TOP, TOP + high)
    marks = []
    for line, y in zip(order, places, strict=True):
        start = level(line.points[-1][1])
        marks.append(f'<path class="lead-to {line.look}" d="M{end + 2} {start:.1f}L{end + 16} {y:.1f}"/>')
        marks.append(f'<text class="named" x="{end + 20}" y="{y + 4:.1f}">{escape(short(line.name))}</text>')
    return marks


def _apart(wanted: Sequence[float], least: float, most: float) -> list[float]:
    """Move places, which are in order, as little as may be for them to stand `SPACING` apart within bounds."""
    blocks: list[tuple[float, int]] = []  # of places that touch: where the first one would be, and how many they are
    for number, place in enumerate(wanted):
        start, count = place - SPACING * number, 1
        while blocks and blocks[-1][0] > start:
            other, more = blocks.pop()
            start, count = (start * count + other * more) / (count + more), count + more
        blocks.append((start, count))
    starts = [start for start, count in blocks for _ in range(count)]
    last = max(least, most - SPACING * (len(wanted) - 1))
    return [min(max(start, least), last) + SPACING * number for number, start in enumerate(starts)]


def short(name: str) -> str:
    """A name that has room beside a plot."""
    name = visible(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def room_for(names: int, least: int = 300) -> int:
    """The height of a plot that so many names have room beside."""
    return max(least, math.ceil(SPACING * names) + TOP + BOTTOM)
