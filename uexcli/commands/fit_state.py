"""The state of a fit under way: when it is written, when an interrupted fit may go on from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from uexcli.commands.fit_setup import Request, Setup
from uexcli.commands.listener import Listener
from uexcli.core.store import Store
from uexcli.errors import Terminated, UexError, UsageError
from uexcli.io import state_file
from uexcli.runtime.interrupts import Interrupts

RESUMABLE = "resumable"  # a note on the exception that ends an interrupted fit


def check_left_over(request: Request, setup: Setup) -> None:
    """Refuse to begin where an interrupted fit left its state, and nothing says what to do with it.

    Raises:
        UsageError: such a state is there.
    """
    path = state_file.of(setup.output)
    if setup.existing is None and path.exists() and not (request.resume or request.force):
        raise UsageError(
            f"{path} is left from an interrupted fit.", hint="Add --resume to go on, or --force to start afresh."
        )


def seed_of(request: Request, setup: Setup) -> int | None:
    """Give the seed of the interrupted fit that is to go on, or None."""
    return state_file.seed(state_file.of(setup.output)) if request.resume and request.seed is None else None


@contextlib.contextmanager
def keeping(
    request: Request, setup: Setup, job: dict[str, Any], store: Store, listener: Listener
) -> Iterator[state_file.StateFile]:
    """Give the journal of a fit; Ctrl-C and SIGTERM wait until it has written the state.

    Raises:
        UsageError: the state to go on from is of another fit.
    """
    path = state_file.of(setup.output)
    with Interrupts() as interrupts:

        def stopping() -> bool:
            interrupts.safe_point()
            return interrupts.pending

        journal = state_file.StateFile(
            path, job, stopping=stopping, stop=interrupts.stop, warn=listener.warn, release=store.release
        )
        try:
            if journal.begin(resume=request.resume):
                listener.say(f"going on from {path}")
            yield journal
        except (KeyboardInterrupt, Terminated, UexError) as stop:
            if journal.is_empty:
                journal.remove()
            elif not isinstance(stop, UexError):
                stop.add_note(RESUMABLE)
            raise
