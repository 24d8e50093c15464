"""What a file shows where Pillow's reading of it will not do: where it is another picture, or has fewer bits.

Pillow stays the reference decoder. A file of which it is known to misread some kinds is read by another decoder, too;
where the two differ, the one is taken that the format's specification bears out, or the file is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from uexcli.errors import UexError
from uexcli.io.images import bit_depth
from uexcli.io.images.second import netpbm, png_passes, scaled, tiff

HINT = "Save it anew, as PNG or TIFF of 8 or 16 bits."
NEAR = 1.0  # 8-bit levels by which the upper bits of a value may differ, for rounding
WRAPPED = 255.0  # OpenJPEG's values of more than 8 bits, rounded up to 256 by Pillow, come out as 0
GREY_ALPHA = 4  # PNG's colour type, of which Pillow makes colours where it has 16 bits
CONVERTED = frozenset({"1", "P", "PA"})  # modes
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Exact:
    """A reading, uint8 or uint16 `(H, W, 1 to 4)`, alpha last; None where Pillow's stands. `changes` are to be told."""

    values: np.ndarray | None
    changes: tuple[str, ...] = ()


def read(image: Image.Image, data: bytes, plain: Callable[[], np.ndarray], *, whole: bool) -> Exact:
    """Read an opened file again where that is called for; an orientation in its metadata is left to the caller.

    `plain` gives Pillow's reading as 8-bit `(H, W, 1 to 4)`, and raises what Pillow raises; `whole` asks for all bits.

    Raises:
        UexError: nothing tells what it shows.
    """
    match image.format:
        case "TIFF":
            found = _tiff(data, plain)
        case "PPM" if netpbm.most(data) > 255:
            found = Exact(netpbm.read(data))
        case "PNG" if data[24] > 8 and (whole or "transparency" in image.info or data[25] == GREY_ALPHA):
            found = _png(image, data)
        case "JPEG2000" if bit_depth.bits(data, "JPEG2000") > 8:
            found = _jpeg2000(image, data)
        case "JXL" if bit_depth.bits(data, "JXL") > 8:
            found = _jxl(image, data)
        case "JPEG" | "MPO" if image.mode == "CMYK" and "adobe" not in image.info:
            raise UexError("is a CMYK JPEG without Adobe's marker: nothing tells if 0 is all ink or none.", hint=HINT)
        case _:
            found = Exact(None)
    if found.values is None:
        return found
    wanted = MODES[found.values.shape[2]]
    if "transparency" in image.info:  # a colour that is alpha now
        return Exact(found.values, (f"{wanted[:-1]} to {wanted}", *found.changes))
    if image.mode in CONVERTED:
        return Exact(found.values, (f"{image.mode} to {wanted}", *found.changes))
    return found


def _tiff(data: bytes, plain: Callable[[], np.ndarray]) -> Exact:
    try:
        shown: np.ndarray | None = plain()
    except MemoryError:
        raise
    except Exception:  # what it cannot read, others may
        shown = None
    try:
        reading = tiff.read(data)
    except (UexError, MemoryError):
        raise
    except Exception:
        if shown is None or not _as_libtiff_shows(data, shown):
            raise UexError("is a TIFF of a kind that only one decoder reads.", hint=HINT) from None
        return Exact(None)
    alike = shown is not None and (
        scaled.apart(reading.values, shown, premultiplied=reading.premultiplied) <= reading.slack
    )
    if alike and reading.values.dtype == np.uint8:
        return Exact(None, reading.changes)
    plainly = reading.slack == 0 or reading.premultiplied  # its colours are not converted
    if not alike and not (plainly and _as_libtiff_reads(data, reading)):
        raise UexError("its decoders do not agree on what it shows.", hint=HINT)
    return Exact(reading.values, reading.changes)


def _as_libtiff_reads(data: bytes, reading: tiff.Reading) -> bool:
    """Whether libtiff decodes the same samples, before they are given a meaning."""
    import imagecodecs

    try:
        samples: np.ndarray = imagecodecs.tiff_decode(data)
    except Exception:
        return False
    height, width, count = reading.samples.shape
    if samples.shape == (count, height, width) and count > 1:
        samples = samples.transpose(1, 2, 0)
    return samples.shape in {(height, width), reading.samples.shape} and np.array_equal(
        samples.reshape(reading.samples.shape), reading.samples
    )


def _as_libtiff_shows(data: bytes, shown: np.ndarray) -> bool:
    """Whether libtiff's own conversion to RGB gives what Pillow does, upright or not."""
    import imagecodecs

    try:
        rgb: np.ndarray = imagecodecs.tiff_decode(data, asrgb=True)
    except Exception:
        return False
    colours = np.broadcast_to(shown[:, :, :1], (*shown.shape[:2], 3)) if shown.shape[2] < 3 else shown[:, :, :3]
    return any(scaled.apart(scaled.upright(rgb[:, :, :3], turn), colours) <= tiff.SLACK for turn in scaled.TURNS)


def _png(image: Image.Image, data: bytes) -> Exact:
    image.load()
    try:
        values = png_passes.decode(data)
    except MemoryError:
        raise
    except Exception:  # Pillow read it: its 8 bits do
        return Exact(None)
    colours = values[:, :, : 3 if values.shape[2] > 2 else 1]
    shown = (np.asarray(image) >> 8).astype(np.uint8) if image.mode.startswith("I;16") else np.asarray(image)
    shown = shown.reshape(*shown.shape[:2], -1)[:, :, : colours.shape[2]]
    if values.dtype != np.uint16 or scaled.apart(colours, shown) > 0:
        raise UexError("its decoders do not agree on what it shows.", hint=HINT)
    return Exact(values)


def _jpeg2000(image: Image.Image, data: bytes) -> Exact:
    import imagecodecs

    said = bit_depth.components(data)
    bits = said[0][0] if len(set(said)) == 1 and not said[0][1] else 0
    values: np.ndarray | None = imagecodecs.jpeg2k_decode(data) if 8 < bits <= 16 else None
    if values is None or values.dtype != np.uint16 or image.mode == "CMYK":
        raise UexError("is a JPEG 2000 of signed or mixed depths, or of inks.", hint=HINT)
    return _checked(image, scaled.scaled(values.reshape(*values.shape[:2], -1), bits), wrapped=True)


def _jxl(image: Image.Image, data: bytes) -> Exact:
    import imagecodecs

    bits = bit_depth.bits(data, "JXL")
    values: np.ndarray | None = imagecodecs.jpegxl_decode(data) if bits <= 16 else None
    if values is None or values.dtype != np.uint16:
        raise UexError("pixels are floating point numbers or of 32 bits, which have no 8-bit grid.", hint=HINT)
    values = scaled.scaled(values.reshape(*values.shape[:2], -1), bits)
    if image.mode == "LA":  # the plugin gives half of its bytes
        return Exact(values)
    return _checked(image, values, wrapped=False)


def _checked(image: Image.Image, values: np.ndarray, *, wrapped: bool) -> Exact:
    """Values of more than 8 bits, where Pillow's are their upper bits."""
    image.load()
    shown = np.asarray(image)
    shown = shown.reshape(*shown.shape[:2], -1)
    if wrapped and shown.dtype == np.uint8 and shown.shape == values.shape:
        shown = np.where((shown == 0) & (values >= 0xFF00), np.uint8(WRAPPED), shown)
    if scaled.apart(values, shown.astype(np.uint16) if shown.dtype != np.uint8 else shown) > NEAR:
        raise UexError("its decoders do not agree on what it shows.", hint=HINT)
    return Exact(values)
