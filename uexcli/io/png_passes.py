"""Decoding PNG files by libpng, which imagecodecs lets complain on stderr about each interlaced one.

An interlaced file is seven small pictures in one stream (Adam7): each is decoded by itself, and put in its place.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from uexcli.io import png

# Of each pass: its first line and column, and the steps from one to the next.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a pixel, by PNG's colour type
NEEDED = frozenset({b"PLTE", b"tRNS"})


def decode(data: bytes) -> np.ndarray:
    """Give a file's values, palettes looked up and a transparent colour made alpha: uint8 or uint16 `(H, W, 1 to 4)`.

    Raises:
        Exception: whatever the decoder raises for what it cannot read.
    """
    import imagecodecs

    if not data[28]:
        values: np.ndarray = imagecodecs.png_decode(data)
        return values.reshape(*values.shape[:2], -1)
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    whole: np.ndarray | None = None
    for (top, left, down, right), part in _parts(data, width, height):
        values = imagecodecs.png_decode(part)
        values = values.reshape(*values.shape[:2], -1)
        if whole is None:
            whole = np.zeros((height, width, values.shape[2]), values.dtype)
        whole[top::down, left::right] = values
    if whole is None:
        raise ValueError("no pixels")
    return whole


def _parts(data: bytes, width: int, height: int) -> Iterator[tuple[tuple[int, int, int, int], bytes]]:
    """The passes, each as a file of its own."""
    found = list(png.all_chunks(data))
    stream = zlib.decompress(b"".join(value for kind, value in found if kind == b"IDAT"))
    before = [item for item in found if item[0] in NEEDED]
    depth, colour = data[24], data[25]
    place = 0
    for top, left, down, right in PASSES:
        lines, columns = -(-max(0, height - top) // down), -(-max(0, width - left) // right)
        if not lines or not columns:
            continue
        size = lines * (1 + -(-columns * SAMPLES[colour] * depth // 8))
        head = columns.to_bytes(4, "big") + lines.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
        body = zlib.compress(stream[place : place + size], 1)
        yield (top, left, down, right), png.assembled([(b"IHDR", head), *before, (b"IDAT", body), (b"IEND", b"")])
        place += size
