"""Colour profiles: known ones from copies of our own, others written anew with nothing in them but colour.

A profile is where serial numbers, names and whole texts travel unseen, so not a byte of one goes out as it came in.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uexcli.errors import UexError
from uexcli.io.images.metadata import icc_tags
from uexcli.io.images.metadata.icc_tags import Odd

HEADER, ENTRY = 128, 12  # bytes
D50 = (0.9642, 1.0, 0.8249)
GREY, COLOUR = "GRAY", "RGB "
WHITE = (0.3127, 0.3290)  # D65
PRIMARIES = {  # x and y of red, green and blue
    "sRGB": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "BT.2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
}
SRGB_CURVE = icc_tags.parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
ADOBE_CURVE = icc_tags.gamma(563 / 256)
LINEAR = icc_tags.gamma(1)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
MATRIX, CURVES = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")
TABLES = (b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2")
# What colour needs; of `wtpt` and `chad` the absolute intent.
VIDEO = b"cicp"
HIGH = (16, 18)  # PQ and HLG, as ITU-T H.273 numbers them
NEEDED = (*MATRIX, *CURVES, b"kTRC", *TABLES, b"wtpt", b"chad", VIDEO)
TEXTS = (b"desc", b"cprt")
CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
FREE = "No rights reserved"
OTHER = {COLOUR: "RGB", GREY: "Grey"}  # the description of what is not known
ALIKE = 0.5  # a distance in Lab that nobody sees
STEPS = 9  # of each colour, to compare profiles at
LEVELS = 1  # by which a profile that was written anew may show a colour otherwise, for rounding
SHOWN_LEVELS = 2  # by which two profiles may differ that are taken for one
# Of profiles that everybody has: no finding, whoever wrote them into a file.
PUBLIC = (
    "sRGB IEC61966-2.1", "sRGB built-in", "sRGB", "Display P3", "Adobe RGB (1998)", "uRGB", "c2", "c2ci",
    "No copyright, use freely", "no copyright, use freely", "Copyright (c) 1998 Hewlett-Packard Company",
    "IEC http://www.iec.ch", "IEC 61966-2.1 Default RGB colour space - sRGB", "CC0", "Public Domain",
    "Reference Viewing Condition in IEC61966-2.1",
)  # fmt: skip
MAKERS = re.compile(r"Copyright[ ,.()cC\d]*(?:Apple|Google|Adobe|Microsoft|Hewlett-Packard)[A-Za-z ,.]*\d{0,4}")
SAYING = (b"dmnd", b"dmdd", b"vued")  # texts, too
MADE = ("RGB_", "Gra_")  # how JPEG XL's decoder begins the descriptions of those it makes up
HARMLESS = frozenset({b"bkpt", b"lumi", b"meas", b"tech", b"gamt", b"chrm", b"view"})  # numbers only, of fixed sizes


@dataclass(frozen=True)
class Profile:
    """A profile as its file has it: its header, and its tags in their order."""

    header: bytes
    tags: Mapping[bytes, bytes]

    @property
    def space(self) -> str:
        """What it is for: "RGB ", "GRAY", "CMYK" and so on."""
        return self.header[16:20].decode("latin-1")


def clean(raw: bytes, space: str) -> bytes | None:
    """Give a profile of the same colours that holds nothing else; None where it is for another `space` than pixels are.

    What it gives, it gives again for itself.

    Raises:
        UexError: littlecms does not read it, or its colours are told in a way that cannot be written anew.
    """
    try:
        return _clean(raw, space)
    except Odd as error:
        raise UexError(f"its ICC profile of {len(raw):,} bytes cannot be used ({error}).") from None


def is_for(raw: bytes, space: str) -> bool:
    """Whether bytes are a profile that littlecms reads, for pixels of a space such as "CMYK"."""
    try:
        return _read(raw).space == space
    except Odd:
        return False


def build(primaries: Sequence[Sequence[float]], white: Sequence[float], curve: bytes, name: str) -> bytes:
    """Make a colour profile of x and y of its primaries and white, and one curve.

    Raises:
        UexError: no colours are of such primaries.
    """
    columns, adapted = _colorants(primaries, white)
    tags = {b"wtpt": icc_tags.xyz(D50), b"chad": icc_tags.matrix(adapted)}
    tags |= {tag: icc_tags.xyz(columns[:, place].tolist()) for place, tag in enumerate(MATRIX)}
    return _written(COLOUR, {**tags, **dict.fromkeys(CURVES, curve)}, name)


def build_grey(curve: bytes, name: str) -> bytes:
    """Make a grey profile of a curve."""
    return _written(GREY, {b"wtpt": icc_tags.xyz(D50), b"kTRC": curve}, name)


def named(name: str) -> bytes:
    """Give our own copy of a well-known profile."""
    return _known()[name]


def in_colour(grey: bytes) -> bytes | None:
    """Give the profile for three equal colours that look as grey does by its own; None where that is no curve."""
    profile = _parsed(grey)
    curve = profile.tags.get(b"kTRC")
    if curve is None or profile.header[20:24] != b"XYZ ":
        return None
    return _alike(_parsed(build(PRIMARIES["sRGB"], WHITE, curve, OTHER[COLOUR])))


def private(raw: bytes) -> list[str]:
    """Name what a profile holds that colours do not need: tags, and bytes outside of all tags."""
    try:
        profile = _parsed(raw)
    except Odd:
        return ["which cannot be read"]
    found = []
    for tag, data in profile.tags.items():
        if tag in TEXTS or tag in SAYING:
            if not _is_public(data):
                found.append(_name(tag))
        elif tag in NEEDED:
            try:
                spare = data[len(icc_tags.rewritten(data)) :] if data[:4] not in icc_tags.STAGES else b""
            except Odd:
                spare = data
            if spare.strip(b"\0"):
                found.append(_name(tag))
        elif tag not in HARMLESS:
            found.append(_name(tag))
    if _hidden(raw):
        found.append("bytes outside of its tags")
    if _numbered(raw):
        found.append("a number of its own")
    return found


def same_look(first: bytes | None, second: bytes | None, *, grey: bool) -> bool:
    """Whether pixels look the same by two profiles; without one they are taken for sRGB."""
    if first == second:
        return True
    plain = named("Grey sRGB" if grey else "sRGB")
    return _distance_shown(first or plain, second or plain, grey=grey) <= SHOWN_LEVELS


def converted(image_bytes: np.ndarray, mode: str, raw: bytes) -> np.ndarray:
    """Show pixels of a mode by their profile in sRGB: uint8 (H, W, 3).

    Raises:
        UexError: littlecms cannot do that with this profile.
    """
    from PIL import Image, ImageCms

    try:
        image = Image.frombytes(mode, (image_bytes.shape[1], image_bytes.shape[0]), image_bytes.tobytes())
        profile, plain = ImageCms.ImageCmsProfile(io.BytesIO(raw)), ImageCms.ImageCmsProfile(io.BytesIO(named("sRGB")))
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        made = ImageCms.profileToProfile(image, profile, plain, intent, outputMode="RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise UexError(f"its {mode} profile cannot be used ({error}).") from None
    return np.asarray(made)


# ------------------------------------------------------------------------------------------ reading


def _parsed(raw: bytes) -> Profile:
    if len(raw) < HEADER + 4 or raw[36:40] != b"acsp":
        raise Odd("it is none")
    count = int.from_bytes(raw[HEADER : HEADER + 4], "big")
    if HEADER + 4 + count * ENTRY > len(raw):
        raise Odd("it is cut short")
    tags: dict[bytes, bytes] = {}
    for place in range(HEADER + 4, HEADER + 4 + count * ENTRY, ENTRY):
        tag, start, length = struct.unpack(">4sII", raw[place : place + ENTRY])
        if start + length > len(raw):
            raise Odd("it is cut short")
        tags.setdefault(tag, raw[start : start + length])
    return Profile(raw[:HEADER], tags)


def _read(raw: bytes) -> Profile:
    """Read a profile that littlecms reads, too."""
    from PIL import ImageCms

    try:
        ImageCms.ImageCmsProfile(io.BytesIO(raw))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        raise Odd("littlecms does not read it") from None
    return _parsed(raw)


@functools.lru_cache(maxsize=64)
def _clean(raw: bytes, space: str) -> bytes | None:
    profile = _read(raw)
    if profile.space == COLOUR and space == GREY:
        return _greyed(profile)
    if profile.space != space:
        return None
    if profile.header[12:16] not in CLASSES:
        raise Odd("it is of no device or space")
    known = _alike(profile, new=False)
    if known is not None:
        return known
    tags = {tag: icc_tags.rewritten(data) for tag, data in profile.tags.items() if tag in NEEDED}
    if not _high(profile):
        tags.pop(VIDEO, None)  # its curves say the same
    whole = {*MATRIX, *CURVES} <= set(tags) if space == COLOUR else b"kTRC" in tags
    if not whole and b"A2B0" not in tags:
        raise Odd("it tells colours in no way that can be written anew")
    made = _written(space, tags, OTHER[space], profile.header)
    if _distance_shown(raw, made, grey=space == GREY) > LEVELS:
        raise Odd("its colours do not stay when it is written anew")
    return made


def _greyed(profile: Profile) -> bytes | None:
    """Give the grey profile of the one curve that all colours of a profile have; None where there are several."""
    curves = [profile.tags.get(tag) for tag in CURVES]
    if curves[0] is None or len(set(curves)) > 1 or b"A2B0" in profile.tags or profile.header[20:24] != b"XYZ ":
        return None
    return _alike(_parsed(build_grey(icc_tags.rewritten(curves[0]), OTHER[GREY])))


def _alike(profile: Profile, *, new: bool = True) -> bytes | None:
    """Give our own copy of what a profile of curves does, if it is well known; else itself, or None if not `new`."""
    if profile.header[20:24] == b"XYZ " and not any(tag in profile.tags for tag in TABLES) and not _high(profile):
        try:
            seen = _lab(profile)
        except (Odd, struct.error, ValueError, IndexError, OverflowError):
            seen = None
        if seen is not None:
            for other, lab in _known_lab().items():
                if len(lab) == len(seen) and _of_space(other) == profile.space and _farthest(lab, seen) <= ALIKE:
                    return named(other)
    return _written(profile.space, profile.tags, OTHER[profile.space]) if new else None


def _high(profile: Profile) -> bool:
    """Whether it says in the numbers of video that its light is of a high dynamic range."""
    told = profile.tags.get(VIDEO, b"")
    return len(told) >= 12 and told[9] in HIGH


def _farthest(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.sqrt(((first - second) ** 2).sum(1)).max())


def _of_space(name: str) -> str:
    return GREY if name.startswith("Grey") else COLOUR


def _lab(profile: Profile) -> np.ndarray | None:
    """What a profile of curves makes of colours all over its space: Lab, float64 (N, 3)."""
    steps = np.linspace(0, 1, STEPS)
    if profile.space == GREY:
        if b"kTRC" not in profile.tags:
            return None
        # as many steps as there are colours, so that nothing between them is missed
        light = icc_tags.curve_at(profile.tags[b"kTRC"], np.linspace(0, 1, STEPS**3))
        return _to_lab(light[:, None] * np.array(D50))
    if not {*MATRIX, *CURVES} <= set(profile.tags):
        return None
    columns = np.array([icc_tags.triple(profile.tags[tag]) for tag in MATRIX]).T
    fine = np.linspace(0, 1, 256)
    ramps = [np.repeat(fine[:, None] * axis, 1, 1) for axis in np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])]
    colours = np.concatenate([np.array(list(itertools.product(steps, repeat=3))), *ramps])
    light = np.stack(
        [icc_tags.curve_at(profile.tags[tag], colours[:, place]) for place, tag in enumerate(CURVES)], axis=1
    )
    return _to_lab(light @ columns.T)


def _to_lab(xyz: np.ndarray) -> np.ndarray:
    share = xyz / np.array(D50)
    root = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=1)


def _distance_shown(first: bytes, second: bytes, *, grey: bool) -> int:
    """The levels by which littlecms shows a colour in sRGB otherwise, at most, by two profiles; 255 if it cannot."""
    from PIL import Image, ImageCms

    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(4, 0))
    if not grey:
        steps = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), -1).reshape(1, -1, 3).astype(np.uint8)
        ramp = Image.fromarray(steps)
    shown = []
    try:
        for raw in (first, second):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
            intent, plain = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.createProfile("sRGB")
            made = ImageCms.profileToProfile(ramp, profile, plain, intent, outputMode="RGB")
            shown.append(np.asarray(made).astype(int))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return 255
    return int(np.abs(shown[0] - shown[1]).max())


def _is_public(data: bytes) -> bool:
    """Whether a tag holds a text that everybody's profiles have, and no more."""
    words = icc_tags.told(data)
    known = words in _public() or words.startswith(MADE) or MAKERS.fullmatch(words) is not None
    return known and len(data) <= 3 * len(words) + 128


