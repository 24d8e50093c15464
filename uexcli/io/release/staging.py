"""A release while it grows: a folder of its own, which an interrupted run leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, leftovers, schema
from uexcli.io.release import layout, part, shards

SUFFIX = ".partial"
INSIDE = ".uex.partial"  # within an output that cannot be replaced
OLD = ".uex-old"
WORTH_KEEPING = 200  # images
MARKS = frozenset({layout.FACTS, layout.SUMS, layout.COPIED, shards.FILE})  # say what a folder is
COPYING = "convert"  # in the job of a copy
JOB = layout.JOB  # what the folder is a part of; gone once it is whole


@contextlib.contextmanager
def growing(output: Path, job: Mapping[str, Any], *, resume: bool, force: bool) -> Iterator[Path]:
    """Give the folder a release grows in: a new one, or with `resume` that of an interrupted run of the same job.

    An error takes a new folder away again, unless much was written; that stays to be resumed, as it does after an
    interruption (Ctrl-C, SIGTERM, a kill).

    Raises:
        UsageError: one is left over, and neither `resume` nor `force` says what to do with it; or another process
            writes it.
    """
    output = output.resolve()
    folder = output / INSIDE if _stays(output) else output.with_name(output.name + SUFFIX)
    mark = folder / JOB
    with contextlib.ExitStack() as stack:
        if mark.exists():
            stack.enter_context(_held(mark))
        kept = _take_up(folder, job, resume=resume, force=force)
        if not kept:
            with atomic.told(folder):
                folder.mkdir(parents=True)  # of two processes one does
            try:
                atomic.write(mark, json.dumps(dict(job)).encode(), private=True)
            except UexError:
                _remove(folder)
                raise
            stack.enter_context(_held(mark))
        try:
            yield folder
        except UexError as error:
            written = layout.files(folder) if (folder / layout.JOURNAL).is_file() else []
            if kept or len(written) >= WORTH_KEEPING:
                error.hint = f"{error.hint} What was written is kept: `resume=True` goes on with it.".strip()
            else:
                _remove(folder)
            raise


def _remove(folder: Path) -> None:
    """Remove what grew, as far as that can be; the mark of whose it is goes last, for a kill may come in between."""
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            elif item.name != JOB:
                item.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def recover(output: Path, *, resume: bool = True) -> None:
    """Put right what a kill left while a release took its place: called before one is looked for there.

    What had grown to its end takes its place now, unless it is to be made anew (not `resume`).

    Raises:
        UsageError: what lies where an old release was put aside is none.
    """
    output = output.resolve()
    old, inside = output.with_name(output.name + OLD), output / INSIDE
    grown = output.with_name(output.name + SUFFIX)
    with atomic.told(output):
        if resume and not output.exists() and _is_whole(grown):
            grown.rename(output)
        if (inside / layout.SUMS).is_file() and not (inside / JOB).exists():  # it was being moved up
            _move_up(inside, output)
        if not old.is_dir():
            return
        if not output.exists():
            old.rename(output)
            return
        if not {item.name for item in old.iterdir()} <= MARKS:
            check_replaceable(old)
        discard(old)


def _is_whole(folder: Path) -> bool:
    """Whether a release, a part of one or a copy grew to its end here, and holds nothing that is of its run only."""
    named = any((folder / name).is_file() for name in (layout.SUMS, shards.FILE))
    if not named or any((folder / name).exists() for name in (JOB, layout.JOURNAL)):
        return False
    try:
        check_replaceable(folder)
    except UexError:
        return False
    return True


def discard(folder: Path) -> None:
    """Remove a release, or a part of one, what says so last: a kill leaves one that can be told, and removed again."""
    real = folder.resolve()
    for item in real.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        elif item.name not in MARKS:
            item.unlink()
    shutil.rmtree(real)
    if folder.is_symlink():
        folder.unlink()


def _held(mark: Path) -> BinaryIO:
    lock = atomic.hold(mark)
    if lock is None:
        raise UsageError(f"another uex is writing {mark.parent}.", hint="Wait for it, or write to another folder.")
    return lock


def _stays(output: Path) -> bool:
    """Whether an output is there that must stay what it is: somebody's working folder, or a mounted disk."""
    return output.is_dir() and (output == Path.cwd() or os.path.ismount(output))


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
        begun = not mark.exists() and all(leftovers.is_leftover(item.name) for item in folder.iterdir())
        whole = _is_whole(folder)
        worthless = COPYING in job and (_copied(mark) or (whole and (folder / layout.COPIED).is_file()))
        if not (force or begun or worthless or (resume and whole)):
            raise _left(folder, same=same)
        if not mark.exists() and not begun and not whole:
            raise UsageError(f"{folder} is not uex's; `force=True` would delete it.", hint="Move it away.")
        _remove(folder)
    return False


