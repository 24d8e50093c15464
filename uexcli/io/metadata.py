"""What a file holds beside its pixels: texts that may stay, and what must never get into a release."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

from uexcli.io import ends, png

EXIF, GPS, THUMBNAIL = 0x8769, 0x8825, 1  # directories within EXIF
SUB_PICTURES = 330  # of TIFF
PICTURE = 0x0201  # in the directory of the thumbnail: where it lies
# The texts that --keep-metadata keeps, by PNG's keyword: tags in EXIF, and whether those lie in its inner directory.
TEXTS: dict[str, tuple[tuple[int, bool], ...]] = {
    "Title": ((0x9C9B, False),),
    "Description": ((0x010E, False), (0x9C9F, False)),
    "Author": ((0x013B, False), (0x9C9D, False)),
    "Copyright": ((0x8298, False),),
    "Creation Time": ((0x9003, True), (0x0132, False)),
    "Comment": ((0x9286, True), (0x9C9C, False)),
    "Keywords": ((0x9C9E, False),),
}
WIDE = range(0x9C9B, 0x9CA0)  # Windows' own tags, in UTF-16
USER_COMMENT = 0x9286
CODES = {b"ASCII\0\0\0": "ascii", b"UNICODE\0": "utf-16", b"\0" * 8: "utf-8"}  # before a user comment
LONGEST = 4000  # characters of a text: pictures have been hidden in longer ones
PRIVATE = {  # tags that tell a person or a device
    ExifTags.Base.CameraOwnerName: "the owner's name",
    ExifTags.Base.BodySerialNumber: "a serial number",
    ExifTags.Base.LensSerialNumber: "a serial number",
    ExifTags.Base.CameraSerialNumber: "a serial number",
    ExifTags.Base.ImageUniqueID: "an image's own number",
    ExifTags.Base.MakerNote: "a maker's note",
}
MARKED = {  # in XMP
    b"GPSLatitude": "a GPS position",
    b"SerialNumber": "a serial number",
    b"OwnerName": "the owner's name",
    b"Thumbnails": "a thumbnail",
    b"xapGImg:image": "a thumbnail",
    b"xmpGImg:image": "a thumbnail",
}
RESOURCE_THUMBNAILS = (1033, 1036)  # of Photoshop
TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# Of a PNG: its picture, how it is shown, how large it is printed; eXIf is looked into.
NEEDED = frozenset(
    {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"sBIT", b"bKGD", b"pHYs", b"tIME", b"eXIf", *png.SHOWN}
)


def texts(image: Image.Image) -> tuple[tuple[str, str], ...]:
    """Give the texts of an opened image that tell what it shows and whose it is: keyword and text."""
    found: dict[str, str] = {}
    with contextlib.suppress(Exception):  # damaged metadata is no metadata
        exif = image.getexif()
        for keyword, tags in TEXTS.items():
            for tag, inner in tags:
                text = _text(tag, exif.get_ifd(EXIF).get(tag) if inner else exif.get(tag))
                if text and keyword not in found:
                    found[keyword] = text
    for keyword in TEXTS:
        said = image.info.get(keyword)
        if isinstance(said, str) and said.strip():
            found[keyword] = said.strip()
    comment = image.info.get("comment")
    if isinstance(comment, (bytes, str)) and "Comment" not in found:
        text = _text(0, comment)
        if text:
            found["Comment"] = text
    return tuple((keyword, text[:LONGEST]) for keyword, text in found.items())


def _text(tag: int, value: Any) -> str:
    if isinstance(value, tuple):
        value = bytes(value) if all(isinstance(item, int) and 0 <= item < 256 for item in value) else b""
    if isinstance(value, bytes):
        code = "utf-8"
        if tag in WIDE:
            code = "utf-16-le"
        elif tag == USER_COMMENT:
            code, value = CODES.get(value[:8], ""), value[8:]
        try:
            value = value.decode(code)
        except (UnicodeDecodeError, LookupError):
            return ""
    if not isinstance(value, str):
        return ""
    with contextlib.suppress(UnicodeError):  # Pillow takes what EXIF calls ASCII for Latin-1, where it mostly is UTF-8
        value = value.encode("latin-1").decode("utf-8") if tag else value
    text = value.strip("\0 \n\r\t")
    return text if all(char.isprintable() or char in "\n\r\t" for char in text) else ""


def as_chunks(kept: tuple[tuple[str, str], ...]) -> list[png.Chunk]:
    """Give texts as a PNG's chunks."""
    return [(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode("utf-8", "replace")) for keyword, text in kept]


