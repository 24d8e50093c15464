"""Writing a colour profile into a JPEG XL file: the plugin that Pillow writes them with knows sRGB alone.

A lossless file's numbers are those of its own colours, so that what its header says of them may be exchanged, and the
pixels behind it stay as they are (ISO/IEC 18181-1, annexes D and E).
"""

from __future__ import annotations

import struct

from uexcli.io.images import jxl

# Bits of a number, and what is added to it, by the two bits before it.
FLOATS = ((0, 32), (0, 16), (0, 24), (6, 1))
EXTRAS = ((0, 0), (0, 1), (4, 2), (12, 1))
SHIFTS = ((0, 0), (0, 3), (0, 4), (3, 1))
NAMES = ((0, 0), (4, 0), (5, 16), (10, 48))
ENUM = ((0, 0), (0, 1), (4, 2), (6, 18))
COORDINATES = ((19, 0), (19, 524288), (20, 1048576), (21, 2097152))
ALPHA, CUSTOM, GREY = 0, 2, 1
HEADER = 128  # bytes of a profile
# What a decoder expects of them: only what differs is written.
EXPECTED = bytes(8) + b"\x04\0\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + bytes((0, 0, 246, 214))
EXPECTED += bytes((0, 1, 0, 0, 0, 0, 211, 45)) + bytes(48)
MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
INSERT = 1  # the command of a profile's coded form: the next so many bytes, as they are


def embed(data: bytes, profile: bytes) -> bytes:
    """Give a lossless JPEG XL file of one image another profile.

    Raises:
        ValueError: its header is none that is known here.
    """
    if data.startswith(jxl.BARE):
        return _embedded(data, profile)
    place, made = 0, []
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = len(data) if size == 0 else place + size
        if size == 1 or end < place + 8:
            raise ValueError("boxes of no usual size")
        body = data[place + 8 : end]
        if kind == b"jxlc":
            body = _embedded(body, profile)
        elif kind == b"jxlp":
            raise ValueError("a codestream in pieces")
        made.append(struct.pack(">I4s", len(body) + 8, kind) + body)
        place = end
    return b"".join(made)


def _embedded(codestream: bytes, profile: bytes) -> bytes:
    reader = jxl.Bits(codestream[len(jxl.BARE) : len(jxl.BARE) + jxl.HEADER])
    jxl.size(reader)
    if reader.take(1) or reader.take(1):
        raise ValueError("a header of another kind")
    _depth(reader)
    reader.take(1)
    for _ in range(reader.number(EXTRAS)):
        _extra(reader)
    if reader.take(1):
        raise ValueError("colours of its own")
    before = reader.taken
    grey = _colour(reader)
    after = reader.taken
    if reader.take(2) != 0 or not reader.take(1):  # extensions, and no usual transform
        raise ValueError("a header with more in it")
    end = len(jxl.BARE) + (reader.taken + 7) // 8
    old = int.from_bytes(codestream[len(jxl.BARE) : end], "little")
    bits = _Written()
    bits.put(old & ((1 << before) - 1), before)
    bits.put(0, 1)  # not all is usual
    bits.put(1, 1)  # a profile follows
    bits.put(int(grey), 2)
    bits.put(old >> after & 0b111, reader.taken - after)
    _profile(bits, profile)
    return jxl.BARE + bits.whole() + codestream[end:]


def _depth(reader: jxl.Bits) -> None:
    if reader.take(1):
        reader.number(FLOATS)
        reader.take(4)
    else:
        reader.number(jxl.DEPTHS)


def _extra(reader: jxl.Bits) -> None:
    if reader.take(1):  # alpha as usual
        return
    if reader.number(ENUM) != ALPHA:
        raise ValueError("channels of another kind")
    _depth(reader)
    reader.number(SHIFTS)
    for _ in range(reader.number(NAMES)):
        reader.take(8)
    reader.take(1)


def _colour(reader: jxl.Bits) -> bool:
    """Read what the header says of colours; give whether they are grey."""
    if reader.take(1):
        return False
    if reader.take(1):
        raise ValueError("a profile already")
    space = reader.number(ENUM)
    if space > GREY:
        raise ValueError("colours of another kind")
    if reader.number(ENUM) == CUSTOM:
        _points(reader, 1)
    if space != GREY and reader.number(ENUM) == CUSTOM:
        _points(reader, 3)
    if reader.take(1):
        reader.take(24)
    else:
        reader.number(ENUM)
    reader.number(ENUM)
    return space == GREY


def _points(reader: jxl.Bits, count: int) -> None:
    for _ in range(2 * count):
        reader.number(COORDINATES)


class _Written:
    """Bits, the lowest of a byte first."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []

    def put(self, value: int, count: int) -> None:
        self._parts.append((value, count))

    def whole(self) -> bytes:
        made, place = 0, 0
        for value, count in self._parts:
            made |= value << place
            place += count
        return made.to_bytes((place + 7) // 8, "little")


def _profile(bits: _Written, profile: bytes) -> None:
    """Put a profile's coded form, each byte of it a symbol of eight bits."""
    expected = len(profile).to_bytes(4, "big") + EXPECTED[4:]
    head = bytes((one - other) % 256 for one, other in zip(profile[:HEADER], expected, strict=True))
    commands = _number(0) + bytes((INSERT,)) + _number(len(profile) - HEADER)
    coded = _number(len(profile)) + _number(len(commands)) + commands + head + profile[HEADER:]
    _put_long(bits, len(coded))
    bits.put(0, 1)  # no repeats
    bits.put(0b001, 3)  # all contexts as one
    bits.put(1, 1)  # a prefix code
    bits.put(8, 4)  # of 256 symbols, which are the values
    bits.put(0, 4 + 4)
    bits.put(1, 1)
    bits.put(7, 4)
    bits.put(127, 7)
    # All its symbols have eight bits: of the lengths that a symbol may have, in the order they are told in, that alone
    # is one (its own length, four, is of no matter).
    bits.put(0, 2)
    for length in (1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15):
        bits.put(1 if length == 8 else 0, 2)
    bits.put(int.from_bytes(coded.translate(MIRRORED), "little"), 8 * len(coded))


def _number(value: int) -> bytes:
    made: list[int] = []
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))


def _put_long(bits: _Written, value: int) -> None:
    """A number of up to 64 bits, of which the first 12 come first, then 8 at a time."""
    bits.put(3, 2)
    bits.put(value & 0xFFF, 12)
    value >>= 12
    while value:
        bits.put(1, 1)
        bits.put(value & 0xFF, 8)
        value >>= 8
    bits.put(0, 1)
