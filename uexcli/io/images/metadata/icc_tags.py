"""Reading what a colour profile's tags hold, and writing it anew: numbers only, nothing between or behind them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

FIXED = 65536  # s15Fixed16
PARAMETERS = (1, 3, 4, 5, 7)  # of a parametric curve, by its kind
STAGES = {b"mAB ": "io", b"mBA ": "oi"}  # of which side the A curves and the B curves are


class Odd(ValueError):
    """A tag that is damaged, or of a kind that no colour needs."""


def rewritten(data: bytes) -> bytes:
    """Write a tag of curves, matrices or tables anew.

    Raises:
        Odd: it is none of those, or cut short.
    """
    kind = data[:4]
    try:
        if kind == b"XYZ ":
            return kind + bytes(4) + _exactly(data, 8, 12)
        if kind == b"sf32":
            return kind + bytes(4) + _exactly(data, 8, 36)
        if kind == b"cicp":
            return kind + bytes(4) + _exactly(data, 8, 4)
        if kind in (b"curv", b"para"):
            return _curve(data, 0)[0]
        if kind in (b"mft1", b"mft2"):
            return _table(data)
        if kind in STAGES:
            return _stages(data)
    except (struct.error, IndexError):
        raise Odd("cut short") from None
    raise Odd(f"of the kind '{kind.decode('latin-1')}'")


def triple(data: bytes) -> tuple[float, float, float]:
    """Read X, Y and Z."""
    first, second, third = struct.unpack(">3i", _exactly(data, 8, 12))
    return first / FIXED, second / FIXED, third / FIXED


def curve_at(data: bytes, values: np.ndarray) -> np.ndarray:
    """What a curve makes of values from 0 to 1: float64, as many."""
    made: np.ndarray
    if data[:4] == b"curv":
        count = struct.unpack(">I", data[8:12])[0]
        numbers = np.frombuffer(data, ">u2", count, 12).astype(np.float64)
        if count == 0:
            return values
        if count == 1:
            return np.asarray(values ** (numbers[0] / 256))
        return np.asarray(np.interp(values, np.linspace(0, 1, count), numbers / 65535))
    kind = struct.unpack(">H", data[8:10])[0]
    given = [number / FIXED for number in struct.unpack(f">{PARAMETERS[kind]}i", data[12 : 12 + 4 * PARAMETERS[kind]])]
    gamma, a, b, c, d, e, f = _full(kind, given)
    with np.errstate(all="ignore"):
        upper = np.maximum(a * values + b, 0) ** gamma + e
        made = np.where(values >= d, upper, c * values + f)
    made = np.clip(np.nan_to_num(made, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    return made


def _full(kind: int, given: Sequence[float]) -> tuple[float, ...]:
    """All seven parameters of a curve: gamma, a to f, the lower part being `c x + f` below `d`."""
    gamma = given[0]
    if kind == 0:
        return gamma, 1, 0, 0, 0, 0, 0
    a, b = given[1:3]
    if kind == 1:
        return gamma, a, b, 0, -b / a if a else math.inf, 0, 0
    if kind == 2:
        return gamma, a, b, 0, -b / a if a else math.inf, given[3], given[3]
    if kind == 3:
        return gamma, a, b, given[3], given[4], 0, 0
    return gamma, a, b, given[3], given[4], given[5], given[6]


def gamma(power: float) -> bytes:
    """A curve that is a power."""
    return b"para" + bytes(8) + struct.pack(">i", round(power * FIXED))


def parametric(*numbers: float) -> bytes:
    """A curve of a power with a straight piece below: gamma, a, b, c, d."""
    return b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *(round(number * FIXED) for number in numbers))


def xyz(values: Sequence[float]) -> bytes:
    """X, Y and Z."""
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * FIXED) for value in values))


def matrix(values: np.ndarray) -> bytes:
    """A matrix, (3, 3)."""
    return b"sf32" + bytes(4) + struct.pack(">9i", *(round(float(value) * FIXED) for value in values.ravel()))


def text(words: str, *, new: bool, kind: bytes) -> bytes:
    """A text in ASCII as a profile of version 4 (`new`) or 2 has it; `kind` is its tag."""
    if new:
        wide = words.encode("utf-16-be")
        return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(wide), 28) + wide
    plain = words.encode("ascii") + b"\0"
    if kind == b"cprt":
        return b"text" + bytes(4) + plain
    return b"desc" + bytes(4) + struct.pack(">I", len(plain)) + plain + bytes(4 + 4 + 2 + 1 + 67)


def told(data: bytes) -> str:
    """Read a text, of whatever kind, in its first language; what cannot be read is an empty one."""
    kind = data[:4]
    if kind == b"text":
        return data[8:].split(b"\0")[0].decode("latin-1")
    if kind == b"desc" and len(data) >= 12:
        return data[12 : 12 + int.from_bytes(data[8:12], "big")].split(b"\0")[0].decode("latin-1")
    if kind == b"mluc" and len(data) >= 28:
        length, start = struct.unpack(">II", data[20:28])
        return data[start : start + length].decode("utf-16-be", "replace").rstrip("\0")
    return ""


def _exactly(data: bytes, start: int, length: int) -> bytes:
    if start < 0 or start + length > len(data):
        raise Odd("cut short")
    return data[start : start + length]


def _curve(data: bytes, start: int) -> tuple[bytes, int]:
    """Write the curve that begins at a place anew, and say where it ends."""
    kind = data[start : start + 4]
    if kind == b"curv":
        count = struct.unpack_from(">I", data, start + 8)[0]
        length = 12 + 2 * count
        return kind + bytes(4) + _exactly(data, start + 8, length - 8), start + length
    if kind == b"para":
        way = struct.unpack_from(">H", data, start + 8)[0]
        if way >= len(PARAMETERS):
            raise Odd(f"a curve of the kind {way}")
        length = 4 * PARAMETERS[way]
        return kind + bytes(4) + struct.pack(">HH", way, 0) + _exactly(data, start + 12, length), start + 12 + length
    raise Odd("no curve")


def _curves(data: bytes, start: int, count: int) -> bytes:
    made = b""
    for _ in range(count):
        one, end = _curve(data, start)
        made += one + bytes(-len(one) % 4)
        start = end + (-end % 4)
    return made


def _table(data: bytes) -> bytes:
    """`mft1` and `mft2`: a matrix, curves, a grid, curves."""
    inputs, outputs, grid = data[8:11]
    wide = data[:4] == b"mft2"
    before, after = struct.unpack(">HH", _exactly(data, 48, 4)) if wide else (256, 256)
    start, size = (52, 2) if wide else (48, 1)
    count = before * inputs + grid**inputs * outputs + after * outputs
    head = data[:4] + bytes(4) + bytes((inputs, outputs, grid, 0)) + _exactly(data, 12, start - 12)
    return head + _exactly(data, start, size * count)


def _stages(data: bytes) -> bytes:
    """`mAB ` and `mBA `: up to five stages, each where its offset says."""
    inputs, outputs = data[8:10]
    if not (1 <= inputs <= 15 and 1 <= outputs <= 15):
        raise Odd("without channels")
    sides = {"i": inputs, "o": outputs}
    first, last = (sides[side] for side in STAGES[data[:4]])
    places = struct.unpack(">5I", _exactly(data, 12, 20))
    b, matrix_, m, grid, a = places
    parts = [
        _curves(data, b, last) if b else b"",
        _exactly(data, matrix_, 48) if matrix_ else b"",
        _curves(data, m, 3) if m else b"",
        _grid(data, grid, inputs, outputs) if grid else b"",
        _curves(data, a, first) if a else b"",
    ]
    made, place = b"", 32
    written = []
    for part in parts:
        written.append(place + len(made) if part else 0)
        made += part + bytes(-len(part) % 4)
    return data[:4] + bytes(4) + bytes((inputs, outputs, 0, 0)) + struct.pack(">5I", *written) + made


def _grid(data: bytes, start: int, inputs: int, outputs: int) -> bytes:
    points = _exactly(data, start, inputs)
    precision = _exactly(data, start + 16, 1)[0]
    if precision not in (1, 2):
        raise Odd("a grid of no known depth")
    length = math.prod(points) * outputs * precision
    return points + bytes(16 - inputs) + bytes((precision, 0, 0, 0)) + _exactly(data, start + 20, length)
