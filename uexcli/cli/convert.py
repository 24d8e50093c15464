"""`uex convert`."""

from __future__ import annotations

from typing import Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command


@command
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder of images or of a release, or a dataset as for `uex fit`.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="webdataset:FOLDER, huggingface:FOLDER, or a plain folder.")
    ],
    split: Annotated[str, typer.Option(metavar="train|test", help="Which part, of a dataset that has both.")] = "train",
    labels: opt.Labels = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Copy a dataset or a release into another form: tar shards, parquet or a folder; the images stay as they are."""
    from uexcli.commands import convert as job

    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(job.Request(source, target, split, labels, force), screen)
    classes = f" of {result.classes:,} classes" if result.classes else ""
    lines = [f"{result.output}: {result.images:,} images{classes} in {result.files:,} files, and SHA256SUMS."]
    if result.facts:
        lines.append("uex-release.json came along.")
    screen.result("uex.convert/1", result, *lines)
