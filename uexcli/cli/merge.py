"""`uex merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command
from uexcli.wording import pasted


@command
def merge(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder whose parts lie beside it.")],
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the private receipt goes.  \\[default: beside the noise]", show_default=False
        ),
    ] = None,
    jobs: opt.Jobs = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted merge.")] = False,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Put the parts that `uex apply --shard` wrote together to one release."""
    from uexcli.commands.apply import merge as job

    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(job.Request(release, receipt, jobs, force, resume), screen)
    if result.already:
        parts = "1 part" if result.parts == 1 else f"{result.parts:,} parts"
        screen.result("uex.merge/1", result, f"{result.output} is there already; left of it, and removed: {parts}.")
        return
    lines = [
        f"{result.output}: {result.images:,} protected images of {result.parts:,} parts, PSNR {result.psnr:.1f} dB."
    ]
    if result.skipped:
        lines.append(f"Left out, and listed in uex-release.json: {len(result.skipped):,}.")
    lines.append(f"Private: {result.receipt} maps originals to protected files.")
    lines.append(f"Next: {pasted('uex', 'verify', result.output, '--source', 'PHOTOS')}")
    screen.result("uex.merge/1", result, *lines)
