"""A release as a pipeline makes it: many photos, processes, shards, interruptions, other formats, 16 bits."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, picture
from PIL import Image, ImageCms

from uexcli.errors import UexError, UsageError
from uexcli.io.images import photo_files, png, sixteen_bit
from uexcli.io.images.metadata import icc, policy
from uexcli.io.pool import parallel
from uexcli.io.release import shards, staging
from uexcli.io.release.shards import Shard

Uex = Callable[..., Ran]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MANY = 40  # enough for worker processes


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two classes of twenty photos."""
    root = tmp_path / "many"
    for index in range(MANY):
        path = root / ("a", "b")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(500 + index, 24)).save(path)
    return root


@pytest.fixture
def many_noise(many: Path, uex: Uex) -> Path:
    path = many.parent / "many.noise.safetensors"
    assert uex("fit", many, "--method", "random", "--seed", 1, "-o", path).code == 0
    return path


def tree(root: Path) -> dict[str, str]:
    """Digests of all files."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------------- workers


def test_worker_processes_give_what_threads_give_in_order() -> None:
    def square(number: int) -> tuple[int, int]:
        return number * number, os.getpid()

    made = list(parallel(square, range(100), 3, processes=True))
    assert [value for value, _ in made] == [number * number for number in range(100)]
    assert os.getpid() not in {process for _, process in made} and 1 < len({process for _, process in made}) <= 3
    assert {process for _, process in parallel(square, range(10), 3, processes=True)} == {os.getpid()}
    assert [value for value, _ in parallel(square, range(100), 3)] == [value for value, _ in made]


def test_an_error_in_a_worker_is_the_users_error() -> None:
    def refuse(number: int) -> int:
        if number == 50:
            raise UsageError("number 50.", hint="Take another.")
        return number

    with pytest.raises(UsageError) as told:
        list(parallel(refuse, range(100), 2, processes=True))
    assert (told.value.message, told.value.hint, told.value.code) == ("number 50.", "Take another.", 2)


def test_a_worker_that_the_system_kills_is_told() -> None:
    def die(number: int) -> int:
        if number == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(UexError, match="`jobs"):
        list(parallel(die, range(100), 2, processes=True))


def test_results_do_not_pile_up() -> None:
    running = parallel(lambda number: number, range(1000), 2)
    assert next(running) == 0
    running.close()


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_any_number_of_workers_writes_the_same_release(jobs: int, many: Path, many_noise: Path, uex: Uex) -> None:
    assert uex("apply", many_noise, many, "-o", "one", "--jobs", 3).code == 0
    assert uex("apply", many_noise, many, "-o", f"of{jobs}", "--jobs", jobs).code == 0
    assert tree(Path("one")) == tree(Path(f"of{jobs}"))
    assert uex("verify", f"of{jobs}", "--source", many, "--jobs", jobs).code == 0


# ------------------------------------------------------------------------------------------------- shards


def test_shards_merge_to_what_one_run_writes(many: Path, many_noise: Path, uex: Uex) -> None:
    (many / "a" / "broken.png").write_bytes(b"no image")
    words = (many_noise, many, "--on-error", "skip")
    assert uex("apply", *words, "-o", "whole").code == 0
    known = json.loads(Path("many.noise.receipt.json").read_text())["releases"][str(Path("whole").resolve())]
    for number in (1, 2, 3):
        early = uex("merge", "out")
        assert early.code == 2 and ("no parts" in early.err or "is missing" in early.err)
        ran = uex("apply", *words, "-o", "out", "--shard", f"{number}/3")
        assert ran.code == 0, ran.err
        assert uex("apply", *words, "-o", "out", "--shard", f"{number}/3").out.count("already") == 1
    ran = uex("merge", "out", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["parts"], ran.json["images"]) == (3, MANY)
    assert tree(Path("out")) == tree(Path("whole"))
    assert not list(Path().glob("out.part*"))
    recorded = json.loads(Path("many.noise.receipt.json").read_text())["releases"][str(Path("out").resolve())]
    assert recorded == known
    assert "already" in uex("apply", *words, "-o", "out").out
    assert uex("verify", "out", "--source", many, "--allow-missing").code == 0


@pytest.mark.parametrize("when", ["a part is half gone", "a part is empty", "none is"])
def test_a_merge_killed_while_it_removes_parts_is_gone_on_with(
    when: str, many: Path, many_noise: Path, uex: Uex
) -> None:
    (many / "a" / "broken.png").write_bytes(b"no image")
    words = (many_noise, many, "--on-error", "skip", "-o", "out")
    for number in (1, 2):
        assert uex("apply", *words, "--shard", f"{number}/2").code == 0
        shutil.copytree(f"out.part-{number}-of-2", f"copy-{number}")
    assert uex("merge", "out").code == 0
    whole = tree(Path("out"))
    shutil.copytree("copy-2", "out.part-2-of-2")
    if when == "a part is half gone":
        shutil.rmtree("out.part-2-of-2/a")
    if when == "a part is empty":
        Path("out.part-1-of-2").mkdir()
    if when == "none is":
        shutil.copytree("copy-1", "out.part-1-of-2")
    ran = uex("merge", "out")
    assert ran.code == 0 and "already" in ran.out, ran.err
    assert tree(Path("out")) == whole and not list(Path().glob("out.part*"))
    ran = uex("merge", "out")
    assert ran.code == 2 and "no parts" in ran.err and "all is done" in ran.err


def apply_parts(uex: Uex, *words: Any) -> None:
    for number in (1, 2):
        ran = uex("apply", *words, "-o", "out", "--shard", f"{number}/2")
        assert ran.code == 0, ran.err


@pytest.mark.parametrize("change", ["option", "a photo less", "a photo mended", "a photo more", "damaged release"])
def test_parts_that_the_release_does_not_hold_are_not_removed(
    change: str, many: Path, uex: Uex, tmp_path: Path
) -> None:
    (many / "a" / "broken.png").write_bytes(b"no image")
    assert uex("fit", many, "--method", "random", "--mode", "classwise", "--on-error", "skip", "-o", "n").code == 0
    words = ["n", many, "--on-error", "skip"]
    apply_parts(uex, *words)
    assert uex("merge", "out").code == 0
    if change == "option":
        words.append("--croissant")
    elif change == "a photo less":
        (many / "a" / "0.png").unlink()
    elif change == "a photo mended":
        shutil.copy(many / "a" / "2.png", many / "a" / "broken.png")
    elif change == "a photo more":
        shutil.copy(many / "a" / "2.png", many / "a" / "new.png")
    apply_parts(uex, *words)
    if change == "damaged release":
        next(Path("out").rglob("*.png")).unlink()
    shutil.copytree("out.part-2-of-2", "kept")
    shutil.rmtree("out.part-2-of-2")
    if change != "damaged release":  # of the same job, all of part 1 is in what is there
        assert uex("merge", "out").code == 2
        assert Path("out.part-1-of-2", shards.FILE).is_file()
    shutil.copytree("kept", "out.part-2-of-2")
    assert uex("merge", "out").code == 2
    ran = uex("merge", "out", "--force")
    assert ran.code == 0 and "already" not in ran.out, ran.err
    again = uex("apply", *words, "-o", "whole")
    assert again.code == 0
    assert {name: data for name, data in tree(Path("out")).items() if name not in ("croissant.json", "SHA256SUMS")} == {
        name: data for name, data in tree(Path("whole")).items() if name not in ("croissant.json", "SHA256SUMS")
    }


def test_a_part_that_cannot_be_removed_is_told_of(
    many: Path, many_noise: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_parts(uex, many_noise, many)
    discard = staging.discard

    def refused(folder: Path) -> None:
        if folder.name.endswith("part-1-of-2"):
            raise PermissionError(13, "Permission denied")
        discard(folder)

    monkeypatch.setattr(staging, "discard", refused)
    ran = uex("merge", "out")
    assert ran.code == 0 and "out.part-1-of-2 could not be removed (Permission denied)" in ran.err
    assert [path.name for path in Path().glob("out.part*")] == ["out.part-1-of-2"]
    assert uex("verify", "out", "--source", many).code == 0


@pytest.mark.parametrize("left", ["all", "a few", "the marks", "one mark"])
def test_a_kill_while_an_old_release_goes_is_put_right(left: str, many: Path, many_noise: Path, uex: Uex) -> None:
    words = ("apply", many_noise, many, "-o", "out")
    assert uex(*words).code == 0
    old = Path("out.uex-old")
    shutil.copytree("out", old)
    if left != "all":
        shutil.rmtree(old / "a")
    if left in ("the marks", "one mark"):
        shutil.rmtree(old / "b")
    if left == "one mark":
        (old / "SHA256SUMS").unlink()
    assert "already" in uex(*words).out
    assert not old.exists()


def test_an_old_release_goes_with_what_tells_it_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "2.png", "SHA256SUMS", "uex-release.json"):
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).write_bytes(b"x")
    seen: list[list[str]] = []
    remove = shutil.rmtree

    def watched(path: Path) -> None:
        seen.append(sorted(item.name for item in (tmp_path / "old").iterdir()))
        remove(path)

    monkeypatch.setattr(staging.shutil, "rmtree", watched)
    (tmp_path / "link").symlink_to("old")
    staging.discard(tmp_path / "link")
    assert seen[-1] == ["SHA256SUMS", "uex-release.json"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shard", [(), ("--shard", "1/1")])
def test_a_release_that_left_images_out_is_none_of_a_job_that_may_not(
    shard: tuple[str, ...], many: Path, many_noise: Path, uex: Uex
) -> None:
    (many / "a" / "broken.png").write_bytes(b"no image")
    words = ("apply", many_noise, many, "-o", "out", *shard)
    assert uex(*words, "--on-error", "skip").code == 0
    assert "already" in uex(*words, "--on-error", "skip").out
    ran = uex(*words)
    assert ran.code == 2 and "is not this release" in ran.err


def test_each_key_is_in_one_shard() -> None:
    keys = [f"class/{number}.jpg" for number in range(1000)]
    for count in (1, 2, 7):
        held = [[key for key in keys if Shard(number, count).holds(key)] for number in range(1, count + 1)]
        assert sorted(key for part in held for key in part) == sorted(keys)
        assert all(len(part) > 1000 / count / 2 for part in held)


def test_parts_that_do_not_belong_together_are_refused(many: Path, many_noise: Path, uex: Uex) -> None:
    def apply(*words: object) -> None:
        ran = uex("apply", many_noise, many, "-o", "out", *words)
        assert ran.code == 0, ran.err

    apply("--shard", "1/2")
    apply("--shard", "2/2", "--format", "tiff")
    ran = uex("merge", "out")
    assert ran.code == 3 and "another release" in ran.err
    shutil.rmtree("out.part-2-of-2")
    apply("--shard", "2/2")
    apply("--shard", "3/3")
    ran = uex("merge", "out")
    assert ran.code == 2 and "parts of 2 and of 3" in ran.err
    shutil.rmtree("out.part-3-of-3")
    spoilt = next(Path("out.part-1-of-2").rglob("*.png"))
    spoilt.write_bytes(spoilt.read_bytes()[:-1])
    ran = uex("merge", "out")
    assert ran.code == 3 and spoilt.name in ran.err and not Path("out").exists()
    ran = uex("apply", many_noise, many, "-o", "out", "--shard", "1/2")
    assert ran.code == 2 and "--force" in ran.err
    apply("--shard", "1/2", "--force")
    assert uex("merge", "out").code == 0
    assert uex("verify", "out", "--source", many).code == 0


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "a/../../outside.png"])
def test_a_part_names_no_file_outside(name: str, many: Path, many_noise: Path, uex: Uex) -> None:
    assert uex("apply", many_noise, many, "-o", "out", "--shard", "1/1").code == 0
    path = Path("out.part-1-of-1/uex-part.json")
    document = json.loads(path.read_text())
    document["items"][0]["written"]["name"] = name
    path.write_text(json.dumps(document))
    Image.fromarray(picture(1)).save("outside.png")
    before = tree(Path())
    ran = uex("merge", "out")
    assert ran.code == 3 and "is not the file that was written" in ran.err
    assert tree(Path()) == before


DAMAGED: list[Any] = [
    b"", b"[]", b"{", {"schema": "uex.part/2"}, b'{"schema": "uex.part/1"}', {"header": {}}, {"items": [1]},
    {"items": [{"position": 0}]}, {"items": [{"position": 0, "written": {"name": "a.png"}}]},
]  # fmt: skip


@pytest.mark.parametrize("change", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_part_is_told(change: Any, many: Path, many_noise: Path, uex: Uex) -> None:
    assert uex("apply", many_noise, many, "-o", "out", "--shard", "1/1", "--limit", 2).code == 0
    path = Path("out.part-1-of-1/uex-part.json")
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    ran = uex("merge", "out")
    assert ran.code == 3 and ("Apply that shard" in ran.err or "Use the uexcli" in ran.err), ran.err


# ------------------------------------------------------------------------------------------- interruptions


def started(*words: object) -> subprocess.Popen[bytes]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "uexcli", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def some_written(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many files are there."""
    while process.poll() is None and len(list(folder.rglob("*.png"))) < count:
        time.sleep(0.002)


