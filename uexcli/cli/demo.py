"""`uex demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit

if TYPE_CHECKING:
    from uexcli.commands.evaluate import Result as Judged


@command
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to work.")] = Path("uex-demo"),
    eps: Annotated[str | None, typer.Option(help="The bound.  \\[default: 16/255]", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    device: opt.Device = "auto",
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Protect scikit-learn's handwritten digits: fit, apply, eval and verify, in under three minutes."""
    from uexcli.cli.evaluate import table
    from uexcli.commands import demo as job
    from uexcli.commands.listener import duration

    def told(judged: Judged) -> None:
        """Print the table under the command that it is of."""
        if not json:
            screen.result("uex.demo/1", {}, table(judged))

    with Screen(quiet=quiet, as_json=json) as screen:
        bound = eps or job.EPS
        result = job.run(output, eps=bound, seed=seed, device=device, force=force, listener=screen, on_judged=told)
    verdict = "FAILED" if result.verify.findings else "OK"
    levels = result.verify.most_levels or 0
    lines = (
        f"verify: {verdict}, {result.verify.decoded:,} files decoded, changed by at most {levels:g} "
        f"levels ({result.verify.norm} <= {result.verify.eps}).",
        "Black-and-white strokes need stronger noise than photos, for which 8/255 is usual: see docs/demo.md.",
        f"Look at {result.sheet} and {result.folder / 'report.html'}. All in {duration(result.seconds)}.",
    )
    screen.result("uex.demo/1", result, *lines)
    if result.verify.findings:
        raise typer.Exit(Exit.FAILED)
