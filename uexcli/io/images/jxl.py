"""What the header of a JPEG XL file says: the plugin that Pillow reads them with decodes before it tells the size."""

from __future__ import annotations

from dataclasses import dataclass

BARE, BOXED = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
MARK = len(BOXED)  # bytes that tell it
HEADER = 64  # bytes of a codestream, which hold its header and more
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # of width to height, from 1 on
SIZES = ((9, 1), (13, 1), (18, 1), (30, 1))  # bits of a number, and what is added to it, by the two bits before it
PREVIEW = ((6, 1), (8, 65), (10, 321), (12, 1345))
PREVIEW_EIGHTHS = ((0, 16), (0, 32), (5, 1), (9, 33))
DEPTHS = ((0, 8), (0, 10), (0, 12), (6, 1))


@dataclass(frozen=True)
class Header:
    """Width and height as stored, whether there are several frames, how decoders turn it, and the bits of a value.

    Turns are numbered as in EXIF; floating point counts as 32 bits.
    """

    width: int
    height: int
    animated: bool
    orientation: int = 1
    bits: int = 8


def is_one(head: bytes) -> bool:
    """Whether a file that starts like this is JPEG XL."""
    return head.startswith((BARE, BOXED))


def header(data: bytes) -> Header:
    """Read it (ISO/IEC 18181-1, annex D).

    Raises:
        ValueError: there is none.
    """
    codestream = data[:HEADER] if data.startswith(BARE) else _unboxed(data)
    if not codestream.startswith(BARE):
        raise ValueError("no JPEG XL header")
    bits = Bits(codestream[len(BARE) :])
    width, height = size(bits)
    animated, orientation, depth = False, 1, 8
    if not bits.take(1):  # not all is usual
        if bits.take(1):  # and there is more to say
            orientation = 1 + bits.take(3)
            if bits.take(1):
                size(bits)  # as it is to be shown
            if bits.take(1):
                _size(bits, PREVIEW, PREVIEW_EIGHTHS)
            animated = bool(bits.take(1))
        if not animated:  # else it stands behind what is not read here
            depth = 32 if bits.take(1) else bits.number(DEPTHS)
    return Header(width, height, animated, orientation, depth)


class Bits:
    """Bits, the lowest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)
        self.taken = 0

    def take(self, count: int) -> int:
        """The next so many, as a number."""
        self._left -= count
        self.taken += count
        if self._left < 0:
            raise ValueError("the JPEG XL header is cut short")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def number(self, kinds: tuple[tuple[int, int], ...]) -> int:
        """One of some kinds, chosen by two bits where there are four."""
        count, added = kinds[self.take(2)] if len(kinds) > 1 else kinds[0]
        return self.take(count) + added


def size(bits: Bits) -> tuple[int, int]:
    """Read width and height."""
    return _size(bits, SIZES, ((5, 1),))


def _size(bits: Bits, kinds: tuple[tuple[int, int], ...], eighths: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    unit, said = (8, eighths) if bits.take(1) else (1, kinds)
    height = unit * bits.number(said)
    ratio = bits.take(3)
    if ratio == 0:
        return unit * bits.number(said), height
    over, under = RATIOS[ratio - 1]
    return height * over // under, height


def _unboxed(data: bytes) -> bytes:
    """Find the beginning of the codestream within its boxes."""
    found, place = b"", 0
    while place + 8 <= len(data) and len(found) < HEADER:
        size, kind, start = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8], place + 8
        if size == 1:  # a longer number follows
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = len(data) if size == 0 else place + size
        if end < start:
            break
        if kind in (b"jxlc", b"jxlp"):
            found += data[start + 4 * (kind == b"jxlp") : min(end, start + 4 + HEADER)]
        place = end
    return found