def test_an_apply_killed_at_random_moments_ends_as_an_uninterrupted_one(tmp_path: Path, uex: Uex) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(120):
        Image.fromarray(picture(index, 200)).save(photos / f"{index}.png", compress_level=0)
    noise = tmp_path / "n.noise.safetensors"
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "--seed", 1, "-o", noise).code == 0
    assert uex("apply", noise, photos, "-o", "whole").code == 0
    draw = random.Random(1)
    kills = 0
    for _ in range(3):
        process = started("apply", noise, photos, "-o", "out", "--resume", "--jobs", 2)
        there = len(list(Path("out.partial").rglob("*.png"))) if Path("out.partial").exists() else 0
        some_written(Path("out.partial"), there + draw.randrange(1, 30), process)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills
    ran = uex("apply", noise, photos, "-o", "out", "--resume", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["written"] + ran.json["kept"] == 120 and ran.json["kept"] > 0
    assert tree(Path("out")) == tree(Path("whole"))
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd="out", check=False)
    assert done.returncode == 0


def test_no_worker_outlives_a_killed_apply(tmp_path: Path, uex: Uex) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(200):
        Image.fromarray(picture(index, 200)).save(photos / f"{index}.png", compress_level=0)
    noise = tmp_path / "n.noise.safetensors"
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "--seed", 1, "-o", noise).code == 0
    process = started("apply", noise, photos, "-o", "out", "--jobs", 2)
    some_written(Path("out.partial"), 5, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while _in_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _in_session(process.pid)


def _in_session(session: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def test_resume_writes_again_only_what_is_not_what_was_written(many: Path, many_noise: Path, uex: Uex) -> None:
    def apply(*words: object) -> Ran:
        return uex("apply", many_noise, many, "-o", "out", "--json", *words)

    assert apply().code == 0
    whole = tree(Path("out"))
    assert apply("--shard", "1/1").code == 0
    document = json.loads(Path("out.part-1-of-1/uex-part.json").read_text())
    job = {**document["header"]["job"]}
    shutil.rmtree("out.part-1-of-1")
    shutil.copytree("out", "out.partial")
    shutil.rmtree("out")
    lines = [json.dumps(item["written"]) for item in document["items"]]
    Path("out.partial/.uex-journal.jsonl").write_text("\n".join([*lines[:30], lines[30][:40]]))
    Path("out.partial/.uex-job.json").write_text(json.dumps(job))
    Path("out.partial/a/0.png").write_bytes(b"spoilt")
    Path("out.partial/b/1.png").unlink()
    ran = apply("--resume")
    assert ran.code == 0, ran.err
    assert (ran.json["kept"], ran.json["written"]) == (28, 12)
    assert tree(Path("out")) == whole


def test_two_applies_do_not_write_one_release(many: Path, many_noise: Path, uex: Uex) -> None:
    from uexcli.io import atomic

    folder = Path("out.partial")
    folder.mkdir()
    mark = folder / ".uex-job.json"
    mark.write_text("{}")
    lock = atomic.hold(mark)
    assert lock is not None
    with lock:
        for more in ((), ("--force",), ("--resume",)):
            ran = uex("apply", many_noise, many, "-o", "out", *more)
            assert ran.code == 2 and "another uex is writing" in ran.err
    assert mark.exists()
    assert uex("apply", many_noise, many, "-o", "out", "--force").code == 0


# ------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize("format_", ["png", "tiff", "webp", "jxl"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_a_lossless_format_keeps_everything(format_: str, mode: str, tmp_path: Path, uex: Uex) -> None:
    if format_ == "jxl":
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    extra = {"icc_profile": SRGB} if mode.startswith("RGB") else {}
    for index in range(2):
        image = Image.fromarray(picture(index, 40)).convert(mode.removesuffix("A") or "L")
        if mode.endswith("A"):
            image.putalpha(Image.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40)))
        image.save(photos / f"{index}.png", **extra)
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "out", "--format", format_, "--json")
    assert ran.code == 0, ran.err
    expected = {"L": "L to RGB", "LA": "L to RGB"}.get(mode) if format_ == "webp" else None
    assert {change for _, change in ran.json["mode_changes"]} == ({expected} if expected else set())
    verify = uex("verify", "out", "--source", photos, "--json")
    assert verify.code == 0, verify.out
    assert verify.json["most_levels"] == 8
    for index in range(2):
        before, after = (
            photo_files.decode(path.read_bytes()) for path in (photos / f"{index}.png", Path(f"out/{index}.{format_}"))
        )
        assert np.array_equal(before.alpha, after.alpha) if mode.endswith("A") else after.alpha is None
        assert photo_files.same_look(before, after, f".{format_}")
        assert before.icc == after.icc or format_ == "jxl"


