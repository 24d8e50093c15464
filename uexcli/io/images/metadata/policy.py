"""What a file holds beside its pixels: texts that may stay, and what must never get into a release."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

from uexcli.io.images import jxl, png
from uexcli.io.images.metadata import bare, boxes, exif, icc, trailing

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
MARKS = ((png.SIGNATURE, "PNG"), (b"\xff\xd8", "JPEG"), (b"II", "TIFF"), (b"MM", "TIFF"), (b"RIFF", "WEBP"))
# A word alone tells nothing: a number after it does.
TELLING = (
    (re.compile(r"GPS(?:[A-Z]\w*|\s+\w+)?\W{0,6}[NSEW]?\s*[-+]?\d{1,3}\s*[.,°]"), "a position"),
    (re.compile(r"serial\s?(?:number|no|nr|#)?\W{0,4}\w*\d", re.IGNORECASE), "a serial number"),
)
TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# Of a PNG: its picture, how it is shown, how large it is printed; eXIf is looked into.
NEEDED = frozenset(
    {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"sBIT", b"bKGD", b"pHYs", b"tIME", b"eXIf", *png.SHOWN}
)


def orientation(image: Image.Image, parts: bare.Bare) -> int:
    """How an opened image is to be turned, 1 to 8: as its EXIF says, else its XMP, else not."""
    block, notes = parts.exif or image.info.get("exif"), parts.xmp
    if not notes:
        found = image.info.get("xmp", b"")
        notes = found if isinstance(found, bytes) else b""
    if jxl.is_one(parts.data) and jxl.header(parts.data).orientation != 1:
        return 1  # it has been turned by its decoder
    return exif.read(block).orientation or exif.told_by_xmp(notes) or 1


def texts(
    data: bytes, parts: bare.Bare, info: Mapping[Any, Any]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Give the texts of a file that tell what it shows and whose it is, keyword and text; and what is not kept of them.

    What tells a position or a serial number is not. `info` is what Pillow says of the file without its metadata.
    """
    block: object = parts.exif or info.get("exif")
    said = dict[str, str | bytes](parts.texts)
    if boxes.is_heif(data):  # where only a decoder finds it
        with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:
            block = image.info.get("exif")
    comment = info.get("comment")
    if isinstance(comment, (bytes, str)):
        said.setdefault("Comment", comment)
    read, found = exif.read(block), dict[str, str]()
    for keyword, tags in TEXTS.items():
        for tag, inner in tags:
            value = (read.inner if inner else read.main).get(tag)
            text = "" if value is None else _text(tag, value.data, value.order)
            if text and keyword not in found:
                found[keyword] = text
        words = said.get(keyword)
        if isinstance(words, str) and words.strip():
            found[keyword] = words.strip()
        elif isinstance(words, bytes) and keyword not in found and (text := _text(0, words, "<")):
            found[keyword] = text
    lost = tuple(f"{keyword.lower()} dropped, as it tells {words}" for keyword, text in found.items()
                 if (words := told(text)))  # fmt: skip
    return tuple((keyword, text[:LONGEST]) for keyword, text in found.items() if not told(text)), lost


