"""A release while it grows: a folder beside the final one, which an interrupted run leaves behind."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uexcli.errors import UexError, UsageError
from uexcli.io import atomic

SUFFIX = ".partial"
JOB = ".uex-job.json"  # what the folder is a part of; gone once it is whole


@contextlib.contextmanager
def growing(output: Path, job: Mapping[str, Any], *, resume: bool, force: bool) -> Iterator[Path]:
    """Give the folder a release grows in: a new one, or with `resume` that of an interrupted run of the same job.

    An error takes a new folder away again; an interruption (Ctrl-C, SIGTERM, a kill) leaves it to be resumed.

    Raises:
        UsageError: one is left over, and neither `resume` nor `force` says what to do with it.
    """
    folder = _folder(output)
    kept = _take_up(folder, job, resume=resume, force=force)
    try:
        if not kept:
            with atomic.told(folder):
                folder.mkdir(parents=True)
            atomic.write(folder / JOB, json.dumps(dict(job)).encode())
        yield folder
    except UexError:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _folder(output: Path) -> Path:
    whole = output.absolute()
    return whole.with_name(whole.name + SUFFIX)


def _take_up(folder: Path, job: Mapping[str, Any], *, resume: bool, force: bool) -> bool:
    """Whether an interrupted run's folder is there to go on with; one that is not wanted is taken away."""
    mark = folder / JOB
    with atomic.told(folder):
        if not folder.exists():
            return False
        same = _read(mark) == dict(job)
        if resume and same:
            for leftover in folder.rglob(".*.tmp"):
                leftover.unlink()
            return True
        if not force:
            hint = "Add --resume to go on, or --force to start afresh." if same else "Remove it, or use --force."
            other = "" if same else " of another job"
            raise UsageError(f"{folder} is left from an interrupted run{other}.", hint=hint)
        if not mark.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not uex's; --force would delete it.", hint="Move it away.")
        shutil.rmtree(folder)
    return False


def _read(mark: Path) -> Any:
    try:
        return json.loads(mark.read_text())
    except (OSError, ValueError):
        return None


def finish(folder: Path, output: Path, last: str) -> None:
    """Put the whole release in its place; a release that was there goes, an empty folder is filled, `last` last."""
    with atomic.told(output):
        (folder / JOB).unlink()
        if output.exists() and not any(output.iterdir()):  # it may be somebody's working folder, so it stays
            for part in sorted(folder.iterdir(), key=lambda part: part.name == last):
                part.rename(output / part.name)
            folder.rmdir()
            return
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