@pytest.mark.parametrize("level", range(10))
def test_png_levels_differ_in_size_alone(level: int) -> None:
    pixels = picture(3, 64)
    made = png.encode(pixels, level=level)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), pixels)
    assert level == 0 or len(made) < len(png.encode(pixels, level=0))


def test_what_says_how_a_png_is_shown_stays(tmp_path: Path, uex: Uex) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = picture(5, 32)
    gamma = (b"gAMA", (100000).to_bytes(4, "big"))
    (photos / "a.png").write_bytes(png.encode(pixels, chunks=[gamma, (b"tEXt", b"Serial\x00123")]))
    Image.fromarray(picture(6, 32)).save(photos / "b.png")
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "out").code == 0
    assert gamma in png.chunks(Path("out/a.png").read_bytes())
    assert b"Serial" not in Path("out/a.png").read_bytes()
    ran = uex("apply", "n", photos, "-o", "tiffs", "--format", "tiff", "--json")
    assert ran.json["mode_changes"] == []
    assert photo_files.decode(Path("tiffs/a.tiff").read_bytes()).icc == icc.named("Linear sRGB")


# ------------------------------------------------------------------------------------------------ 16 bits


def sixteen(seed: int, channels: int, side: int = 40) -> np.ndarray:
    """A picture of 16 bits, (H, W, C), whose lower bytes are noise."""
    upper = np.repeat(picture(seed, side)[:, :, :1], channels, 2).astype(np.uint16)
    return upper * 256 + np.random.default_rng(seed).integers(0, 256, (side, side, channels), dtype=np.uint16)


