"""What must not go wrong whatever lies in a folder: links, pipes, bombs, odd names; the promise on any image."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from scripts import fuzz
from uexcli import plugin
from uexcli.commands.protect.protector import Protector
from uexcli.errors import UexError
from uexcli.io.images import jxl, photo_files, png
from uexcli.io.images.second import png_passes
from uexcli.io.noise import noise_file
from uexcli.io.release import layout
from uexcli.registry import load

Uex = Callable[..., Ran]


@pytest.mark.parametrize("reader", fuzz.READERS)
def test_spoilt_files_are_read_or_refused(reader: str) -> None:
    found = fuzz.run(reader, cases=400, seconds=20, seed=1)
    assert sum(found.values()) > 100


# -------------------------------------------------------------------------------------------- the promise


def protector(delta: np.ndarray, eps: float, suffix: str, norm: str, options: dict[str, Any]) -> Protector:
    """Universal noise `delta`, float32 (1, C, S, S), for any image."""
    made = noise_file.Noise(
        delta=torch.from_numpy(delta), rows=torch.tensor([0]), keys=("fitted",), digests=("0" * 64,), classes=(),
        header={"eps": eps, "seed": 1, "recipe": {"size": delta.shape[2], "channels": delta.shape[1]}},
    )  # fmt: skip
    registry = load()
    parts: list[Any] = [
        registry.make(cls, kind, name)
        for cls, kind, name in ((plugin.Norm, "norm", norm), (plugin.Granularity, "granularity", "universal"))
    ]  # type: ignore[type-abstract]
    return Protector(made, *parts, lambda _photo, _key, row: made.bank(row, row + 1), suffix, 1, lossy=False)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_written_file_keeps_the_bound(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    draw = data.draw
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    channels, sixteen = draw(st.sampled_from([1, 2, 3, 4])), draw(st.booleans())
    colours = channels - 1 if channels in (2, 4) else channels
    norm = draw(st.sampled_from(["linf", "l2", "l1"]))
    eps = draw(st.floats(1 / 255, 64 / 255)) * (1 if norm == "linf" else 10)
    suffix = draw(st.sampled_from([".png", ".tiff", ".webp"]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 24))
    strength = draw(st.floats(0, 3))
    delta = (generator.standard_normal((1, draw(st.sampled_from([1, 3])), size, size)) * strength * eps).astype(
        np.float32
    )
    kind = np.uint16 if sixteen else np.uint8
    top = 65535 if sixteen else 255
    values = generator.integers(0, top + 1, (height, width, channels)).astype(kind)
    if draw(st.booleans()):  # dark, light: where most is cut off
        values[:, :, :colours] = draw(st.sampled_from([0, 1, top - 1, top]))
    root = tmp_path_factory.mktemp("promise")
    (root / "a.png").write_bytes(png.encode(values))
    made = protector(delta, eps, suffix, norm, {})
    written = made.write(plugin.Sample("a.png", None, path=root / "a.png"), root, f"out{suffix}")
    found = photo_files.decode((root / f"out{suffix}").read_bytes(), whole=True)
    before = photo_files.decode((root / "a.png").read_bytes(), whole=suffix in photo_files.DEEP)
    after = found.values[:, :, : before.values.shape[2]]
    change = (after.astype(np.int64) - before.values) / (65535 if before.deep is not None else 255)
    allowed = made.allowed(before)
    if found.values.shape[2] == before.values.shape[2]:
        sizes = {"linf": np.abs(change).max(), "l2": np.sqrt((change**2).sum()), "l1": np.abs(change).sum()}
        assert sizes[norm] <= allowed * (1 + 1e-5)
        assert written.size == pytest.approx(sizes[norm], rel=1e-3, abs=1e-6)
    else:
        assert suffix == ".webp" or "L to RGB" in written.changes
        assert np.array_equal(found.values[:, :, 0], found.values[:, :, 2])
    if before.own_alpha is None:
        assert found.alpha is None
    else:
        assert np.array_equal(before.own_alpha, found.own_alpha)


# ------------------------------------------------------------------------------------------- odd folders


def test_a_link_or_a_pipe_in_a_release_is_found_and_not_read(photos: Path, release: Path, uex: Uex) -> None:
    (release / "cat/0.png").unlink()
    (release / "cat/0.png").symlink_to(photos / "cat/0.png")
    os.mkfifo(release / "dog/pipe.png")
    for words in (("--source", photos), ()):
        ran = uex("verify", release, *words, "--json")
        assert ran.code == 1
        assert {("link", "cat/0.png"), ("link", "dog/pipe.png")} <= {
            (item["code"], item["path"]) for item in ran.json["findings"]
        }


def test_checksums_that_lead_out_of_the_release(photos: Path, release: Path, uex: Uex) -> None:
    for name in ("../secret", "/etc/passwd", "cat/../../secret"):
        with (release / "SHA256SUMS").open("a") as file:
            file.write(f"{'0' * 64}  {name}\n")
        ran = uex("verify", release, "--source", photos)
        assert ran.code == 3 and "no checksum of a file in this folder" in ran.err


def bomb(path: Path, side: int) -> None:
    """A small PNG file that claims many pixels of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = b"\0" * (side // 8 + 1)
    rows = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(png.SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.parametrize("command", ["fit", "apply", "verify"])
def test_a_bomb_is_refused_before_it_is_decoded(command: str, photos: Path, release: Path, uex: Uex) -> None:
    noise = "photos.noise.safetensors"
    target = release / "cat/0.png" if command == "verify" else photos / "cat/bomb.png"
    bomb(target, 16_000)
    assert target.stat().st_size < 100_000
    words = {
        "fit": ("fit", photos, "--method", "random", "-o", "other"),
        "apply": ("apply", noise, photos, "-o", "other"),
        "verify": ("verify", release, "--source", photos),
    }[command]
    ran = uex(*words)
    said = ran.out if command == "verify" else ran.err
    assert ran.code == (1 if command == "verify" else 3) and "pixels" in said


ODD = [
    "new\nline",
    "tab\t",
    "\udcff\udcfe",
    "a" * 251,
    "-rf",
    "café",
    "cafe\u0301",
    "CON",
    "a b",
    "'\"$(x)`",
    "*?[",
    "\u202egpj",
]


def test_odd_names_come_through(tmp_path: Path, uex: Uex) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, name in enumerate(ODD):
        Image.fromarray(picture(index)).save(photos / f"{name}.png")
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "out", "--json")
    assert ran.code == 0, ran.err
    there = layout.files(Path("out"))
    assert len(there) == len(ODD) and len({layout._folded(name) for name in there}) == len(ODD)
    ran = uex("verify", "out", "--source", photos)
    assert ran.code == 0, ran.out
    if shutil.which("sha256sum"):
        assert os.system("cd out && sha256sum -c --quiet SHA256SUMS") == 0
    too_long = uex("apply", "n", photos, "-o", "tiffs", "--format", "tiff")
    assert too_long.code == 3 and "too long" in too_long.err and not Path("tiffs").exists()


CASES = ["a.png", "A.png", "a.jpg", "b/x.png", "B/x.png", "B/X.jpeg", "café.png", "cafe\u0301.png", "a.png.jpg"]


def test_names_differ_also_where_cases_and_accents_do_not_count() -> None:
    made = layout.names(CASES)
    assert len({layout._folded(name) for name in made.values()}) == len(CASES)
    assert made == layout.names(reversed(CASES)) and all(name.endswith(".png") for name in made.values())
    assert layout.pair(CASES, made.values(), ".png") == made
    assert layout.names(["a.jpg", "b.png"]) == {"a.jpg": "a.png", "b.png": "b.png"}
    assert layout.names(["a.jpg", "a.png"]) == {"a.jpg": "a.jpg.png", "a.png": "a.png.png"}


def test_a_photo_that_changes_while_it_is_read_is_one_or_the_other(photos: Path, noise: Path, uex: Uex) -> None:
    """Its bytes are read once: what is decoded is what the digest is of."""
    path = photos / "cat/0.png"
    data = path.read_bytes()
    seen = photo_files.decode(data)
    path.write_bytes((photos / "cat/1.png").read_bytes())
    ran = uex("apply", noise, photos, "-o", "out")
    assert ran.code == 3 and "not the image of this name" in ran.err and not Path("out").exists()
    path.write_bytes(data)
    assert uex("apply", noise, photos, "-o", "out").code == 0
    files = json.loads(Path("photos.noise.receipt.json").read_text())["releases"][str(Path("out").resolve())]["files"]
    assert files["cat/0.png"]["source"] == seen.digest


def test_a_photo_that_vanishes_is_told(photos: Path, noise: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = photo_files.open_photo

    def vanish(sample: plugin.Sample, **how: Any) -> photo_files.Photo:
        if sample.key == "cat/3.png" and sample.path is not None:
            sample.path.unlink(missing_ok=True)
        return opened(sample, **how)

    monkeypatch.setattr(photo_files, "open_photo", vanish)
    ran = uex("apply", noise, photos, "-o", "out")
    assert ran.code == 3 and "cat/3.png: cannot be read" in ran.err and not Path("out").exists()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_grid_are_refused(mode: str, tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.int32 if mode == "I" else np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UexError, match="no 8-bit grid"):
        photo_files.open_photo(plugin.Sample("a.tif", None, path=tmp_path / "a.tif"), whole=True)


def test_a_16_bit_file_that_only_pillow_reads_has_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes) -> np.ndarray:
        raise ValueError("not read")

    values = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    data = png.encode(values)
    assert photo_files.decode(data, whole=True).deep is not None
    monkeypatch.setattr(png_passes, "decode", fails)
    found = photo_files.decode(data, whole=True)
    assert found.deep is None and found.changes == ("16 bits to 8",) and np.array_equal(found.pixels, values >> 8)
    monkeypatch.setattr(png_passes, "decode", lambda _: values[::-1])  # where decoders differ, none is believed
    with pytest.raises(UexError, match="do not agree"):
        photo_files.decode(data, whole=True)


# ----------------------------------------------------------------------------------------------- metadata

TOLD = {
    "Title": "Grüße", "Description": "a cat\non a mat", "Author": "Ann", "Copyright": "© Ann",
    "Creation Time": "2020:01:01 00:00:00", "Comment": "ünder", "Keywords": "cat; mat",
}  # fmt: skip


@pytest.mark.parametrize("format_", ["png", "tiff", "webp", "jxl"])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_texts_are_kept_on_request_and_nothing_else(format_: str, kind: str, tmp_path: Path, uex: Uex) -> None:
    from uexcli.io.images.metadata import bare, policy

    if format_ == "jxl":
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = policy.as_exif(tuple(TOLD.items()))
    exif[0x010F] = "a maker"
    exif.get_ifd(0x8769)[0xA431] = "serial 123"
    exif.get_ifd(0x8825)[1] = "N"
    for index in range(2):
        Image.fromarray(picture(index, 40)).save(photos / f"{index}.{kind}", exif=exif.tobytes())
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "bare", "--format", format_).code == 0
    assert uex("apply", "n", photos, "-o", "out", "--format", format_, "--keep-metadata").code == 0
    for folder, wanted in (("bare", {}), ("out", TOLD)):
        data = Path(f"{folder}/0.{format_}").read_bytes()
        with Image.open(Path(f"{folder}/0.{format_}")) as image:
            assert dict(policy.texts(data, bare.of(data), image.info)[0]) == wanted
            assert not image.getexif().get_ifd(0x8825) and 0xA431 not in image.getexif().get_ifd(0x8769)
        assert b"serial" not in data and b"a maker" not in data
        assert uex("verify", folder, "--source", photos).code == 0


