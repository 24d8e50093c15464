"""Reading Netpbm files, of which Pillow refuses 16-bit grey and reduces 16-bit colour to 8 bits."""

from __future__ import annotations

import re

import numpy as np

from uexcli.io.images.second import scaled

HEAD = re.compile(rb"P([1-6])")
GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
NUMBER = re.compile(GAP + rb"(\d{1,10})")
REMARK = re.compile(rb"#[^\r\n]*")
CHANNELS = {1: 1, 2: 1, 3: 3, 4: 1, 5: 1, 6: 3}
TEXT, BITS = frozenset({1, 2, 3}), frozenset({1, 4})
MOST = 65535


def most(data: bytes) -> int:
    """The largest value a file names, 1 for one of bits; 0 where it is none of these."""
    try:
        return _head(data)[3]
    except ValueError:
        return 0


def read(data: bytes) -> np.ndarray:
    """Decode a file: uint8, or uint16 where its largest value is above 255, `(H, W, 1 or 3)`.

    Raises:
        ValueError: it is none, or cut short, or holds a value above its largest.
    """
    kind, width, height, largest, start = _head(data)
    count = width * height * CHANNELS[kind]
    values: np.ndarray
    if kind in TEXT:
        body = REMARK.sub(b" ", data[start:])
        if kind in BITS:
            digits = np.frombuffer(b"".join(body.split()), np.uint8)[:count]
            values = digits.astype(np.int64) - ord("0")
        else:
            values = np.array(body.split()[:count], dtype=np.int64)
    elif kind in BITS:
        line = -(-width // 8)
        packed = np.frombuffer(data, np.uint8, min(line * height, max(0, len(data) - start - 1)), start + 1)
        if packed.size < line * height:
            raise ValueError("the file is cut short")
        values = np.unpackbits(packed.reshape(height, line), axis=1)[:, :width].ravel()
    else:
        size = 2 if largest > 255 else 1
        if len(data) < start + 1 + size * count:
            raise ValueError("the file is cut short")
        values = np.frombuffer(data, ">u2" if size == 2 else np.uint8, count, start + 1)
    if values.size < count:
        raise ValueError("the file is cut short")
    if values.size and (values.max() > largest or values.min() < 0):
        raise ValueError(f"a value is above {largest}")
    if kind in BITS:
        values = 1 - values  # 1 is black
    native = values.astype(np.uint16 if largest > 255 else np.uint8)
    return scaled.of_most(native, largest).reshape(height, width, CHANNELS[kind])


def _head(data: bytes) -> tuple[int, int, int, int, int]:
    """Kind, width, height, largest value, and where the one white space before the values stands."""
    found = HEAD.match(data)
    if found is None:
        raise ValueError("no Netpbm file")
    kind, place, numbers = int(found[1]), found.end(), []
    for _ in range(2 if kind in BITS else 3):
        number = NUMBER.match(data, place)
        if number is None:
            raise ValueError("no Netpbm header")
        numbers.append(int(number[1]))
        place = number.end()
    largest = 1 if kind in BITS else numbers[2]
    if not numbers[0] or not numbers[1] or not 0 < largest <= MOST:
        raise ValueError("no Netpbm header")
    return kind, numbers[0], numbers[1], largest, place
