"""One promise over everything: what `apply` writes and calls good, `verify` calls good."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Ran, picture
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from uexcli.io.images import png
from uexcli.io.images.metadata import icc

Uex = Callable[..., Ran]
SIDE = 24
FORMATS = ("png", "tiff", "webp", "jxl", "jpeg")
OPTIONS: dict[str, tuple[str, ...]] = {
    "bare": (), "texts": ("--keep-metadata",), "more": ("--keep-metadata", "--png-level", "9", "--croissant"),
}  # fmt: skip
CHUNKS = {
    "gamma": [(b"gAMA", (55000).to_bytes(4, "big"))],
    "primaries": [(b"gAMA", (45455).to_bytes(4, "big")), (b"cHRM", b"".join(
        number.to_bytes(4, "big") for number in (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)))],
    "srgb": [(b"sRGB", b"\0"), (b"gAMA", (45455).to_bytes(4, "big"))],
    "p3": [(b"cICP", bytes((12, 13, 0, 1)))],
}  # fmt: skip


def grey(seed: int) -> np.ndarray:
    return picture(seed, SIDE, grey=True)


def deep(seed: int, channels: int) -> np.ndarray:
    """All 16 bits of random colours, with an alpha of all sorts."""
    values = np.dstack([grey(seed + channel).astype(np.uint16) * 257 for channel in range(channels)])
    values += np.random.default_rng(seed).integers(0, 200, values.shape, dtype=np.uint16)
    if channels in (2, 4):
        values[:, :, -1] = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    return values


def with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(Image.fromarray(np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8)))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photos() -> dict[str, bytes]:
    """Photos of every mode in the formats that have it, with all sorts of texts and colours."""
    colour = Image.fromarray(picture(1, SIDE))
    plain, alpha, la = Image.fromarray(grey(2)), with_alpha(colour.copy()), with_alpha(Image.fromarray(grey(3)))
    few = colour.quantize(12)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x013B] = 6, "GPS on the way to serial killers' lane", "Ann"
    notes = PngInfo()
    notes.add_text("Comment", "GPS: in the boot, serial: none")
    notes.add_text("Title", "Grüße ©", zip=True)
    notes.add_itxt("Description", "GPSLatitude 48.85, serial number 123", "en", "x")
    bilevel = Image.fromarray(grey(4) > 120)
    cmyk, ycc = colour.convert("CMYK"), colour.convert("YCbCr")
    keyed = {"transparency": int(grey(2)[3, 3])}
    found = {
        "1.png": encoded(bilevel, "PNG"), "1.tif": encoded(bilevel, "TIFF"),
        "1-key.png": encoded(bilevel, "PNG", transparency=0),
        "l.png": encoded(plain, "PNG"), "l.jpg": encoded(plain, "JPEG", comment=b"GPS and a serial 12"),
        "l-key.png": encoded(plain, "PNG", **keyed), "l.bmp": encoded(plain, "BMP"), "l.tif": encoded(plain, "TIFF"),
        "la.png": encoded(la, "PNG"), "la.tif": encoded(la, "TIFF"), "la.webp": encoded(la, "WEBP", lossless=True),
        "p.png": encoded(few, "PNG"), "p.gif": encoded(few, "GIF"), "p.tif": encoded(few, "TIFF"),
        "p-clear.png": encoded(few, "PNG", transparency=3), "p-clear.gif": encoded(few, "GIF", transparency=3),
        "p-faint.png": encoded(few, "PNG", transparency=bytes(range(0, 240, 20))),
        "rgb.png": encoded(colour, "PNG", pnginfo=notes), "rgb.webp": encoded(colour, "WEBP", exif=exif),
        "rgb.jpg": encoded(colour, "JPEG", exif=exif, comment=b"GPS"), "rgb.tif": encoded(colour, "TIFF", exif=exif),
        "rgb-key.png": encoded(colour, "PNG", transparency=tuple(int(value) for value in picture(1, SIDE)[2, 2])),
        "rgb.jp2": encoded(colour, "JPEG2000"), "rgb.avif": encoded(colour, "AVIF", exif=exif),
        "rgba.png": encoded(alpha, "PNG"), "rgba.webp": encoded(alpha, "WEBP", exact=True, lossless=True),
        "opaque.png": encoded(colour.convert("RGBA"), "PNG"), "opaque-l.png": encoded(plain.convert("LA"), "PNG"),
        "opaque16.png": png.encode(np.dstack([deep(7, 3), np.full((SIDE, SIDE), 65535, np.uint16)])),
        "rgba.tif": encoded(alpha, "TIFF"), "rgba.avif": encoded(alpha, "AVIF"), "rgba.jp2": encoded(alpha, "JPEG2000"),
        "cmyk.jpg": encoded(cmyk, "JPEG"), "cmyk.tif": encoded(cmyk, "TIFF", icc_profile=b"none at all"),
        "ycc.jpg": encoded(colour, "JPEG", subsampling=2), "ycc.tif": encoded(ycc, "TIFF"),
        "16-l.png": png.encode(deep(5, 1)), "16-la.png": png.encode(deep(6, 2)),
        "16-rgb.png": png.encode(deep(7, 3)), "16-rgba.png": png.encode(deep(8, 4)),
        "16-l-key.png": png.encode(deep(9, 1), chunks=[(b"tRNS", deep(9, 1)[0, 0, 0].tobytes()[::-1])]),
        "16-rgb-key.png": png.encode(deep(7, 3), chunks=[(b"tRNS", deep(7, 3)[0, 0].astype(">u2").tobytes())]),
    }  # fmt: skip
    for channels, name in ((1, "l"), (3, "rgb"), (4, "rgba")):
        buffer = io.BytesIO()
        values = deep(10 + channels, channels)
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(buffer, values if channels > 1 else values[:, :, 0],
                         photometric="rgb" if channels > 2 else "minisblack", **extra)  # fmt: skip
        found[f"16-{name}.tif"] = buffer.getvalue()
    odd = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    curve = icc.build_grey(icc.icc_tags.gamma(1.3), "somebody's")
    for name in ("Display P3", "Adobe RGB", "Linear sRGB"):
        found[f"{name}.jpg"] = encoded(colour, "JPEG", icc_profile=icc.named(name))
    own = icc.build(((0.6, 0.33), (0.3, 0.55), (0.16, 0.1)), (0.33, 0.34), icc.icc_tags.gamma(1.7), "mine")
    found |= {
        "own.png": encoded(colour, "PNG", icc_profile=own), "own16.png": png.encode(deep(7, 3), icc=own),
        "srgb.png": encoded(alpha, "PNG", icc_profile=odd), "p-own.png": encoded(few, "PNG", icc_profile=own),
        "grey-own.png": encoded(plain, "PNG", icc_profile=curve), "grey-own16.png": png.encode(deep(6, 2), icc=curve),
        "grey-in-colour.jpg": encoded(colour, "JPEG", icc_profile=curve),
        "colour-in-grey.jpg": encoded(plain, "JPEG", icc_profile=own),
    }  # fmt: skip
    for name, chunks in CHUNKS.items():
        found[f"{name}.png"] = png.encode(picture(20, SIDE), chunks=chunks)
        found[f"{name}-grey.png"] = png.encode(grey(20)[:, :, None], chunks=chunks)
        found[f"{name}-grey16.png"] = png.encode(deep(21, 2), chunks=chunks)
    return found


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        pytest.param(format_, options, id=f"{format_}-{name}")
        for format_ in FORMATS
        for name, options in OPTIONS.items()
        if format_ == "png" or name != "more"
    ],
)
def test_what_apply_writes_verify_passes(format_: str, options: tuple[str, ...], tmp_path: Path, uex: Uex) -> None:
    if format_ == "jxl":
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    folder, every = tmp_path / "in", photos()
    folder.mkdir()
    for name, data in every.items():
        (folder / name).write_bytes(data)
    fitted = tmp_path / "one"
    fitted.mkdir()
    for index in range(2):
        Image.fromarray(picture(index, SIDE)).save(fitted / f"fitted{index}.png")
    assert uex("fit", fitted, "--method", "random", "--mode", "universal", "--seed", 1, "-o", "n").code == 0
    lossy = ("--allow-lossy", "--eps", "254/255") if format_ == "jpeg" else ()
    ran = uex("apply", "n", folder, "-o", "out", "--format", format_, *lossy[:1], *options, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["written"] == len(every), ran.json["skipped"]
    ran = uex("verify", "out", "--source", folder, "--noise", "n", "--json", *lossy[1:])
    assert ran.json["findings"] == [] and ran.code == 0
    assert uex("verify", "out").code == 0
    facts = json.loads(Path("out/uex-release.json").read_text())
    said = {item["path"] for item in facts["mode_changes"] if "dropped, as it tells" in item["change"]}
    assert bool(said) == ("--keep-metadata" in options)
