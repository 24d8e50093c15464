"""`uex eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit, UexError, UsageError
from uexcli.wording import plainly

if TYPE_CHECKING:
    from uexcli.commands.evaluate.result import Cell, Result, Side

WHY = {
    "unclear": "the clean images are learnt no better than chance for sure",
    "unfit": "the target does not fit the protected images it was trained on, or broke down",
}


@command
def _print_protocol(name: str | None) -> None:
    """Print a protocol and end."""
    if name is None:
        return
    from uexcli.commands.evaluate.protocol import text

    typer.echo(text(name), nl=False)
    raise typer.Exit


def _protocols(incomplete: str) -> list[str]:
    from uexcli.commands.evaluate.protocol import names

    return [name for name in names() if name.startswith(incomplete)]


@command
def evaluate(
    photos: opt.PhotosArg,
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="Folder of the protected images.")],
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Clean test images.  \\[default: a fifth of PHOTOS, or each in turn where they are few]",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml",
            help="Targets, countermeasures and seeds: quick, battery, huang2021, zhang2023, or a file.",
            autocompletion=_protocols,
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Who learns; repeatable.  \\[default: airbench, narrow on a CPU; for photos a pretrained net as well]",
            autocompletion=opt.names_of("target"),
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Also train under this countermeasure, such as jpeg:10, or jpeg:10+cutmix for both; repeatable.",
            autocompletion=opt.names_of("countermeasure"),
        ),
    ] = None,
    attacker: Annotated[
        str, typer.Option(help="blind; or informed: also under what undoes the method that the release names.")
    ] = "blind",
    seeds: Annotated[int | None, typer.Option(help="Trainings per side.  \\[default: 1]", show_default=False)] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs, the same for both.  \\[default: the target's]", show_default=False)
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Test each photo once, in K folds.  \\[default: 5 below 1,000 photos without --test]",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Weights of the pretrained nets.", show_default=False)
    ] = None,
    share: Annotated[
        str, typer.Option(metavar="S", help="Share of the images that is protected, or several, such as 0.2,0.5,1.")
    ] = "1",
    protect_class: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this class is protected: a name, a pattern, or 50% of them; repeatable."
        ),
    ] = None,
    merge: Annotated[
        str | None,
        typer.Option(
            metavar="K|FILE.csv",
            help="Relabel: K groups of classes, several such as 5,10, or the CSV's (header class,group).",
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="PHOTOS", help="Put the images into this set, whose own stay clean.", show_default=False),
    ] = None,
    into_test: Annotated[
        str | None, typer.Option(metavar="DIR", help="Test images of --into.", show_default=False)
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Pairs of faces (header a,b,same) that are verified too.", show_default=False
        ),
    ] = None,
    pairs_middle: Annotated[float, typer.Option(help="Share of the side of --pairs' photos that is shown.")] = 1.0,
    max_learnability: Annotated[
        float | None,
        typer.Option(
            help="Exit 1 if peak learnability may be above this, 0 to 1: the upper end of the worst interval.",
            show_default=False,
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            help="What the trainer sees: squash, crop (Resize and RandomCrop), resized-crop (RandomResizedCrop)."
            "  \\[default: squash]",
            show_default=False,
        ),
    ] = None,
    size: opt.Size = "auto",
    labels: opt.Labels = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a report that a browser shows.", show_default=False),
    ] = None,
    force: opt.Force = False,
    cells: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where trainings are kept.  \\[default: the user's cache]", show_default=False
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train anew what was trained before.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="i/n", help="Do one of n parts of the trainings; give all the same --cells."),
    ] = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    max_pixels: opt.MaxPixels = None,
    on_error: opt.OnError = "fail",
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    print_protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print a protocol, to copy and change, and end.",
            is_eager=True,
            callback=_print_protocol,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train on the clean and on the protected images alike, and compare on clean test images."""
    from uexcli.commands import evaluate as job
    from uexcli.commands.evaluate.result import Partial

    request = job.Request(
        photos=photos,
        release=release,
        test=test,
        protocol=protocol,
        targets=tuple(target or ()),
        against=tuple(against or ()),
        seeds=seeds,
        epochs=epochs,
        size=opt.parse_size(size),
        view=view,
        folds=folds,
        attacker=attacker,
        weights=weights or "auto",
        shares=_shares(share),
        protect_classes=tuple(protect_class or ()),
        merges=_merges(merge),
        into=into,
        into_test=into_test,
        pairs=pairs,
        pairs_middle=pairs_middle,
        labels=labels,
        device=device,
        precision=precision,
        on_error=on_error,
        max_pixels=max_pixels,
        max_learnability=max_learnability,
        cells=cells,
        fresh=fresh,
        shard=shard,
        report=report,
        force=force,
    )
    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(request, screen)
    if isinstance(result, Partial):
        text = (
            f"{result.done} of {result.of} trainings are done, in {result.folder}. "
            "When the other shards are, run this without --shard."
        )
        screen.result("uex.eval.partial/1", result, text)
        return
    shown: list[Grid | str] = [] if json else [table(result), *words(result)]
    screen.result("uex.eval/1", document(result), *shown)
    if result.undecided:
        silent = next(cell for cell in result.cells if not cell.tells)
        raise UexError(
            f"the gate cannot be decided: under {plainly(silent.against)}, target '{silent.target}', "
            f"nothing can be told ({WHY[silent.verdict]}).",
            hint="Train longer (--epochs), or on more images.",
        )
    if not result.passed:
        raise typer.Exit(Exit.FAILED)


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--share {text}: no number, nor several with commas.") from None


def _merges(text: str | None) -> tuple[str | None, ...]:
    if text is None or Path(text).is_file():  # a file whose name has a comma
        return (text,)
    return tuple(dict.fromkeys(text.split(",")))


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
