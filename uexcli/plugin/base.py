"""What every plugin is: a frozen dataclass whose fields are its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pluggy

from uexcli.errors import UexError

if TYPE_CHECKING:
    pass

hookimpl = pluggy.HookimplMarker("uex")


def option(default: Any, summary: str) -> Any:
    """Make a plugin option: a dataclass field with its default and one line of help."""
    return field(default=default, metadata={"help": summary})


@dataclass(frozen=True)
class Progress:
    """One report of a long job: `done` of `total` units, and a few words on how it goes.

    A method's reports are of the whole fit, whatever its stages are called: their share never falls.
    """

    done: float
    total: float
    note: str = ""
    stage: str = ""


OnStep = Callable[[Progress], None]


class Plugin:
    """What every plugin class carries."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()

    def missing_requirement(self) -> UexError | None:
        """Return an error naming a missing requirement, such as weights or a package, and how to fix it, or None."""
        return None


State = Mapping[str, Any]  # tensors, and what JSON has, by name
