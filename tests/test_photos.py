"""What real folders hold: turned, profiled, transparent, deep, oddly named photos; all kept right, none touched."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, picture
from PIL import Image, ImageCms

from uexcli.io.images import photo_files
from uexcli.io.images.metadata import icc
from uexcli.io.noise import noise_file

Uex = Callable[..., Ran]
ORIENTATION, MAKE, GPS = 0x0112, 0x010F, 0x8825
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = Image.fromarray(picture(1, grey=True))
EXTENSIONS = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}


def tree(root: Path) -> dict[str, tuple[str, int, int]]:
    """Digest, permissions and time of every file below a folder."""
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in [root, *root.rglob("*")]
    }


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A flat folder with two usual photos."""
    root = tmp_path / "in"
    root.mkdir()
    for index in range(2):
        Image.fromarray(picture(60 + index)).save(root / f"usual{index}.png")
    return root


def protected(root: Path, uex: Uex, *more: object) -> dict[str, Any]:
    """Fit, apply and verify a folder, which must stay as it was; the release is in `out`, its facts are given."""
    before = tree(root)
    out, noise = root.parent / "out", root.parent / "in.noise.safetensors"
    mode = () if "--mode" in more else ("--mode", "samplewise")
    for words in (
        ("fit", root, "--method", "random", "--seed", 1, *mode, *more, "-o", noise),
        ("apply", noise, root, "-o", out),
        ("verify", out, "--source", root),
    ):
        ran = uex(*words)
        assert ran.code == 0, ran.err + ran.out
    assert tree(root) == before
    facts: dict[str, Any] = json.loads((out / "uex-release.json").read_text())
    return facts


def opened(path: Path) -> Image.Image:
    """A released file, which must hold nothing but pixels and perhaps a profile."""
    with Image.open(path) as image:
        image.load()
    assert not image.getexif()
    assert set(image.info) <= {"icc_profile"}
    assert getattr(image, "n_frames", 1) == 1
    return image


def within(path: Path, clean: np.ndarray, levels: int = 8) -> None:
    """The colours of a released file are the clean ones, changed, by no more than the bound."""
    change = np.asarray(opened(path)).astype(int) - clean
    assert 0 < np.abs(change).max() <= levels


# ------------------------------------------------------------------------------------------ metadata


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_orientation_is_baked_in(orientation: int, suffix: str, inside: Path, uex: Uex) -> None:
    stored = picture(7, 24)[:16].copy()
    stored[:6, :6] = (230, 20, 20)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    extra = {".jpg": {"quality": 95, "subsampling": 0}, ".png": {}, ".webp": {"lossless": True}}[suffix]
    Image.fromarray(stored).save(inside / f"turned{suffix}", exif=exif, **extra)
    protected(inside, uex)
    released = opened(inside.parent / "out" / "turned.png")
    assert released.size == ((24, 16) if orientation <= 4 else (16, 24))
    values = np.asarray(released).astype(int)
    corners = {"top-left": values[:6, :6], "top-right": values[:6, -6:]}
    corners |= {"bottom-left": values[-6:, :6], "bottom-right": values[-6:, -6:]}
    redness = {name: float((part[:, :, 0] - part[:, :, 1]).mean()) for name, part in corners.items()}
    wanted = {1: "top-left", 2: "top-right", 3: "bottom-right", 4: "bottom-left"}
    wanted |= {5: "top-left", 6: "top-right", 7: "bottom-right", 8: "bottom-left"}
    assert max(redness, key=redness.__getitem__) == wanted[orientation]


def test_the_profile_is_kept(inside: Path, uex: Uex) -> None:
    Image.fromarray(picture(7)).save(inside / "profiled.jpg", icc_profile=SRGB)
    protected(inside, uex)
    assert opened(inside.parent / "out" / "profiled.png").info["icc_profile"] == icc.named("sRGB")
    assert "icc_profile" not in opened(inside.parent / "out" / "usual0.png").info


