"""What a file says of its colours, beside a profile: chunks of a PNG, numbers of a video's colours, words of a camera.

Only a profile goes into every format, so all of it becomes one, or stays in PNG, or the file is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from uexcli.errors import UexError
from uexcli.io.images import png
from uexcli.io.images.metadata import bare, boxes, exif, icc, icc_tags

SRGB_CHUNK, CICP, GAMMA, CHROMATICITIES = b"sRGB", b"cICP", b"gAMA", b"cHRM"
LIKE_SRGB = 45455  # the gamma that stands for sRGB's curve, where a reader does not know that
UNIT = 100_000  # of gAMA and cHRM
WHITE_C = (0.310, 0.316)
# ITU-T H.273: x and y of red, green and blue, and of white; 2 is "not told".
PRIMARIES: Mapping[int, tuple[Sequence[tuple[float, float]], tuple[float, float]]] = {
    0: (icc.PRIMARIES["sRGB"], icc.WHITE),
    1: (icc.PRIMARIES["sRGB"], icc.WHITE),
    2: (icc.PRIMARIES["sRGB"], icc.WHITE),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), WHITE_C),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), icc.WHITE),
    6: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), icc.WHITE),
    7: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), icc.WHITE),
    8: (((0.681, 0.319), (0.243, 0.692), (0.145, 0.049)), WHITE_C),
    9: (icc.PRIMARIES["BT.2020"], icc.WHITE),
    11: (icc.PRIMARIES["Display P3"], (0.314, 0.351)),
    12: (icc.PRIMARIES["Display P3"], icc.WHITE),
    22: (((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), icc.WHITE),
}
# The curves of cameras (1, 6, 14, 15) are shown by sRGB's, as browsers do.
CURVES: Mapping[int, bytes] = {
    **dict.fromkeys((0, 1, 2, 6, 13, 14, 15), icc.SRGB_CURVE),
    4: icc_tags.gamma(2.2), 5: icc_tags.gamma(2.8), 8: icc.LINEAR,
}  # fmt: skip
HDR = {16: "PQ", 18: "HLG"}  # whose light no profile tells that everybody reads
JP2_SPACES = frozenset({12, 16, 17, 18})  # CMYK, sRGB, grey, sYCC: what Pillow shows in sRGB
BMP_EMBEDDED = b"DEBM"
BMP_HEAD = 14


@dataclass(frozen=True)
class Look:
    """How numbers are to be shown: a clean profile, or chunks for a PNG; and what of that had to change."""

    icc: bytes | None = None
    shown: tuple[png.Chunk, ...] = ()
    changes: tuple[str, ...] = ()


def of(image: Image.Image, data: bytes, parts: bare.Bare, channels: int) -> Look:
    """Find out how an opened image's colours are to be shown, 1 or 3 to a pixel, that were not converted.

    Raises:
        UexError: by a profile that cannot be used, or in a way that nothing here can keep.
    """
    space = icc.GREY if channels == 1 else icc.COLOUR
    shown = png.shown(data)
    told = boxes.colours(data)
    raw = raw_profile(image, data, parts)
    if raw is not None:
        cleaned = icc.clean(raw, space)
        dropped = () if cleaned is not None else (f"{raw[16:20].decode('latin-1').strip()} profile dropped",)
        return Look(cleaned, shown, dropped)
    if data.startswith(boxes.JP2):
        _check_jp2(told)
    video = [found for content in told if (found := boxes.nclx(content))]
    if video:
        return _of_video(*video[0][:2], space)
    if not shown and space == icc.COLOUR and exif.read(parts.exif or image.info.get("exif")).adobe:
        return Look(icc.named("Adobe RGB"), (), ("Adobe RGB, as its EXIF says",))
    return Look(None, shown)


def raw_profile(image: Image.Image, data: bytes, parts: bare.Bare) -> bytes | None:
    """Give the profile a file holds, as it is; None where there is none."""
    if parts.icc is not None:
        return parts.icc
    if data.startswith(b"BM") and data[BMP_HEAD + 56 : BMP_HEAD + 60] == BMP_EMBEDDED:
        start, length = struct.unpack("<II", data[BMP_HEAD + 112 : BMP_HEAD + 120])
        return data[BMP_HEAD + start : BMP_HEAD + start + length]
    if data.startswith(boxes.JP2):
        return next((content[3:] for content in boxes.colours(data) if content[:1] in (b"\x02", b"\x03")), None)
    raw = image.info.get("icc_profile")
    return raw if isinstance(raw, bytes) and raw else None


def made(shown: Sequence[png.Chunk], *, grey: bool) -> bytes | None:
    """Make a profile of a PNG's chunks that tell colours; None where they are sRGB's, or there are none.

    Raises:
        UexError: no profile tells what they do.
    """
    told = dict(shown)
    space = icc.GREY if grey else icc.COLOUR
    if CICP in told:
        primaries, transfer, matrix, whole = told[CICP]
        if transfer in HDR:
            raise UexError(f"its colours are of {HDR[transfer]}, which PNG alone can keep.")
        if matrix != 0 or whole != 1:
            raise UexError("its colours are of a reduced range, which PNG alone can keep.")
        return _of_video(primaries, transfer, space).icc
    if SRGB_CHUNK in told or not {GAMMA, CHROMATICITIES} & set(told):
        return None
    numbers = struct.unpack(">8I", told.get(CHROMATICITIES, bytes(32)))
    points = [(x / UNIT, y / UNIT) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    primaries_, white = (points[1:], points[0]) if any(numbers) else (icc.PRIMARIES["sRGB"], icc.WHITE)
    gamma = int.from_bytes(told.get(GAMMA, b"\0"), "big")
    plain = not gamma or abs(gamma - LIKE_SRGB) <= 100 or not 0.1 <= UNIT / gamma <= 10
    curve = icc.SRGB_CURVE if plain else icc_tags.gamma(UNIT / gamma)
    try:
        return _unless_plain(_built(primaries_, white, curve, space), space)
    except UexError:  # no colours are of such primaries: readers pass over them
        return None


def _of_video(primaries: int, transfer: int, space: str) -> Look:
    if transfer in HDR:
        return Look(None, ((CICP, bytes((primaries & 255, transfer, 0, 1))),))
    if primaries not in PRIMARIES or transfer not in CURVES:
        raise UexError(
            f"its colours are of primaries {primaries} and transfer {transfer} (H.273), which uex does not know."
        )
    points, white = PRIMARIES[primaries]
    return Look(_unless_plain(_built(points, white, CURVES[transfer], space), space))


def _built(primaries: Sequence[Sequence[float]], white: Sequence[float], curve: bytes, space: str) -> bytes | None:
    if space == icc.GREY:
        return icc.clean(icc.build_grey(curve, icc.OTHER[space]), space)
    return icc.clean(icc.build(primaries, white, curve, icc.OTHER[space]), space)


def _unless_plain(profile: bytes | None, space: str) -> bytes | None:
    """What is sRGB's needs no profile: without one, everybody takes it for that."""
    return None if profile == icc.named("Grey sRGB" if space == icc.GREY else "sRGB") else profile


def _check_jp2(told: Sequence[bytes]) -> None:
    numbers = [int.from_bytes(content[3:7], "big") for content in told if content[:1] == b"\x01"]
    if numbers and not JP2_SPACES & set(numbers):
        raise UexError(f"its colours are of JPEG 2000's kind {numbers[0]}, which uex does not know.")
