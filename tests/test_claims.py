"""Two runs into one output: the second ends with 2, and nothing of the first is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran

from uexcli.errors import UsageError
from uexcli.io import atomic, claims, leftovers
from uexcli.io.claims import claim

NOBODY = 65534  # a user that owns nothing
Uex = Callable[..., Ran]
HOLD = """
import sys, time
from pathlib import Path
from uexcli.io import claims
with claims.claim(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PATIENCE", 0.0)


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Path | str], subprocess.Popen[str]]]:
    """Hold an output in another process, until the test ends or closes its input."""
    started: list[subprocess.Popen[str]] = []

    def hold(output: Path | str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        held = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdin=pipe, stdout=pipe, text=True)
        started.append(held)
        assert held.stdout is not None and held.stdout.readline() == "held\n"
        return held

    yield hold
    for one in started:
        one.kill()
        one.communicate()


def left() -> list[str]:
    return sorted(path.name for path in Path().rglob("*") if leftovers.is_leftover(path.name))


def test_no_command_writes_what_another_is_writing(
    photos: Path, noise: Path, release: Path, uex: Uex, elsewhere: Callable[[Path | str], subprocess.Popen[str]]
) -> None:
    recipes = Path("recipes.toml")
    recipes.write_text(f'photos = "{photos}"\n[[row]]\nmethod = "random"\n')
    lines: dict[str, list[tuple[object, ...]]] = {
        "n": [("fit", photos, "--method", "random", "-o", "n", *more) for more in ((), ("--force",), ("--resume",))],
        "out": [("apply", noise, photos, "-o", "out"), ("merge", "out"), ("convert", photos, "out"),
                ("convert", release, "webdataset:out", "--force"), ("demo", "-o", "out", "--force"),
                ("bench", recipes, "-o", "out"), ("bench", recipes, "-o", "out", "--shard", "1/2")],
        "out.part-1-of-2": [("apply", noise, photos, "-o", "out", "--shard", "1/2")],
        "file": [("eval", photos, release, "--report", "file"),
                 ("preview", noise, photos / "cat" / "0.png", "-o", "file"),
                 ("export", noise, "file"), ("verify", release, "--source", photos, "--junit", "file")],
    }  # fmt: skip
    for output, commands in lines.items():
        held = elsewhere(output)
        before = sorted(Path().iterdir())
        for words in commands:
            ran = uex(*words)
            assert ran.code == 2 and "another uex is writing" in ran.err, (words, ran.err)
        assert sorted(Path().iterdir()) == before
        held.communicate("")
    assert left() == []


def test_a_claim_is_over_when_its_process_is_however_it_ended(
    photos: Path, uex: Uex, elsewhere: Callable[[Path | str], subprocess.Popen[str]]
) -> None:
    held = elsewhere("n")
    assert len(left()) == 1
    held.kill()
    held.wait()
    assert len(left()) == 1
    assert uex("fit", photos, "--method", "random", "-o", "n").code == 0
    assert left() == []


def test_another_name_of_the_same_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with claim(tmp_path / "real" / "n"):
        with pytest.raises(UsageError, match="another uex is writing"), claim(tmp_path / "link" / ".." / "real" / "n"):
            pass
        with claim(tmp_path / "link" / "m"):
            pass


def test_who_shares_a_folder_does_not_share_it_with_who_does_not(tmp_path: Path) -> None:
    output = tmp_path / "bench"
    with claim(output, shared=True):
        with claim(output, shared=True):
            pass
        with pytest.raises(UsageError), claim(output):
            pass
    assert left() == []
    with claim(output), pytest.raises(UsageError), claim(output, shared=True):
        pass


def test_who_waits_goes_on_when_the_other_is_done(
    tmp_path: Path, elsewhere: Callable[[Path | str], subprocess.Popen[str]]
) -> None:
    held = elsewhere("row")
    began = time.monotonic()
    threading.Timer(0.5, held.kill).start()
    told: list[float] = []
    with claim(Path("row"), wait=lambda: told.append(time.monotonic())):
        assert time.monotonic() - began >= 0.4
    assert len(told) == 1 and told[0] - began < 0.4  # before, not after
    with claim(Path("row"), wait=pytest.fail):  # there is nobody to wait for
        pass


def test_a_folder_that_was_made_for_nothing_goes(tmp_path: Path) -> None:
    with claim(tmp_path / "new" / "below" / "n"):
        assert (tmp_path / "new" / "below").is_dir()
    assert not (tmp_path / "new").exists()
    with claim(tmp_path / "new" / "n"):
        (tmp_path / "new" / "n").write_text("x")
    assert (tmp_path / "new" / "n").exists()


