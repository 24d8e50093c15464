"""Writes PNG, Netpbm and BMP files by their specifications."""

from __future__ import annotations

import struct
import zlib

import numpy as np

PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # Adam7


def png(
    values: np.ndarray,
    depth: int,
    colour: int,
    *,
    palette: np.ndarray | None = None,
    clear: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """Write `(H, W, S)` of a colour type; rows take the five filters in turn."""
    height, width, _ = values.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [values[top::down, left::right] for top, left, down, right in PASSES] if interlaced else [values]
    data = b"".join(_rows(part, depth) for part in parts if part.size)
    made = b"\x89PNG\r\n\x1a\n"
    made += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))
    if palette is not None:
        made += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if clear:
        made += chunk(b"tRNS", clear)
    return made + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _rows(part: np.ndarray, depth: int) -> bytes:
    packed = packed_rows(part, depth)
    step = max(1, depth * part.shape[2] // 8)
    made, above = b"", np.zeros(packed.shape[1] + step, np.int64)
    for number, row in enumerate(packed):
        here = np.concatenate([np.zeros(step, np.int64), row])
        left, up, corner = here[:-step], above[step:], above[:-step]
        kind = number % 5
        if kind == 4:
            guess = left + up - corner
            far = np.abs(np.stack([guess - left, guess - up, guess - corner]))
            taken = np.choose(far.argmin(0), [left, up, corner])
        else:
            taken = [np.zeros_like(left), left, up, (left + up) // 2][kind]
        made += bytes([kind]) + ((row - taken) & 255).astype(np.uint8).tobytes()
        above = here
    return made


def packed_rows(part: np.ndarray, depth: int) -> np.ndarray:
    """Rows of samples as bytes, the highest bits first: int64 `(H, bytes)`."""
    rows = part.reshape(part.shape[0], -1).astype(np.uint32)
    each = (rows[:, :, None] >> np.arange(depth - 1, -1, -1, dtype=np.uint32)) & 1
    return np.packbits(each.reshape(rows.shape[0], -1).astype(np.uint8), axis=1).astype(np.int64)


def netpbm(values: np.ndarray, most: int, *, text: bool, remark: bool = False) -> bytes:
    """Write `(H, W, 1 or 3)` as PBM (`most` 0; 1 is black), PGM or PPM, as text or as bytes."""
    height, width, count = values.shape
    number = (1 if most == 0 else 2 if count == 1 else 3) + (0 if text else 3)
    said = b"# made for a test\n" if remark else b""
    head = b"P%d\n%s%d %d\n" % (number, said, width, height) + (b"%d\n" % most if most else b"")
    if text:
        rows = values.reshape(height, -1)
        lines = [(b"" if most == 0 else b" ").join(b"%d" % value for value in row) for row in rows]
        return head + b"\n".join(lines) + b"\n"
    if most == 0:
        return head + np.packbits(values[:, :, 0].astype(np.uint8), axis=1).tobytes()
    return head + values.astype(">u2" if most > 255 else np.uint8).tobytes()


def bmp(
    values: np.ndarray,
    bits: int,
    *,
    palette: np.ndarray | None = None,
    masks: tuple[int, ...] = (),
    run_length: bool = False,
    top_down: bool = False,
    head: int = 40,
) -> bytes:
    """Write indices `(H, W, 1)`, whole pixels `(H, W, 1)` of 16 or 32 bits, or RGB `(H, W, 3)` of 24 bits."""
    height, width, _ = values.shape
    upright = values if top_down else values[::-1]
    if run_length:
        data = _runs(upright[:, :, 0], bits)
    elif bits == 24:
        data = _padded(upright[:, :, ::-1].astype(np.uint8).reshape(height, -1))
    elif bits in (16, 32):
        data = _padded(
            np.ascontiguousarray(upright[:, :, 0]).astype(f"<u{bits // 8}").view(np.uint8).reshape(height, -1)
        )
    else:
        data = _padded(packed_rows(upright, bits).astype(np.uint8))
    compression = (1 if bits == 8 else 2) if run_length else 3 if masks else 0
    colours = b"" if palette is None else b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    said = struct.pack("<IiiHHIIiiII", head, width, -height if top_down else height, 1, bits, compression, len(data),
                       2835, 2835, 0 if palette is None else len(palette), 0)  # fmt: skip
    more = struct.pack(f"<{len(masks)}I", *masks)
    if head > 40:
        more = more.ljust(16, b"\0")[:16] + (b"BGRs" + b"\0" * 48 if head >= 108 else b"")
        more = more.ljust(head - 40, b"\0")
    start = 14 + len(said) + len(more) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + said + more + colours + data


def _padded(rows: np.ndarray) -> bytes:
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


def _runs(rows: np.ndarray, bits: int) -> bytes:
    """Runs of equal values, and every third row as it is."""
    made = b""
    for number, row in enumerate(rows):
        if number % 3 == 0 and 3 <= len(row) < 255:
            many = len(row)
            data = packed_rows(row[None, :, None], bits).astype(np.uint8).tobytes()
            made += bytes([0, many]) + data + b"\0" * (len(data) % 2)
        else:
            place = 0
            while place < len(row):
                end = place
                while end < len(row) and row[end] == row[place] and end - place < 255:
                    end += 1
                value = int(row[place])
                made += bytes([end - place, value if bits == 8 else value << 4 | value])
                place = end
        made += b"\0\0"
    return made + b"\0\1"
