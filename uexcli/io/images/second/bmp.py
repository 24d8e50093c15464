"""Reading BMP files by their specification, to hold Pillow's reading against: indices, whole pixels, masks and runs."""

from __future__ import annotations

import struct

import numpy as np

from uexcli.io.images.second import scaled

PLAIN, RUNS_8, RUNS_4, MASKS = 0, 1, 2, 3
MASKS_OF = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
CORE, INFO = 12, 40  # sizes of a header


def read(data: bytes) -> np.ndarray:
    """Decode a file: uint8 `(H, W, 3)`, or `(H, W, 4)` where it has a mask for alpha.

    Raises:
        ValueError: it is of a kind that is not read here, or cut short.
    """
    start, size = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, 14)[0]
    if size == CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing, colours = PLAIN, 0
    elif size >= INFO:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
        colours = struct.unpack_from("<I", data, 46)[0]
    else:
        raise ValueError("a header of another kind")
    down, height = height < 0, abs(height)
    if width <= 0 or not height:
        raise ValueError("no size")
    if packing in (RUNS_8, RUNS_4):
        values = _runs(data[start:], width, height, nibbles=packing == RUNS_4)
    elif packing in (PLAIN, MASKS):
        values = _rows(data, start, width, height, bits)
    else:
        raise ValueError(f"compression {packing}")
    upright = values if down else values[::-1]
    if bits <= 8:
        step = 3 if size == CORE else 4
        many = colours or 2**bits
        table = np.frombuffer(data, np.uint8, step * many, 14 + size).reshape(-1, step)[:, 2::-1]
        table = np.concatenate([table, np.zeros((max(0, 256 - many), 3), np.uint8)])
        picked: np.ndarray = table[upright]
        return picked
    if bits == 24:
        return np.ascontiguousarray(upright[:, :, ::-1])
    masks = MASKS_OF[bits] if packing == PLAIN else struct.unpack_from("<4I", data, 54)
    if packing == MASKS and size < 56:  # room for three alone
        masks = (*masks[:3], 0)
    return np.stack([_channel(upright, mask) for mask in masks if mask], 2)


def _channel(pixels: np.ndarray, mask: int) -> np.ndarray:
    low, bits = (mask & -mask).bit_length() - 1, mask.bit_count()
    values = (pixels & mask) >> low
    return (scaled.scaled(values, bits) if bits <= 8 else values >> (bits - 8)).astype(np.uint8)


def _rows(data: bytes, start: int, width: int, height: int, bits: int) -> np.ndarray:
    """Rows as they are stored: indices or whole pixels `(H, W)`, or blue, green and red `(H, W, 3)`."""
    line = -(-width * bits // 32) * 4
    rows = np.frombuffer(data, np.uint8, line * height, start).reshape(height, line)
    if bits == 24:
        return rows[:, : 3 * width].reshape(height, width, 3)
    if bits in (16, 32):
        whole: np.ndarray = np.ascontiguousarray(rows[:, : width * bits // 8]).view(f"<u{bits // 8}").astype(np.int64)
        return whole
    if bits not in (1, 2, 4, 8):
        raise ValueError(f"{bits} bits a pixel")
    each = np.unpackbits(rows, axis=1).reshape(height, -1, bits)[:, :width]
    index: np.ndarray = np.packbits(each, axis=2)[:, :, 0] >> (8 - bits)
    return index


def _runs(data: bytes, width: int, height: int, *, nibbles: bool) -> np.ndarray:
    """Indices `(H, W)` from runs: a count and a value; or 0, and end of line (0), of all (1), a jump (2), a count."""
    made = np.zeros((height, width), np.uint8)
    place = line = column = 0
    while place + 1 < len(data) and line < height:
        count, value = data[place], data[place + 1]
        place += 2
        if count:
            made[line, column : column + count] = _pattern(value, count, nibbles=nibbles)[: max(0, width - column)]
            column += count
        elif value == 0:
            line, column = line + 1, 0
        elif value == 1:
            break
        elif value == 2:
            column, line = column + data[place], line + data[place + 1]
            place += 2
        else:
            size = -(-value // 2) if nibbles else value
            raw = np.frombuffer(data, np.uint8, size, place)
            these = np.stack([raw >> 4, raw & 15], 1).ravel()[:value] if nibbles else raw
            made[line, column : column + value] = these[: max(0, width - column)]
            column += value
            place += size + size % 2
    return made


def _pattern(value: int, count: int, *, nibbles: bool) -> np.ndarray:
    pair = [value >> 4, value & 15] if nibbles else [value, value]
    return np.resize(np.array(pair, np.uint8), count)
