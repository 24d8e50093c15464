"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from uexcli.errors import UexError
from uexcli.io import leftovers

REASONS = {
    errno.ENOSPC: ("no space left on the device", "Free some space, or write elsewhere."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or write elsewhere."),
    errno.EROFS: ("the file system is read-only", "Write elsewhere with -o."),
    errno.EACCES: ("permission denied", "Write elsewhere with -o, or change the permissions."),
    errno.EPERM: ("permission denied", "Write elsewhere with -o, or change the permissions."),
    errno.ENAMETOOLONG: ("the name is too long", "Shorten it."),
    errno.EFBIG: ("the file size limit is reached", "Raise it (ulimit -f), or write to another file system."),
    errno.EIO: ("the device reports an input/output error", "Check the disk."),
}


class WriteError(UexError):
    """The disk is full, read-only and the like: no other file would fare better."""


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process holds this folder, and hold it; where that cannot be, go on at once."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def hold(path: Path) -> BinaryIO | None:
    """Take the lock on a file that is there; None where another process has it.

    It lasts until the file that is given is closed, or the process ends. Where the system has no such locks, it is
    always given.
    """
    with told(path):
        file = leftovers.opened(path)
    if leftovers.take(file) is False:
        file.close()
        return None
    return file


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path` into one line with the way out."""
    try:
        yield
    except OSError as error:
        reason, hint = REASONS.get(error.errno or 0, (error.strerror or str(error), "Write elsewhere."))
        raise WriteError(f"cannot write {path}: {reason}.", hint=hint) from None


def write(path: Path, data: bytes | Iterable[bytes], *, private: bool = False) -> None:
    """Write bytes to a temporary file beside `path`, flush it to the disk, and rename.

    What a killed process left of an earlier try is taken away first. A `private` file is for its owner's eyes alone
    from the first byte on, whatever the umask, also where it replaces one that was not.

    Raises:
        UexError: the disk is full, read-only and the like; `path` is then as it was.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        leftovers.sweep(path.parent)
        temporary, file = leftovers.create(path.parent, private=private)
        try:
            with file:
                for piece in (data,) if isinstance(data, bytes) else data:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                if not leftovers.HAS_LOCKS:  # Windows moves closed files only
                    file.close()
                temporary.replace(path)  # before it can be taken for one that was left
            _flush_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def private_folder(path: Path) -> None:
    """Make a folder that its owner alone may enter; one that is there is left as it is.

    Raises:
        WriteError: it cannot be made.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def is_open_to_others(folder: Path) -> bool:
    """Whether others than its owner may look into a folder, as far as its mode says that."""
    return os.name == "posix" and folder.stat().st_mode & 0o077 != 0


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where folders can be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_room(path: Path, size: int) -> None:
    """Find out before long work whether `size` bytes can be written at `path`.

    Raises:
        UexError: the folder cannot be written to, or has less space left.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        leftovers.sweep(path.parent)
        leftovers.unnamed(path.parent).close()
    free = shutil.disk_usage(path.parent).free
    if free < size:
        needed = f"{size / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free"
        raise WriteError(f"cannot write {path}: no space left ({needed}).", hint="Free some space, or write elsewhere.")