def _hidden(raw: bytes) -> bool:
    """Whether there is anything but zeros where no tag is, or where the header has nothing to say."""
    count = int.from_bytes(raw[HEADER : HEADER + 4], "big")
    used = [(0, HEADER + 4 + count * ENTRY)]
    for place in range(HEADER + 4, used[0][1], ENTRY):
        start, length = struct.unpack(">II", raw[place + 4 : place + ENTRY])
        used.append((start, start + length))
    end = 0
    for start, after in sorted(used):
        if raw[end:start].strip(b"\0"):
            return True
        end = max(end, after)
    return bool(raw[end:].strip(b"\0") or raw[100:HEADER].strip(b"\0"))


def _numbered(raw: bytes) -> bool:
    """Whether the place of a profile's checksum holds another number: neither zeros nor its MD5."""
    said = raw[84:100]
    parts = (raw[:44], bytes(4), raw[48:64], bytes(4), raw[68:84], bytes(16), raw[100 : int.from_bytes(raw[:4], "big")])
    return any(said) and hashlib.md5(b"".join(parts), usedforsecurity=False).digest() != said


def _name(tag: bytes) -> str:
    return "".join(char if char.isprintable() else "?" for char in tag.decode("latin-1")).strip()


# ------------------------------------------------------------------------------------------ writing


