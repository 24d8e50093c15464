"""How long a side of a picture a file format can hold."""

from __future__ import annotations

LONGEST = {".jpg": 65_500, ".webp": 16_383}  # px; of others no photo that can be decoded is too long
DEEP_PNG = 1_000_000  # px, of 16 bits a value: more is not read again, as libpng refuses it
NAMES = {".jpg": "JPEG", ".webp": "WebP", ".png": "PNG of 16 bits a value"}


def longest(suffix: str, *, deep: bool = False) -> int | None:
    """Give the longest side of a picture in a file of this suffix, in px; None: there is none to mind."""
    return DEEP_PNG if deep and suffix == ".png" else LONGEST.get(suffix)


def too_long(height: int, width: int, suffix: str, *, deep: bool = False) -> str | None:
    """Say why a file of this suffix cannot hold a picture of this size; None: it can."""
    most = longest(suffix, deep=deep)
    if most is None or max(height, width) <= most:
        return None
    return f"{width}x{height} px, and a {NAMES[suffix]} file holds {most:,} px a side"
