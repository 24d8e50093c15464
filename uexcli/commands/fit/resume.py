"""The state of a fit under way: when it is written, when an interrupted fit may go on from it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from uexcli.commands.fit.request import Request
from uexcli.commands.fit.setup import Setup
from uexcli.core.fit.store import Store
from uexcli.errors import RESUMABLE, Terminated, UexError, UsageError
from uexcli.io.atomic import WriteError
from uexcli.io.noise import state_file
from uexcli.messages import Listener
from uexcli.runtime.interrupts import Interrupts


def take_up(request: Request, setup: Setup) -> tuple[Setup, int | None]:
    """Give the seed of the interrupted fit that is to go on, if there is one.

    Its state then goes before an output of another seed, which that fit was about to replace.

    Raises:
        UsageError: a state is left over, and nothing says what to do with it.
        UexError: it is damaged.
    """
    path, existing = state_file.of(setup.output), setup.existing
    if not path.exists():
        return setup, None
    if request.resume:
        seed = state_file.job_of(path).get("seed")
        if existing is not None and existing.seed != seed:
            setup = dataclasses.replace(setup, existing=None)
        return setup, seed if isinstance(seed, int) else None
    if existing is None and not request.force:
        raise UsageError(
            f"{path} is left from an interrupted fit.",
            hint="Add `resume=True` to go on, or `force=True` to start afresh.",
        )
    return setup, None


def clear(setup: Setup, job: dict[str, Any], listener: Listener) -> None:
    """Remove what a fit left that was killed between its last two writes; another fit's state stays."""
    path = state_file.of(setup.output)
    if state_file.job_of(path) == job:
        path.unlink()
    elif path.exists():
        listener.warn(f"{path} is left from another fit; go on with that by `resume=True`")


@contextlib.contextmanager
def keeping(
    request: Request, setup: Setup, job: dict[str, Any], store: Store, listener: Listener
) -> Iterator[state_file.StateFile]:
    """Give the journal of a fit; Ctrl-C and SIGTERM wait until it has written the state.

    Raises:
        UsageError: the state to go on from is of another fit.
    """
    with Interrupts() as interrupts:
        journal = state_file.StateFile(
            state_file.of(setup.output),
            job,
            stopping=interrupts.safe_point,
            stop=interrupts.stop,
            warn=listener.warn,
            release=store.release,
        )
        if journal.begin(resume=request.resume):
            listener.say(f"going on from {journal.path}")
        try:
            yield journal
        except BaseException as stop:
            failed = isinstance(stop, UexError) and not isinstance(stop, WriteError)  # it would end there again
            if journal.is_empty or (failed and journal.has_written):
                journal.remove()
            elif isinstance(stop, (KeyboardInterrupt, Terminated)):
                stop.add_note(RESUMABLE)
            raise
