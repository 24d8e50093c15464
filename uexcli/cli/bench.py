"""`uex bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid
from uexcli.cli.screen import Screen, command

if TYPE_CHECKING:
    from uexcli.commands.bench import Result


@command
def bench(
    recipes: Annotated[Path, typer.Argument(metavar="RECIPES.toml", help="Photos, countermeasures, and methods.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to work; go on where it was stopped.")
    ] = Path("uex-bench"),
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Do one of n parts of the trainings, in the same folder.")
    ] = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    on_error: opt.OnError = "fail",
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Compare methods on your own photos: fit, apply, verify and evaluate each, and write one table."""
    from uexcli.commands import bench as job

    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(job.Request(recipes, output, device, precision, on_error, shard), screen)
    if json:
        screen.result("uex.bench/1", result)
    elif result.missing:
        text = f"{result.missing} trainings are left to other shards; when they are done, run this without --shard."
        screen.result("uex.bench/1", result, text)
    else:
        screen.result("uex.bench/1", result, table(result), f"Written: {', '.join(map(str, result.tables))}.")


def table(result: Result) -> Grid:
    """Methods down, countermeasures across, the method that holds best first."""
    known = result.columns
    several = len({target for target, _ in known}) > 1
    shown = Grid(title="Protected side, best epoch, percent", lines="head")
    shown.column("method")
    for target, against in known:
        name = "plain" if against == "none" else against
        shown.column(f"{target}, {name}" if several else name, justify="right")
    shown.column("worst", justify="right", style="bold")
    for side in ("clean", "protected"):
        for row in result.rows[: 1 if side == "clean" else None]:
            cells = {(cell.target, cell.against): getattr(cell, side) for cell in row.evaluation.cells}
            scores = [f"{100 * cells[column].mean('peak'):.1f}" if column in cells else "" for column in known]
            worst = "" if side == "clean" else f"{100 * row.worst:.1f}"
            shown.row("(clean)" if side == "clean" else row.name, *scores, worst, ends=side == "clean")
    return shown
