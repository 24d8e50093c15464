"""`uex verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command, plain
from uexcli.commands.listener import visible
from uexcli.errors import Exit

if TYPE_CHECKING:
    from rich.table import Table

    from uexcli.commands.verify import Result

SHOWN = 40


@command
def verify(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder of the protected images.")],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="PHOTOS", help="The original photos; without them only integrity is checked.", show_default=False
        ),
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="The bound.  \\[default: uex-release.json's]", show_default=False)
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(
            help="Its norm.  \\[default: uex-release.json's, else linf]",
            show_default=False,
            autocompletion=opt.names_of("norm"),
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side the bound is stated at, for norms that depend on it.", show_default=False)
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Accept the missing images that uex-release.json lists as skipped.")
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Names only: decode and hash nothing.")] = False,
    jobs: opt.Jobs = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Check that a release is bounded, complete and intact; exits 1 if it is not."""
    from uexcli.commands import verify as job

    request = job.Request(release, source, eps, norm, size, allow_missing, fast, jobs)
    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(request, screen)
    document = {**plain(result), "passed": result.exit == Exit.OK}
    screen.result(job.SCHEMA, document, *([] if json else render(result)))
    if result.exit != Exit.OK:
        raise typer.Exit(result.exit)


def render(result: Result) -> list[Table | str]:
    """The findings as a table, then the figures and the verdict."""
    from rich.table import Table

    shown: list[Table | str] = []
    if result.findings:
        table = Table(title=f"{len(result.findings)} finding(s)", title_justify="left")
        for column in ("what", "file", "expected", "found"):
            table.add_column(column, overflow="fold")
        for finding in result.findings[:SHOWN]:
            table.add_row(finding.code, visible(finding.path), visible(finding.expected), visible(finding.found))
        shown.append(table)
        if len(result.findings) > SHOWN:
            shown.append(f"... and {len(result.findings) - SHOWN} more; --json lists all.")
    lines = [f"{name}: {text}" for name, text in sorted(result.checks.items())]
    bound = f"{result.norm} <= {result.eps}" if result.bounded else "no bound is promised"
    if result.most_levels is not None and result.psnr and result.ssim:
        lines.append(
            f"change: at most {result.most_levels} levels ({bound}); "
            f"PSNR {result.psnr['min']:.1f} dB at least, {result.psnr['median']:.1f} median; "
            f"SSIM {result.ssim['min']:.3f} at least, {result.ssim['median']:.3f} median"
        )
    lines.append("FAILED" if result.findings else "OK: nothing found in what was checked")
    return [*shown, "\n".join(lines)]