def test_links_out_of_the_photos_are_not_followed_unless_told(photos: Path, tmp_path: Path, uex: Uex) -> None:
    elsewhere = tmp_path / "private.png"
    Image.fromarray(picture(99)).save(elsewhere)
    (photos / "cat/inside.png").symlink_to("0.png")
    words = ("--method", "random", "--seed", 1, "-o", "n")
    assert uex("fit", photos, *words).code == 0
    (photos / "cat/outside.png").symlink_to(elsewhere)
    for command in (("fit", photos, *words, "--force"), ("apply", "n", photos, "-o", "out")):
        ran = uex(*command)
        assert ran.code == 3 and "outside.png is a link out of the folder" in ran.err and "links:" in ran.err
    assert uex("fit", f"links:{photos}", *words, "--force").code == 0
    ran = uex("apply", "n", f"links:{photos}", "-o", "out", "--json")
    assert ran.code == 0 and ran.json["written"] == 18
    assert not any(path.is_symlink() for path in Path("out").rglob("*"))


@pytest.mark.parametrize("kind", ["pipe", "loop", "nowhere"])
def test_what_is_no_file_is_refused_by_name(kind: str, photos: Path, uex: Uex) -> None:
    odd = photos / "cat/odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("odd.png" if kind == "loop" else "nothing.png")
    ran = uex("fit", photos, "--method", "random", "-o", "n")
    assert ran.code == 3 and "odd.png" in ran.err


