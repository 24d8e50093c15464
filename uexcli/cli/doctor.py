"""`uex doctor`."""

from __future__ import annotations

from pathlib import Path

import typer

from uexcli.cli import options as opt
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
        from rich.table import Table

        shown = Table(show_header=False, box=None)
        colours = {"ok": "green", "warn": "yellow", "bad": "red"}
        for check in result.checks:
            shown.add_row(f"[{colours[check.state]}]{check.state}[/]", check.name, check.text)
        screen.result("uex.doctor/1", {}, shown)
    if not result.healthy:
        raise typer.Exit(Exit.FAILED)