@pytest.mark.parametrize(
    ("channels", "suffix"),
    [(1, ".png"), (2, ".png"), (3, ".png"), (4, ".png"), (1, ".tiff"), (3, ".tiff"), (4, ".tiff")],
)
@pytest.mark.parametrize("format_", ["png", "tiff"])
def test_16_bits_stay_and_the_bound_holds_on_their_grid(
    channels: int, suffix: str, format_: str, tmp_path: Path, uex: Uex
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    values = sixteen(1, channels)
    data = png.encode(values) if suffix == ".png" else sixteen_bit.encode_tiff(values, None)
    (photos / f"a{suffix}").write_bytes(data)
    Image.fromarray(picture(6, 40)).save(photos / "b.png")
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "--size", 24, "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "out", "--format", format_, "--json")
    assert ran.code == 0, ran.err
    odd = channels == 2 and format_ == "tiff"
    assert ran.json["mode_changes"] == ([["a.png", "L to RGB"]] if odd else [])
    found = photo_files.decode(Path(f"out/a.{format_}").read_bytes(), whole=True)
    assert found.deep is not None
    colours = channels - 1 if channels in (2, 4) else channels
    change = found.deep.astype(int) - values[:, :, :colours]
    assert 8 * 257 - 256 < np.abs(change).max() <= 8 * 257 and len(np.unique(change)) > 100
    if channels != colours:
        assert np.array_equal(found.deep_alpha, values[:, :, -1])
    verify = uex("verify", "out", "--source", photos, "--json")
    assert verify.code == 0, verify.out
    assert 7 < verify.json["most_levels"] <= 8
    # one step of 65,535 more than is allowed, of one value
    place = np.unravel_index(np.abs(change).argmax(), change.shape)
    spoilt = found.deep.copy()
    spoilt[place] = values[:, :, :colours][place] + np.sign(change[place]) * (8 * 257 + 1)
    whole = spoilt if channels == colours else np.concatenate([spoilt, values[:, :, -1:]], 2)
    target = Path(f"out/a.{format_}")
    target.write_bytes(png.encode(whole) if format_ == "png" else sixteen_bit.encode_tiff(whole, None))
    verify = uex("verify", "out", "--source", photos, "--json")
    assert verify.code == 1
    assert [item["expected"] for item in verify.json["findings"] if item["code"] == "over-bound"] == [
        "at most 2048 levels"
    ]


@pytest.mark.parametrize("format_", ["webp", "jxl"])
def test_a_format_of_8_bits_says_so(format_: str, tmp_path: Path, uex: Uex) -> None:
    if format_ == "jxl":
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(2):
        (photos / f"{index}.png").write_bytes(png.encode(sixteen(index, 3)))
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "out", "--format", format_, "--json")
    assert {change for _, change in ran.json["mode_changes"]} == {"16 bits to 8"}
    assert uex("verify", "out", "--source", photos).code == 0
    facts = json.loads(Path("out/uex-release.json").read_text())
    facts["mode_changes"] = []
    Path("out/uex-release.json").write_text(json.dumps(facts))
    ran = uex("verify", "out", "--source", photos, "--json")
    assert {item["code"] for item in ran.json["findings"]} == {"changed-depth", "checksum"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bits_are_turned_as_pillow_turns(orientation: int, tmp_path: Path) -> None:
    values = sixteen(3, 3)[:20]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = png.encode(values, chunks=[(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))])
    whole, plain = photo_files.decode(data, whole=True), photo_files.decode(data)
    assert whole.deep is not None
    assert np.array_equal(whole.deep >> 8, plain.pixels) and np.array_equal(whole.pixels, plain.pixels)


