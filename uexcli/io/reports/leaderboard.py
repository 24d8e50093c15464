"""One table of methods against countermeasures, as Markdown, JSON and HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from uexcli.io import atomic
from uexcli.io.reports import board
from uexcli.io.reports.board import Row
from uexcli.io.reports.board_page import html
from uexcli.wording import visible

__all__ = ["NAME", "SCHEMA", "html", "markdown", "write"]
SCHEMA = "uex.bench/1"
NAME = "leaderboard"


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


def markdown(title: str, rows: Sequence[Row]) -> str:
    """The tables as Markdown, one for all rows that compare."""
    lines = [f"# {_said(title)}"]
    known = board.boards(rows)
    for name, members in known.items():
        if len(known) > 1:
            lines += ["", f"## {_said(name or 'All classes')}"]
        lines += ["", f"{_said(board.about(members))} {_said(board.reading(members))}", "", *_table(members)]
    found = board.doubts(rows)
    if found:
        lines += ["", "## Doubts", ""]
        lines += [f"- {_said(doubt.text)} ({_said(doubt.seen(rows))})" for doubt in found]
    return "\n".join([*lines, ""])


def _table(rows: Sequence[Row]) -> list[str]:
    known = board.columns(rows)
    heads = board.heads(known)
    clean = [board.score(side) if (side := board.clean(rows, column)) else "" for column in known]
    facts = [""] * len(board.FACTS)
    lines = [_line(heads), _line(["---"] * len(heads)), _line(["(clean)", "", *clean, *facts])]
    silent = False
    for row in rows:
        if board.is_silent(row) and not silent:
            silent = True
            lines.append(_line([f"({board.SILENT})", *[""] * (len(heads) - 1)]))
        cells = board.cells(row)
        scores = [_score(row, column) if column in cells else "" for column in known]
        lines.append(_line([row["name"], f"{100 * row['worst_peak']:.1f}", *scores, *board.facts(row)]))
    return lines


def _score(row: Row, column: board.Column) -> str:
    paper = board.published(row, column)
    return board.score(board.cells(row)[column]["protected"]) + (f" (paper {paper})" if paper else "")


def _line(values: Sequence[str]) -> str:
    return "| " + " | ".join(map(_said, values)) + " |"


def _said(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*|<>\[\]])", r"\\\1", visible(text))
