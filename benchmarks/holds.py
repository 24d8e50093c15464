"""docs/holds.md: what holds against what, from the leaderboards in results/; `make docs` writes it.

Run: `python -m benchmarks.holds`.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "holds.md"
OURS = ("band", "shield", "shift")  # and what is named after them
KINDS = ("battery", "rows", "photos")  # of leaderboards
ORDER = ("size", "train_images", "seeds")  # in which they come
USUAL = "airbench:width=16"  # the net whose name the titles leave out
LIKENESS = (("psnr", ".1f"), ("ssim", ".3f"))  # of released photos, and how it is shown
FROM_WEIGHTS = ("probe", "finetune", "onnx")  # targets that knew something before
HEAD = """# What holds

Generated from the leaderboards in `benchmarks/results`; do not edit. Every number is the accuracy in percent, on clean
test images, of a net that was trained on protected ones: after the last epoch, and in brackets at its best one. Lower
protects better. **Bold**: as good as clean images, or not told apart from them. "?": cannot be told, as the net does
not even fit the protected images, or learns nothing from clean ones either. *Worst* is the best epoch under whatever
gives an attacker most; the method that holds best by it comes first. *Noticed*: simple nets tell that the images carry
noise, as `uex eval` says under "Detection". Methods and treatments that are not here were not measured this way.

A table is about these images, these nets and these treatments on that day, and about nothing else: [what breaks
it](what-breaks-it.md) says what is not promised, and `uex bench` makes such a table of your own photos.
"""


@dataclass(frozen=True)
class Board:
    """A leaderboard and the words above it."""

    path: Path
    title: str
    rows: Sequence[Mapping[str, Any]]

    def cell(self, row: Mapping[str, Any], column: tuple[str, str]) -> Mapping[str, Any] | None:
        """Give the cell of a target under a countermeasure."""
        return next((cell for cell in row["cells"] if (cell["target"], cell["against"]) == column), None)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Targets and countermeasures: pretrained nets, plain training, then where the best clean net is."""
        found = {(cell["target"], cell["against"]): cell for row in self.rows for cell in row["cells"]}
        return sorted(found, key=lambda key: (not _weights(key[0]), key[1] != "none", -_mean(found[key]["clean"])))


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


def page() -> str:
    """Give the text of the page."""
    parts = [HEAD]
    for board in boards():
        parts += [f"## {board.title}\n", _setting(board), _worst(board), _table(board)]
    found = [json.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("results/pretrained-*.json"))]
    for data, side in dict.fromkeys((each["data"], each["side"]) for each in found):
        mine = [each for each in found if (each["data"], each["side"]) == (data, side)]
        parts.append(_pretrained(f"{data}{f' at {side} px' if side else ''}", mine))
    return "\n".join(parts)


def boards() -> list[Board]:
    """Read the leaderboards of batteries, the fewest images first."""
    found = []
    for path in (path for kind in KINDS for path in ROOT.glob(f"results/judge-{kind}-*.json")):
        board = json.loads(path.read_text("utf-8"))
        rows = board["rows"]
        found.append(Board(path, _title(rows[0], board["title"]), sorted(rows, key=_scratch_worst)))
    return sorted(found, key=lambda board: (*(board.rows[0][key] for key in ORDER), board.path.name))


def _title(row: Mapping[str, Any], title: str) -> str:
    data = title.removeprefix("Protection of ").partition(":")[0]
    several = f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
    targets = {cell["target"] for cell in row["cells"] if not _weights(cell["target"])} - {USUAL}
    learnt_by = "".join(f", learnt by `{target}`" for target in sorted(targets))
    return f"{data}: {row['train_images']:,} images at {row['size']} px{several}{learnt_by}"


def _setting(board: Board) -> str:
    first = board.rows[0]
    seeds, versions = first["seeds"], first["versions"]
    counts = f"{first['train_images']:,} training and {first['test_images']:,} test images"
    epochs = max(len(cell["clean"]["curve"]) for cell in first["cells"] if not _weights(cell["target"]))
    return (
        f"{counts}, {epochs} epochs, chance {100 * first['chance']:.1f}, "
        f"{seeds} seed{'s' if seeds > 1 else ''} of the training, {_bounds(board)}; "
        f"torch {versions['torch'].partition('+')[0]}, {first['device']}.\n"
    )


def _bounds(board: Board) -> str:
    return " or ".join(sorted({row["bound"] for row in board.rows if row["bound"]}))