def test_pixels_may_be_limited(tmp_path: Path, many: Path, many_noise: Path, uex: Uex) -> None:
    for words in (
        ("fit", many, "-o", "other"),
        ("apply", many_noise, many, "-o", "o"),
        ("verify", "o", "--source", many),
    ):
        if words[0] == "verify":
            assert uex("apply", many_noise, many, "-o", "o").code == 0
        ran = uex(*words, "--max-pixels", 500)
        assert ran.code == 3 and "24x24 pixels are more than 500" in ran.err, ran.err
    assert uex("fit", many, "--max-pixels", 0).code == 2


# ----------------------------------------------------------------------------------------------- croissant


@pytest.mark.filterwarnings("ignore")
def test_a_croissant_that_its_own_reader_accepts(many: Path, many_noise: Path, uex: Uex) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    (many / "a/100% öl #1.png").write_bytes((many / "a/0.png").read_bytes())
    assert uex("fit", many, "--method", "random", "--seed", 2, "-o", "n").code == 0
    assert uex("apply", "n", many, "-o", "out", "--croissant").code == 0
    document = json.loads(Path("out/croissant.json").read_text())
    assert document["usageInfo"].startswith("Training machine learning models")
    dataset = mlcroissant.Dataset(Path("out/croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records("records"))
    assert len(records) == MANY + 1
    shown = {record["records/path"].decode(): np.asarray(record["records/image"]) for record in records}
    assert np.array_equal(shown["a/0.png"], np.asarray(Image.open("out/a/0.png")))
    sums = {
        name: digest
        for digest, name in (line.split("  ", 1) for line in Path("out/SHA256SUMS").read_text().splitlines())
    }
    listed = {item["name"]: item["sha256"] for item in document["distribution"] if item["@type"] == "cr:FileObject"}
    assert listed == {name: digest for name, digest in sums.items() if name.endswith(".png")}
    assert "croissant.json" in sums
    assert uex("verify", "out", "--source", many).code == 0
    assert "already" in uex("apply", "n", many, "-o", "out", "--croissant").out
    Path("out/croissant.json").write_text("{}")
    ran = uex("verify", "out", "--source", many, "--json")
    assert [(item["code"], item["path"]) for item in ran.json["findings"]] == [("checksum", "croissant.json")]


def test_a_croissant_says_what_it_is_told_to(many: Path, many_noise: Path, uex: Uex) -> None:
    licence = "https://example.org/no-training"
    assert uex("apply", many_noise, many, "-o", "out", "--shard", "1/1", "--usage-info", licence).code == 0
    assert uex("merge", "out").code == 0
    assert json.loads(Path("out/croissant.json").read_text())["usageInfo"] == licence
    assert uex("apply", many_noise, many, "-o", "other", "--usage-info", " ").code == 2


# ------------------------------------------------------------------------------- what a kill or a stranger leaves


def test_the_receipt_overwrites_nothing_else(many: Path, many_noise: Path, uex: Uex) -> None:
    assert uex("apply", many_noise, many, "-o", "out", "--shard", "1/1").code == 0
    secret = many_noise.read_bytes()
    ran = uex("merge", "out", "--receipt", many_noise)
    assert ran.code == 2 and "is no receipt" in ran.err and many_noise.read_bytes() == secret
    assert uex("merge", "out", "--receipt", "here.noise.receipt.json").code == 0


def test_an_old_release_that_a_kill_left_aside_is_no_obstacle(many: Path, many_noise: Path, uex: Uex) -> None:
    assert uex("apply", many_noise, many, "-o", "out").code == 0
    shutil.copytree("out", "out.uex-old")
    assert uex("apply", many_noise, many, "-o", "out", "--format", "tiff", "--force").code == 0
    assert not Path("out.uex-old").exists() and list(Path("out").rglob("*.tiff"))
    Path("out").rename("out.uex-old")  # between the two renames
    assert "already" in uex("apply", many_noise, many, "-o", "out", "--format", "tiff").out
    Path("out.uex-old").mkdir()
    Path("out.uex-old/novel.txt").write_text("mine")
    ran = uex("apply", many_noise, many, "-o", "out", "--force")
    assert ran.code == 2 and Path("out.uex-old/novel.txt").exists()


def test_a_move_into_the_working_folder_that_was_killed_is_gone_on_with(
    many: Path, many_noise: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert uex("apply", many_noise, many, "-o", "whole").code == 0
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert uex("apply", many_noise, many, "-o", ".").code == 0
    assert tree(Path()) == tree(Path("../whole"))
    Path(".uex.partial").mkdir()
    for name in ("b", "SHA256SUMS"):
        Path(name).rename(Path(".uex.partial") / name)
    assert "already" in uex("apply", many_noise, many, "-o", ".").out
    assert tree(Path()) == tree(Path("../whole")) and not Path(".uex.partial").exists()


def test_what_was_written_outlives_a_worker_that_the_system_kills(
    tmp_path: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uexcli.commands.protect.protector import Protector

    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(260):
        Image.fromarray(picture(index % 50, 16)).save(photos / f"{index:03}.png")
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "--seed", 1, "-o", "n").code == 0
    write = Protector.write

    def die(self: Protector, sample: Any, *more: Any) -> Any:
        if sample.key == "259.png":
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, sample, *more)

    monkeypatch.setattr(Protector, "write", die)
    ran = uex("apply", "n", photos, "-o", "out", "--jobs", 2)
    assert ran.code == 3 and "--resume" in ran.err and Path("out.partial").is_dir()
    monkeypatch.setattr(Protector, "write", write)
    ran = uex("apply", "n", photos, "-o", "out", "--resume", "--json")
    assert ran.code == 0 and ran.json["kept"] >= 200


def test_workers_that_cannot_be_started_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    forks = 0
    fork = os.fork

    def refuse() -> int:
        nonlocal forks
        forks += 1
        if forks > 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(UexError, match="cannot start workers"):
        list(parallel(lambda number: number, range(100), 3, processes=True))


def test_a_release_that_came_meanwhile_is_not_replaced(
    many: Path, many_noise: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uexcli.commands.apply import assemble

    assert uex("apply", many_noise, many, "-o", "other", "--format", "tiff").code == 0
    made = assemble.assemble

    def meanwhile(*arguments: Any) -> Any:
        shutil.copytree("other", "out")
        return made(*arguments)

    monkeypatch.setattr(assemble, "assemble", meanwhile)
    ran = uex("apply", many_noise, many, "-o", "out")
    assert ran.code == 2 and "meanwhile" in ran.err
    assert tree(Path("out")) == tree(Path("other"))


def test_a_photo_that_a_format_cannot_hold_is_skipped_by_name(many: Path, uex: Uex) -> None:
    Image.fromarray(np.zeros((2, 17_000, 3), np.uint8) + 99).save(many / "a" / "wide.png")
    assert uex("fit", many, "--method", "random", "--mode", "universal", "-o", "n").code == 0
    ran = uex("apply", "n", many, "-o", "out", "--format", "webp")
    assert ran.code == 3 and "a/wide.png: 17000x2 px, and a WebP file holds 16,383 px" in ran.err
    assert uex("apply", "n", many, "-o", "out", "--format", "webp", "--on-error", "skip").code == 0


HIDDEN: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a second JPEG": ("JPEG", lambda data: data + data),
    "a text of no keyword": ("PNG", lambda data: png_with(data, (b"tEXt", b"Camera\0serial 123"))),
    "a position in a comment": ("PNG", lambda data: png_with(data, (b"tEXt", b"Comment\0GPS 48.85"))),
    "an unknown chunk": ("PNG", lambda data: png_with(data, (b"caBX", b"\xff\xd8\xff"))),
    "a smaller TIFF": ("TIFF", lambda _: nested()),
    **{f"a JPEG behind {kind}": (kind, lambda data: data + b"\xff\xd8\xff\xe0 behind")
       for kind in ("WEBP", "PNG", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000")},
    "the same AVIF again": ("AVIF", lambda data: data + data),
    "a film in a box": ("AVIF", lambda data: data + b"\0\0\0\x10mpvd a film."),
}  # fmt: skip


def png_with(data: bytes, chunk: tuple[bytes, bytes]) -> bytes:
    return data[:33] + b"".join(png._chunk(*chunk)) + data[33:]


def nested() -> bytes:
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(picture(3, 40), photometric="rgb", subifds=1)
        writer.write(picture(3, 20), photometric="rgb")
    return buffer.getvalue()


def told(data: bytes) -> list[str]:
    with photo_files.opened(data) as image:
        return policy.private(data, image)


@pytest.mark.parametrize("what", HIDDEN)
def test_what_hides_in_a_file_is_found(what: str) -> None:
    kind, hide = HIDDEN[what]
    Image.init()  # else they are known only once others have been
    if kind not in Image.SAVE:
        pytest.skip(f"Pillow writes no {kind} here")
    buffer = io.BytesIO()
    Image.fromarray(picture(3, 40)).save(buffer, kind)
    assert told(buffer.getvalue()) == []
    assert told(hide(buffer.getvalue()))


@pytest.mark.parametrize("way", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}, {"rowsperstrip": 3}])
def test_the_end_of_a_tiff_is_found_whatever_its_layout(way: dict[str, Any]) -> None:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture(3, 40).astype(np.uint16) * 257, photometric="rgb", **way)
    data = buffer.getvalue()
    assert told(data) == [] and told(data + b"behind") == ["6 bytes after its end"]


def test_a_tiff_that_does_not_tell_its_lengths_is_not_blamed() -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(3, 40)).save(buffer, "TIFF")
    data = buffer.getvalue()
    entry = data.index(struct.pack("<HH", 279, 4))
    assert told(data[: entry + 8] + b"\0\0\0\0" + data[entry + 12 :]) == []


