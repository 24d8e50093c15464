"""`uex preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command


@command
def preview(
    noise: opt.NoiseArg,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="One image file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path("preview.png"),
    weights: opt.Weights = None,
    force: opt.Force = False,
    json: opt.Json = False,
) -> None:
    """Draw one photo clean, its noise amplified, and protected, side by side."""
    from uexcli.commands import preview as job

    with Screen(as_json=json) as screen:
        result = job.run(job.Request(noise, photo, output, force, weights))
    screen.result(
        "uex.preview/1",
        result,
        f"{result.output}: {result.key}, {'as fitted' if result.fitted else 'not fitted, noise assigned'}; "
        f"at most {result.levels} levels, PSNR {result.psnr:.1f} dB, SSIM {result.ssim:.3f}.",
        "It shows the clean photo beside the protected one: keep it as secret as the noise.",
    )