def _written(space: str, tags: Mapping[bytes, bytes], name: str, like: bytes | None = None) -> bytes:
    """Write a profile: same input, same bytes; `like` is the header whose version, class, space and intent it has."""
    old = like or b""
    new = not old or old[8] >= 4
    texts = {
        b"desc": icc_tags.text(name, new=new, kind=b"desc"),
        b"cprt": icc_tags.text(FREE, new=new, kind=b"cprt"),
    }
    members = {**texts, **{tag: tags[tag] for tag in NEEDED if tag in tags}}
    place = HEADER + 4 + ENTRY * len(members)
    listed, body, places = b"", b"", dict[bytes, int]()
    for tag, data in members.items():
        if data not in places:
            places[data] = place + len(body)
            body += data + bytes(-len(data) % 4)
        listed += struct.pack(">4sII", tag, places[data], len(data))
    version = bytes((min(old[8], 4), old[9] & 0xF0, 0, 0)) if old else b"\x04\x30\0\0"
    kind, connection = (old[12:16], old[20:24]) if old else (b"mntr", b"XYZ ")
    intent = old[66:68] if old else b"\0\0"
    header = struct.pack(
        ">I4s4s4s4s4s6H4s24s2s2s12s48s",
        place + len(body), b"", version, kind, space.encode(), connection, 2000, 1, 1, 0, 0, 0, b"acsp", b"",
        b"", intent, struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D), b"",
    )  # fmt: skip
    return header + struct.pack(">I", len(members)) + listed + body


