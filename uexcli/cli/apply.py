"""`uex apply`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid
from uexcli.cli.screen import Screen, command
from uexcli.wording import here, pasted

if TYPE_CHECKING:
    from uexcli.commands.apply.command import Result
    from uexcli.commands.apply.new_images import Assigned


@command
def apply(
    noise: opt.NoiseArg,
    photos: opt.PhotosArg,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RELEASE", help="Folder for the protected images.")],
    format_: Annotated[
        str, typer.Option("--format", help="png, tiff, webp or jxl, or jpeg (lossy: breaks the bound).")
    ] = "png",
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Write a lossy format, and measure what it does.")
    ] = False,
    png_level: Annotated[int, typer.Option(help="PNG compression, 0 (fast) to 9 (small).")] = 1,
    keep_metadata: Annotated[
        bool,
        typer.Option(
            "--keep-metadata",
            help="Keep title, description, author, copyright, date, comment and keywords; nothing else.",
        ),
    ] = False,
    croissant: Annotated[
        bool, typer.Option("--croissant", help="Describe the release in a croissant.json that forbids training.")
    ] = False,
    usage_info: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What it says instead: a text, or the address of a licence.", show_default=False
        ),
    ] = None,
    labels: opt.Labels = None,
    limit: Annotated[int | None, typer.Option(help="Protect this many images only.", show_default=False)] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="ENGINE", help="What makes the noise, of a network or shared: torch, onnx or onnx:MODEL.onnx."
        ),
    ] = "torch",
    near: Annotated[
        bool, typer.Option("--near", help="List new photos, the noise of each, and how near it is to what was fitted.")
    ] = False,
    weights: opt.Weights = None,
    jobs: opt.Jobs = None,
    memory: opt.Memory = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Write this share of the images only; put all together with uex merge.",
            show_default=False,
        ),
    ] = None,
    max_pixels: opt.MaxPixels = None,
    on_error: opt.OnError = "fail",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted release.")] = False,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Write the protected images, at full size and lossless; the photos are only read."""
    from uexcli.commands import apply as job

    request = job.Request(
        noise=noise,
        photos=photos,
        output=output,
        format=format_,
        allow_lossy=allow_lossy,
        png_level=png_level,
        jobs=jobs,
        labels=labels,
        limit=limit,
        on_error=on_error,
        force=force,
        resume=resume,
        dry_run=dry_run,
        engine=engine,
        weights=weights,
        near=near,
        keep_metadata=keep_metadata,
        croissant=croissant,
        usage=usage_info,
        shard=shard,
        max_pixels=max_pixels,
        memory=memory,
    )
    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(request, screen)
    shown = [_nearness(result.assigned)] if near and result.assigned else []
    screen.result("uex.apply/1", result, *shown, *words(result, photos, dry_run=dry_run, lossy=format_ == "jpeg"))


def _nearness(new: Sequence[Assigned]) -> Grid:
    """New photos, those that are unlike all that was fitted first."""
    from uexcli.commands.apply.new_images import FAR

    shown = Grid(caption=["distance: to the centre of its noise; 1 is that of the farthest photo that was fitted."])
    shown.column("new photo")
    shown.column("noise", justify="right")
    shown.column("distance", justify="right")
    shown.column()
    for item in sorted(new, key=lambda item: -(item.near or 0)):
        distance = "" if item.near is None else f"{item.near:.2f}"
        unlike = "unlike anything fitted" if item.near is not None and item.near > FAR else ""
        shown.row(item.key, str(item.row), distance, unlike)
    return shown


def words(result: Result, photos: str, *, dry_run: bool, lossy: bool) -> list[str]:
    """What was written, how far it is from the bound, what was left out, and the next command."""
    if result.already:
        what = "this release" if result.shard is None else "this part"
        return [f"{result.output} is {what} already, and intact: nothing to do."]
    if dry_run:
        return [f"dry run: {result.output} not written."]
    if result.shard is not None and not result.written and not result.kept and not result.skipped:
        return [
            f"{result.output}: no image is in this shard; the part is empty.",
            "Next, once all are there: uex merge RELEASE",
        ]
    kept = f" ({result.kept:,} more were there from the interrupted run)" if result.kept else ""
    lines = [f"{result.output}: {result.written:,} protected images{kept}, PSNR {result.psnr:.1f} dB."]
    if result.norm == "linf":
        largest = f"largest change {round(255 * result.largest)} levels of {255 * result.eps:.3g} allowed"
    elif not result.bounded:
        largest = f"largest change {round(255 * result.largest)} levels; no bound is promised"
    else:
        size, allowed = result.nearest
        fitted = "" if allowed == result.eps else f" ({result.eps:.4g} at {result.fitted_at} px)"
        largest = f"largest {result.norm} {size:.4g} of {allowed:.4g}{fitted}"
    lines.append(
        f"Every file was decoded again: {largest}." + (" Lossy output does not keep the bound." if lossy else "")
    )
    if result.new:
        lines.append(f"Not fitted, and given noise all the same: {result.new:,}.")
    for key, change in result.mode_changes[:5]:
        lines.append(f"Note: {key}: {change}.")
    if len(result.mode_changes) > 5:
        lines.append(f"Note: {len(result.mode_changes) - 5} more changes of mode, all in uex-release.json.")
    if result.skipped:
        lines.append(f"Left out, and listed in uex-release.json: {len(result.skipped):,}.")
    if result.shard is not None:
        lines.append("Private, as it lists the originals' checksums. Next, once all parts are there: uex merge RELEASE")
        return lines
    lines.append(f"Private: {result.receipt} maps originals to protected files.")
    lines.append(f"Next: {pasted('uex', 'verify', result.output, '--source', here(photos))}")
    return lines