def _worst(board: Board) -> str:
    """Say for each method what gives an attacker most, from scratch and from pretrained weights."""
    kinds = ("worst, from scratch", "and without adversarial training", "worst, from pretrained weights")
    lines = [
        f"| method | PSNR, dB | noticed | plain training | {' | '.join(kinds)} |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in board.rows:
        plain = next(cell for cell in row["cells"] if cell["against"] == "none" and not _weights(cell["target"]))
        worst = (_best(row), _best(row, adversarial=False), _best(row, weights=True))
        seen = "" if row["psnr"] is None else f"{row['psnr']:.1f}", "yes" if row["detected"] else "no"
        parts = [*seen, _shown(plain), *(_words(cell) for cell in worst)]
        lines.append(f"| {_name(row['name'])} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def _table(board: Board) -> str:
    names = [_name(row["name"]) for row in board.rows]
    lines = [f"| net, against | clean | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for column in board.columns:
        cells = [board.cell(row, column) for row in board.rows]
        clean = next(cell for cell in cells if cell is not None)["clean"]
        shown = ["" if cell is None else _shown(cell) for cell in cells]
        lines.append(f"| {_column(column)} | {_pair(clean)} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _pretrained(title: str, found: Sequence[Mapping[str, Any]]) -> str:
    """Tell what nets that knew the world before learn: those that a fit saw, and those that none did."""
    columns = [(each, eps) for each in found for eps in dict.fromkeys(row["eps"] for row in each["rows"])]
    heads = [f"{_name(each['method'])} {eps}" for each, eps in columns]
    seen = {target for each in found for target in each["seen"]}
    lines = [f"## {title}, learnt by pretrained nets\n"]
    lines.append(f"Last epoch, mean over the seeds of the fit, least and most in brackets; {found[0]['machine']}.\n")
    lines += [f"| net, against | clean | {' | '.join(heads)} |", f"|---|---|{'---|' * len(columns)}"]
    clean: dict[tuple[str, str], float] = {}
    for cell in (cell for each in found for row in each["rows"] for cell in row["cells"]):
        clean.setdefault((cell["target"], cell["against"]), cell["clean"])
    for key in sorted(clean, key=lambda key: (key[0] not in seen, key[0])):
        shown = [_spread([row for row in each["rows"] if row["eps"] == eps], key) for each, eps in columns]
        kind = "the fit saw it" if key[0] in seen else "never seen"
        lines.append(f"| {_column(key)} ({kind}) | {100 * clean[key]:.1f} | {' | '.join(shown)} |")
    costs = [_costs([row for row in each["rows"] if row["eps"] == eps]) for each, eps in columns]
    if any("renamed" in cell for each in found for row in each["rows"] for cell in row["cells"]):
        worst = [_renamed([row for row in each["rows"] if row["eps"] == eps], seen) for each, eps in columns]
        lines.append(f"| highest once classes are renamed: nets that the fit saw, and others | | {' | '.join(worst)} |")
    lines.append(f"| seconds of the fit; PSNR in dB, SSIM | | {' | '.join(costs)} |")
    return "\n".join(lines) + "\n"


def _spread(rows: Sequence[Mapping[str, Any]], key: tuple[str, str]) -> str:
    cells = [cell for row in rows for cell in row["cells"] if (cell["target"], cell["against"]) == key]
    values = [100 * cell["protected"] for cell in cells]
    if not values:
        return ""
    return f"{fmean(values):.1f}" + (f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else "")


def _renamed(rows: Sequence[Mapping[str, Any]], seen: Container[str]) -> str:
    """Give the most that is read by who can rename the classes, by nets that a fit saw and by those it did not."""
    cells = [cell for row in rows for cell in row["cells"] if "renamed" in cell]
    sides = [[100 * cell["renamed"] for cell in cells if (cell["target"] in seen) == known] for known in (True, False)]
    return ", ".join(f"{max(side):.1f}" for side in sides if side)


def _costs(rows: Sequence[Mapping[str, Any]]) -> str:
    took = [row["seconds"] for row in rows if row["seconds"] is not None]  # None: the fit was stopped in between
    alike = "".join(f", {fmean(row[name] for row in rows):{shown}}" for name, shown in LIKENESS if name in rows[0])
    return (f"{fmean(took):.0f}" if took else "not taken") + ";" + alike.removeprefix(",")


def _best(row: Mapping[str, Any], *, weights: bool = False, adversarial: bool = True) -> Mapping[str, Any] | None:
    """Give the cell that an attacker would choose, with pretrained weights or without."""
    mine = [cell for cell in row["cells"] if _weights(cell["target"]) == weights and cell["verdict"] != "unfit"]
    mine = [cell for cell in mine if adversarial or not cell["against"].startswith("adversarial")]
    return max(mine, key=lambda cell: _mean(cell["protected"], "peak"), default=None)


def _scratch_worst(row: Mapping[str, Any]) -> float:
    found = _best(row)
    return 1.0 if found is None else _mean(found["protected"], "peak")


def _words(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    which = cell["target"] if _weights(cell["target"]) else cell["against"].replace("none", "plain training")
    return f"{_shown(cell)} of {100 * _mean(cell['clean']):.1f}, {which}"


def _shown(cell: Mapping[str, Any]) -> str:
    pair = _pair(cell["protected"])
    if cell["verdict"] in ("unclear", "unfit"):
        return f"{pair} ?"
    return f"**{pair}**" if cell["verdict"] == "alike" else pair


def _pair(side: Mapping[str, Any]) -> str:
    return f"{100 * _mean(side):.1f} ({100 * _mean(side, 'peak'):.1f})"


def _mean(side: Mapping[str, Any], which: str = "last") -> float:
    return fmean(side[which])


def _weights(target: str) -> bool:
    return target.startswith(FROM_WEIGHTS)


def _column(column: tuple[str, str]) -> str:
    target, against = column
    if _weights(target):
        return f"`{target}`" + ("" if against == "none" else f", `{against}`")
    return "plain training" if against == "none" else f"`{against}`"


def _name(name: str) -> str:
    return f"**`{name}`**" if name.startswith(OURS) else f"`{name}`"


if __name__ == "__main__":
    main()
