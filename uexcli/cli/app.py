"""The command line: one module a command, imported here without anything heavy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from uexcli import __version__
from uexcli.cli import (
    apply,
    bench,
    completion,
    convert,
    demo,
    doctor,
    evaluate,
    export,
    fit,
    info,
    interrupt,
    merge,
    plugins,
    preview,
    streams,
    verify,
)
from uexcli.cli.screen import complain
from uexcli.wording import visible

EPILOG = "Exit codes: 0 good, 1 the check failed, 2 usage, 3 could not do it, 130 interrupted, 143 terminated."


class Commands(TyperGroup):
    """All commands; complaints about a command line show what was typed as text."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of `uex` itself."""
        with _shown_as_text():
            return super().parse_args(ctx, completion.with_shells(args))

    def invoke(self, ctx: Any) -> Any:
        """Read the options of a command, and run it."""
        with _shown_as_text():
            return super().invoke(ctx)


@contextlib.contextmanager
def _shown_as_text() -> Iterator[None]:
    """Take control characters out of what typer says of a command line, which repeats it."""
    try:
        yield
    except Exception as error:
        said = getattr(error, "format_message", None)
        if said is not None:
            text = visible(said())
            error.format_message = lambda: text  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="uex",
    cls=Commands,
    help="Make images unlearnable: fit bounded noise, apply it, measure what is still learnable, verify a release.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"uex {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    install_completion: completion.Install = None,
    show_completion: completion.Show = None,
) -> None:
    """Make images unlearnable: fit bounded noise, apply it, measure what is still learnable, verify a release."""


app.command("fit")(fit.fit)
app.command("apply")(apply.apply)
app.command("merge")(merge.merge)
app.command("eval")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("verify")(verify.verify)
app.command("convert")(convert.convert)
app.command("preview")(preview.preview)
app.command("export")(export.export)
app.command("info")(info.info)
app.command("plugins")(plugins.plugins)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


def run() -> int:
    """Run the command line; gives the exit code."""
    streams.prepare()
    try:
        code = _run()
        interrupt.at_the_end()
        streams.finish()
    except streams.StdoutError as error:  # of --help and the like: commands tell it themselves
        complain(f"Error: {error}")
        return error.code
    return code


def _run() -> int:
    try:
        app(prog_name="uex")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0
