"""Where the picture in a file ends: what lies behind it, no viewer shows."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from uexcli.io.images import jxl, png
from uexcli.io.images.metadata.exif import SIZES

STRIPS, TILES = (273, 279), (324, 325)  # of TIFF: where the pixels lie, and how many bytes each
WITHIN = frozenset({330, 34665, 34853, 40965})  # tags that lead to directories within one
NUMBERS = {3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}  # types of a tag's values that may be places
BOXES = frozenset({
    b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"free", b"skip", b"idat",  # of AVIF and HEIF
    b"JXL ", b"jxlc", b"jxlp", b"jxll", b"jxli", b"jbrd", b"Exif", b"xml ", b"jumb", b"brob",
    b"jP  ", b"jp2h", b"jp2c", b"jp2i", b"uinf", b"uuid",
})  # fmt: skip
MOST = 1_000_000  # entries of a TIFF's directories, and places they hold: more than any photo has


def behind(data: bytes, format_: str | None) -> int:
    """Count the bytes after the end of a picture, but for zeros; 0 for what does not tell where it ends."""
    find = ENDS.get(format_ or "")
    try:
        end = find(data) if find else 0
    except (struct.error, IndexError):  # cut short, and so nothing is behind
        return 0
    return len(data[end:].strip(b"\0")) if end > 8 else 0


def _jpeg(data: bytes) -> int:
    """Segments have lengths, and within scans 0xFF is followed by 0 or D0-D7."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        kind = data[place + 1]
        if kind == 0xD9:
            return place + 2
        if kind == 0xFF:  # filling
            place += 1
            continue
        if kind == 0x01 or 0xD0 <= kind <= 0xD7:  # markers without a length
            place += 2
            continue
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if kind == 0xDA:
            found = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL).search(data, place)
            if found is None:
                return 0
            place = found.end() - 2
    return 0


def _gif(data: bytes) -> int:
    """Blocks begin with their kind, and are cut into pieces with a length each, the last of which is 0."""
    place = 13 + _colours(data[10])
    while data[place] != 0x3B:
        if data[place] == 0x2C:  # a picture, with what it measures, and a byte before its pixels
            place += 10 + _colours(data[place + 9]) + 1
        else:
            place += 2
        while data[place]:
            place += 1 + data[place]
        place += 1
    return place + 1


def _colours(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _boxes(data: bytes) -> int:
    """AVIF, HEIF, JPEG 2000 and JPEG XL in a container are boxes of known kinds, each with its size."""
    place, first = 0, data[4:8]
    if data.startswith(jxl.BARE):
        return 0
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        again = place > 0 and kind == first  # the file once more, or another
        if kind not in BOXES or again or (size != 0 and size < 8) or place + size > len(data):
            return place
        if size == 0:  # to the end of the file
            return len(data)
        place += size
    return place


@dataclass(frozen=True)
class _Way:
    """How a TIFF's numbers are written."""

    order: str
    wide: bool

    def number(self, data: bytes, place: int, kind: str) -> int:
        if place >= len(data):  # perhaps by more than struct can say
            raise IndexError
        return int(struct.unpack_from(self.order + kind, data, place)[0])

    @property
    def place(self) -> str:
        return "Q" if self.wide else "L"


def _tiff(data: bytes) -> int:
    way = _Way("<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+"))
    first = way.number(data, 8 if way.wide else 4, way.place)
    return max(_reached(data, way, first), default=0)


def _reached(data: bytes, way: _Way, first: int) -> Iterator[int]:
    """List where each thing of a TIFF ends."""
    waiting, seen, left = [first], set[int](), MOST
    while waiting:
        start = waiting.pop()
        if start in seen or not 8 <= start < len(data):
            continue
        seen.add(start)
        count = way.number(data, start, "Q" if way.wide else "H")
        entries, width = start + (8 if way.wide else 2), 20 if way.wide else 12
        after = entries + count * width
        waiting.append(way.number(data, after, way.place))
        yield after + (8 if way.wide else 4)
        found: dict[int, list[int]] = {}
        left -= count
        for entry in range(entries, after if left > 0 else entries, width):
            tag, kind = way.number(data, entry, "H"), way.number(data, entry + 2, "H")
            many, held = way.number(data, entry + 4, way.place), entry + (12 if way.wide else 8)
            length = many * SIZES.get(kind, 1)
            if length > (8 if way.wide else 4):
                held = way.number(data, held, way.place)
                yield held + length
            if tag in {*STRIPS, *TILES, *WITHIN} and kind in NUMBERS and many < left and held + length <= len(data):
                step, left = SIZES[kind], left - many
                found[tag] = [way.number(data, held + step * at, NUMBERS[kind]) for at in range(many)]
        for places, lengths in (STRIPS, TILES):
            known = found.get(lengths, [])
            for number, place in enumerate(found.get(places, [])):
                if number >= len(known) or not known[number]:  # some writers leave it out: nobody knows where it ends
                    raise IndexError
                yield place + known[number]
        waiting += [place for tag in WITHIN for place in found.get(tag, [])]


ENDS: dict[str, Callable[[bytes], int]] = {
    "PNG": png.end,
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "WEBP": lambda data: 8 + int.from_bytes(data[4:8], "little"),
    "GIF": _gif,
    "BMP": lambda data: int.from_bytes(data[2:6], "little"),
    "TIFF": _tiff,
    "AVIF": _boxes,
    "HEIF": _boxes,
    "JXL": _boxes,
    "JPEG2000": _boxes,
}
