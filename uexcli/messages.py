"""How a running command reports: the CLI shows it, tests ignore it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from uexcli.plugin import Progress
from uexcli.wording import visible

__all__ = ["Listener", "Overall", "Quietly", "duration", "visible"]


@dataclass(frozen=True)
class Overall(Progress):
    """A report on all of a job, whose parts take unlike times; `seconds_left` is None where nobody can know yet."""

    seconds_left: float | None = None


class Listener:
    """Hears what a command has to say while it runs. This one ignores it."""

    def say(self, text: str) -> None:
        """Tell the user a fact, once: one line, of which nothing is markup."""

    def warn(self, text: str) -> None:
        """Tell the user something that may be wrong."""

    def step(self, progress: Progress) -> None:
        """Hear how far a long job is."""


class Quietly(Listener):
    """Passes on how far a job is, and nothing that was said before."""

    def __init__(self, other: Listener) -> None:
        self._other = other

    def step(self, progress: Progress) -> None:
        """Pass it on."""
        self._other.step(progress)


def duration(seconds: float) -> str:
    """Put a time in words: `45 s`, `3 min`, `2 h 10 min`."""
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def tell_notes(notes: Iterable[str], listener: Listener) -> None:
    """Tell what a dataset leaves out."""
    for note in notes:
        listener.say(note)
