"""`uex export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command


@command
def export(
    noise: opt.NoiseArg,
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX model to write.")],
    force: opt.Force = False,
    json: opt.Json = False,
) -> None:
    """Write the network of a noise file as an ONNX model, for noise that a network computes."""
    from uexcli.commands import export as job

    with Screen(as_json=json) as screen:
        result = job.run(job.Request(noise, model, force))
    screen.result(
        "uex.export/1",
        result,
        f"{result.output}: the network of '{result.method}' as ONNX, opset {result.opset}, "
        f"{result.channels} channels x {result.size} px, {result.bytes:,} bytes.\n"
        f"Compared with torch on random images: at most {result.difference:.2g} levels apart.\n"
        "It makes the noise: keep it as secret as the noise file.\n"
        f"Next: uex apply {noise} PHOTOS -o RELEASE --engine onnx:{result.output}",
    )