def test_pixels_that_spell_the_end_of_a_png_are_no_end() -> None:
    values = np.frombuffer(b"IEND" * 300, np.uint8).reshape(10, 40, 3)
    data = png.encode(values, level=0, chunks=[(b"iTXt", b"Comment\0\0\0\0\0IEND")])
    assert data.count(b"IEND") > 1 and told(data) == []


def test_a_chunk_of_gamma_carries_nothing_else(tmp_path: Path) -> None:
    data = png.encode(picture(1), chunks=[(b"gAMA", b"GPSLatitude" * 100), (b"sRGB", b"\0"), (b"sRGB", b"\0")])
    assert png.shown(data) == ((b"sRGB", b"\0"),)


@pytest.mark.parametrize("format_", ["png", "tiff", "webp"])
def test_a_transparent_colour_of_16_bits_stays_transparent(format_: str, tmp_path: Path, uex: Uex) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    values = sixteen(1, 3)
    values[:8] = (300, 40_000, 7)
    key = b"".join(int(value).to_bytes(2, "big") for value in (300, 40_000, 7))
    (photos / "a.png").write_bytes(png.encode(values, chunks=[(b"tRNS", key)]))
    Image.fromarray(picture(6, 40)).save(photos / "b.png")
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "out", "--format", format_, "--json")
    assert ran.code == 0, ran.err
    assert ["a.png", "RGB to RGBA"] in ran.json["mode_changes"]
    found = photo_files.decode(Path(f"out/a.{format_}").read_bytes())
    assert found.alpha is not None and not found.alpha[:8].any() and bool((found.alpha[8:] == 255).all())
    assert uex("verify", "out", "--source", photos).code == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_keeps_16_bits(orientation: int) -> None:
    import tifffile

    values = sixteen(3, 3)[:20]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", metadata=None, extratags=[(0x0112, "H", 1, orientation, True)])
    whole, plain = photo_files.decode(buffer.getvalue(), whole=True), photo_files.decode(buffer.getvalue())
    assert whole.deep is not None and np.array_equal(whole.deep >> 8, plain.pixels)
