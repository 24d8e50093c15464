"""The table of an evaluation, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uexcli.cli.grid import Grid
from uexcli.wording import plainly

if TYPE_CHECKING:
    from uexcli.commands.evaluate.cell import Cell, Side
    from uexcli.commands.evaluate.result import Result

WHY = {
    "unclear": "the clean images are learnt no better than chance for sure",
    "unfit": "the target does not fit the protected images it was trained on, or broke down",
}


def document(result: Result) -> dict[str, object]:
    """The JSON: every run of every cell, and the verdict of the gate."""
    from uexcli.cli.screen import plain
    from uexcli.commands.evaluate.report import without_images

    fields: dict[str, object] = plain(without_images(result))
    gate = {"passed": result.passed, "undecided": result.undecided}
    return {**fields, "worst_learnability_peak": result.worst, "most_learnability_peak": result.most, **gate}


def table(result: Result) -> Grid:
    """One row a cell, the worst first."""
    runs = "1 seed" if result.seeds == 1 else f"mean of {result.seeds} seeds"
    title = f"Accuracy on clean test images in percent, {runs} ± half of the 95 % interval"
    shown = Grid(title=title, lines="head")
    several = len(result.targets) > 1
    scenarios = any(cell.at for cell in result.cells)
    if several:
        shown.column("target")
    shown.column("against")
    if scenarios:
        shown.column("scenario")
    part = any(cell.clean_part for cell in result.cells)
    names = ["clean", "protected", *(["clean part"] if part else []), "peak", "train"]
    for column in names:
        shown.column(column, justify="right", wrap=False)
    shown.column("learnable", justify="right", style="bold", wrap=False)
    for cell in result.cells:
        sides = [_last(cell, "clean", cell.clean), _last(cell, "protected", cell.protected)]
        if part:
            sides.append(_last(cell, "clean part", cell.clean_part))
        shown.row(
            *([cell.target] if several else []),
            ["plain" if cell.against == "none" else cell.against, *(["informed"] if cell.informed else [])],
            *([cell.at] if scenarios else []),
            *sides,
            f"{100 * cell.protected.mean('peak'):.1f}",
            f"{100 * cell.protected.mean('train_accuracy'):.1f}",
            _learnt(cell),
        )
    return shown


def _against(cell: Cell) -> str:
    return ("plain" if cell.against == "none" else cell.against) + (" (informed)" if cell.informed else "")


def _last(cell: Cell, name: str, side: Side | None) -> str:
    if side is None:
        return ""
    return f"{100 * side.mean('last'):.1f} ±{100 * cell.intervals[name]:.1f}"


def _learnt(cell: Cell) -> list[str]:
    """Learnability at the last epoch and at the best one, and below it the interval of the second."""
    if not cell.tells:
        return ["cannot", "be told"]
    last = "?" if cell.learnability_last is None else f"{cell.learnability_last:.2f}"
    low, high = cell.learnability_interval_peak or (0.0, 0.0)
    return [f"{last}/{cell.learnability_peak:.2f}", f"{low:.2f} to {high:.2f}"]


def words(result: Result) -> list[str]:
    """What the table means, the worst of all, what simple nets find, groups and faces, and the gate."""
    chances = dict.fromkeys(f"{chance:.1%}" for chance in sorted(cell.chance for cell in result.cells))
    lines = [
        *_worst(result),
        f"Chance is {' or '.join(chances)}. Learnable, at the last epoch/at the best, and the 95 % interval of the "
        "second: 1.00 as the clean images, 0.00 nothing above chance. Peak and train (training images) are of the "
        "protected side. It holds for these targets and countermeasures only.",
    ]
    if result.scenario:
        lines.append(f"Scenario: {result.scenario}.")
    lines += _silent(result)
    lines += _groups(result)
    lines += _faces(result)
    lines += _detected(result)
    if result.max_learnability is not None:
        verdict = "not decided" if result.undecided else "passed" if result.passed else "FAILED"
        most = "" if result.most is None else f"peak learnability is at most {result.most:.2f} (95 %), "
        lines.append(f"Gate {verdict}: {most}allowed {result.max_learnability:.2f}.")
    return lines


def _worst(result: Result) -> list[str]:
    """What the worst cell says: of what a blind attacker tries, and of all that an informed one does."""
    lines = []
    kinds = (False, True) if result.attacker == "informed" else (False,)
    for informed in kinds:
        who = "" if len(kinds) == 1 else " of an informed attacker" if informed else " of a blind attacker"
        worst = next((cell for cell in result.cells if cell.tells and (informed or not cell.informed)), None)
        if worst is None:
            lines.append(f"Worst{who}: nothing can be told.")
            continue
        share, *between = (
            min(1.0, max(0.0, value))
            for value in (worst.learnability_peak or 0.0, *(worst.learnability_interval_peak or ()))
        )
        sure = f" (95 %: {between[0]:.0%} to {between[1]:.0%})" if between else ""
        lines.append(
            f"Worst{who}: {worst.target} under {plainly(worst.against)}{worst.at and ', '}{worst.at} still learns "
            f"{share:.0%}{sure} of what the clean images teach: {100 * worst.protected.mean('peak'):.1f} of "
            f"{100 * worst.clean.mean('peak'):.1f} percent right."
        )
    return lines


def _silent(result: Result) -> list[str]:
    """Which figures are worth nothing, and how the others are meant."""
    lines = []
    for cell in result.cells:
        where = f"{_against(cell)}, {cell.target}{cell.at and ', '}{cell.at}"
        if cell.verdict == "alike":
            low = max(0.0, (cell.learnability_interval_peak or (1.0, 1.0))[0])
            some = "all" if low >= 1 else f"between {low:.0%} of it and all"
            lines.append(f"{where}: not told apart from clean training, so {some} may still be learnt.")
        elif not cell.tells:
            lines.append(f"{where}: nothing can be told, as {WHY[cell.verdict]}.")
    return lines


def _groups(result: Result) -> list[str]:
    lines = []
    for cell in result.cells:
        for group, sides in cell.groups.items():
            shown = ", ".join(f"{name} {value:.1%}" for name, value in sides.items())
            lines.append(f"{_against(cell)}, {cell.target}, test images of {group}: {shown}.")
        runs = cell.protected.runs
        parts = {name: sum(run.parts[name] for run in runs) / len(runs) for name in runs[0].parts}
        if parts:
            shown = ", ".join(f"{value:.1%} of the {name} ones" for name, value in parts.items())
            lines.append(f"{_against(cell)}, {cell.target}, own training images right: {shown}.")
    return lines


def _faces(result: Result) -> list[str]:
    lines = []
    for cell in result.cells:
        if cell.clean.has("auc") and cell.protected.has("auc"):
            frozen = cell.clean.mean("frozen_auc") if cell.clean.has("frozen_auc") else None
            control = "" if frozen is None else f", before training {frozen:.4f}"
            lines.append(
                f"{_against(cell)}, {cell.target}, AUC of pairs: clean {cell.clean.mean('auc'):.4f}, "
                f"protected {cell.protected.mean('auc'):.4f}{control}."
            )
    return lines


def _detected(result: Result) -> list[str]:
    """Whether simple nets see that the set is no ordinary one."""
    lines = []
    for name, probes in result.detect.items():
        said = "; ".join(f"{probe.net} {probe.held_out:.1%} and {probe.clean:.1%}" for probe in probes)
        verdict = "flagged as noise" if any(probe.flagged for probe in probes) else "not flagged"
        lines.append(
            f"Detection, accuracy of simple nets on the rest of the {name} set and on clean images: {said}: {verdict}."
        )
    return lines
