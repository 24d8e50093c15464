"""Outputs that one process writes at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from uexcli.errors import UsageError
from uexcli.io import leftovers

PATIENCE = 1.0  # seconds: a killed run's workers, or a sweep, may hold a lock a moment longer
PAUSE = 0.05


@contextlib.contextmanager
def claim(output: Path, *, shared: bool = False, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an output, a file or a folder, as long as this lasts; what killed runs left beside it is swept first.

    With `shared` others may hold it too that ask so; with `wait` this waits for whoever has it, and calls that
    once before. Where the folder cannot be written to, or the system or the disk has no locks, it goes on at once:
    those who write will say why.

    Raises:
        UsageError: another process holds it, or it is the root of a disk.
    """
    path = Path(os.path.realpath(output))
    if not path.name:
        raise UsageError(f"{output} is the root of a disk.", hint="Write to a folder or file in it.")
    leftovers.sweep(path.parent)
    made = _make(path.parent)
    try:
        lock = _taken(path, shared=shared, wait=wait)
        try:
            yield
        finally:
            if lock is not None:
                _give_back(*lock)
    finally:
        for folder in made:  # where nothing was written
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder; give those that were not there, the innermost first."""
    missing = []
    for one in (folder, *folder.parents):
        if one.exists():
            break
        missing.append(one)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _taken(path: Path, *, shared: bool, wait: Callable[[], None] | None) -> tuple[BinaryIO, Path] | None:
    """Take the lock on an output; None where there can be none."""
    name = hashlib.blake2b(path.name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    beside = path.with_name(f".uex-{name}.lock")
    until = time.monotonic() + PATIENCE
    told = False
    while leftovers.HAS_LOCKS:
        try:
            with contextlib.suppress(FileExistsError):
                beside.touch(exist_ok=False)
            file = leftovers.opened(beside)
        except FileNotFoundError:
            if path.parent.is_dir() and time.monotonic() < until:  # swept in between; or a folder that takes no file
                continue
            return None
        except OSError:
            return None
        held = leftovers.take(file, shared=shared)
        if held is False and wait is not None:
            if not told:
                wait()
                told = True
            held = leftovers.take(file, shared=shared, wait=True)
        if held and leftovers.is_at(file, beside):
            return file, beside
        if held is None:
            beside.unlink(missing_ok=True)
        file.close()
        if held is None:
            return None
        if not held and time.monotonic() > until:
            raise UsageError(f"another uex is writing {path}.", hint="Wait for it, or write elsewhere.")
        if not held:
            time.sleep(PAUSE)
    return None


def _give_back(file: BinaryIO, beside: Path) -> None:
    with file:
        if leftovers.take(file) and leftovers.is_at(file, beside):  # the last of those who share it
            with contextlib.suppress(OSError):
                beside.unlink()
        leftovers.release(file)