def test_nothing_private_gets_into_the_release(inside: Path, uex: Uex) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(picture(7)).save(thumbnail, "JPEG", comment=b"UEX-THUMBNAIL")
    exif = Image.Exif()
    exif[MAKE] = "UEX-CAMERA"
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 51.0, 30.0), 29: "2026:11:21"})
    exif.get_ifd(0x8769)[0xA431] = "UEX-SERIAL"
    segment = exif.tobytes() + thumbnail.getvalue()
    picture_ = Image.fromarray(picture(7))
    picture_.save(inside / "a.jpg", exif=segment, comment=b"UEX-COMMENT", xmp=b"<x>UEX-XMP</x>")
    picture_.save(inside / "b.webp", exif=exif, xmp=b"<x>UEX-XMP</x>", lossless=True)
    with Image.open(inside / "a.jpg") as source:
        assert source.getexif().get_ifd(GPS)
    assert b"UEX-THUMBNAIL" in (inside / "a.jpg").read_bytes()
    protected(inside, uex)
    for path in (inside.parent / "out").rglob("*"):
        for word in (b"UEX-", b"2026:11:21", b"Exif", b"eXIf"):
            assert word not in path.read_bytes()
    for name in ("a.png", "b.png"):
        assert opened(inside.parent / "out" / name).size == (16, 16)


def test_a_second_picture_in_the_file_is_dropped(inside: Path, uex: Uex) -> None:
    first, second = (Image.fromarray(picture(seed)) for seed in (7, 8))
    first.save(inside / "stereo.mpo", "MPO", save_all=True, append_images=[second])
    with Image.open(inside / "stereo.mpo") as source:
        assert source.n_frames == 2
        clean = np.asarray(source).astype(int)
    protected(inside, uex)
    within(inside.parent / "out" / "stereo.png", clean)


# --------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize("clear", [0, 1, 255], ids=["clear", "faint", "solid"])
def test_alpha_is_kept_to_the_bit(clear: int, inside: Path, uex: Uex) -> None:
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    alpha[:4] = clear
    colour = picture(7)
    Image.fromarray(np.dstack([colour, alpha])).save(inside / "a.png")
    facts = protected(inside, uex)
    released = np.asarray(opened(inside.parent / "out" / "a.png"))
    assert np.array_equal(released[:, :, 3], alpha)
    change = released[:, :, :3].astype(int) - colour
    assert 0 < np.abs(change).max() <= 8
    assert facts["mode_changes"] == []


def test_grey_with_alpha_stays_so(inside: Path, uex: Uex) -> None:
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.merge("LA", [GREY, Image.fromarray(alpha)]).save(inside / "a.png")
    facts = protected(inside, uex)
    released = opened(inside.parent / "out" / "a.png")
    assert released.mode == "LA"
    values = np.asarray(released)
    assert np.array_equal(values[:, :, 1], alpha)
    assert 0 < np.abs(values[:, :, 0].astype(int) - np.asarray(GREY)).max() <= 8
    assert facts["mode_changes"] == []


@pytest.mark.parametrize("alone", [False, True], ids=["among-colour", "all-grey"])
def test_grey_stays_grey(alone: bool, inside: Path, uex: Uex) -> None:
    if alone:
        for path in inside.iterdir():
            path.unlink()
        Image.fromarray(picture(2, grey=True)).save(inside / "other.png")
    GREY.save(inside / "grey.png")
    facts = protected(inside, uex)
    released = opened(inside.parent / "out" / "grey.png")
    assert released.mode == "L"
    within(inside.parent / "out" / "grey.png", np.asarray(GREY).astype(int))
    assert facts["mode_changes"] == []


def test_noise_that_cancels_in_grey_is_brought_up_to_the_bound(inside: Path, uex: Uex) -> None:
    GREY.save(inside / "grey.png")
    assert uex("fit", inside, "--method", "random", "-o", "n.noise.safetensors").code == 0
    noise = noise_file.read(Path("n.noise.safetensors"))
    delta = noise.bank()
    delta[:, 2] = 0.01 * delta[:, 2] - delta[:, 0] - delta[:, 1]
    noise = dataclasses.replace(noise, delta=delta.clamp_(-noise.eps, noise.eps))
    noise_file.write(Path("n.noise.safetensors"), noise)
    ran = uex("apply", "n.noise.safetensors", inside, "-o", "out")
    assert ran.code == 0, ran.err
    change = np.asarray(opened(Path("out/grey.png"))).astype(int) - np.asarray(GREY)
    assert np.abs(change).max() == 8


def palette(clear: bool) -> Image.Image:
    image = Image.fromarray(picture(7)).quantize(8)
    if clear:
        image.info["transparency"] = 3
    return image


def deep(mode: str) -> Image.Image:
    return Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)


def cmyk() -> Image.Image:
    return Image.fromarray(picture(7)).convert("CMYK")