def _copied(mark: Path) -> bool:
    """Whether a folder is what `uex convert` left: nothing that took long."""
    said = _read(mark)
    return isinstance(said, dict) and COPYING in said


def _left(folder: Path, *, same: bool) -> UsageError:
    """Say what lies in the way, and how to go on."""
    if same:
        hint = "Add `resume=True` to go on, or `force=True` to start afresh."
        return UsageError(f"{folder} is left from an interrupted run.", hint=hint)
    if _copied(folder / JOB):
        hint = "Use `force=True` to delete it and go on, or run that uex convert again."
        return UsageError(f"{folder} is left from an interrupted uex convert.", hint=hint)
    hint = "Repeat that run with `resume=True` to go on with it. "
    hint += "Remove it, or use `force=True`, to start afresh without it."
    return UsageError(f"{folder} is left from an interrupted run of another job.", hint=hint)


def _read(mark: Path) -> Any:
    try:
        return schema.read_json(mark.read_bytes(), schema.table(schema.anything))
    except (OSError, schema.Mismatch):
        return None


def is_free(output: Path) -> bool:
    """Whether an output folder holds nothing, but perhaps what an interrupted run left."""
    return all(item.name == INSIDE for item in output.iterdir())


def check_replaceable(output: Path) -> None:
    """Refuse to delete a folder that is no release, part of one or copy by `uex convert`, or that holds more than that.

    Raises:
        UsageError: names the first thing that is not the release's.
    """
    hint = "Use `output` for another folder."
    if (output / shards.FILE).is_file():
        known = {item["written"]["name"] for item in part.read(output).items if "written" in item}
        _without_strangers(output, {*known, shards.FILE}, hint)
        return
    ours = layout.read_facts(output) is not None or (output / layout.COPIED).is_file()
    if not ours or not (output / layout.SUMS).is_file():
        raise UsageError(f"{output} is no uex release; `force=True` would delete what is in it.", hint=hint)
    _without_strangers(output, set(layout.read_sums(output / layout.SUMS)), hint)


def _without_strangers(output: Path, known: set[str], hint: str) -> None:
    strangers = sorted(set(layout.files(output)) - known)
    if strangers:
        raise UsageError(f"{output} also holds {strangers[0]}; `force=True` would delete it.", hint=hint)


def finish(folder: Path, output: Path, *, force: bool) -> None:
    """Put the whole release in its place; a release that was there goes, with `force`, only once the new one is.

    Raises:
        UsageError: something came into the output in the meantime; it is left alone.
    """
    output = output.resolve()
    with atomic.told(output):
        if folder.parent == output:
            _fill(folder, output, force=force)
            return
        old = output.with_name(output.name + OLD)
        replacing = output.exists() and any(output.iterdir())
        if replacing and not force:
            raise UsageError(f"{output} came to be meanwhile.", hint="Use `force=True` to replace it.")
        if replacing:
            check_replaceable(output)  # again: the run was long
        for name in (layout.JOURNAL, JOB):  # private: neither may ever be in a release
            (folder / name).unlink(missing_ok=True)
        if replacing:
            output.rename(old)
        try:
            folder.replace(output)
        except OSError:
            if replacing:
                old.rename(output)
            raise
        if replacing:
            discard(old)


def _fill(folder: Path, output: Path, *, force: bool) -> None:
    """Move a whole release up into its output; of what lies there only an old release goes.

    Raises:
        UsageError: something in the output is called as a part of the release is.
    """
    if (output / layout.SUMS).is_file():
        if not force:
            raise UsageError(f"{output} came to hold a release meanwhile.", hint="Use `force=True` to replace it.")
        for name in (*layout.read_sums(output / layout.SUMS), layout.SUMS):
            (output / name).unlink(missing_ok=True)
        for name, _, _ in os.walk(output, topdown=False):
            below = Path(name)
            if below != output and not below.is_relative_to(folder) and not any(below.iterdir()):
                below.rmdir()
    for item in folder.iterdir():
        if (output / item.name).exists() and item.name not in {*layout.OWN_FILES, layout.JOURNAL}:
            raise UsageError(f"{output} came to hold {item.name} meanwhile.", hint="Move it away.")
    for name in (layout.JOURNAL, JOB):  # without the second one a killed move is gone on with
        (folder / name).unlink(missing_ok=True)
    _move_up(folder, output)


def _move_up(folder: Path, output: Path) -> None:
    """Move what a folder holds into the one above, the checksums last: while they are there, there is more to move."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name == layout.SUMS):
        item.rename(output / item.name)
    folder.rmdir()
