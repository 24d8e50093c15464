"""A picture's file without its metadata, so that no decoder can stumble over it; and that metadata, apart.

Pillow reads texts, EXIF and the like as it opens a file, and refuses sound pictures for what is odd in them. uex drops
all of that anyway.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from uexcli.io.images import jxl, png
from uexcli.io.images.metadata import boxes, exif

LONGEST = 16 << 20  # bytes of a profile that was packed
LONGEST_TEXT = 1 << 20
DRAWN = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"})  # what PNG's pixels need
XMP, XMP_MARK, ICC_MARK = "XML:com.adobe.xmp", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
RAW = "Raw profile type "  # ImageMagick's way to put anything into a text
JPEG_NOTES = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})  # APP0 and APP14 tell what the colours are
COMMENT = 0xFE
# What a TIFF's pixels need to be read; the rest is metadata.
STRUCTURE = frozenset({
    *range(254, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 332, 333, 334, 336,
    338, 339, *range(340, 348), *range(512, 522), 529, 530, 531, 532, 50674,
})  # fmt: skip
TIFF_XMP, TIFF_ICC = 700, 34675


@dataclass(frozen=True)
class Bare:
    """A file that holds its picture alone, and what else it held.

    `icc` is None where there is none, or where only a decoder can tell; `texts` are a PNG's, and the comment of a JPEG.
    """

    data: bytes
    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes | None = None
    texts: tuple[tuple[str, str | bytes], ...] = ()


def of(data: bytes) -> Bare:
    """Take a file apart; one of no known kind, or damaged, stays as it is."""
    if data.startswith(png.SIGNATURE):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(data)
    if jxl.is_one(data):
        rest, block = boxes.bare_jxl(data)
        return Bare(rest, block)
    if boxes.is_heif(data):
        return Bare(boxes.without_notes(data))
    return Bare(data)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """List a JPEG file's segments up to its pixels: marker, where it begins, and where it ends."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:  # what is between segments, decoders pass over
            place = data.find(b"\xff", place)
            if place < 0:
                return
            continue
        kind = data[place + 1]
        if kind in (0xFF, 0x00):
            place += 1
            continue
        if kind in (0xD9, 0xDA):
            return
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:
            place += 2
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if end > len(data) or end < place + 4:
            return
        yield kind, place, end
        place = end


def _jpeg(data: bytes) -> Bare:
    whole, kept, done = memoryview(data), list[memoryview](), 0
    blocks, notes, comments = b"", b"", list[bytes]()
    pieces: dict[int, bytes] = {}
    for kind, start, end in segments(data):
        if kind not in JPEG_NOTES:
            continue
        kept.append(whole[done:start])
        done, body = end, data[start + 4 : end]
        if kind == 0xE1 and body.startswith(exif.MARK[:5]):
            blocks += body[6:]  # a long one goes on in the next segment
        elif kind == 0xE1 and body.startswith(XMP_MARK):
            notes = notes or body[len(XMP_MARK) :]
        elif kind == 0xE2 and body.startswith(ICC_MARK) and len(body) > 14:
            pieces.setdefault(body[12], body[14:])
        elif kind == COMMENT:
            comments.append(body)
    kept.append(whole[done:])
    profile = b"".join(pieces[number] for number in sorted(pieces)) if pieces else None
    texts = tuple(("Comment", comment) for comment in comments[:1])
    return Bare(b"".join(kept) if done else data, blocks, notes, profile, texts)


def _png(data: bytes) -> Bare:
    whole, kept, done, place = memoryview(data), list[memoryview](), 0, len(png.SIGNATURE)
    block, notes, profile = b"", b"", None
    texts: dict[str, str] = {}
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if end > len(data):
            break
        if kind not in DRAWN:
            kept.append(whole[done:place])
            done, body = end, data[place + 8 : end - 4]
            if kind == b"eXIf":
                block = block or body
            elif kind == b"iCCP" and profile is None:
                profile = unpacked(body.partition(b"\0")[2][1:], LONGEST) or b""
            elif kind in (b"tEXt", b"zTXt", b"iTXt"):
                keyword, text = png_text(kind, body)
                texts.setdefault(keyword, text)
        place = end
        if kind == b"IEND":
            break
    kept.append(whole[done:])
    block = block or _unhexed(texts.get(RAW + "exif", "") or texts.get(RAW + "APP1", ""))
    notes = texts.get(XMP, "").encode("utf-8", "replace") or _unhexed(texts.get(RAW + "xmp", ""))
    given = tuple((keyword, text) for keyword, text in texts.items() if text)
    return Bare(b"".join(kept) if done else data, block, notes, profile, given)


def png_text(kind: bytes, body: bytes) -> tuple[str, str]:
    """Read a PNG's text: keyword and text, which is empty where it cannot be read."""
    name, _, rest = body.partition(b"\0")
    keyword, code = name.decode("latin-1"), "latin-1"
    packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\x01")
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        rest, code = rest[2:].partition(b"\0")[2].partition(b"\0")[2], "utf-8"
    if packed:
        rest = unpacked(rest, LONGEST_TEXT)
    return keyword, rest[:LONGEST_TEXT].decode(code, "replace")


def unpacked(data: bytes, most: int) -> bytes:
    """Unpack bytes, but no more than so many: none where they are damaged, or would be more."""
    try:
        reader = zlib.decompressobj()
        made = reader.decompress(data, most)
    except zlib.error:
        return b""
    return b"" if reader.unconsumed_tail else made


def _unhexed(text: str) -> bytes:
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _tiff(data: bytes) -> Bare:
    """Point a TIFF to a copy of its first directory that has only what its pixels need."""
    order, wide = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    letter, width, head, first = ("Q", 20, 8, 8) if wide else ("L", 12, 2, 4)
    try:
        start = struct.unpack_from(order + letter, data, first)[0]
        count = struct.unpack_from(order + ("Q" if wide else "H"), data, start)[0]
        after = start + head + count * width
        rest = struct.unpack_from(order + letter, data, after)[0]
    except struct.error:
        return Bare(data)
    found, _ = exif.directory(data, start, order, wide=wide)
    entries = [data[place : place + width] for place in range(start + head, after, width)]
    kept = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] in STRUCTURE]
    notes = found[TIFF_XMP].data if TIFF_XMP in found else b""
    profile = found[TIFF_ICC].data if TIFF_ICC in found else None
    spare = bytes(-len(data) % 8)
    try:
        place = struct.pack(order + letter, len(data) + len(spare))
        made = struct.pack(order + ("Q" if wide else "H"), len(kept)) + b"".join(kept)
        made += struct.pack(order + letter, rest)
    except struct.error:  # as long as its numbers can say
        return Bare(data)
    parts = (data[:first], place, memoryview(data)[first + len(place) :], spare, made)
    return Bare(b"".join(parts), data, notes, profile)