def bilevel() -> Image.Image:
    return Image.fromarray(np.indices((16, 16)).sum(0) % 3 == 0)


CONVERTED: dict[str, tuple[Callable[[], Image.Image], str, dict[str, Any], str, str]] = {
    "palette": (lambda: palette(False), "a.png", {}, "RGB", "P to RGB"),
    "palette-gif": (lambda: palette(False), "a.gif", {}, "RGB", "P to RGB"),
    "palette-alpha": (lambda: palette(True), "a.png", {"transparency": 3}, "RGBA", "P to RGBA"),
    "colour-key": (lambda: Image.fromarray(picture(7)), "a.png", {"transparency": (1, 2, 3)}, "RGBA", "RGB to RGBA"),
    "grey-key": (lambda: GREY, "a.png", {"transparency": 120}, "LA", "L to LA"),
    "cmyk-jpeg": (cmyk, "a.jpg", {}, "RGB", "CMYK to RGB"),
    "cmyk-tiff": (cmyk, "a.tif", {}, "RGB", "CMYK to RGB"),
    "1-bit-png": (bilevel, "a.png", {}, "L", "1 to L"),
    "1-bit-tiff": (bilevel, "a.tif", {}, "L", "1 to L"),
}


@pytest.mark.parametrize(("make", "name", "extra", "mode", "stated"), CONVERTED.values(), ids=CONVERTED.keys())
def test_a_change_of_mode_is_stated(
    make: Callable[[], Image.Image], name: str, extra: dict[str, Any], mode: str, stated: str, inside: Path, uex: Uex
) -> None:
    make().save(inside / name, **extra)
    facts = protected(inside, uex)
    released = opened(inside.parent / "out" / "a.png")
    assert released.mode == mode
    assert facts["mode_changes"] == [{"path": "a.png", "change": stated}]
    with Image.open(inside / name) as source:
        sixteen = source.mode.startswith("I;16")
        clean = np.asarray(source) // 256 if sixteen else np.asarray(source.convert(mode))
    change = np.asarray(released).astype(int) - clean
    assert 0 < np.abs(change).max() <= 8
    if mode in {"LA", "RGBA"}:
        assert len(np.unique(clean[:, :, -1])) == (1 if extra["transparency"] == (1, 2, 3) else 2)
        assert not change[:, :, -1].any()


def test_16_bit_colour_stays(inside: Path, uex: Uex) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = picture(7).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (inside / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    facts = protected(inside, uex)
    assert facts["mode_changes"] == []
    released = photo_files.decode((inside.parent / "out" / "a.png").read_bytes(), whole=True)
    assert released.deep is not None
    assert 0 < np.abs(released.deep.astype(int) - values).max() <= 8 * 257


@pytest.mark.parametrize(("image", "key"), [(bilevel(), 0), (deep("I;16"), 40 * 257)], ids=["1-bit", "16-bit"])
def test_transparency_of_an_odd_mode_is_kept_or_its_loss_stated(
    image: Image.Image, key: int, inside: Path, uex: Uex
) -> None:
    image.save(inside / "a.png", transparency=key)
    with Image.open(inside / "a.png") as source:
        assert "transparency" in source.info
    facts = protected(inside, uex)
    said = " ".join(item["change"] for item in facts["mode_changes"])
    assert opened(inside.parent / "out" / "a.png").mode in {"LA", "RGBA"} or "alpha" in said or "transparency" in said


def test_a_cmyk_profile_does_not_stay_with_rgb_pixels(inside: Path, uex: Uex) -> None:
    Image.fromarray(picture(7)).convert("CMYK").save(inside / "a.jpg", icc_profile=b"a CMYK profile")
    facts = protected(inside, uex)
    assert "icc_profile" not in opened(inside.parent / "out" / "a.png").info
    assert {item["change"] for item in facts["mode_changes"]} == {"CMYK to RGB", "CMYK profile dropped"}


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
@pytest.mark.parametrize("command", ["fit", "apply"])
def test_several_frames_are_refused_by_name(name: str, command: str, inside: Path, uex: Uex) -> None:
    noise = inside.parent / "n.safetensors"
    assert uex("fit", inside, "--method", "random", "--mode", "universal", "-o", noise).code == 0
    frames = [Image.fromarray(picture(seed)) for seed in (7, 8)]
    frames[0].save(inside / name, save_all=True, append_images=frames[1:])
    words = ("fit", inside, "--method", "random") if command == "fit" else ("apply", noise, inside, "-o", "out")
    ran = uex(*words)
    assert ran.code == 3
    assert ran.err.startswith(f"Error: {name}: has 2 frames")


# ------------------------------------------------------------------------------------ sizes and names


def test_sizes_and_shapes_may_differ(inside: Path, uex: Uex) -> None:
    sizes = [(24, 120), (120, 24), (17, 130), (130, 17), (64, 64), (65, 63)]
    for width, height in sizes:
        Image.fromarray(picture(width, 130)[:height, :width]).save(inside / f"{width}x{height}.png")
    protected(inside, uex)
    for width, height in sizes:
        assert opened(inside.parent / "out" / f"{width}x{height}.png").size == (width, height)
    for name in ("17x130.png", "130x17.png", "65x63.png"):
        within(inside.parent / "out" / name, np.asarray(Image.open(inside / name)).astype(int))


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (8, 8)], ids=str)
def test_a_photo_too_small_for_its_noise_is_protected_or_named(size: tuple[int, int], inside: Path, uex: Uex) -> None:
    Image.fromarray(picture(7, 90)[: size[1], : size[0]]).save(inside / "tiny.png")
    Image.fromarray(picture(8, 90)).save(inside / "large.png")
    assert (
        uex("fit", inside, "--method", "random", "--mode", "samplewise", "--seed", 1, "-o", "n.safetensors").code == 0
    )
    ran = uex("apply", "n.safetensors", inside, "-o", "out")
    assert ran.code == 0, ran.err
    if "tiny.png" not in ran.out + ran.err:
        assert uex("verify", "out", "--source", inside).code == 0


