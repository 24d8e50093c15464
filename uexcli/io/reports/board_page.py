"""The leaderboard as a page of its own: curves, the table, each row on click, doubts; no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from uexcli.io.reports import board, curves
from uexcli.io.reports.board import Row
from uexcli.io.reports.evaluation import shell
from uexcli.io.reports.html import escape
from uexcli.wording import as_flags

DRAWN = 3 * curves.HUES  # rows in one picture, which all look different
WIDE, NARROW = 1040, 360  # px of a picture on a desk and on a phone
PLOTS = 12  # cells of a row whose curves are drawn
CLOSE = 0.06  # of the range: values of a sweep that lie closer stand at equal distances


def html(title: str, rows: Sequence[Row]) -> str:
    """The page: for all rows that compare their curves and a table, then each row, and the doubts."""
    known = board.boards(rows)
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="note">{escape(board.reading(rows))}{_jump(rows)}</p>']
    if len(known) > 1:
        links = (
            f'<li><a href="#board-{number}">{escape(name or "All classes")}</a></li>'
            for number, name in enumerate(known, 1)
        )
        parts.append(f'<nav><ul class="links">{"".join(links)}</ul></nav>')
    numbers = {id(row): number for number, row in enumerate(rows, 1)}
    for number, (name, members) in enumerate(known.items(), 1):
        heading = f"<h2>{escape(name or 'All classes')}</h2>\n" if len(known) > 1 else ""
        table = _table(members, numbers)
        parts.append(
            f'<section id="board-{number}">\n{heading}<p class="note">{escape(board.about(members))}</p>\n'
            f"{_curves(members)}\n{table}\n</section>"
        )
    parts += [_sweep(key, members) for key, members in board.sweeps(rows).items()]
    parts.append(_rows(rows, numbers))
    parts.append(_doubts(rows))
    return shell(title, "\n".join(part for part in parts if part))


def _jump(rows: Sequence[Row]) -> str:
    count = len(board.doubts(rows))
    words = "1 doubt" if count == 1 else f"{count} doubts"
    return f' See also <a href="#doubts">{words}</a>.' if count else ""


def _table(rows: Sequence[Row], numbers: Mapping[int, int]) -> str:
    known = board.columns(rows)
    heads = board.heads(known)
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in heads)
    sides = [board.clean(rows, column) for column in known]
    clean = "".join(f"<td>{escape(board.score(side)) if side else ''}</td>" for side in sides)
    blank = "<td></td>" * len(board.FACTS)
    body = [f'<tr class="reference"><th scope=row>(clean)</th><td></td>{clean}{blank}</tr>']
    silent = False
    for row in rows:
        if board.is_silent(row) and not silent:
            silent = True
            rest = "<td></td>" * (len(heads) - 1)
            body.append(f'<tr class="silent"><th scope=row>{board.SILENT}</th>{rest}</tr>')
        facts = "".join(f"<td>{escape(fact)}</td>" for fact in board.facts(row))
        scores = "".join(_box(row, column) for column in known)
        worst = f"{100 * row['worst_peak']:.1f}"
        worst = f"<td>{worst}</td>" if silent else f"<td><b>{worst}</b></td>"
        link = f'<a href="#row-{numbers[id(row)]}">{escape(row["name"])}</a>'
        body.append(f"<tr><th scope=row>{link}</th>{worst}{scores}{facts}</tr>")
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="leaderboard">'
        f'<table class="board"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _box(row: Row, column: board.Column) -> str:
    cell = board.cells(row).get(column)
    if cell is None:
        return "<td></td>"
    share = min(1.0, max(0.0, cell["learnability_peak"] or 0.0))
    paper = board.published(row, column)
    beside = f" <small>paper {escape(paper)}</small>" if paper else ""
    return f'<td class="heat" style="--share:{share:.3f}">{escape(board.score(cell["protected"]))}{beside}</td>'


def _curves(rows: Sequence[Row]) -> str:
    """All rows' accuracy by epoch under plain training, for each target."""
    targets = dict.fromkeys(target for target, against in board.columns(rows) if against == "none")
    return "".join(_figure(rows, target, several=len(targets) > 1) for target in targets)


