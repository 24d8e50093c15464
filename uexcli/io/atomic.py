"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from uexcli.errors import UexError

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
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds this lock, and hold it; where the system has no such locks, go on at once."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with told(path):
        file = path.open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
        file: BinaryIO
        try:
            file = path.open("r+b")  # NFS locks what is open for writing only
        except PermissionError:
            file = path.open("rb")
    try:
        import fcntl
    except ImportError:  # Windows
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:  # a file system without locks
        pass
    return file


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path` into one line with the way out."""
    try:
        yield
    except OSError as error:
        reason, hint = REASONS.get(error.errno or 0, (error.strerror or str(error), "Write elsewhere."))
        raise WriteError(f"cannot write {path}: {reason}.", hint=hint) from None


def write(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write bytes to a temporary file beside `path`, flush it to the disk, and rename.

    What a killed process left of an earlier try is taken away first.

    Raises:
        UexError: the disk is full, read-only and the like; `path` is then as it was.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = path.with_name(f"{_prefix(path)}{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            with temporary.open("xb") as file:
                for piece in (data,) if isinstance(data, bytes) else data:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _flush_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where folders can be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _prefix(path: Path) -> str:
    """How the temporary files of `path` begin on this machine: short, whatever the name."""
    name = f"{platform.node()}/{path.name}".encode("utf-8", "surrogateescape")
    return f".uex-{hashlib.blake2b(name, digest_size=8).hexdigest()}-"


def _sweep(path: Path) -> None:
    """Remove what processes that are gone left of `path`."""
    for leftover in path.parent.glob(f"{_prefix(path)}*.tmp"):
        number = leftover.stem.rpartition("-")[2]
        if number.isdigit() and not _alive(int(number)):
            leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if sys.platform == "win32":  # there, signal 0 is a Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def check_room(path: Path, size: int) -> None:
    """Find out before long work whether `size` bytes can be written at `path`.

    Raises:
        UexError: the folder cannot be written to, or has less space left.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".uex-", suffix=".tmp")
        os.close(handle)
        Path(name).unlink()
    free = shutil.disk_usage(path.parent).free
    if free < size:
        needed = f"{size / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free"
        raise WriteError(f"cannot write {path}: no space left ({needed}).", hint="Free some space, or write elsewhere.")
