"""`uex export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command
from uexcli.wording import pasted

if TYPE_CHECKING:
    from uexcli.commands.export import Result


@command
def export(
    noise: opt.NoiseArg,
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX model to write.")],
    weights: opt.Weights = None,
    force: opt.Force = False,
    json: opt.Json = False,
) -> None:
    """Write noise that images share, or the network that makes it, as an ONNX model."""
    from uexcli.commands import export as job

    with Screen(as_json=json) as screen:
        result = job.run(job.Request(noise, model, force, weights))
    screen.result(
        "uex.export/1",
        result,
        f"{_what(result)}, opset {result.opset}, {result.bytes:,} bytes.",
        f"Compared with torch on random images: at most {result.difference:.2g} levels apart.",
        "It makes the noise: keep it as secret as the noise file.",
        f"Next: {pasted('uex', 'apply', noise, 'PHOTOS', '-o', 'RELEASE', '--engine', f'onnx:{result.output}')}",
    )


def _what(result: Result) -> str:
    if result.takes == "images":
        size = f"{result.channels} channels x {result.size} px"
        return f"{result.output}: the network of '{result.method}' as ONNX, {size}"
    how = "and it chooses" if result.chooses else "by row"
    return f"{result.output}: photos in, protected photos out, with one of {result.rows:,} {result.mode} noises, {how}"