def _figure(rows: Sequence[Row], target: str, *, several: bool) -> str:
    column = (target, "none")
    lines = []
    shown = [row for row in rows if board.cells(row).get(column, {}).get("protected", {}).get("curve")]
    for number, row in enumerate(shown[:DRAWN]):
        lines.append(curves.by_epoch(row["name"], board.cells(row)[column]["protected"]["curve"], curves.hue(number)))
    if not lines:
        return ""
    clean = board.clean(rows, column) or {}
    lines.append(curves.by_epoch("clean", clean["curve"], "clean reference"))
    ends = ", ".join(f"{line.name} {100 * line.points[-1][1]:.1f}" for line in lines)
    words = f"Test accuracy by epoch, plain training{f', {target}' if several else ''}"
    left = f"; of {len(shown)} rows the first {DRAWN} are drawn" if len(shown) > DRAWN else ""
    note = f"{words}: the protected side of each row, and the clean side. Mean over seeds{left}; dotted is chance."
    ticks = curves.epochs(max(len(line.points) for line in lines))
    return _both(
        lines, said=f"{words}; it ends at, in percent: {ends}", ticks=ticks, chance=rows[0]["chance"], note=note
    )


def _both(
    lines: Sequence[curves.Line],
    *,
    said: str,
    ticks: Mapping[float, str],
    note: str,
    across: str = "epoch",
    chance: float | None = None,
) -> str:
    """A picture with names at the lines for a desk, and one with a key below for a phone."""
    sizes = {"desk": (WIDE, curves.room_for(len(lines), 340)), "phone": (NARROW, 280)}
    drawn = "".join(
        f'<div class="{place}">'
        + curves.plot(lines, said=said, ticks=ticks, across=across, chance=chance, size=size, named=place == "desk")
        + "</div>"
        for place, size in sizes.items()
    )
    key = "".join(f'<span><i class="{line.look}"></i> {escape(line.name)}</span>' for line in lines)
    dotted = '<span><i class="chance"></i> chance</span>' if chance is not None else ""
    return (
        f'<figure class="main"><figcaption>{escape(note)}</figcaption>{drawn}'
        f'<p class="key phone">{key}{dotted}</p></figure>'
    )


def _sweep(key: tuple[str, str, str], rows: Sequence[Row]) -> str:
    """What a row comes to over the values of a scenario: the best epoch under each countermeasure, and clean."""
    photos, recipe, what = key
    places = _places([row["varies"]["value"] for row in rows])
    known = board.columns(rows)
    several = len({target for target, _ in known}) > 1
    lines = []
    for number, column in enumerate(known[:DRAWN]):
        points = [
            (place, fmean(found[column]["protected"]["peak"]))
            for place, row in zip(places, rows, strict=True)
            if column in (found := board.cells(row))
        ]
        lines.append(curves.Line(board.title(column, several=several), points, curves.hue(number), dotted=True))
    plain = known[0]
    for word, look in (("clean", "clean reference"), ("chance", "chance")):
        points = [
            (place, fmean(board.cells(row)[plain]["clean"]["peak"]) if word == "clean" else row["chance"])
            for place, row in zip(places, rows, strict=True)
            if plain in board.cells(row)
        ]
        name = f"clean, {board.title(plain, several=several)}" if word == "clean" else word
        lines.append(curves.Line(name, points, look))
    ticks = dict(zip(places, (row["varies"]["value"] for row in rows), strict=True))
    about = f"{recipe} by {what}" + (f" ({photos})" if photos else "")
    ends = "; ".join(f"{row['varies']['value']}: worst {100 * row['worst_peak']:.1f} percent" for row in rows)
    note = "Best epoch, mean over seeds: the protected side under each countermeasure, and the clean side."
    picture = _both(lines, said=f"{about}: {ends}", ticks=ticks, across=what, note=note)
    return f"<section>\n<h2>{escape(about)}</h2>\n{picture}\n</section>"


def _places(values: Sequence[str]) -> list[float]:
    """Where the values of a sweep stand: at themselves where they are numbers far enough apart, else in turn."""
    in_turn = [float(number) for number in range(len(values))]
    try:
        found = [float(value.removesuffix("%")) for value in values]
    except ValueError:
        return in_turn
    least = CLOSE * (max(found) - min(found))
    return found if all(after - before > least for before, after in pairwise(found)) else in_turn


def _rows(rows: Sequence[Row], numbers: Mapping[int, int]) -> str:
    made = "\n".join(_row(row, board.full_name(row, rows), numbers[id(row)]) for row in rows)
    return f'<section>\n<h2>Row by row</h2>\n<p class="note">A click opens a row.</p>\n{made}\n</section>'


def _row(row: Row, name: str, number: int) -> str:
    """What a row was made with, its cells, curves and doubts. The anchor lies inside: a link to it opens the row."""
    worst = f"worst {100 * row['worst_peak']:.1f}"
    summary = f"<summary><b>{escape(name)}</b> {board.SILENT if board.is_silent(row) else worst}</summary>"
    doubts = "".join(f"<li>{escape(as_flags(text))}</li>" for text in row["warnings"])
    body = [
        _made_with(row),
        _cells(row),
        _plots(row),
        f'<div class="doubts inner"><b>Doubts</b><ul>{doubts}</ul></div>' if doubts else "",
    ]
    return f'<details class="row">{summary}<div id="row-{number}">{"".join(body)}</div></details>'