def as_exif(kept: tuple[tuple[str, str], ...]) -> Image.Exif:
    """Give texts as EXIF."""
    exif = Image.Exif()
    inner = exif.get_ifd(EXIF)
    for keyword, text in kept:
        tag, lies_within = TEXTS[keyword][0]
        if tag == USER_COMMENT:
            inner[tag] = b"UNICODE\0" + text.encode("utf-16")
        elif lies_within:
            inner[tag] = text
        elif tag in WIDE:
            exif[tag] = text.encode("utf-16-le") + b"\0\0"
        else:
            exif[tag] = text.encode("utf-8", "replace")  # in what EXIF calls ASCII, as everybody does
    return exif


def as_tiff(kept: tuple[tuple[str, str], ...]) -> dict[int, bytes]:
    """Give texts as TIFF's tags, which have no directory within."""
    found = {}
    for keyword, text in kept:
        tag = next(tag for tag, inner in reversed(TEXTS[keyword]) if not inner)
        found[tag] = text.encode("utf-16-le") + b"\0\0" if tag in WIDE else text.encode("utf-8", "replace") + b"\0"
    return found


def private(data: bytes, image: Image.Image) -> list[str]:
    """List what must not be in a released file, opened as an image: who and where, other pictures, bytes behind."""
    found: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        found.append("more than one picture")
    with contextlib.suppress(Exception):
        found += _in_exif(image.getexif())
    notes = (image.info.get(name) for name in ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp"))
    for note in notes:
        text = note.encode("utf-8", "replace") if isinstance(note, str) else note
        if isinstance(text, bytes):
            found += [words for mark, words in MARKED.items() if mark in text]
    if "Raw profile type exif" in image.info:
        found.append("EXIF hidden in a text")
    blocks = image.info.get("photoshop")
    if isinstance(blocks, Mapping) and any(number in blocks for number in RESOURCE_THUMBNAILS):
        found.append("a thumbnail")
    if image.format == "PNG":
        found += _odd_chunks(data)
    if image.format == "TIFF" and SUB_PICTURES in getattr(image, "tag_v2", {}):
        found.append("a picture within")
    behind = ends.behind(data, image.format)
    if behind:
        found.append(f"{behind:,} bytes after its end")
    return list(dict.fromkeys(found))


def _in_exif(exif: Image.Exif) -> list[str]:
    found = []
    if exif.get_ifd(GPS):
        found.append("a GPS position")
    if PICTURE in exif.get_ifd(THUMBNAIL):
        found.append("a thumbnail")
    inner = exif.get_ifd(EXIF)
    found += [words for tag, words in PRIVATE.items() if tag in inner or tag in exif]
    return found


def _odd_chunks(data: bytes) -> list[str]:
    """Name a PNG's chunks that neither its picture nor its public texts need."""
    found = []
    for kind, value in png.all_chunks(data):
        keyword = value.partition(b"\0")[0].decode("latin-1")
        if kind in TEXT_CHUNKS and keyword in TEXTS:
            if _tells(value):
                found.append(f"a text '{keyword}' of a position or a number")
        elif kind not in NEEDED:
            found.append(f"a {kind.decode('latin-1')} chunk" + (f" '{keyword}'" if kind in TEXT_CHUNKS else ""))
    return found


def _tells(text: bytes) -> bool:
    return any(mark in text for mark in (b"GPS", b"erial"))
