"""Samples of any depth and colour space on the grids of 8 and 16 bits, and how far two readings of a file differ."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 256  # at a time, which bounds memory
# What EXIF's orientations mean, as a transposition, then flips of lines and of columns.
TURNS = {1: "", 2: "c", 3: "lc", 4: "l", 5: "t", 6: "tc", 7: "tlc", 8: "tl"}
# CIE XYZ of D50 to linear sRGB (Bradford), and the white point.
XYZ_RGB = ((3.1338561, -1.6168667, -0.4906146), (-0.9787684, 1.9161415, 0.0334540), (0.0719453, -0.2289914, 1.4052427))
D50 = (0.9642, 1.0, 0.8249)


def scaled(samples: np.ndarray, bits: int) -> np.ndarray:
    """Bring whole numbers of 1 to 16 bits onto the grid of 8 bits, uint8, or above 8 bits onto that of 16, uint16."""
    if bits in (8, 16):
        return samples
    top, most = (255 if bits < 8 else 65535), 2**bits - 1
    table = (2 * np.arange(most + 1, dtype=np.int64) * top + most) // (2 * most)
    found: np.ndarray = table.astype(np.uint8 if bits < 8 else np.uint16)[samples.astype(np.intp, copy=False)]
    return found


def of_most(samples: np.ndarray, most: int) -> np.ndarray:
    """The same for whole numbers from 0 to any `most` below 65,536, rounded as Pillow does."""
    top, kind = (255, np.uint8) if most <= 255 else (65535, np.uint16)
    table: np.ndarray = np.rint(np.arange(most + 1) / most * top).astype(kind)
    return samples if most == top else table[samples]


def divided(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Take the alpha `(H, W)` out of colours that were multiplied with it, `(H, W, C)`; where it is 0, they stay."""
    top = np.iinfo(colours.dtype).max
    made = colours.copy()
    for start in range(0, len(colours), ROWS):
        rows = slice(start, start + ROWS)
        clear = alpha[rows, :, None].astype(np.int64)
        wanted = (2 * colours[rows].astype(np.int64) * top + clear) // np.maximum(2 * clear, 1)
        made[rows] = np.where(clear > 0, np.minimum(wanted, top), colours[rows])
    return made


def rgb_of_cmyk(inks: np.ndarray) -> np.ndarray:
    """Turn CMYK into RGB of 8 bits as Pillow does: each ink takes its light away."""
    eight = inks if inks.dtype == np.uint8 else (inks >> 8).astype(np.uint8)
    made = np.empty((*eight.shape[:2], 3), np.uint8)
    for start in range(0, len(eight), ROWS):
        light = 255 - eight[start : start + ROWS].astype(np.float32)
        made[start : start + ROWS] = np.rint(light[:, :, :3] * light[:, :, 3:] / 255)
    return made


def rgb_of_ycbcr(planes: np.ndarray) -> np.ndarray:
    """Turn YCbCr of 8 bits over the whole range, by BT.601, into RGB."""
    made = np.empty_like(planes)
    for start in range(0, len(planes), ROWS):
        luma, blue, red = np.moveaxis(planes[start : start + ROWS].astype(np.float32), 2, 0)
        blue, red = blue - 128, red - 128
        rgb = [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
        made[start : start + ROWS] = np.clip(np.rint(np.stack(rgb, 2)), 0, 255)
    return made


def rgb_of_lab(samples: np.ndarray, bits: int) -> np.ndarray:
    """Turn CIE L*a*b* of D50, as TIFF stores it in 8 or 16 bits, into sRGB of 8 bits."""
    made = np.empty(samples.shape, np.uint8)
    step, kind = (1, np.int8) if bits == 8 else (256, np.int16)
    for start in range(0, len(samples), ROWS):
        block = samples[start : start + ROWS]
        light = block[:, :, 0].astype(np.float64) * (100 / (2**bits - 1))
        opposed = block[:, :, 1:].astype(kind).astype(np.float64) / step
        middle = (light + 16) / 116
        roots = np.stack([middle + opposed[:, :, 0] / 500, middle, middle - opposed[:, :, 1] / 200], 2)
        xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * D50
        linear = np.clip(xyz @ np.asarray(XYZ_RGB).T, 0, 1)
        shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        made[start : start + ROWS] = np.rint(255 * shown)
    return made


def upright(values: np.ndarray, orientation: Any) -> np.ndarray:
    """Turn `(H, W, C)` or `(H, W)` as an EXIF orientation says; as they are for what is none."""
    for turn in TURNS.get(orientation, ""):
        values = {"t": values.swapaxes(0, 1), "l": values[::-1], "c": values[:, ::-1]}[turn]
    return values


def apart(first: np.ndarray, second: np.ndarray, *, premultiplied: bool = False) -> float:
    """How far two readings of a file differ, uint8 or uint16 `(H, W, C)`: in 8-bit levels, at most.

    Of 16 bits against 8 the upper ones count. With `premultiplied`, colours count as they show: not at all where they
    are clear. Infinite where size or channels differ.
    """
    if first.shape != second.shape:
        return float("inf")
    both = first.dtype == np.uint16 and second.dtype == np.uint16
    most = 0.0
    for start in range(0, len(first), ROWS):
        parts = [part[start : start + ROWS] for part in (first, second)]
        parts = [part.astype(np.float32) / 257 if both else _eight(part).astype(np.float32) for part in parts]
        if premultiplied and parts[0].shape[2] in (2, 4):
            parts = [np.concatenate([part[:, :, :-1] * part[:, :, -1:] / 255, part[:, :, -1:]], 2) for part in parts]
        most = max(most, float(np.abs(parts[0] - parts[1]).max(initial=0)))
    return most


def _eight(part: np.ndarray) -> np.ndarray:
    return part if part.dtype == np.uint8 else (part >> 8).astype(np.uint8)