def _made_with(row: Row) -> str:
    facts = {
        "method": row.get("method", ""),
        **{key: str(value) for key, value in (row.get("made_with") or {}).items()},
        **dict(zip(board.FACTS, board.facts(row), strict=True)),
        "most 8-bit levels": "" if row.get("levels") is None else f"{row['levels']:g}",
        "scenario": row.get("scenario", ""),
        "test images": row.get("test_source", ""),
    }
    items = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items() if value
    )
    return f'<dl class="facts">{items}</dl>'


def _mean(values: Sequence[float | None] | None) -> str:
    known = [value for value in values or () if value is not None]
    return f"{100 * fmean(known):.1f}" if known else ""


def _cells(row: Row) -> str:
    heads = ["target", "against", "clean", "protected", "best", "early stop", "train", "learnable", "paper"]
    if not row.get("published"):
        heads.remove("paper")
    lines = []
    for cell in sorted(row["cells"], key=_worst_first):
        column = (cell["target"], cell["against"])
        protected = cell["protected"]
        figures = [
            *(_last(cell[side]) for side in ("clean", "protected")),
            *(_mean(protected.get(key)) for key in ("peak", "early_stop", "train_accuracy")),
            _learnt(cell),
            *([board.published(row, column)] if row.get("published") else []),
        ]
        names = (cell["target"], board.title(column, several=False))
        shown = "".join(f"<th scope=row>{escape(name)}</th>" for name in names)
        lines.append(f"<tr>{shown}{''.join(f'<td>{escape(figure)}</td>' for figure in figures)}</tr>")
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in heads)
    note = (
        "Last epoch, percent ± half of the 95 % interval; best epoch, early stop and train (training images) are of "
        "the protected side. Learnable: last / best, 0 is chance, 1 what the clean images give."
    )
    return (
        f'<p class="note">{note}</p><div class="wide" tabindex="0" role="region" aria-label="cells of the row">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _last(side: Mapping[str, Any]) -> str:
    half = side.get("interval")
    return f"{100 * fmean(side['last']):.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def _worst_first(cell: Mapping[str, Any]) -> tuple[bool, float]:
    return cell["learnability_peak"] is None, -(cell["learnability_peak"] or 0.0)


def _learnt(cell: Mapping[str, Any]) -> str:
    """Learnability with what it is worth."""
    if not board.tells(cell) or cell["learnability_peak"] is None:
        return board.SILENT
    last = "?" if cell["learnability_last"] is None else f"{cell['learnability_last']:.2f}"
    between = cell.get("learnability_interval_peak")
    span = f" ({between[0]:.2f} to {between[1]:.2f})" if between else ""
    alike = ", not told from clean" if cell.get("verdict") == "alike" else ""
    return f"{last} / {cell['learnability_peak']:.2f}{span}{alike}"


def _plots(row: Row) -> str:
    cells = [cell for cell in sorted(row["cells"], key=_worst_first) if cell["protected"].get("curves")]
    if not cells:
        return ""
    several = len({cell["target"] for cell in cells}) > 1
    plots = "".join(_plot(row, cell, several=several) for cell in cells[:PLOTS])
    names = "".join(f'<span><i class="{look}"></i> {look}</span>' for look in ("clean", "protected", "chance"))
    left = f", the worst {PLOTS} of {len(cells)} cells" if len(cells) > PLOTS else ""
    return f'<p class="note">Test accuracy by epoch, one line a seed{left}.</p><p class="key">{names}</p>' + (
        f'<div class="plots">{plots}</div>'
    )


def _plot(row: Row, cell: Mapping[str, Any], *, several: bool) -> str:
    name = board.title((cell["target"], cell["against"]), several=several)
    lines = [curves.by_epoch("", curve, side) for side in ("clean", "protected") for curve in cell[side]["curves"]]
    said = (
        f"{row['name']}, {name}: clean ends at {_mean(cell['clean']['last'])} percent, "
        f"protected at {_mean(cell['protected']['last'])} percent"
    )
    ticks = curves.epochs(max(len(line.points) for line in lines))
    picture = curves.plot(lines, said=said, ticks=ticks, chance=row["chance"])
    return f"<figure>{picture}<figcaption>{escape(name)}</figcaption></figure>"


def _doubts(rows: Sequence[Row]) -> str:
    items = "".join(
        f'<li>{escape(doubt.text)} <span class="seen">({escape(doubt.seen(rows))})</span></li>'
        for doubt in board.doubts(rows)
    )
    return f'<section class="doubts" id="doubts" role="note"><h2>Doubts</h2><ul>{items}</ul></section>' if items else ""