@pytest.mark.skipif(os.name == "nt", reason="folders have no such mode there")
def test_a_folder_that_cannot_be_written_to_is_no_obstacle_to_look_in() -> None:
    with tempfile.TemporaryDirectory() as name:  # not below pytest's own, which is closed to others
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(NOBODY)  # root may write anywhere
        try:
            with pytest.raises(PermissionError):
                (folder / "x").touch()
            with claim(folder / "n"):
                pass
        finally:
            os.seteuid(user)
            folder.chmod(0o700)


# --------------------------------------------------------------------------------- temporary files


def old(path: Path, days: float = 2) -> Path:
    path.write_bytes(b"half")
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))
    return path


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    machine = leftovers._machine()
    dead = tmp_path / f".uex-{machine}-{os.getpid()}-77.tmp"  # the number of a process says nothing: it is used again
    dead.write_bytes(b"half")
    living, file = leftovers.create(tmp_path)
    others = [tmp_path / ".uex-0badc0de-1-0.tmp", tmp_path / ".uex-abcdefgh.tmp"]  # of another machine, or an old uex
    for path in others:
        path.write_bytes(b"half")
    kept = [old(tmp_path / name) for name in ("a.tmp", ".tmp", ".uex-notes.txt", ".uex-A B.tmp", "x.uex-1.tmp")]
    (tmp_path / ".uex-folder.tmp").mkdir()
    kept += [living, *others, tmp_path / ".uex-folder.tmp"]
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / ".uex-link.tmp").symlink_to(target)
    os.mkfifo(tmp_path / ".uex-pipe.tmp")
    kept += [target, tmp_path / ".uex-link.tmp", tmp_path / ".uex-pipe.tmp"]
    leftovers.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == set(kept)
    for path in others:
        old(path)
    file.close()
    leftovers.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == set(kept) - {living, *others}


def test_without_locks_the_process_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "take", lambda *_, **__: None)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    machine = leftovers._machine()
    dead, living = tmp_path / f".uex-{machine}-{gone.pid}-0.tmp", tmp_path / f".uex-{machine}-{os.getppid()}-0.tmp"
    for path in (dead, living):
        path.write_bytes(b"half")
    atomic.write(tmp_path / "file", [b"who", b"le"])
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert set(tmp_path.iterdir()) == {tmp_path / "file", living}


def test_many_processes_write_and_sweep_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from uexcli.io import atomic\n"
        "for n in range(300): atomic.write(Path(sys.argv[1]) / sys.argv[2], b'x' * n)"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen([*line, name], stderr=subprocess.PIPE, text=True) for name in ("a", "b", "a", "c")]
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == dict.fromkeys("abc", 299)


def test_a_command_with_nothing_to_do_sweeps_all_the_same(photos: Path, noise: Path, release: Path, uex: Uex) -> None:
    name = f".uex-{leftovers._machine()}-{os.getpid()}-99.tmp"
    for words in (
        ("fit", photos, "--method", "random", "--seed", 1 << 100, "-o", noise),
        ("apply", noise, photos, "-o", release),
        ("verify", release, "--source", photos, "--junit", "v.xml"),
    ):
        (noise.parent / name).write_bytes(b"half")
        ran = uex(*words)
        assert ran.code == 0, ran.err
        assert left() == [], words
    assert json.loads(Path("release/uex-release.json").read_text())["images"] == 16


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc here")
def test_a_folder_that_takes_no_file_ends_in_one_line(photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "--method", "random", "-o", "/proc/n.noise.safetensors")
    assert ran.code == 3
    assert "cannot write /proc/n.noise.safetensors" in ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "p", "-o", "/"),
        ("apply", "n", "p", "-o", "/"),
        ("merge", "/"),
        ("convert", "p", "/"),
        ("demo", "-o", "/"),
    ],
    ids=lambda words: words[0],
)
def test_the_root_of_a_disk_is_no_output(words: tuple[str, ...], uex: Uex) -> None:
    ran = uex(*words)
    assert (ran.code, ran.err) == (2, "Error: / is the root of a disk. Write to a folder or file in it.\n")


def test_a_demo_in_place_of_a_file_is_refused(uex: Uex) -> None:
    Path("f").write_text("x")
    assert uex("demo", "-o", "f").code == 2
    assert Path("f").read_text() == "x"
