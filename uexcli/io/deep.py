"""Reading images of 16 bits a value, which Pillow reduces to 8 but for plain grey."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

COLOURS, GREYS = frozenset({2}), frozenset({1})  # TIFF's photometric interpretations: RGB, black is zero
ASCII = frozenset({0x010E, 0x0132, 0x013B, 0x8298})  # TIFF's own tags of text
UNASSOCIATED = 2  # TIFF's alpha that colours were not multiplied with
# What EXIF's orientations mean, as a transposition, then flips of lines and of columns.
TURNS = {1: "", 2: "c", 3: "lc", 4: "l", 5: "t", 6: "tc", 7: "tlc", 8: "tl"}


def read(image: Image.Image, data: bytes, orientation: int) -> np.ndarray | None:
    """Give an upright image's values, uint16 `(H, W, C)`, C being 1 to 4 with alpha last.

    `image` is the same file, loaded by Pillow, with which the upper bytes must agree; None where they do not, where
    the values are not whole 16-bit ones, or where nothing here can read them. Neither the image nor the file turns by
    itself.
    """
    if image.mode.startswith("I;16"):
        values: np.ndarray = np.asarray(image).astype(np.uint16)[:, :, None]
        if "transparency" in image.info:
            alpha = np.where(values == image.info["transparency"], 0, 65535).astype(np.uint16)
            values = np.concatenate([values, alpha], 2)
    else:
        colours = _colour(image, data)
        if colours is None or not _agree(colours, image):
            return None
        values = colours
    return np.ascontiguousarray(upright(values, orientation))


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn `(H, W, C)` as an EXIF orientation says; as they are for what is none."""
    for turn in TURNS.get(orientation, ""):
        values = {"t": values.swapaxes(0, 1), "l": values[::-1], "c": values[:, ::-1]}[turn]
    return values


def _colour(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Decode a PNG or TIFF file."""
    try:
        if image.format == "PNG":
            import imagecodecs

            values: np.ndarray | None = imagecodecs.png_decode(data)
        else:
            values = _tiff(data) if image.format == "TIFF" else None
    except Exception:  # Pillow read it: its 8 bits do
        return None
    if values is None or values.dtype != np.uint16 or values.ndim not in (2, 3):
        return None
    values = values.reshape(*values.shape[:2], -1)
    return values if values.shape[2] <= 4 else None


def _tiff(data: bytes) -> np.ndarray | None:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        colours = 3 if page.photometric in COLOURS else 1 if page.photometric in GREYS else None
        extra = tuple(page.extrasamples)
        if colours is None or page.bitspersample != 16 or extra not in ((), (UNASSOCIATED,)):
            return None
        values: np.ndarray = page.asarray()
        if page.planarconfig == 2 and values.ndim == 3:
            values = values.transpose(1, 2, 0)
        return values if (1 if values.ndim == 2 else values.shape[2]) == colours + len(extra) else None


def _agree(values: np.ndarray, image: Image.Image) -> bool:
    """Whether Pillow's colours are the upper bytes of these."""
    upper = (values >> 8).astype(np.uint8)
    colours = 3 if upper.shape[2] > 2 else 1
    shown = np.asarray(image)
    shown = shown.reshape(*shown.shape[:2], -1)[:, :, :3]
    return shown.shape[:2] == upper.shape[:2] and np.array_equal(
        np.broadcast_to(upper[:, :, :colours], shown.shape), shown
    )


def encode_tiff(pixels: np.ndarray, icc: bytes | None, tags: Mapping[int, bytes] | None = None) -> bytes:
    """Encode uint8 or uint16 `(H, W, C)` as a deflated TIFF, alpha last where C is 2 or 4; with `tags` of bytes."""
    import tifffile

    buffer = io.BytesIO()
    channels = pixels.shape[2]
    tifffile.imwrite(
        buffer,
        pixels if channels > 1 else pixels[:, :, 0],
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        iccprofile=icc,
        metadata=None,
        software=False,
        extratags=[(tag, "s" if tag in ASCII else "B", len(value), value, True) for tag, value in (tags or {}).items()],
    )
    return buffer.getvalue()
