"""Reading TIFF files by the specification (TIFF 6.0), from what tifffile decodes; Pillow misreads some of them."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from uexcli.errors import UexError
from uexcli.io.images.second import scaled

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
DIRECT = frozenset({WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE})  # of which no colour is converted
SLACK = 4.0  # 8-bit levels
LAB_SLACK = 32.0  # of strong colours, which a step of 8-bit L*a*b* moves far
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3}
PREMULTIPLIED, ALPHA = 1, 2  # kinds of extra samples
UNSIGNED = 1  # a sample format
JPEG = frozenset({6, 7})  # compressions, of which decoders turn YCbCr to RGB
# Tags of YCbCr, with what they mean here: BT.601's weights, and the whole range.
YCBCR_USUAL = {529: (0.299, 0.587, 0.114), 532: (0, 255, 128, 255, 128, 255)}
MOST_BITS = 16
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # which else tells of odd tags on stderr
HINT = "Save it anew as RGB or grey, of 8 or 16 bits."


@dataclass(frozen=True)
class Reading:
    """What a file shows.

    `samples` are as they are stored, `(H, W, S)`; `values` are upright, uint8 or uint16 `(H, W, 1 to 4)`, alpha last.
    By `slack` 8-bit levels another decoder may be off, where colours are converted or lossy.
    """

    samples: np.ndarray
    values: np.ndarray
    slack: float
    premultiplied: bool = False
    changes: tuple[str, ...] = ()


def read(data: bytes) -> Reading:
    """Decode a file and tell what it shows.

    Raises:
        UexError: its samples show nothing on a grid of 8 or 16 bits, or mean what is not known here.
        Exception: whatever the decoder raises for what it cannot read.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        bits, photometric, count = _meant(page)
        colours = COLOURS[photometric]
        samples: np.ndarray = page.asarray(maxworkers=1)
        if samples.ndim == 2:
            samples = samples[:, :, None]
        elif page.planarconfig == 2 and count > 1:
            samples = samples.transpose(1, 2, 0)
        if samples.ndim != 3 or samples.shape[2] != count:
            raise ValueError(f"samples of shape {samples.shape}")
        extra = [int(kind) for kind in page.extrasamples]
        if photometric == RGB and count == 4 and not extra:
            extra = [ALPHA]  # not told, and always meant
        found = next((at for at, kind in enumerate(extra) if kind in (PREMULTIPLIED, ALPHA)), None)
        shown = _colours(samples[:, :, :colours], page, bits, photometric)
        premultiplied = found is not None and extra[found] == PREMULTIPLIED
        changes: tuple[str, ...] = ()
        if found is not None and photometric in DIRECT:
            alpha = scaled.scaled(samples[:, :, colours + found], bits)
            if premultiplied:
                shown = scaled.divided(shown, alpha)
            shown = np.concatenate([shown, alpha[:, :, None]], 2)
        dropped = count - colours - (photometric in DIRECT and found is not None)
        if dropped > 0:
            changes = (f"{dropped} more sample{'s' if dropped > 1 else ''} a pixel dropped",)
        turned = scaled.upright(shown, int(page.tags.valueof(274, 1)))
        converted = photometric not in DIRECT or premultiplied or int(page.compression) in JPEG
        slack = LAB_SLACK if photometric == CIELAB else SLACK if converted else 0.0
    return Reading(samples, turned, slack, premultiplied, changes)


def _meant(page: Any) -> tuple[int, int, int]:
    """Bits a sample, photometric interpretation and samples a pixel, of what has a meaning here."""
    formats, bits = page.sampleformat, page.bitspersample
    if formats != UNSIGNED:
        raise UexError("pixels are signed or floating point numbers, which have no 8-bit grid.", hint=HINT)
    if not isinstance(bits, int):
        raise UexError("its samples are of several sizes.", hint=HINT)
    if bits > MOST_BITS:
        raise UexError(f"pixels are of {bits} bits, which have no 8-bit grid.", hint=HINT)
    photometric, count = int(page.photometric), int(page.samplesperpixel)
    if photometric not in COLOURS or count < COLOURS[photometric]:
        raise UexError("its colours are of a kind that is not read.", hint=HINT)
    return bits, photometric, count


def _colours(samples: np.ndarray, page: Any, bits: int, photometric: int) -> np.ndarray:
    """Turn samples `(H, W, 1, 3 or 4)` into grey or RGB on the grid of 8 or 16 bits."""
    if photometric == PALETTE:
        table = np.asarray(page.colormap)
        if table.max() < 256:  # some take it for 8 bits then, others for black
            raise UexError("its palette ends at 255, where TIFF's ends at 65,535.", hint=HINT)
        picked: np.ndarray = (table >> 8).astype(np.uint8)[:, samples[:, :, 0].astype(np.intp)].transpose(1, 2, 0)
        return picked
    if photometric == YCBCR and int(page.compression) not in JPEG:
        if not all(_is_usual(page, tag) for tag in YCBCR_USUAL):
            raise UexError("its YCbCr colours are of a kind that is not read.", hint=HINT)
        return scaled.rgb_of_ycbcr(samples)
    whole = scaled.scaled(samples, bits)
    if photometric == WHITE_IS_ZERO:
        light: np.ndarray = np.invert(whole)
        return light
    if photometric == CMYK:
        return scaled.rgb_of_cmyk(whole)
    if photometric == CIELAB:
        return scaled.rgb_of_lab(samples, bits)
    return whole


def _is_usual(page: Any, tag: int) -> bool:
    """Whether a tag of YCbCr is not there, or says what is usual."""
    told, usual = page.tags.valueof(tag), YCBCR_USUAL[tag]
    if told is None:
        return True
    numbers = list(told) if isinstance(told, tuple) else []
    if len(numbers) == 2 * len(usual):  # ratios
        numbers = [over / under if under else math.nan for over, under in zip(numbers[::2], numbers[1::2], strict=True)]
    return len(numbers) == len(usual) and bool(np.allclose(numbers, usual, atol=1e-3))
