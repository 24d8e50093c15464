"""How many bits a value has in files of which Pillow gives 8 without saying so."""

from __future__ import annotations

from uexcli.io.images import jxl

LOOKED = 1 << 20  # bytes in which the boxes of AVIF and HEIF that tell it lie
SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins


def bits(data: bytes, format_: str | None) -> int:
    """Bits of the deepest channel of a file in AVIF, HEIF, JPEG 2000 or JPEG XL; 8 for others, or what is not told.

    Floating point counts as 32.
    """
    match format_:
        case "AVIF":
            return max((_av1(data[at + 4 : at + 8]) for at in _places(data, b"av1C")), default=8)
        case "HEIF":
            return max((8 + (data[at + 21] & 7) for at in _places(data, b"hvcC") if at + 21 < len(data)), default=8)
        case "JPEG2000":
            return max((one for one, _ in components(data)), default=8)
        case "JXL":
            return jxl.header(data).bits
        case _:
            return 8


def components(data: bytes) -> list[tuple[int, bool]]:
    """Bits of each component of a JPEG 2000 file, and whether it is signed; none where it does not tell."""
    start = data.find(SIZ)
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    said = data[start + 42 : start + 42 + 3 * count : 3]
    return [(1 + (one & 127), one > 127) for one in said] if start >= 0 else []


def _places(data: bytes, kind: bytes) -> list[int]:
    found, place = [], data.find(kind, 0, LOOKED)
    while place >= 0:
        found.append(place)
        place = data.find(kind, place + 1, LOOKED)
    return found


def _av1(said: bytes) -> int:
    """A box `av1C`: marker and version, profile and level, then tier, more than 8 bits, 12 bits."""
    if len(said) < 3 or said[0] != 0x81:
        return 8
    return 8 if not said[2] & 0x40 else 12 if said[2] & 0x20 else 10
