"""What a leaderboard says, whatever it is written as: which rows compare, its columns, figures and doubts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from statistics import fmean
from typing import Any

from uexcli.wording import as_flags

Row = Mapping[str, Any]
Column = tuple[str, str]  # target and countermeasure
FACTS = ("fit, s", "bound", "PSNR, dB", "verify", "detected")
ABOUT = re.compile(  # of a doubt
    r"under (?:plain training|'(?P<against>[^']*)'), target '(?P<target>[^']*)', (?P<rest>.*)", re.DOTALL
)
SHARE = re.compile(r"(\d+(?:\.\d+)?%)")
SILENT = "cannot be told"  # the rows whose clean baseline is not above chance for sure


def columns(rows: Sequence[Row]) -> list[Column]:
    """What is measured: plain training first, else by name."""
    found = dict.fromkeys((cell["target"], cell["against"]) for row in rows for cell in row["cells"])
    return sorted(found, key=lambda column: (column[1] != "none", column))


def boards(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows that compare, by what they are of: one set of photos, with the same classes and test images."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        parts = [text for text in (row.get("set", ""), row.get("question", "")) if text]
        found.setdefault(", ".join(parts), []).append(row)
    return found


def full_name(row: Row, rows: Sequence[Row]) -> str:
    """The name of a row among all, with the name of its board where there are several."""
    known = boards(rows)
    board = next(name for name, members in known.items() if any(member is row for member in members))
    return f"{row['name']} ({board})" if len(known) > 1 and board else str(row["name"])


def is_silent(row: Row) -> bool:
    """Whether nothing can be told of a row: of plain training, or of any."""
    plain = [cell for cell in row["cells"] if cell["against"] == "none"] or row["cells"]
    return not any(map(tells, plain)) or not any(map(tells, row["cells"]))


def tells(cell: Mapping[str, Any]) -> bool:
    """Whether the figures of a cell tell anything."""
    return bool(cell.get("tells", cell.get("verdict", "told") in {"told", "alike"}))


def title(column: Column, *, several: bool) -> str:
    """The head of a column; `several` targets are named."""
    against = "plain" if column[1] == "none" else column[1]
    return f"{column[0]}, {against}" if several else against


def heads(known: Sequence[Column]) -> list[str]:
    """The heads of all columns."""
    several = len({target for target, _ in known}) > 1
    return ["method", "worst", *(title(column, several=several) for column in known), *FACTS]


def cells(row: Row) -> dict[Column, Mapping[str, Any]]:
    """The cells of a row, by column."""
    return {(cell["target"], cell["against"]): cell for cell in row["cells"]}


def score(side: Mapping[str, Any]) -> str:
    """Accuracy in percent, last and best epoch, mean over seeds."""
    return f"{100 * fmean(side['last']):.1f} / {100 * fmean(side['peak']):.1f}"


def clean(rows: Sequence[Row], column: Column) -> Mapping[str, Any] | None:
    """The clean side, which is the same for all rows of a board."""
    return next((found[column]["clean"] for row in rows if column in (found := cells(row))), None)


def published(row: Row, column: Column) -> str:
    """What the paper says of a countermeasure, in percent; "" where nothing is given."""
    value = (row.get("published") or {}).get(column[1])
    return "" if value is None else f"{value:.1f}"


def facts(row: Row) -> list[str]:
    """The figures of `FACTS`."""
    seconds = "" if row["fit_seconds"] is None else f"{row['fit_seconds']:.0f}"
    psnr = "" if row["psnr"] is None else f"{row['psnr']:.1f}"
    checked = "not checked" if row["findings"] is None else f"{row['findings']} findings" if row["findings"] else "OK"
    return [seconds, row["bound"] or "", psnr, checked, "yes" if row["detected"] else "no"]


def about(rows: Sequence[Row]) -> str:
    """What the rows of a board were measured on."""
    first = rows[0]
    seeds = "1 seed" if first["seeds"] == 1 else f"{first['seeds']} seeds"
    source = f" ({first['test_source']})" if first.get("test_source") else ""
    return (
        f"{first['train_images']:,} training and {first['test_images']:,} clean test images{source} at "
        f"{first['size']} px, {seeds}, chance {first['chance']:.1%}, {first['device']}."
    )


def reading(rows: Sequence[Row]) -> str:
    """How the figures are meant."""
    papers = " Beside some stands what the paper says." if any(row.get("published") for row in rows) else ""
    return (
        "Accuracy in percent, last / best epoch, mean over seeds; lower protects better. Rows are ordered by the worst "
        f"best epoch of any column.{papers}"
    )


@dataclass
class Doubt:
    """A doubt, and where it was seen: the names of rows, each with the countermeasures it is about."""

    texts: list[str]
    rows: dict[str, list[str]]

    @property
    def text(self) -> str:
        """What it says; of shares that differ, from the least to the most."""
        parts = [SHARE.split(text) for text in self.texts]  # in turn what is said, and shares
        together = list(zip(*parts, strict=True))[1::2]
        shares = [sorted(set(found), key=lambda share: float(share[:-1])) for found in together]
        words = [found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}" for found in shares]
        return "".join(chain.from_iterable(zip_longest(parts[0][::2], words, fillvalue="")))

    def seen(self, rows: Sequence[Row]) -> str:
        """Where it was seen, in words."""
        if len(self.rows) == len(rows) > 1 and not any(self.rows.values()):
            return "seen in all rows"
        names = [name + (f" under {', '.join(found)}" if found else "") for name, found in self.rows.items()]
        return f"seen in: {('; ' if any(self.rows.values()) else ', ').join(names)}"


def doubts(rows: Sequence[Row]) -> list[Doubt]:
    """Each doubt once, with the rows it is of; alike are those that differ in shares and countermeasures alone."""
    found: dict[str, Doubt] = {}
    for row in rows:
        name = full_name(row, rows)
        for text in row["warnings"]:
            about = ABOUT.fullmatch(text)
            said = as_flags(about["rest"] if about else text)
            doubt = found.setdefault(SHARE.sub("%", said), Doubt([], {}))
            doubt.texts.append(said)
            places = doubt.rows.setdefault(name, [])
            if about and (place := _place(about["target"], about["against"] or "none", row)) not in places:
                places.append(place)
    return list(found.values())


def _place(target: str, against: str, row: Row) -> str:
    several = len({cell["target"] for cell in row["cells"]}) > 1
    return title((target, against), several=False) + (f" ({target})" if several else "")


def sweeps(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """The rows that differ in one value of a scenario, by set, recipe and key, in the order of the values."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.get("varies"):
            found.setdefault((row.get("set", ""), row["row"], row["varies"]["key"]), []).append(row)
    for members in found.values():
        members.sort(key=lambda row: row["varies"]["place"])
    return {key: members for key, members in found.items() if len(members) > 1}
