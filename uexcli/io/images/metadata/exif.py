"""Reading EXIF as far as it goes: what is odd, damaged or cut short is passed over, and never an error.

Pillow writes EXIF anew where it turns a picture, and fails on what it cannot write; here nothing is ever written.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

ORIENTATION, INNER, GPS, INTEROP = 0x0112, 0x8769, 0x8825, 0xA005
COLOUR_SPACE, INDEX = 0xA001, 0x0001
ADOBE = 2  # a colour space that cameras write, though EXIF knows it not
MARK = b"Exif\0\0"
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WHOLE = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}
MOST = 4096  # entries of a directory that are looked at
TURNED = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


@dataclass(frozen=True)
class Value:
    """What a tag holds: its type and bytes, as they are."""

    kind: int
    data: bytes
    order: str

    def number(self) -> int | None:
        """Its first number, where it is a whole one."""
        letter = WHOLE.get(self.kind)
        if letter is None or len(self.data) < SIZES[self.kind]:
            return None
        return int(struct.unpack_from(self.order + letter, self.data)[0])


@dataclass(frozen=True)
class Exif:
    """The directories of an EXIF block or a TIFF file, tag by tag."""

    main: Mapping[int, Value] = field(default_factory=dict)
    inner: Mapping[int, Value] = field(default_factory=dict)
    gps: Mapping[int, Value] = field(default_factory=dict)
    interop: Mapping[int, Value] = field(default_factory=dict)
    second: Mapping[int, Value] = field(default_factory=dict)  # of the thumbnail

    @property
    def orientation(self) -> int | None:
        """1 to 8; None where it is not told, or is none."""
        told = self.main.get(ORIENTATION)
        number = None if told is None else told.number()
        return number if number is not None and 1 <= number <= 8 else None

    @property
    def adobe(self) -> bool:
        """Whether a camera says that its colours are Adobe RGB, as it does where it writes no profile."""
        index, space = self.interop.get(INDEX), self.inner.get(COLOUR_SPACE)
        if index is not None and index.data.startswith(b"R03"):
            return True
        return space is not None and space.number() == ADOBE


def read(block: object) -> Exif:
    """Read a block of EXIF, with or without what marks it, or a whole TIFF file; what are no bytes holds nothing."""
    data = block.removeprefix(MARK) if isinstance(block, bytes) else b""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return Exif()
    try:
        wide = struct.unpack_from(order + "H", data, 2)[0] == 43
        start = struct.unpack_from(order + ("Q" if wide else "L"), data, 8 if wide else 4)[0]
    except struct.error:
        return Exif()
    main, second = directory(data, start, order, wide=wide)
    found: dict[int, dict[int, Value]] = {}
    for tag, holder in ((INNER, main), (GPS, main)):
        place = holder[tag].number() if tag in holder else None
        found[tag] = {} if place is None else directory(data, place, order, wide=wide)[0]
    place = found[INNER][INTEROP].number() if INTEROP in found[INNER] else None
    interop = {} if place is None else directory(data, place, order, wide=wide)[0]
    thumbnail = directory(data, second, order, wide=wide)[0] if second else {}
    return Exif(main, found[INNER], found[GPS], interop, thumbnail)


def directory(data: bytes, start: int, order: str, *, wide: bool) -> tuple[dict[int, Value], int]:
    """Read one directory, and where the next one is said to be; values that lie outside of the data are empty."""
    found: dict[int, Value] = {}
    width, inside, place = (20, 8, "Q") if wide else (12, 4, "L")
    head = 8 if wide else 2
    if not 0 < start <= len(data) - head:
        return found, 0
    count = struct.unpack_from(order + ("Q" if wide else "H"), data, start)[0]
    entry = start + head
    for _ in range(min(count, MOST)):
        if entry + width > len(data):
            return found, 0
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        many = struct.unpack_from(order + place, data, entry + 4)[0]
        length, held = many * SIZES.get(kind, 1), entry + width - inside
        if length > inside:
            held = struct.unpack_from(order + place, data, held)[0]
        found[tag] = Value(kind, data[held : held + length], order)
        entry += width
    after = struct.unpack_from(order + place, data, entry)[0] if entry + inside <= len(data) else 0
    return found, int(after)


def told_by_xmp(text: bytes) -> int | None:
    """The orientation that XMP tells; None where it tells none."""
    match = TURNED.search(text)
    return None if match is None else int(match[1])
