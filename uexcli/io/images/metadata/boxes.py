"""Boxes, of which AVIF, HEIF, JPEG 2000 and JPEG XL are made: what they say of colours, and where metadata lies."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from uexcli.io.images import jxl

BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf")
JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
NOTES = (b"Exif", b"mime")  # items that are no pictures; XMP is among the latter
PICTURE = (b"JXL ", b"ftyp", b"jxll", b"jxlc", b"jxlp", b"jxli")  # of JPEG XL; the others can be left out


@dataclass(frozen=True)
class Box:
    """Where a box lies in its file: its kind, where its content starts and ends."""

    kind: bytes
    start: int
    end: int
    first: int  # where its own head begins


def walk(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """List boxes one after another, as far as they are whole."""
    place, last = start, len(data) if end is None else end
    while place + 8 <= last:
        size, kind, content = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8], place + 8
        if size == 1:
            size, content = int.from_bytes(data[content : content + 8], "big"), content + 8
        after = last if size == 0 else place + size
        if after < content or after > last:
            return
        yield Box(kind, content, after, place)
        place = after


def is_heif(data: bytes) -> bool:
    """Whether a file is AVIF or HEIF."""
    return data[4:8] == b"ftyp" and data[8:12] in BRANDS


def without_notes(data: bytes) -> bytes:
    """Give an AVIF or HEIF file whose EXIF and XMP no reader finds; its pictures stay where they are."""
    made = bytearray(data)
    for box, kind, place in _items(data):
        if kind in NOTES and place + 4 <= box.end:
            made[place : place + 4] = b"none"
    return bytes(made)


def bare_jxl(data: bytes) -> tuple[bytes, bytes]:
    """Give a JPEG XL file without its metadata, and the EXIF it had."""
    if data.startswith(jxl.BARE):
        return data, b""
    kept, exif = [], b""
    for box in walk(data):
        if box.kind in PICTURE:
            kept.append(data[box.first : box.end])
        elif box.kind == b"Exif" and not exif:
            block = data[box.start : box.end]
            exif = block[4 + int.from_bytes(block[:4], "big") :] if block[:2] not in (b"II", b"MM") else block
    return b"".join(kept), exif


def colours(data: bytes) -> list[bytes]:
    """Give what the `colr` boxes say of an AVIF's, a HEIF's or a JPEG 2000's main picture; nothing of other files."""
    if data.startswith(JP2):
        heads = (box for box in walk(data) if box.kind == b"jp2h")
        return [data[box.start : box.end] for head in heads for box in walk(data, head.start, head.end)
                if box.kind == b"colr"]  # fmt: skip
    if not is_heif(data):
        return []
    meta = next((box for box in walk(data) if box.kind == b"meta"), None)
    if meta is None:
        return []
    inner = {box.kind: box for box in walk(data, meta.start + 4, meta.end)}
    if not {b"pitm", b"iprp"} <= set(inner):
        return []
    properties, wanted = list[Box](), set[int]()
    main = _number(data, inner[b"pitm"])
    for box in walk(data, inner[b"iprp"].start, inner[b"iprp"].end):
        if box.kind == b"ipco":
            properties = list(walk(data, box.start, box.end))
        elif box.kind == b"ipma":
            wanted |= set(_associated(data, box, main))
    return [data[box.start : box.end] for number, box in enumerate(properties, 1)
            if number in wanted and box.kind == b"colr"]  # fmt: skip


def _number(data: bytes, box: Box) -> int:
    """The picture that is the main one."""
    length = 2 if data[box.start] == 0 else 4
    return int.from_bytes(data[box.start + 4 : box.start + 4 + length], "big")


def _associated(data: bytes, box: Box, item: int) -> Iterator[int]:
    """List the numbers of an item's properties, from 1 on."""
    wide_item, wide = data[box.start] > 0, data[box.start + 3] & 1
    place = box.start + 8
    for _ in range(int.from_bytes(data[box.start + 4 : place], "big")):
        if place + 3 > box.end:
            return
        length = 4 if wide_item else 2
        number, place = int.from_bytes(data[place : place + length], "big"), place + length
        count, place = data[place], place + 1
        size = 2 if wide else 1
        for _ in range(count):
            if place + size > box.end:
                return
            if number == item:
                yield int.from_bytes(data[place : place + size], "big") & (0x7FFF if wide else 0x7F)
            place += size


def _items(data: bytes) -> Iterator[tuple[Box, bytes, int]]:
    """List the items a file names: the box, the item's type, and where that stands."""
    for meta in walk(data):
        if meta.kind != b"meta":
            continue
        for box in walk(data, meta.start + 4, meta.end):
            if box.kind != b"iinf" or box.end - box.start < 8:
                continue
            head = 6 if data[box.start] == 0 else 8
            for entry in walk(data, box.start + head, box.end):
                version = data[entry.start] if entry.end > entry.start else 0
                place = entry.start + {2: 8, 3: 10}.get(version, 1 << 62)
                if entry.kind == b"infe" and place + 4 <= entry.end:
                    yield entry, data[place : place + 4], place


def nclx(content: bytes) -> tuple[int, int, int, int] | None:
    """Primaries, transfer, matrix and range of a `colr` box; None where it tells none."""
    if content[:4] != b"nclx" or len(content) < 11:
        return None
    primaries, transfer, matrix = struct.unpack(">3H", content[4:10])
    return primaries, transfer, matrix, content[10] >> 7
