"""A confusion matrix as an SVG: names at both sides and numbers in the cells, where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence

from uexcli.io.reports.html import escape

LABELLED = 24  # classes that still have room for names and numbers
ROOMY = 12  # classes whose cells are large
LARGE, MIDDLE, ALL = 38, 30, 520  # px of a cell, and of the whole matrix where nothing is written into it
LONGEST = 16  # letters of a name
LETTER = 6.6  # px
UPRIGHT = 20  # px above the matrix for names that fit over their column
FULL = 0.5  # share of a row from which a cell is dark, and its number light


def picture(table: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Draw `(K, K)` counts: a row is what an image is, a column what it is taken for. Names are plain text."""
    count = len(table)
    named = count <= LABELLED
    side = (LARGE if count <= ROOMY else MIDDLE) if named else max(4, ALL // count)
    edge = 14 + int(LETTER * min(LONGEST, max(map(len, classes)))) if named else 4
    turned = named and max(LETTER * len(name) for name in classes) > side
    under = edge if turned or not named else UPRIGHT  # px above the first row
    marks = []
    for row, numbers in enumerate(table):
        if named:
            marks += _heads(_short(classes[row]), edge, under, row, side, turned=turned)
        for column, number in enumerate(numbers):
            kind = "right" if row == column else "wrong"
            share = number / max(1, sum(numbers))
            x, y = edge + column * side, under + row * side
            marks.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{side - 1}" height="{side - 1}" '
                f'style="--share:{share:.3f}"><title>{escape(classes[row])} taken for {escape(classes[column])}: '
                f"{number} of {sum(numbers)}</title></rect>"
            )
            if named and number:
                look = ' class="on"' if share > FULL else ""
                marks.append(
                    f'<text{look} x="{x + (side - 1) / 2:.1f}" y="{y + side / 2 + 3.5:.1f}" text-anchor="middle">'
                    f"{number}</text>"
                )
    right = sum(table[number][number] for number in range(count)) / max(1, sum(map(sum, table)))
    said = f"Confusion of {count} classes, protected side, seed 0: {right:.0%} of the test images are right"
    width, height = edge + count * side + 4, under + count * side + 4
    fixed = f' style="width:{width}px"' if named else ""  # numbers would be too small to read on a phone
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="confusion matrix">'
        f'<svg class="confusion" viewBox="0 0 {width} {height}"{fixed} role="img" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{''.join(marks)}</svg></div>"
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _heads(name: str, edge: int, under: int, number: int, side: int, *, turned: bool) -> list[str]:
    """The name of a class before its row and above its column, turned where the column is too narrow for it."""
    middle = number * side + side / 2
    x, y = edge + middle, under - 6
    turn = f' transform="rotate(-90 {x + 4:.1f} {y})"' if turned else ""
    anchor, x = ("start", x + 4) if turned else ("middle", x)
    return [
        f'<text class="head" x="{edge - 6}" y="{under + middle + 4:.1f}" text-anchor="end">{escape(name)}</text>',
        f'<text class="head" x="{x:.1f}" y="{y}" text-anchor="{anchor}"{turn}>{escape(name)}</text>',
    ]
