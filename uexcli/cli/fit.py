"""`uex fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command
from uexcli.wording import here, pasted

if TYPE_CHECKING:
    from uexcli.commands.fit.command import Result


@command
def fit(
    photos: opt.PhotosArg,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="NOISE",
            help="Noise file.  \\[default: PHOTOS.noise.safetensors]",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How the noise is found.  \\[default: what holds best on such photos]",
            show_default=False,
            autocompletion=opt.names_of("method"),
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="Which images share a noise.  \\[default: samplewise; clusterwise without labels]",
            show_default=False,
            autocompletion=opt.names_of("granularity"),
        ),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(
            help="Norm that bounds the noise.  \\[default: the method's]",
            show_default=False,
            autocompletion=opt.names_of("norm"),
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="The bound, such as 8/255 or 0.03.  \\[default: the method's]", show_default=False),
    ] = None,
    surrogate: Annotated[
        str,
        typer.Option(
            help="The net to fit against; auto: small on a CPU, else resnet18; uc: efficientnet_lite0.",
            autocompletion=opt.names_of("surrogate"),
        ),
    ] = "auto",
    weights: opt.Weights = None,
    size: opt.Size = "auto",
    limit: Annotated[int | None, typer.Option(help="Fit this many images only.", show_default=False)] = None,
    labels: opt.Labels = None,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Ignore class folders; treat the images as unlabelled.")
    ] = False,
    patch: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE[:random]",
            help="Noise only on a square of this side: at the centre, or at a place of each image's own.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A paper's constants, such as huang2021, or quick; -O, --eps and --surrogate win.", show_default=False
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", metavar="KEY=VALUE", help="An option of the method, norm, mode or surrogate."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed.  \\[default: drawn, and kept in the noise file only]", show_default=False)
    ] = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    max_pixels: opt.MaxPixels = None,
    on_error: opt.OnError = "fail",
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile the surrogate first: minutes that long fits on a GPU can win back."),
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Use at most this much, such as 4GiB; what does not fit goes to files.  \\[default: what is free]",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted fit.")] = False,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Fit noise for a folder of images; writes a noise file, which is secret."""
    from uexcli.commands import fit as job

    request = job.Request(
        photos=photos,
        output=output,
        method=method,
        mode=mode,
        norm=norm,
        eps=eps,
        surrogate=surrogate,
        size=opt.parse_size(size),
        limit=limit,
        labels=labels,
        device=device,
        precision=precision,
        seed=seed,
        patch=patch,
        preset=preset,
        options={**({} if weights is None else {"weights": str(weights)}), **opt.parse_pairs(option or [])},
        no_labels=no_labels,
        on_error=on_error,
        max_pixels=max_pixels,
        compiled=compiled,
        memory=memory,
        resume=resume,
        force=force,
        dry_run=dry_run,
    )
    with Screen(quiet=quiet, as_json=json) as screen:
        result = job.run(request, screen)
    screen.result("uex.fit/1", result, *words(result, photos))


def words(result: Result, photos: str) -> list[str]:
    """What was made, that it is secret, and the next command."""
    from uexcli.messages import duration

    plan = result.plan
    if result.already:
        return [f"{plan.output} is already fitted on these photos with this recipe: nothing to do."]
    if not result.written:
        return [f"dry run: {plan.output} not written."]
    made = "a network" if plan.network else f"{plan.rows:,} noises"
    reached = f"{result.at_bound:.0%} of the images reach the bound" if plan.bounded else "no bound is promised"
    return [
        f"{plan.output}: {made} for {plan.images:,} images in {duration(result.seconds)}"
        f"{f' ({result.outcome})' if result.outcome else ''}; "
        f"{reached}, PSNR {result.psnr:.1f} dB.",
        "Keep this file secret: with it the protection can be undone.",
        f"Next: {pasted('uex', 'apply', plan.output, here(photos), '-o', 'RELEASE')}",
    ]
