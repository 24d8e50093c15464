"""`uex --install-completion [SHELL]` and `--show-completion [SHELL]`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import completion_init, get_completion_script, install  # type: ignore[attr-defined]

from uexcli.cli.screen import command
from uexcli.errors import UexError, UsageError, unknown

OPTIONS = ("--install-completion", "--show-completion")
SHELLS = ("bash", "fish", "powershell", "pwsh", "zsh")
CURRENT = "current"
VARIABLE = "_UEX_COMPLETE"  # what the scripts set when they ask

completion_init()


def with_shells(words: list[str]) -> list[str]:
    """Name the shell where an option of these was given none: the current one."""
    found = []
    for word, following in zip(words, [*words[1:], "-"], strict=False):
        found.append(word)
        if word in OPTIONS and following.startswith("-"):
            found.append(CURRENT)
    return found


@command
def _install(shell: str | None) -> None:
    if shell is None:
        return
    name = _known(shell)
    try:
        path = install(shell=name, prog_name="uex", complete_var=VARIABLE)[1]
    except (OSError, UnicodeError, RuntimeError) as error:  # RuntimeError: no home
        where = getattr(error, "filename", None)
        reason = getattr(error, "strerror", None) or str(error)
        raise UexError(
            f"cannot install completion{f' in {where}' if where else ''}: {reason}.",
            hint=f"Put what this prints where {name} finds it: uex --show-completion {name}",
        ) from None
    typer.echo(f"Completion for {name} is in {path}. It works in the next terminal.")
    raise typer.Exit


@command
def _show(shell: str | None) -> None:
    if shell is None:
        return
    typer.echo(get_completion_script(prog_name="uex", complete_var=VARIABLE, shell=_known(shell)))
    raise typer.Exit


def _known(shell: str) -> str:
    """Give the shell that is meant.

    Raises:
        UsageError: uex has no completion for it, or cannot tell which one is running.
    """
    name = _current() if shell == CURRENT else shell.lower()
    if not name:
        raise UsageError("cannot tell which shell this is.", hint="Name it: uex --install-completion zsh")
    if name not in SHELLS:
        raise unknown("shell", name, SHELLS)
    return name


def _current() -> str:
    """The shell that called, else the one the user logs in with."""
    import shellingham

    try:
        return str(shellingham.detect_shell()[0])
    except shellingham.ShellDetectionFailure:
        return Path(os.environ.get("SHELL", "")).name


Install = Annotated[
    str | None,
    typer.Option(
        OPTIONS[0],
        metavar="SHELL",
        help="Install completion for the current shell, or for bash, zsh, fish or pwsh.",
        callback=_install,
        is_eager=True,
        show_default=False,
    ),
]
Show = Annotated[
    str | None,
    typer.Option(
        OPTIONS[1],
        metavar="SHELL",
        help="Print it for the current shell, or for another, to put it elsewhere.",
        callback=_show,
        is_eager=True,
        show_default=False,
    ),
]
