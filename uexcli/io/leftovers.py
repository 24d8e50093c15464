"""Temporary files: each is locked by the process that writes it, so that the next run knows, and sweeps, what was left.

Their names say which machine and process made them: where the system or the disk has no locks, that has to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import re
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, cast

try:
    import fcntl

    HAS_LOCKS = True
except ImportError:  # Windows
    HAS_LOCKS = False

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
STALE = 24 * 3600.0  # seconds after which an unlocked file counts as left, whatever machine made it
_OURS = re.compile(r"\.uex-([0-9a-z_]+)(?:-([0-9]+)(?:-[0-9]+)?)?\.(?:tmp|lock)")
_numbers = itertools.count()


def create(folder: Path, *, private: bool = False) -> tuple[Path, BinaryIO]:
    """Make a temporary file in a folder, open for writing and locked until it is closed.

    A `private` one its owner alone may read, from the first byte on and whatever the umask.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        path = folder / f".uex-{_machine()}-{os.getpid()}-{next(_numbers)}.tmp"
        try:
            file = os.fdopen(os.open(path, NEW, 0o600 if private else 0o666), "wb")
        except FileExistsError:  # of a process of this number, long gone
            continue
        if take(file) is not False and is_at(file, path):
            return path, file
        file.close()  # somebody who sweeps was faster
        path.unlink(missing_ok=True)


def unnamed(folder: Path) -> BinaryIO:
    """Make a file to write and read without a name, which is gone when it is closed, however the process ends.

    Raises:
        OSError: it cannot be made.
    """
    if not HAS_LOCKS:  # Windows removes no file that is open
        return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
    path, file = create(folder, private=True)
    with file:
        again: BinaryIO = path.open("r+b")
        path.unlink()
    return again


def take(file: BinaryIO, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file; says whether it is ours, or None where there are no locks here."""
    if not HAS_LOCKS:
        return None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def release(file: BinaryIO) -> None:
    """Give up a lock at once: forked workers would hold it as long as they have the file, too."""
    if HAS_LOCKS:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one that lies at a path: not removed, nor replaced."""
    try:
        there, ours = path.lstat(), os.fstat(file.fileno())
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def sweep(folder: Path) -> None:
    """Remove what runs that were killed left in a folder: files of this user's that no process holds.

    It does what it can: what cannot be looked at or removed stays.
    """
    try:
        with os.scandir(folder) as entries:
            left = [Path(entry.path) for entry in entries if _OURS.fullmatch(entry.name)]
    except OSError:
        return
    for path in left:
        with contextlib.suppress(OSError):
            _sweep(path)


def is_leftover(name: str) -> bool:
    """Whether a file is called like one of these."""
    return _OURS.fullmatch(name) is not None


def _sweep(path: Path) -> None:
    status = path.lstat()
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    if not mine or not stat.S_ISREG(status.st_mode):
        return
    with opened(path) as file:
        held = take(file)
        if held is not False and is_at(file, path) and (_is_gone(path, held) or _is_stale(status)):
            path.unlink()


def opened(path: Path) -> BinaryIO:
    """Open a file so that it can be locked, which some network disks allow for writing only.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        return path.open("r+b")
    except PermissionError:
        return path.open("rb")


def _is_gone(path: Path, held: bool | None) -> bool:
    """Whether the process that made a file, the lock of which was had or is not known, is over."""
    found = _OURS.fullmatch(path.name)
    assert found is not None
    if path.suffix == ".lock":
        return held is True
    machine, process = found[1], found[2]
    if machine != _machine() or process is None:  # elsewhere, or of an old version: both may hold no lock that is seen
        return False
    return held is True or not _alive(int(process))


def _is_stale(status: os.stat_result) -> bool:
    return time.time() - status.st_mtime > STALE


def _machine() -> str:
    return hashlib.blake2b(platform.node().encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def _alive(process: int) -> bool:
    if sys.platform == "win32":  # there, signal 0 is a Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
