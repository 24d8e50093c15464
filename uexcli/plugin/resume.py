"""A fit that can be stopped and resumed: everything that changes in it, saved and restored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uexcli.plugin import Problem, State, UexError

if TYPE_CHECKING:
    pass


class Run(ABC):
    """All that changes in a fit."""

    @abstractmethod
    def state(self) -> State:
        """Give it."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Go on from it."""


def take_up(run: Run, problem: Problem) -> None:
    """Go on from the state that an interrupted fit left, if there is one.

    Raises:
        UexError: it is no state of such a fit.
    """
    saved = problem.journal.load()
    if saved is None:
        return
    try:
        run.load(saved)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0].rstrip(": ")
        raise UexError(f"the state does not fit ({why}).", hint="Use `force=True`, without `resume=True`.") from None


def under(prefix: str, state: State) -> dict[str, Any]:
    """Give the part of a state whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def within(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Put a state inside another."""
    return {prefix + name: value for name, value in state.items()}
