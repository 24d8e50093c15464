"""One table of methods against countermeasures, as Markdown, JSON and HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from uexcli.io import atomic
from uexcli.io.html import escape
from uexcli.io.report import shell
from uexcli.wording import visible

SCHEMA = "uex.bench/1"
NAME = "leaderboard"
Row = Mapping[str, Any]
Column = tuple[str, str]  # target and countermeasure


def write(folder: Path, title: str, rows: Sequence[Row]) -> tuple[Path, ...]:
    """Write the three files; rows in the order they are given in.

    Raises:
        WriteError: one cannot be written.
    """
    made = {
        "md": markdown(title, rows),
        "json": json.dumps({"schema": SCHEMA, "title": title, "rows": rows}, indent=2) + "\n",
        "html": html(title, rows),
    }
    paths = []
    for suffix, text in made.items():
        path = folder / f"{NAME}.{suffix}"
        atomic.write(path, text.encode("utf-8", "backslashreplace"))
        paths.append(path)
    return tuple(paths)


def columns(rows: Sequence[Row]) -> list[Column]:
    """What is measured, in the order of the first row that has it, plain training first."""
    found = dict.fromkeys((cell["target"], cell["against"]) for row in rows for cell in row["cells"])
    return sorted(found, key=lambda column: (column[1] != "none", column))


def _title(column: Column, several: bool) -> str:
    against = "plain" if column[1] == "none" else column[1]
    return f"{column[0]}, {against}" if several else against


def _cells(row: Row) -> dict[Column, Mapping[str, Any]]:
    return {(cell["target"], cell["against"]): cell for cell in row["cells"]}


def _score(side: Mapping[str, Any]) -> str:
    return f"{100 * fmean(side['last']):.1f} / {100 * fmean(side['peak']):.1f}"


def _about(rows: Sequence[Row]) -> str:
    first = rows[0]
    seeds = "1 seed" if first["seeds"] == 1 else f"{first['seeds']} seeds"
    return (
        f"{first['train_images']:,} training and {first['test_images']:,} clean test images at {first['size']} px, "
        f"{seeds}, chance {first['chance']:.1%}, {first['device']}. Accuracy in percent, last / best epoch, mean over "
        "seeds; lower protects better. Rows are ordered by the worst best epoch of any column."
    )


def _facts(row: Row) -> list[str]:
    seconds = "" if row["fit_seconds"] is None else f"{row['fit_seconds']:.0f}"
    psnr = "" if row["psnr"] is None else f"{row['psnr']:.1f}"
    checked = "not checked" if row["findings"] is None else f"{row['findings']} findings" if row["findings"] else "OK"
    return [seconds, row["bound"] or "", psnr, checked, "yes" if row["detected"] else "no"]


FACTS = ("fit, s", "bound", "PSNR, dB", "verify", "detected")


def markdown(title: str, rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    known = columns(rows)
    several = len({target for target, _ in known}) > 1
    heads = ["method", *FACTS, *(_title(column, several) for column in known), "worst"]
    lines = [f"# {_said(title)}", "", _about(rows), "", _line(heads), _line(["---"] * len(heads))]
    lines.append(_line(["(clean)", *[""] * len(FACTS), *(_clean(rows, column) for column in known), ""]))
    for row in rows:
        cells = _cells(row)
        scores = [_score(cells[column]["protected"]) if column in cells else "" for column in known]
        lines.append(_line([row["name"], *_facts(row), *scores, f"{100 * row['worst_peak']:.1f}"]))
    doubts = [f"- {_said(row['name'])}: {_said(text)}" for row in rows for text in row["warnings"]]
    return "\n".join([*lines, *(["", "## Doubts", "", *doubts] if doubts else []), ""])


def _line(values: Sequence[str]) -> str:
    return "| " + " | ".join(map(_said, values)) + " |"


def _said(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*|<>\[\]])", r"\\\1", visible(text))


def _clean(rows: Sequence[Row], column: Column) -> str:
    """The clean side is the same for all rows that were made of the same photos."""
    return next((_score(cells[column]["clean"]) for row in rows if column in (cells := _cells(row))), "")


def html(title: str, rows: Sequence[Row]) -> str:
    """The table as a page of its own: each accuracy has a bar, and the methods their doubts."""
    known = columns(rows)
    several = len({target for target, _ in known}) > 1
    heads = ["method", *FACTS, *(_title(column, several) for column in known), "worst"]
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in heads)
    clean = "".join(f"<td>{escape(_clean(rows, column))}</td>" for column in known)
    body = [f"<tr><th scope=row>(clean)</th>{'<td></td>' * len(FACTS)}{clean}<td></td></tr>"]
    for row in rows:
        cells = _cells(row)
        facts = "".join(f"<td>{escape(fact)}</td>" for fact in _facts(row))
        scores = "".join(_box(cells.get(column)) for column in known)
        worst = f"<td><b>{100 * row['worst_peak']:.1f}</b></td>"
        body.append(f"<tr><th scope=row>{escape(row['name'])}</th>{facts}{scores}{worst}</tr>")
    doubts = "".join(f"<li>{escape(row['name'])}: {escape(text)}</li>" for row in rows for text in row["warnings"])
    box = f'<section class="doubts" role="note"><h2>Doubts</h2><ul>{doubts}</ul></section>' if doubts else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return shell(
        title,
        f'<h1>{escape(title)}</h1>\n<p class="note">{escape(_about(rows))}</p>\n<section>'
        f'<div class="wide" tabindex="0" role="region" aria-label="leaderboard">{table}</div></section>\n{box}',
    )


def _box(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "<td></td>"
    share = min(1.0, max(0.0, cell["learnability_peak"] or 0.0))
    return f'<td class="heat" style="--share:{share:.3f}">{escape(_score(cell["protected"]))}</td>'
