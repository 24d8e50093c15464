"""Plugins that try to end the program: that must never look like a command that went well."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Iterator
from typing import NoReturn

import typer

from uexcli.errors import Exit
from uexcli.messages import visible

CLI = "uexcli.cli"


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Turn `os._exit` in this process, though not in those it forks, into a SystemExit that can be told of."""
    process, real = os.getpid(), os._exit

    def end(status: int) -> NoReturn:
        if os.getpid() != process:
            real(status)
        raise SystemExit(status)

    os._exit = end
    try:
        yield
    finally:
        os._exit = real


def is_own(end: typer.Exit) -> bool:
    """Whether a command itself ends so, and not a plugin that it called."""
    frames = _frames(end)
    return bool(frames) and frames[-1].f_globals.get("__name__", "").startswith(CLI)


def told(end: BaseException) -> str:
    """Say which plugin ended the program, and how."""
    reason = visible(f"{type(end).__name__}: {end}".removesuffix(": "))
    whose = next((name for name in map(_plugin, reversed(_frames(end))) if name is not None), None)
    named = f"plugin '{whose}'" if whose else "a plugin"
    return f"{named} tried to end uex ({reason}). It is broken: uninstall it."


def code_of(code: int) -> int:
    """The exit code of an error: one that uex has, and never that of success."""
    return code if code in set(Exit) - {Exit.OK} else Exit.CANNOT


def _frames(error: BaseException) -> list[types.FrameType]:
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


def _plugin(frame: types.FrameType) -> str | None:
    """The plugin whose code a frame runs; None where it is uex's own, or that of some library."""
    top = frame.f_globals.get("__name__", "").partition(".")[0]
    registry = sys.modules.get("uexcli.registry")
    if registry is None or top == "uexcli" or not registry.load.cache_info().currsize:
        return None
    kinds = registry.load().entries.values()
    return next((e.plugin for kind in kinds for e in kind.values() if e.cls.__module__.partition(".")[0] == top), None)
