"""`uex doctor`."""

from __future__ import annotations

from pathlib import Path

import typer

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid, Styled
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit


@command
def doctor(json: opt.Json = False) -> None:
    """Look at versions, devices, ONNX Runtime, plugins and disk space; exits 1 if something is broken."""
    from uexcli.commands import doctor as job

    with Screen(as_json=json) as screen:
        result = job.run(Path())
    if json:
        screen.result("uex.doctor/1", {"checks": result.checks, "machine": result.machine, "healthy": result.healthy})
    else:
        shown = Grid(head=False)
        colours = {"ok": "green", "warn": "yellow", "bad": "red"}
        for check in result.checks:
            text, run, what = check.text.partition("run: ")  # a command to paste stands on a line of its own
            told = [text + run.rstrip(), what] if what else text
            shown.row(Styled(check.state, colours[check.state]), check.name, told)
        screen.result("uex.doctor/1", {}, shown)
    if not result.healthy:
        raise typer.Exit(Exit.FAILED)
