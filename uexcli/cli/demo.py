"""`uex demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit

if TYPE_CHECKING:
    from uexcli.cli.grid import Grid


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
    from uexcli.commands import demo as job
    from uexcli.messages import duration

    photos = str(output / "digits")

    def told(result: object) -> None:
        """Print what a command gave under the line that calls it."""
        if not json:
            screen.result("uex.demo/1", {}, *_words(result, photos))

    with Screen(quiet=quiet, as_json=json) as screen:
        bound = eps or job.EPS
        result = job.run(output, eps=bound, seed=seed, device=device, force=force, listener=screen, on_result=told)
    lines = (
        "",
        "Black-and-white strokes need stronger noise than photos, for which 8/255 is usual: see docs/demo.md.",
        f"Look at {result.sheet} and {result.folder / 'report.html'}. All in {duration(result.seconds)}.",
    )
    screen.result("uex.demo/1", result, *lines)
    if result.verify.findings:
        raise typer.Exit(Exit.FAILED)


def _words(result: object, photos: str) -> list[Grid | str]:
    """What the command prints when it is called by itself, but for what comes next."""
    from uexcli.cli import apply as apply_words
    from uexcli.cli import evaluate_table as eval_words
    from uexcli.cli import fit as fit_words
    from uexcli.cli import verify as verify_words
    from uexcli.commands import apply, evaluate, fit, verify

    found: list[Grid | str] = []
    if isinstance(result, fit.Result):
        found += fit_words.words(result, photos)
    elif isinstance(result, apply.Result):
        found += apply_words.words(result, photos, dry_run=False, lossy=False)
    elif isinstance(result, evaluate.Result):
        found += [eval_words.table(result), *eval_words.words(result)]
    elif isinstance(result, verify.Result):
        found += verify_words.render(result)
    return [item for item in found if not (isinstance(item, str) and item.startswith("Next: "))]
