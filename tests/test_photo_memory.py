"""How much memory whole photos take: planned, said, bounded, and an error in one line where it is not there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran
from PIL import Image

from uexcli import plugin
from uexcli.commands.protect import memory
from uexcli.errors import UexError
from uexcli.io import pool
from uexcli.io.images import header, photo_files
from uexcli.io.images.header import Shape
from uexcli.runtime import machine

Uex = Callable[..., Ran]
MIB = 2**20


def large(path: Path, side: int, *, mode: str = "RGB") -> Path:
    """A photo of some size, of few bytes on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (90, 120, 150)).convert(mode).save(path)
    return path


@pytest.fixture
def shared(photos: Path, uex: Uex) -> Path:
    """Noise that any photo can be given."""
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "--seed", 1, "-o", "u.safetensors").code == 0
    return Path("u.safetensors")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how much memory is free."""

    def say(size: int) -> None:
        monkeypatch.setattr(machine, "resident", lambda: 500 * MIB)
        monkeypatch.setattr(machine, "free_memory", lambda _device: size)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)

    return say


def planned(sizes: list[int], count: int | None = None, **options: Any) -> memory.Plan:
    shapes = {str(number): Shape(1, size, 1, False) for number, size in enumerate(sizes)}
    settings = {"jobs": None, "memory": None, "skip": False, **options}
    return memory.plan(shapes, lambda one: float(one.values * MIB), count or len(sizes), **settings)


def test_as_many_jobs_as_the_largest_photos_leave_room_for(free: Callable[[int], None]) -> None:
    free(10_000 * MIB)
    assert planned([1] * 100).jobs == 8
    assert planned([1] * 3).jobs == 3
    assert planned([2000] * 9).jobs == 3  # of 7,000 MiB, which are what may be used of 10,000
    assert planned([5000] + [1] * 99).jobs == 8  # one large photo among small ones stops nobody
    assert planned([5000, 5000] + [1] * 99).jobs == 1
    assert planned([2000] * 9, jobs=2).jobs == 2
    assert planned([2000] * 9, jobs=64).jobs == 3


def test_the_stated_memory_is_that_of_the_largest_ones_at_once(free: Callable[[int], None]) -> None:
    free(10_000 * MIB)
    plan = planned([7, 2000, 1000, 9], jobs=2)
    assert plan.bytes == 500 * MIB + 3000 * MIB + 2 * memory.EACH
    assert plan.largest == 2000 * MIB and plan.apart
    assert not planned([7, 9]).apart


def test_memory_that_is_asked_for_is_kept(free: Callable[[int], None]) -> None:
    free(10_000 * MIB)
    assert planned([1000] * 9, memory="4GiB").jobs == 3
    assert planned([1000] * 9, memory="4GiB").bytes <= 4 * 2**30
    assert planned([1000] * 9, memory="20GiB").jobs == 8  # and what is free does not count then
    assert planned([50_000] * 9, memory="0").jobs == 1


def test_where_the_system_says_nothing_all_cores_are_used(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(0)
    monkeypatch.setattr(machine, "free_memory", lambda _device: None)
    assert planned([50_000] * 9).jobs == 8


def test_a_photo_that_does_not_fit_is_refused_or_left_out(free: Callable[[int], None]) -> None:
    free(1000 * MIB)
    for options in ({}, {"memory": "1GiB"}):
        with pytest.raises(UexError, match=r"3: 5000x1 px take about 5\.4 GiB of memory") as caught:
            planned([1, 1, 1, 5000], **options)
        needed = caught.value.hint.partition("memory=")[2].split("MiB")[0]
        assert planned([5000], memory=f"{needed}MiB").jobs == 1  # the way out leads there
        assert "`on_error=skip`" in caught.value.hint
    plan = planned([1, 1, 1, 5000], skip=True)
    assert list(plan.refused) == ["3"] and plan.largest == MIB
    with pytest.raises(UexError) as caught:
        planned([5000], skip=None)
    assert "--on-error" not in caught.value.hint


def test_apply_says_what_it_takes_and_uses_fewer_jobs(
    photos: Path, shared: Path, uex: Uex, free: Callable[[int], None]
) -> None:
    free(1000 * MIB)
    for number in range(3):
        large(photos / "cat" / f"large{number}.png", 3600)
    ran = uex("apply", shared, photos, "-o", "r", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["jobs"] == 2 and 500 * MIB < ran.json["memory"] < 1200 * MIB
    assert "19 images to protect, .png files, 2 at a time, for want of memory; at most" in ran.err
    ran = uex("apply", shared, photos, "-o", "r", "--dry-run", "--memory", "0", "--json")
    assert ran.json["jobs"] == 1
    ran = uex("apply", shared, photos, "-o", "r", "--dry-run", "--memory", "600MiB")
    assert ran.code == 3 and not ran.out
    assert "cat/large" in ran.err and "3600x3600 px take about" in ran.err and "--memory" in ran.err
    assert uex("apply", shared, photos, "-o", "r", "--memory", "much").code == 2


def test_apply_leaves_out_what_is_too_large_where_it_may(
    photos: Path, shared: Path, uex: Uex, free: Callable[[int], None]
) -> None:
    free(4000 * MIB)
    large(photos / "cat" / "large.png", 3600)
    ran = uex("apply", shared, photos, "-o", "r", "--memory", "600MiB", "--on-error", "skip", "--json")
    assert ran.code == 0, ran.err
    assert [item["key"] for item in ran.json["skipped"]] == ["cat/large.png"]
    assert ran.json["written"] == 16
    assert uex("verify", "r", "--source", photos, "--allow-missing").code == 0


def test_verify_has_the_same_bound_and_words(photos: Path, shared: Path, uex: Uex, free: Callable[[int], None]) -> None:
    large(photos / "cat" / "large.png", 1200)
    free(4000 * MIB)
    assert uex("apply", shared, photos, "-o", "r").code == 0
    for words in ((), ("--source", photos)):
        ran = uex("verify", "r", *words, "--memory", "580MiB")
        assert ran.code == 3
        assert "cat/large.png: 1200x1200 px take about" in ran.err and "--on-error" not in ran.err
        ran = uex("verify", "r", *words, "--memory", "0", "--json")
        assert ran.code == 0, ran.err
        assert ran.json["jobs"] == 1 and ran.json["memory"] > 500 * MIB
    free(600 * MIB)
    ran = uex("verify", "r", "--source", photos, "--json")
    assert "17 images to check" in ran.err and "for want of memory" in ran.err
    assert uex("verify", "r", "--memory", "much").code == 2


@pytest.mark.skipif(not pool.FORKS, reason="processes are forked")
@pytest.mark.parametrize("command", ["apply", "verify"])
def test_a_killed_worker_is_an_error_in_one_line(
    command: str, photos: Path, shared: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system kills what takes too much memory: with one job and few photos, that is not the command itself."""
    large(photos / "cat" / "large.png", 300)
    assert uex("apply", shared, photos, "-o", "before").code == 0
    monkeypatch.setattr(memory, "HEAVY", 1)
    opened = photo_files.open_photo

    def killed(sample: plugin.Sample, **options: Any) -> photo_files.Photo:
        if sample.key.endswith("large.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return opened(sample, **options)

    monkeypatch.setattr(photo_files, "open_photo", killed)
    words = ("apply", shared, photos, "-o", "r") if command == "apply" else ("verify", "before", "--source", photos)
    ran = uex(*words, "--jobs", 1)
    assert ran.code == 3 and not ran.out
    assert "a worker process was killed; was the memory used up?" in ran.err
    assert "--memory" in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize("command", ["apply", "verify"])
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_an_allocation_that_fails_names_the_photo(
    command: str, error: Exception, photos: Path, shared: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert uex("apply", shared, photos, "-o", "before").code == 0

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("uexcli.core.stripes.changed_by", fail)
    words = ("apply", shared, photos, "-o", "r") if command == "apply" else ("verify", "before", "--source", photos)
    ran = uex(*words)
    assert ran.code == 3
    assert ran.err.splitlines()[-1].startswith("Error: cat/0.png: there was not enough memory for it.")


def test_a_decoder_without_memory_does_not_make_a_photo_undecodable(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(photo_files, "decode", fail)
    with pytest.raises(MemoryError):
        photo_files.open_photo(plugin.Sample("0.png", None, path=photos / "cat" / "0.png"))


@pytest.mark.parametrize(
    ("mode", "suffix", "channels", "deep"),
    [
        ("RGB", "jpg", 3, False), ("L", "jpg", 1, False), ("RGB", "webp", 4, False), ("RGBA", "png", 4, False),
        ("LA", "png", 2, False), ("I;16", "png", 1, True), ("RGB", "bmp", 4, False), ("RGB", "tiff", 4, True),
    ],
)  # fmt: skip
def test_shapes_are_read_from_headers(mode: str, suffix: str, channels: int, deep: bool, tmp_path: Path) -> None:
    pixels = np.zeros((30, 20), np.uint16) if mode == "I;16" else np.zeros((30, 20, 3), np.uint8)
    image = Image.fromarray(pixels) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    path = tmp_path / f"0.{suffix}"
    image.save(path)
    wanted = Shape(30, 20, channels, deep, path.stat().st_size)
    assert header.shape_of(plugin.Sample("0", None, path=path)) == wanted
    calls = []
    data = path.read_bytes()
    sample = plugin.Sample("0", None, data=lambda: calls.append(1) or data)
    assert header.shape_of(sample) == wanted
    assert calls == [1]


@pytest.mark.parametrize(
    ("suffix", "channels", "deep", "written"),
    [
        (".webp", 1, False, 3), (".webp", 2, True, 4), (".webp", 3, False, 3), (".webp", 4, True, 4),
        (".tiff", 1, True, 1), (".tiff", 2, False, 2), (".tiff", 2, True, 4), (".png", 2, True, 2), ("", 1, False, 1),
    ],
)  # fmt: skip
def test_grey_takes_what_colour_does_where_a_format_has_no_grey(
    suffix: str, channels: int, deep: bool, written: int
) -> None:
    assert Shape(5, 7, channels, deep, 9).within(suffix) == Shape(5, 7, written, deep, 9)


def test_grey_in_webp_is_planned_as_colour(shared: Path, tmp_path: Path, uex: Uex, free: Callable[[int], None]) -> None:
    free(4000 * MIB)
    said = []
    for mode in ("L", "RGB"):
        large(tmp_path / mode / "a.png", 64, mode=mode)
        assert uex("apply", shared, tmp_path / mode, "-o", f"r-{mode}", "--format", "webp").code == 0
        plans = [
            uex("apply", shared, tmp_path / mode, "-o", f"r2-{mode}", "--format", "webp", "--dry-run", "--json"),
            uex("verify", f"r-{mode}", "--source", tmp_path / mode, "--json"),
        ]
        said.append([plan.json["memory"] for plan in plans])
    assert all(abs(grey - colour) < 10_000 for grey, colour in zip(*said, strict=True))


def test_shapes_of_arrays_and_of_what_is_no_image(tmp_path: Path) -> None:
    assert header.shape_of(plugin.Sample("0", None, array=np.zeros((3, 4, 3), np.uint8))) == Shape(3, 4, 3, False)
    (tmp_path / "no.png").write_bytes(b"no image")
    samples = [plugin.Sample(name, None, path=tmp_path / name) for name in ("no.png", "gone.png")]
    assert memory.shapes_of(samples) == {}


PEAK = (
    "import resource, sys; from uexcli.cli.app import run; code = run(); "
    "print(code, max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it")
@pytest.mark.parametrize(("suffix", "depth"), [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16)])
def test_the_stated_peak_holds(suffix: str, depth: int, photos: Path, shared: Path, uex: Uex) -> None:
    """Measured from outside, in a process of its own: a photo of 16 megapixels, of noise that no codec makes small."""
    pixels = np.random.default_rng(0).integers(0, 2**depth, (4000, 4000, 3), dtype=f"uint{depth}")
    buffer = io.BytesIO()
    if depth == 16:
        import tifffile

        tifffile.imwrite(buffer, pixels, photometric="rgb")
        (photos / "cat" / "large.tiff").write_bytes(buffer.getvalue())
    else:
        Image.fromarray(pixels).save(photos / "cat" / "large.png", compress_level=0)
    job = ("apply", shared, photos, "-o", "r", "--format", suffix, "--jobs", 1, "--json")
    for words in (job, ("verify", "r", "--source", photos, "--jobs", 1, "--json")):
        ran = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, words), "-q"], capture_output=True, text=True, check=True
        )
        document, _, last = ran.stdout.rstrip().rpartition("\n")
        code, peak = map(int, last.split())
        assert code == 0, ran.stderr
        assert peak * 1024 <= json.loads(document)["memory"]
        assert peak * 1024 - machine.resident() < 12 * pixels.nbytes
