"""The second decoder: what a file shows by another way than Pillow's, to hold the first one's reading against.

PNG by libpng, JPEG, WebP, GIF, BMP, JPEG 2000, AVIF and JPEG XL by imagecodecs, TIFF by tifffile, Netpbm and BMP's
runs by our own readers. HEIF has none. For JPEG, WebP, JPEG 2000, AVIF and JPEG XL both ways end in the same library
(or one of its kin), so that this finds what is wrong in how it is called and in what is made of its values.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from uexcli.errors import UexError
from uexcli.io.images import bit_depth, jxl, png
from uexcli.io.images.metadata import bare, exif, icc
from uexcli.io.images.second import bmp, netpbm, png_passes, scaled, tiff

LOSSY = 4.0  # 8-bit levels by which versions of one library round and smooth colours in other ways
SMOOTHED = 32.0  # and where colours at half size are spread over the pixels in another way, which AVIF leaves open
SRGB, GREY = 16, 17  # JPEG 2000's colour spaces that are read
PHOTOMETRIC = 262  # TIFF's tag
ADOBE = b"\xff\xee\x00\x0eAdobe"  # how its marker begins
FTYP = slice(4, 8)
AVIF, HEIF = (b"avif", b"avis"), (b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"heim", b"heis")


class NoDecoder(Exception):
    """There is no second decoder for a file, or it does not read it; says which and why."""


@dataclass(frozen=True)
class Second:
    """A reading, uint8 or uint16 `(H, W, 1 to 4)`, alpha last, by `slack` 8-bit levels of which the first may be off.

    `turned` says that an orientation in its metadata is not followed; `clear` that colours count as they show only.
    """

    values: np.ndarray
    slack: float = 0.0
    turned: bool = False
    clear: bool = False


def decode(data: bytes) -> Second:
    """Decode a file.

    Raises:
        NoDecoder: it cannot be.
        MemoryError: there was not enough memory.
    """
    kind = kind_of(data)
    reader = READERS.get(kind)
    if reader is None:
        raise NoDecoder(f"there is none for {kind or 'this format'}")
    try:
        return reader(data)
    except (NoDecoder, MemoryError):
        raise
    except UexError as error:
        raise NoDecoder(f"{kind}: {error.message}") from None
    except Exception as error:  # decoders fail in many ways
        raise NoDecoder(f"{kind}: {' '.join(str(error).split())[:80] or type(error).__name__}") from None


def kind_of(data: bytes) -> str:
    """A file's format by its first bytes; empty for what is not known here."""
    if data.startswith(png.SIGNATURE):
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if jxl.is_one(data[: jxl.MARK]):
        return "JPEG XL"
    if data[FTYP] == b"ftyp":
        return "AVIF" if data[8:12] in AVIF else "HEIF" if data[8:12] in HEIF else ""
    if data[FTYP] == b"jP  " or data.startswith(bit_depth.SIZ):
        return "JPEG 2000"
    starts = {b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP"}
    found = next((name for start, name in starts.items() if data.startswith(start)), "")
    return found or ("Netpbm" if netpbm.most(data) else "")


def apart(first: np.ndarray, data: bytes, *, released: bool = False) -> float:
    """How far a first reading, uint8 or uint16 `(H, W, 1 to 4)`, is beyond what may be from that of the second decoder.

    In 8-bit levels; 0 where they agree. A `released` file is not turned by anything.

    Raises:
        NoDecoder: there is none that reads it.
    """
    second = decode(data)
    one, other = _without_opaque(first), _without_opaque(second.values)
    if one.shape[2] != other.shape[2]:
        one, other = _in_colour(one), _in_colour(other)
    turns = scaled.TURNS if second.turned and not released else (1,)
    depths = 0.0 if first.dtype == second.values.dtype else 1.0
    found = (scaled.apart(one, scaled.upright(other, turn), premultiplied=second.clear) for turn in turns)
    least = float("inf")
    for levels in found:
        least = min(least, levels)
        if least <= second.slack + depths:
            return 0.0
    return least


def _without_opaque(values: np.ndarray) -> np.ndarray:
    """Leave out an alpha that is all opaque."""
    opaque = np.iinfo(values.dtype).max
    if values.shape[2] in (2, 4) and values[:, :, -1].min(initial=opaque) == opaque:
        return values[:, :, :-1]
    return values


def _in_colour(values: np.ndarray) -> np.ndarray:
    """Colours, with their alpha: grey is three times the same."""
    if values.shape[2] > 2:
        return values
    return values[:, :, [0, 0, 0, *range(1, values.shape[2])]]


def _png(data: bytes) -> Second:
    return Second(png_passes.decode(data), turned=True)


def _tiff(data: bytes) -> Second:
    found, told = tiff.read(data), exif.read(data)
    if PHOTOMETRIC in told.main and told.main[PHOTOMETRIC].number() == tiff.CMYK:
        inks = found.samples[:, :, :4]
        shown = _rgb_of_inks(inks if inks.dtype == np.uint8 else (inks >> 8).astype(np.uint8), data)
        return Second(scaled.upright(shown, told.orientation), found.slack, turned=told.orientation is None)
    # where no tag turns it, XMP may
    return Second(found.values, found.slack, turned=told.orientation is None, clear=found.premultiplied)


def _rgb_of_inks(inks: np.ndarray, data: bytes) -> np.ndarray:
    """Show CMYK of 8 bits as the first decoder does: by the file's profile, where it has one for that."""
    raw = bare.of(data).icc
    if raw is None or not icc.is_for(raw, "CMYK"):
        return scaled.rgb_of_cmyk(inks)
    return icc.converted(np.ascontiguousarray(inks), "CMYK", raw)


def _netpbm(data: bytes) -> Second:
    if netpbm.most(data) <= 255:
        return Second(netpbm.read(data))
    with Image.open(io.BytesIO(data), formats=["PPM"]) as image:  # the first reading is our own then
        values = np.asarray(image)
    values = values.astype(np.uint16) if image.mode == "I" else values
    return Second(values.reshape(*values.shape[:2], -1), slack=1.0)


def _jpeg(data: bytes) -> Second:
    import imagecodecs

    values = _three(imagecodecs.jpeg8_decode(data))
    if values.dtype != np.uint8:
        raise NoDecoder("JPEG: more than 8 bits")
    if values.shape[2] == 4:  # Adobe writes light where others write ink
        if ADOBE not in data:
            raise NoDecoder("JPEG: CMYK without Adobe's marker")
        values = _rgb_of_inks(255 - values, data)
    return Second(values, LOSSY, turned=True)


def _webp(data: bytes) -> Second:
    import imagecodecs

    return Second(_three(imagecodecs.webp_decode(data)), LOSSY, turned=True)


def _gif(data: bytes) -> Second:
    import imagecodecs

    if not _covers(data):
        raise NoDecoder("GIF: a picture that does not cover its screen")
    return Second(_three(imagecodecs.gif_decode(data, index=0)), clear=True)


def _covers(data: bytes) -> bool:
    """Whether the first picture of a GIF file covers its screen: what lies beside it decoders colour as they like."""
    place = 13 + (3 << (1 + (data[10] & 7)) if data[10] & 0x80 else 0)
    while data[place] == 0x21:  # an extension, in blocks that say how long they are
        place += 2
        while data[place]:
            place += 1 + data[place]
        place += 1
    return data[place + 1 : place + 5] == b"\0\0\0\0" and data[place + 5 : place + 9] == data[6:10]


def _bmp(data: bytes) -> Second:
    return Second(bmp.read(data), slack=1.0)


def _jpeg2000(data: bytes) -> Second:
    import imagecodecs

    place, said = data.find(b"colr"), bit_depth.components(data)
    enumerated = place >= 0 and data[place + 4] == 1
    space = int.from_bytes(data[place + 7 : place + 11], "big") if enumerated else SRGB
    if space not in (SRGB, GREY) or b"pclr" in data[:4096] or len(set(said)) != 1 or said[0][1]:
        raise NoDecoder("JPEG 2000: a palette, signed or mixed depths, or other colours")
    return Second(scaled.scaled(_three(imagecodecs.jpeg2k_decode(data)), said[0][0]), slack=1.0, turned=True)


def _avif(data: bytes) -> Second:
    import imagecodecs

    bits = bit_depth.bits(data, "AVIF")
    values = scaled.scaled(_three(imagecodecs.avif_decode(data)), bits)
    return Second(values, LOSSY if bits == 8 else SMOOTHED, turned=True)


def _jxl(data: bytes) -> Second:
    import imagecodecs

    bits = bit_depth.bits(data, "JXL")
    values = _three(imagecodecs.jpegxl_decode(data))
    if values.dtype not in (np.uint8, np.uint16):
        raise NoDecoder("JPEG XL: no whole numbers of 8 or 16 bits")
    return Second(scaled.scaled(values, bits), slack=1.0, turned=True)


def _three(values: np.ndarray) -> np.ndarray:
    return values.reshape(*values.shape[:2], -1)


READERS: dict[str, Callable[[bytes], Second]] = {
    "PNG": _png, "TIFF": _tiff, "Netpbm": _netpbm, "JPEG": _jpeg, "WebP": _webp, "GIF": _gif, "BMP": _bmp,
    "JPEG 2000": _jpeg2000, "AVIF": _avif, "JPEG XL": _jxl,
}  # fmt: skip
