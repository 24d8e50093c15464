"""The one exception that is meant for the user, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes; stable, and listed in the README."""

    OK = 0
    FAILED = 1  # the check or the gate failed
    USAGE = 2  # command line, missing path, existing output
    CANNOT = 3  # content: empty, one class, unreadable, foreign file, no such device, disk full
    INTERRUPTED = 130
    TERMINATED = 143


class UexError(Exception):
    """Something the user can mend: told in one line, without a traceback.

    Anything else that reaches the entry point is a bug and keeps its traceback.
    """

    def __init__(self, message: str, *, hint: str = "", code: Exit = Exit.CANNOT) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[Any, ...]:  # out of a worker process
        return _again, (type(self), self.message, self.hint, self.code)


class UsageError(UexError):
    """An invalid argument or option: exit 2."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=Exit.USAGE)


def _again(kind: type[UexError], message: str, hint: str, code: Exit) -> UexError:
    made = kind(message, hint=hint)
    made.code = code
    return made


RESUMABLE = "resumable"  # a note on what ends an interrupted job whose state is kept


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like Ctrl-C does, so that nothing is left half-written."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Say that `name` is no known `kind`, which ones there are, and the nearest one."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"Known: {', '.join(names) or 'none'}." + (f" Did you mean '{near[0]}'?" if near else "")
    return UsageError(f"unknown {kind} '{name}'.", hint=hint)
