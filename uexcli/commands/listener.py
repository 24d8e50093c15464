"""How a running command reports: the CLI shows it, tests ignore it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uexcli.api import Progress


class Listener:
    """Hears what a command has to say while it runs. This one ignores it."""

    def say(self, text: str) -> None:
        """Tell the user a fact, once."""

    def warn(self, text: str) -> None:
        """Tell the user something that may be wrong."""

    def step(self, progress: Progress) -> None:
        """Hear how far a long job is."""


def duration(seconds: float) -> str:
    """Put a time in words: `45 s`, `3 min`, `2 h 10 min`."""
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def visible(text: str) -> str:
    """Make control characters and undecodable bytes in names visible, so that a message stays one line."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def tell_notes(notes: Iterable[str], listener: Listener) -> None:
    """Tell what a dataset leaves out; it names files as they are called."""
    for note in notes:
        listener.say(visible(note))