def _colorants(primaries: Sequence[Sequence[float]], white: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """XYZ of red, green and blue as columns, adapted to D50; and the matrix that adapts."""
    try:
        points = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*primaries, white)]).T
        amounts = np.linalg.solve(points[:, :3], points[:, 3])
        cones, wanted = BRADFORD @ points[:, 3], BRADFORD @ np.array(D50)
        adapted = np.linalg.inv(BRADFORD) @ np.diag(wanted / cones) @ BRADFORD
        columns = adapted @ (points[:, :3] * amounts)
    except (ZeroDivisionError, np.linalg.LinAlgError):
        raise UexError("its colours are of impossible primaries.") from None
    if not np.isfinite(columns).all() or np.abs(columns).max() > 8 or np.abs(adapted).max() > 8:
        raise UexError("its colours are of impossible primaries.")
    return columns, adapted


@functools.cache
def _known() -> dict[str, bytes]:
    made = {}
    for name, curve in (("sRGB", SRGB_CURVE), ("Display P3", SRGB_CURVE), ("Adobe RGB", ADOBE_CURVE),
                        ("BT.2020", SRGB_CURVE)):  # fmt: skip
        made[name] = build(PRIMARIES[name], WHITE, curve, name)
    for name in ("sRGB", "Display P3", "BT.2020"):
        made[f"Linear {name}"] = build(PRIMARIES[name], WHITE, LINEAR, f"Linear {name}")
    curves: Iterable[tuple[str, bytes]] = (
        ("sRGB", SRGB_CURVE), ("gamma 2.2", icc_tags.gamma(2.2)), ("gamma 1.8", icc_tags.gamma(1.8)),
        ("linear", LINEAR),
    )  # fmt: skip
    return made | {f"Grey {name}": build_grey(curve, f"Grey {name}") for name, curve in curves}


@functools.cache
def _known_lab() -> dict[str, np.ndarray]:
    found = {name: _lab(_parsed(data)) for name, data in _known().items()}
    return {name: lab for name, lab in found.items() if lab is not None}


@functools.cache
def _public() -> frozenset[str]:
    return frozenset((*PUBLIC, *_known(), *OTHER.values(), FREE))
