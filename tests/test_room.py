"""What memory is left: of the system, of control groups of both versions, of the process's own limit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from uexcli.runtime import room

MIB = 2**20


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(tmp_path, {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {1000 * 1024} kB", "proc/self/statm": "1 1 1"})
    return tmp_path / "proc"


@pytest.mark.parametrize(
    ("told", "files", "wanted"),
    [
        ("", {}, 1000),
        ("0::/", {"memory.max": 300 * MIB, "memory.current": 100 * MIB}, 200),
        ("0::/", {"memory.max": "max", "memory.current": 100 * MIB}, 1000),
        # files that were read are given back at need
        ("0::/", {"memory.max": 300 * MIB, "memory.current": 290 * MIB,
                  "memory.stat": f"anon 1\ninactive_file {90 * MIB}"}, 100),
        # a group, and one that it lies in, each with a limit
        ("0::/a/b", {"a/b/memory.max": 900 * MIB, "a/b/memory.current": 0, "a/memory.max": 500 * MIB,
                     "a/memory.current": 100 * MIB}, 400),
        # version 1, beside others
        ("5:cpu,cpuacct:/x\n4:memory:/d/1",
         {"memory/d/1/memory.limit_in_bytes": 64 * MIB, "memory/d/1/memory.usage_in_bytes": 60 * MIB,
          "memory/d/1/memory.stat": f"inactive_file 1\ntotal_inactive_file {MIB}"}, 5),
        # in a container the path is not there, and its root is the group
        ("4:memory:/docker/abc",
         {"memory/memory.limit_in_bytes": 256 * MIB, "memory/memory.usage_in_bytes": 56 * MIB}, 200),
        ("0::/", {"unified/memory.max": 300 * MIB, "unified/memory.current": 100 * MIB}, 200),
        ("4:memory:/", {"memory/memory.limit_in_bytes": 2**63 - 4096, "memory/memory.usage_in_bytes": 5}, 1000),
        ("0::/", {"memory.max": 100 * MIB, "memory.current": 200 * MIB}, 0),
    ],
)  # fmt: skip
def test_the_least_that_is_left(proc: Path, tmp_path: Path, told: str, files: dict[str, object], wanted: int) -> None:
    write(proc, {"self/cgroup": told})
    write(tmp_path / "groups", files)
    assert room.left(proc=proc, groups=tmp_path / "groups") == wanted * MIB


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limits")
def test_the_limit_of_the_process_counts(proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (50 * MIB, 50 * MIB))
    pages = 10 * MIB // resource.getpagesize()
    write(proc, {"self/statm": f"{pages} 1 1"})
    assert room.left(proc=proc, groups=tmp_path) == 40 * MIB


def test_where_nothing_is_said_nothing_is_known(tmp_path: Path) -> None:
    assert room.left(proc=tmp_path, groups=tmp_path) is None


def test_something_is_left_here() -> None:
    left = room.left()
    assert left is None or left > 0
