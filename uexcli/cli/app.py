"""The command line: one module a command, imported here without anything heavy."""

from __future__ import annotations

from typing import Annotated

import typer

from uexcli import __version__
from uexcli.cli import (
    apply,
    bench,
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

EPILOG = "Exit codes: 0 good, 1 the check failed, 2 usage, 3 could not do it, 130 interrupted, 143 terminated."

app = typer.Typer(
    name="uex",
    help="Make images unlearnable: fit bounded noise, apply it, measure what is still learnable, verify a release.",
    epilog=EPILOG,
    no_args_is_help=True,
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
