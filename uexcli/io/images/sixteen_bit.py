"""Writing TIFF files of 16 bits a value, which Pillow does not."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

ASCII = frozenset({0x010E, 0x0132, 0x013B, 0x8298})  # TIFF's own tags of text


def encode_tiff(pixels: np.ndarray, icc: bytes | None, tags: Mapping[int, bytes] | None = None) -> bytes:
    """Encode uint8 or uint16 `(H, W, C)` as a deflated TIFF, alpha last where C is 2 or 4; with `tags` of bytes."""
    import tifffile

    buffer = io.BytesIO()
    channels = pixels.shape[2]
    tifffile.imwrite(
        buffer,
        pixels if channels > 1 else pixels[:, :, 0],
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        iccprofile=icc,
        metadata=None,
        software=False,
        extratags=[(tag, "s" if tag in ASCII else "B", len(value), value, True) for tag, value in (tags or {}).items()],
    )
    return buffer.getvalue()