def test_damaged_metadata_is_no_matter(inside: Path, uex: Uex) -> None:
    exif = Image.Exif()
    exif[MAKE] = "a camera with a long name"
    Image.fromarray(picture(7)).save(inside / "a.jpg", exif=exif.tobytes()[:-30])
    with pytest.warns(UserWarning, match="EXIF|Tag data"), Image.open(inside / "a.jpg") as source:
        source.getexif()
    protected(inside, uex)
    assert opened(inside.parent / "out" / "a.png").size == (16, 16)


NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "two-suffixes": (("a.jpg", "a.png"), ("a.jpg.png", "a.png.png")),
    "three-suffixes": (("a.bmp", "a.jpg", "a.png"), ("a.bmp.png", "a.jpg.png", "a.png.png")),
    "case": (("A.JPG", "a.png"), ("A.JPG.png", "a.png.png")),
    "capitals": (("IMG.JPEG",), ("IMG.png",)),
    "dots": (("v1.2.final.jpg",), ("v1.2.final.png",)),
    "met-by-a-third": (("a.jpg", "a.png", "a.jpg.png"), ()),
    "met-by-a-fourth": (("a.jpg", "a.png", "a.jpg.png", "a.jpg.png.png"), ()),
    "folders": (("x/a.jpg", "y/a.png"), ("x/a.png", "y/a.png")),
    "spaces": ((" two  words .png", "tab\there.png"), (" two  words .png", "tab\there.png")),
    "newline": (("two\nlines\r\n.png",), ("two\nlines\r\n.png",)),
    "backslash": (("back\\slash\\n.png",), ("back\\slash\\n.png",)),
    "not-ascii": (("Köln 東京 🌸.png", "e\u0301.png"), ("Köln 東京 🌸.png", "e\u0301.png")),
    "not-utf-8": ((os.fsdecode(b"caf\xe9.png"),), (os.fsdecode(b"caf\xe9.png"),)),
    "colon": (("5:30 pm.png", "a:b.png", ":.png"), ("5:30 pm.png", "a:b.png", ":.png")),
    "option": (("--force.png", "-.png"), ("--force.png", "-.png")),
    "quotes": (("'a' \"b\" $c `d` [bold]*.png",), ("'a' \"b\" $c `d` [bold]*.png",)),
    "own-names": (("SHA256SUMS.png", "uex-release.json.png"), ("SHA256SUMS.png", "uex-release.json.png")),
    "long": (("n" * 240 + ".png",), ("n" * 240 + ".png",)),
    "longest": (("n" * 251 + ".png",), ("n" * 251 + ".png",)),
}