def test_a_format_that_needs_a_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"no decoder knows this")
    sample = plugin.Sample("a.heic", None, path=tmp_path / "a.heic")
    monkeypatch.setattr(photo_files.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UexError, match=r"uexcli\[heif\]"):
        photo_files.open_photo(sample)
    monkeypatch.setattr(photo_files.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(UexError, match="no image format"):
        photo_files.open_photo(sample)


# ------------------------------------------------------------------------------------------------- JPEG XL


def jxl_of(pixels: np.ndarray, **options: Any) -> bytes:
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JXL", effort=1, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (7, 700), (64, 64), (48, 64), (256, 40), (263, 9000), (90, 160), (33, 44)])
def test_the_header_of_a_jpeg_xl_file_tells_its_size(size: tuple[int, int], *, boxed: bool) -> None:
    photo_files._formats()
    pixels = np.zeros((*size, 3), np.uint8)
    data = jxl_of(pixels, **({"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"} if boxed else {}))
    assert data.startswith(jxl.BOXED if boxed else jxl.BARE)
    assert jxl.header(data) == jxl.Header(size[1], size[0], animated=False)
    for length in range(len(jxl.BARE), len(data)):  # cut short: told, or refused, never anything else
        with contextlib.suppress(ValueError):
            jxl.header(data[:length])


def test_a_jpeg_xl_bomb_is_refused_before_it_is_decoded(
    photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_files._formats()
    (photos / "cat/bomb.jxl").write_bytes(jxl_of(np.zeros((300, 300, 3), np.uint8)))
    (photos / "cat/bomb.png").write_bytes((photos / "cat/bomb.jxl").read_bytes())  # whatever it is called

    def never(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(sys.modules["pillow_jxl"].JpegXLImagePlugin.JXLImageFile, "_open", never)
    ran = uex("fit", photos, "--method", "random", "-o", "n", "--max-pixels", 80_000, "--on-error", "skip")
    assert ran.err.count("300x300 pixels are more than 80,000") == 2


def test_an_animated_jpeg_xl_file_is_refused(photos: Path, uex: Uex) -> None:
    jxl_of(np.zeros((1, 1, 3), np.uint8))
    import imagecodecs

    frames = np.stack([picture(number, 32) for number in range(3)])
    (photos / "cat/moving.jxl").write_bytes(imagecodecs.jpegxl_encode(frames))
    ran = uex("fit", photos, "--method", "random", "-o", "n")
    assert ran.code == 3 and "cat/moving.jxl: is animated" in ran.err
