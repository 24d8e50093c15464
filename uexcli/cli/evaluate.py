"""`uex eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit

if TYPE_CHECKING:
    from rich.table import Table

    from uexcli.commands.evaluate import Result, Side


@command
def evaluate(
    photos: opt.PhotosArg,
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="Folder of the protected images.")],
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Clean test images.  [default: a fifth of PHOTOS is held out]", show_default=False
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(help="Who learns; auto: small on a CPU, else resnet18.", autocompletion=opt.names_of("target")),
    ] = "auto",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Also train on images after this countermeasure, such as jpeg:10; repeatable.",
            autocompletion=opt.names_of("countermeasure"),
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings per side.")] = 1,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs, the same for both.  [default: the target's]", show_default=False)
    ] = None,
    max_learnability: Annotated[
        float | None,
        typer.Option(help="Exit 1 if the worst mean peak learnability is above this, 0 to 1.", show_default=False),
    ] = None,
    view: Annotated[
        str,
        typer.Option(
            help="What the trainer sees: squash, crop (Resize and RandomCrop), resized-crop (RandomResizedCrop)."
        ),
    ] = "squash",
    size: opt.Size = "auto",
    labels: opt.Labels = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    on_error: opt.OnError = "fail",
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train on the clean and on the protected images alike, and compare on clean test images."""
    from uexcli.commands import evaluate as job

    request = job.Request(
        photos=photos,
        release=release,
        test=test,
        target=target,
        against=tuple(against or ()),
        seeds=seeds,
        epochs=epochs,
        size=opt.parse_size(size),
        labels=labels,
        device=device,
        precision=precision,
        on_error=on_error,
        max_learnability=max_learnability,
        view=view,
    )
    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(request, screen)
    screen.result("uex.eval/1", document(result), *(() if json else (table(result), words(result))))
    if not result.passed:
        raise typer.Exit(Exit.FAILED)


def document(result: Result) -> dict[str, object]:
    """The JSON: every run of every cell, and the verdict of the gate."""
    from uexcli.cli.screen import plain

    fields: dict[str, object] = plain(result)
    return {**fields, "worst_learnability_peak": result.worst, "passed": result.passed}


def table(result: Result) -> Table:
    """Three rows a countermeasure, the worst countermeasure first."""
    from rich.table import Table

    runs = "1 seed" if result.seeds == 1 else f"{result.seeds} seeds (mean ± sd)"
    title = f"Accuracy on clean test images: {result.target}, {result.epochs} epochs, {runs}"
    shown = Table(title=title, title_justify="left")
    shown.add_column("against")
    shown.add_column("")
    for column in ("clean", "protected"):
        shown.add_column(column, justify="right")
    shown.add_column("learnability", justify="right", style="bold")
    for cell in result.cells:
        rows = (("last", cell.learnability_last), ("peak", cell.learnability_peak), ("train_accuracy", None))
        for what, learnt in rows:
            shown.add_row(
                cell.against if what == "last" else "",
                "own training set" if what == "train_accuracy" else what,
                _accuracy(cell.clean, what),
                _accuracy(cell.protected, what),
                "" if learnt is None else f"{learnt:.2f}",
                end_section=what == "train_accuracy",
            )
    return shown


def _accuracy(side: Side, what: str) -> str:
    spread = f" ±{100 * side.spread(what):.1f}" if len(side.runs) > 1 else ""
    return f"{side.mean(what):.1%}{spread}"


def words(result: Result) -> str:
    """What the table means, and the gate."""
    lines = [
        f"Chance is {result.chance:.1%}. Learnability 1.00: as learnable as the clean images; 0.00: nothing above "
        "chance. It holds for this target and these countermeasures only."
    ]
    if result.max_learnability is not None:
        verdict = "passed" if result.passed else "FAILED"
        lines.append(
            f"Gate {verdict}: worst peak learnability {result.worst:.2f}, allowed {result.max_learnability:.2f}."
        )
    return "\n".join(lines)