@pytest.mark.parametrize(("given", "wanted"), NAMES.values(), ids=NAMES.keys())
def test_names(given: tuple[str, ...], wanted: tuple[str, ...], inside: Path, uex: Uex) -> None:
    labelled = any("/" in name for name in given)
    if labelled:
        for path in inside.iterdir():
            path.unlink()
    for number, name in enumerate(given):
        (inside / name).parent.mkdir(exist_ok=True)
        kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}.get(Path(name).suffix.lower(), "PNG")
        buffer = io.BytesIO()
        Image.fromarray(picture(70 + number)).save(buffer, kind)
        (inside / name).write_bytes(buffer.getvalue())
    facts = protected(inside, uex)
    out = inside.parent / "out"
    released = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    released -= {"SHA256SUMS", "uex-release.json"}
    assert len(released) == facts["images"] == len(given) + 2 * (not labelled)
    assert released >= set(wanted)
    if shutil.which("sha256sum"):
        checked = subprocess.run(
            ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out, capture_output=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
    ran = uex("apply", inside.parent / "in.noise.safetensors", inside, "-o", out)
    assert (ran.code, "nothing to do" in ran.out) == (0, True), ran.err


def test_what_is_no_image_or_hidden_is_left_alone(inside: Path, uex: Uex) -> None:
    (inside / "notes.txt").write_text("x")
    (inside / ".hidden.png").write_bytes(b"x")
    (inside / ".thumbnails").mkdir()
    (inside / ".thumbnails" / "a.png").write_bytes(b"x")
    assert protected(inside, uex)["images"] == 2
    out = inside.parent / "out"
    assert {path.name for path in out.rglob("*")} == {"usual0.png", "usual1.png", "SHA256SUMS", "uex-release.json"}


def test_read_only_photos_do(inside: Path, uex: Uex) -> None:
    for path in [*inside.iterdir(), inside]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    protected(inside, uex)
    inside.chmod(0o755)


# ---------------------------------------------------------------------------------------- real photos


def test_a_folder_of_odd_real_files(real_data: Path, tmp_path: Path, uex: Uex) -> None:
    photos = tmp_path / "odd"
    photos.mkdir()
    with zipfile.ZipFile(real_data / "photos_edge.zip") as archive:
        for member in archive.infolist():
            if not member.is_dir() and member.file_size < 200_000:
                (photos / member.filename.replace("/", "_")).write_bytes(archive.read(member))
    before = tree(photos)
    keys = {path.name for path in photos.iterdir() if path.suffix.lower() in EXTENSIONS}
    assert len(keys) > 150

    words = ("fit", photos, "--method", "random", "--mode", "universal", "--on-error", "skip", "--seed", 1)
    fit = uex(*words, "-o", "odd.safetensors", "--json")
    assert fit.code == 0, fit.err
    lost = {item["key"]: item["reason"] for item in fit.json["skipped"]}
    assert fit.json["plan"]["images"] + len(lost) == len(keys)

    applied = uex("apply", "odd.safetensors", photos, "-o", "out", "--on-error", "skip", "--json")
    assert applied.code == 0, applied.err
    left_out = {item["key"]: item["reason"] for item in applied.json["skipped"]}
    weak = {key for key, reason in left_out.items() if "almost no trace" in reason}
    assert {key: reason for key, reason in left_out.items() if key not in weak} == lost
    few = {"pngsuite_s01i3p01.png", "pngsuite_s01n3p01.png", "pillow_png_decompression_dos.png"}
    assert weak <= few, "only images of one pixel, or all black or white, may lose their noise"
    facts = json.loads((tmp_path / "out" / "uex-release.json").read_text())
    assert {item["path"]: item["reason"] for item in facts["skipped"]} == left_out
    assert all(reason.startswith(f"{key}: ") for key, reason in left_out.items())
    assert applied.json["written"] == len(list((tmp_path / "out").glob("*.png"))) == len(keys) - len(left_out)
    for name in ("pillow_truncated_jpeg.jpg", "pillow_broken.png", "pillow_chi.gif", "pillow_multipage.tiff"):
        assert name in lost
    for name in ("pillow_sugarshack.mpo", "pillow_pil_sample_cmyk.jpg", "pngsuite_s03n3p01.png", "pillow_exif.png"):
        assert name not in lost

    verify = uex("verify", "out", "--source", photos, "--allow-missing", "--json")
    assert verify.code == 0, verify.out
    assert verify.json["decoded"] == applied.json["written"]
    assert verify.json["most_levels"] == 8
    assert tree(photos) == before
