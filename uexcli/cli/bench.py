"""`uex bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid
from uexcli.cli.screen import Screen, command

if TYPE_CHECKING:
    from uexcli.commands.bench.command import Result, Row


@command
def bench(
    recipes: Annotated[
        Path, typer.Argument(metavar="RECIPES.toml", help="Sets of photos, countermeasures, and methods.")
    ],
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
        paths = ", ".join(map(str, result.tables))
        screen.result("uex.bench/1", result, *tables(result), f"Written: {paths}.")


def tables(result: Result) -> list[Grid]:
    """A table for each set of photos, or what else does not compare."""
    known = result.boards
    return [table(rows, name if len(known) > 1 else "") for name, rows in known.items()]


def table(rows: Sequence[Row], name: str = "") -> Grid:
    """Methods down, countermeasures across, the method that holds best first, those that cannot be ranked last."""
    from uexcli.commands.bench.command import columns

    known = columns(rows)
    several = len({target for target, _ in known}) > 1
    title = "Protected side, best epoch, percent"
    shown = Grid(title=f"{name}: {title[0].lower()}{title[1:]}" if name else title, lines="head")
    shown.column("method")
    shown.column("worst", justify="right", style="bold")
    for target, against in known:
        head = "plain" if against == "none" else against
        shown.column(f"{target}, {head}" if several else head, justify="right")
    for side in ("clean", "protected"):
        for row in rows[: 1 if side == "clean" else None]:
            cells = {(cell.target, cell.against): getattr(cell, side) for cell in row.evaluation.cells}
            scores = [f"{100 * cells[column].mean('peak'):.1f}" if column in cells else "" for column in known]
            worst = "" if side == "clean" else "cannot be told" if row.silent else f"{100 * row.worst:.1f}"
            shown.row("(clean)" if side == "clean" else row.name, worst, *scores, ends=side == "clean")
    return shown
