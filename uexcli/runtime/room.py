"""How much memory this process may still take: what the system has, its control groups (version 1 or 2), its limits."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

VERSIONS = {  # folder of the groups below the root: files of the limit and the use, and the reclaimable part's name
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "": ("memory.max", "memory.current", "inactive_file"),
    "unified": ("memory.max", "memory.current", "inactive_file"),
}


def left(*, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Give the bytes that can still be taken; None where the system does not say."""
    found = [
        number(proc / "meminfo", "MemAvailable:", 1024),
        _within_address_space(proc),
        *(_within(folder, *files) for folder, files in _groups(proc, groups)),
    ]
    known = [bytes_ for bytes_ in found if bytes_ is not None]
    return max(0, min(known)) if known else None


def _groups(proc: Path, groups: Path) -> list[tuple[Path, tuple[str, str, str]]]:
    """List the groups that this process is in, with all that these lie in: each may have a limit.

    In a container the root of the groups is often its own, and the path that the process is told is not there.
    """
    try:
        lines = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text().splitlines()]
    except OSError:
        lines = []
    found = {}
    for version, files in VERSIONS.items():
        wanted = "memory" if version == "memory" else ""
        paths = [line[2] for line in lines if len(line) == 3 and wanted in line[1].split(",")]
        for path in map(PurePosixPath, [*paths, "/"]):
            for part in (path, *path.parents):
                found[groups / version / str(part).lstrip("/")] = files
    return list(found.items())


def _within(folder: Path, limit: str, used: str, given_back: str) -> int | None:
    most, now = number(folder / limit, "", 1), number(folder / used, "", 1)
    if most is None or now is None:
        return None
    cache = number(folder / "memory.stat", f"{given_back} ", 1) or 0  # of files that were read: given back at need
    return most - now + cache


def _within_address_space(proc: Path) -> int | None:
    """What `ulimit -v` leaves."""
    if sys.platform == "win32":
        return None
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    now = number(proc / "self" / "statm", "", resource.getpagesize())
    return None if most == resource.RLIM_INFINITY or now is None else most - now


def number(path: Path, start: str, unit: int, *, field: int = 0) -> int | None:
    """Read a number from a line of a system's file, the first that starts so."""
    try:
        line = next(line for line in path.read_text().splitlines() if line.startswith(start))
        return int(line.removeprefix(start).split()[field]) * unit
    except (OSError, StopIteration, IndexError, ValueError):
        return None