def _text(tag: int, value: bytes, order: str) -> str:
    """Read a text: of any tag, UTF-8 or else Latin-1; one that is no text is empty."""
    codes: tuple[str, ...] = ("utf-8", "latin-1")
    if tag in WIDE:
        codes = ("utf-16-le",)
    elif tag == USER_COMMENT:
        codes, value = (CODES.get(value[:8], ""),), value[8:]
        if codes == ("utf-16",) and value[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            codes = ("utf-16-be" if order == ">" else "utf-16-le",)
    for code in codes:
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            text = value.decode(code).strip("\0 \n\r\t")
            return text if all(char.isprintable() or char in "\n\r\t" for char in text) else ""
    return ""


def as_chunks(kept: tuple[tuple[str, str], ...]) -> list[png.Chunk]:
    """Give texts as a PNG's chunks."""
    return [(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode("utf-8", "replace")) for keyword, text in kept]


def as_exif(kept: tuple[tuple[str, str], ...]) -> Image.Exif:
    """Give texts as EXIF."""
    made = Image.Exif()
    inner = made.get_ifd(exif.INNER)
    for keyword, text in kept:
        tag, lies_within = TEXTS[keyword][0]
        if tag == USER_COMMENT:
            inner[tag] = b"UNICODE\0" + text.encode("utf-16")
        elif lies_within:
            inner[tag] = text
        elif tag in WIDE:
            made[tag] = text.encode("utf-16-le") + b"\0\0"
        else:
            made[tag] = text.encode("utf-8", "replace")  # in what EXIF calls ASCII, as everybody does
    return made


def as_tiff(kept: tuple[tuple[str, str], ...]) -> dict[int, bytes]:
    """Give texts as TIFF's tags, which have no directory within."""
    found = {}
    for keyword, text in kept:
        tag = next(tag for tag, inner in reversed(TEXTS[keyword]) if not inner)
        found[tag] = text.encode("utf-16-le") + b"\0\0" if tag in WIDE else text.encode("utf-8", "replace") + b"\0"
    return found


def private(data: bytes, image: Image.Image | None) -> list[str]:
    """List what must not be in a released file: who and where, other pictures, bytes behind.

    `image` is the file opened, with all that it holds; None where that failed.
    """
    found: list[str] = []
    parts, info = bare.of(data), image.info if image is not None else {}
    if image is not None and getattr(image, "n_frames", 1) > 1:
        found.append("more than one picture")
    found += _in_exif(exif.read(parts.exif or info.get("exif")))
    for note in (parts.xmp, info.get("xmp")):
        if isinstance(note, bytes):
            found += [words for mark, words in MARKED.items() if mark in note]
    if any(keyword.startswith(bare.RAW) for keyword, _ in parts.texts):
        found.append("EXIF hidden in a text")
    blocks = info.get("photoshop")
    if isinstance(blocks, Mapping) and any(number in blocks for number in RESOURCE_THUMBNAILS):
        found.append("a thumbnail")
    format_ = image.format if image is not None else next((name for mark, name in MARKS if data.startswith(mark)), None)
    if data.startswith(png.SIGNATURE):
        found += _odd_chunks(data)
    _, lost = texts(data, parts, info)
    found += [words.replace("dropped, as it tells", "that tells") for words in lost]
    if format_ == "TIFF" and SUB_PICTURES in getattr(image, "tag_v2", {}):
        found.append("a picture within")
    raw = parts.icc if parts.icc is not None else info.get("icc_profile")
    if isinstance(raw, bytes) and raw:
        tags = icc.private(raw)
        if tags:
            found.append(f"in its ICC profile: {', '.join(tags)}")
    behind = trailing.behind(data, format_)
    if behind:
        found.append(f"{behind:,} bytes after its end")
    return list(dict.fromkeys(found))


def _in_exif(read: exif.Exif) -> list[str]:
    found = []
    if read.gps:
        found.append("a GPS position")
    if PICTURE in read.second:
        found.append("a thumbnail")
    found += [words for tag, words in PRIVATE.items() if tag in read.inner or tag in read.main]
    return found


def _odd_chunks(data: bytes) -> list[str]:
    """Name a PNG's chunks that neither its picture nor its public texts need."""
    found = []
    for kind, value in png.all_chunks(data):
        keyword = value.partition(b"\0")[0].decode("latin-1")
        if kind not in NEEDED and not (kind in TEXT_CHUNKS and keyword in TEXTS):
            found.append(f"a {kind.decode('latin-1')} chunk" + (f" '{keyword}'" if kind in TEXT_CHUNKS else ""))
    return found


def told(text: str) -> str:
    """Say what of a person's whereabouts or things a text tells; nothing, of most."""
    return next((words for pattern, words in TELLING if pattern.search(text)), "")
