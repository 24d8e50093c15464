"""`uex info`."""

from __future__ import annotations

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid
from uexcli.cli.screen import Screen, command


@command
def info(noise: opt.NoiseArg, json: opt.Json = False) -> None:
    """Show what a noise file holds: recipe, bound, measurements, versions."""
    from uexcli.commands import info as job

    with Screen(as_json=json) as screen:
        result = job.run(noise)
    if json:
        screen.result("uex.info/1", result)
        return
    header, recipe = result.header, result.header["recipe"]
    shown = Grid(head=False)
    shown.row("file", f"{result.path} ({result.bytes:,} bytes), written by uexcli {header.get('uexcli')}")
    rows, channels, side = result.shape[:3]
    if result.network:
        shown.row("noise", f"a network of {result.network:,} weights, at {side} px with {channels} channels")
    else:
        patch = f", on a patch of images of {recipe['size']} px" if "patch" in recipe else ""
        shown.row("noise", f"{rows:,} x {channels} channels x {side} px{patch}, for {result.images:,} images")
    parts = [(kind, recipe.get(kind)) for kind in ("method", "norm", "granularity", "surrogate", "encoder")]
    for kind, part in [*parts, *(("beside it", net) for net in recipe.get("ensemble", []))]:
        if part:
            values = ", ".join(f"{key}={value}" for key, value in part.get("options", {}).items())
            shown.row(kind, f"{part['name']} ({part.get('from')}){': ' + values if values else ''}")
    reached = f"{header['eps_text']}; {header['measured'].get('at_bound', 0):.0%} of the images reach it"
    shown.row("bound", reached if result.bounded else "none is promised")
    shown.row("photos", f"{header['dataset'].get('uri')}, fingerprint {header['dataset'].get('fingerprint', '')[:16]}")
    shown.row("classes", f"{len(result.classes)}: {', '.join(result.classes[:10])}" if result.classes else "none given")
    seed = f"seed {header.get('seed')}{' (it can be guessed)' if result.guessable else ''}"
    shown.row(
        "fitted with", f"torch {header.get('torch')} on {header.get('device')}, {recipe.get('precision')}, {seed}"
    )
    screen.result("uex.info/1", result, shown)
