"""`uex eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.evaluate_table import WHY, document, table, words
from uexcli.cli.grid import Grid
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit, UexError, UsageError
from uexcli.wording import plainly

if TYPE_CHECKING:
    pass


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
            help="Model to train; may be repeated.  \\[default: airbench; for photos a pretrained net as well]",
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
        typer.Option(
            metavar="PHOTOS",
            help="Mix the protected images into this dataset, whose own images stay clean.",
            show_default=False,
        ),
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
