"""`uex verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid
from uexcli.cli.screen import Screen, command, plain
from uexcli.errors import Exit

if TYPE_CHECKING:
    from uexcli.commands.verify.result import Result

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
    noise: Annotated[
        Path | None,
        typer.Option(metavar="NOISE", help="Look for the fitted noise in the images, too.", show_default=False),
    ] = None,
    weights: opt.Weights = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Accept the missing images that uex-release.json lists as skipped.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Decode every file, and every source, by a second decoder, too, and compare."),
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Names only: decode and hash nothing.")] = False,
    jobs: opt.Jobs = None,
    memory: opt.Memory = None,
    max_pixels: opt.MaxPixels = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a JUnit report, for CI.", show_default=False)
    ] = None,
    force: opt.Force = False,
    json: opt.Json = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON document a line: each finding, then the rest.")
    ] = False,
    quiet: opt.Quiet = False,
) -> None:
    """Check that a release is bounded, complete and intact; exits 1 if it is not."""
    from uexcli.commands import verify as job

    request = job.Request(
        release, source, eps, norm, size, noise, weights, allow_missing, fast, jobs, max_pixels, junit, force,
        strict=strict, memory=memory,
    )  # fmt: skip
    with Screen(quiet=quiet, as_json=json or jsonl) as screen:
        result = job.run(request, screen)
    document = {**plain(result), "passed": result.exit == Exit.OK}
    if jsonl:
        findings = document.pop("findings")
        screen.lines(job.LINES, [*({"finding": finding} for finding in findings), {"result": document}])
    else:
        screen.result(job.SCHEMA, document, *([] if json else render(result)))
    if result.exit != Exit.OK:
        raise typer.Exit(result.exit)


def render(result: Result) -> list[Grid | str]:
    """The findings as a table, then the figures and the verdict."""
    shown: list[Grid | str] = []
    if result.findings:
        table = Grid(title=f"{len(result.findings)} finding(s)", lines="all")
        for column in ("what", "file", "expected", "found"):
            table.column(column)
        for finding in result.findings[:SHOWN]:
            table.row(finding.code, finding.path, finding.expected, finding.found)
        shown.append(table)
        if len(result.findings) > SHOWN:
            shown.append(f"... and {len(result.findings) - SHOWN} more; --json lists all.")
    lines = [f"{name}: {text}" for name, text in sorted(result.checks.items())]
    bound = f"{result.norm} <= {result.eps}" if result.bounded else "no bound is promised"
    if result.most_levels is not None and result.psnr and result.ssim:
        lines.append(
            f"change: at most {result.most_levels:g} levels ({bound}); "
            f"PSNR {result.psnr['min']:.1f} dB at least, {result.psnr['median']:.1f} median; "
            f"SSIM {result.ssim['min']:.3f} at least, {result.ssim['median']:.3f} median"
        )
    if result.p999_levels is not None:
        over = "" if result.values_over is None else f"; {result.values_over:,} values over the bound"
        lines.append(f"99.9 % of all values change by {result.p999_levels} levels at most{over}")
    if result.present:
        lines.append(
            f"noise: agrees with the fitted one by {result.present['min']:.2f} at least, "
            f"{result.present['median']:.2f} median"
        )
    if result.survival:
        steps = ", ".join(f"{step} {share:.0%}" for step, share in result.survival.items())
        lines.append(f"left of the noise after {steps} (mean of {result.survived} images)")
    if result.alone:
        named = ", ".join(one.path for one in result.alone[:SHOWN])
        more = f" and {len(result.alone) - SHOWN:,} more" if len(result.alone) > SHOWN else ""
        lines.append(f"read by one decoder only: {named}{more}")
    lines.append("FAILED" if result.findings else "OK: nothing found in what was checked")
    return [*shown, *lines]
