"""Decoding PNG files by libpng, which imagecodecs lets complain on stderr about each interlaced one.

An interlaced file is seven small pictures in one stream (Adam7): each is decoded by itself, and put in its place.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from uexcli.io.images import png

# Of each pass: its first line and column, and the steps from one to the next.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a pixel, by PNG's colour type
NEEDED = frozenset({b"PLTE", b"tRNS"})
GREY_OR_RGB = frozenset({0, 2})
PIXELS = NEEDED | {b"IHDR", b"IDAT", b"IEND"}


def decode(data: bytes) -> np.ndarray:
    """Give a file's values, palettes looked up and a transparent colour made alpha: uint8 or uint16 `(H, W, 1 to 4)`.

    Raises:
        Exception: whatever the decoder raises for what it cannot read.
    """
    import imagecodecs

    if not data[28]:
        values: np.ndarray = imagecodecs.png_decode(png.assembled(_alone(data)))
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


def _alone(data: bytes) -> list[png.Chunk]:
    """The chunks that pixels take; of others, and of a transparent colour out of its range, libpng complains, too."""
    found = [item for item in png.all_chunks(data) if item[0] in PIXELS]
    if data[25] in GREY_OR_RGB:
        most = 2 ** data[24] - 1
        return [(kind, _within(value, most) if kind == b"tRNS" else value) for kind, value in found]
    return found


def _within(value: bytes, most: int) -> bytes:
    return (np.frombuffer(value, ">u2", len(value) // 2) & most).astype(">u2").tobytes()


def _parts(data: bytes, width: int, height: int) -> Iterator[tuple[tuple[int, int, int, int], bytes]]:
    """The passes, each as a file of its own."""
    found = _alone(data)
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
