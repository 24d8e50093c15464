"""What the header of a picture says of its size, without decoding it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

from uexcli.errors import UexError
from uexcli.io.images import photo_files, png
from uexcli.plugin import Sample

HEAD = 26  # bytes of a PNG that tell its bits a value and kind of colour
CHANNELS = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}  # by that kind; a palette may become colour and alpha
GREY_AND_ALPHA = 2  # channels
JPEG = b"\xff\xd8"
SHALLOW = (b"RIFF", b"GIF8", b"BM")  # WebP, GIF and BMP are of 8 bits


@dataclass(frozen=True)
class Shape:
    """Height and width as stored, `channels` with alpha, and the bytes of the file; `deep`: more than 8 bits a value.

    An estimate: alpha and depth are those it may have.
    """

    height: int
    width: int
    channels: int
    deep: bool
    stored: int = 0

    @property
    def values(self) -> int:
        """How many values it has."""
        return math.prod((self.height, self.width, self.channels))

    def within(self, suffix: str) -> Shape:
        """Give the shape of what is written into a file of this suffix: grey becomes colour where it has none."""
        odd = suffix == ".tiff" and self.deep and self.channels == GREY_AND_ALPHA
        if self.channels > GREY_AND_ALPHA or not (odd or suffix in photo_files.COLOUR_ONLY):
            return self
        return replace(self, channels=self.channels + 2)


def shape_of(sample: Sample) -> Shape:
    """Read it; where a format does not say in its first bytes how deep a picture is, or if it has alpha, it may.

    Raises:
        UexError: it is no image, or one of more pixels than are allowed.
    """
    if sample.array is not None:
        height, width = sample.array.shape[:2]
        return Shape(height, width, 1 if sample.array.ndim == 2 else 3, False)
    if sample.path is None:
        data = sample.encoded()  # once: it may lie in an archive
        sample, head, stored = Sample(sample.key, None, data=lambda: data), data[:HEAD], len(data)
    else:
        try:
            with sample.path.open("rb") as file:
                head, stored = file.read(HEAD), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise UexError(f"{sample.key}: cannot be read ({error.strerror}).") from None
    height, width, grey = photo_files.size_and_grey(sample)
    photo_files.check_size(width, height)
    if head.startswith(png.SIGNATURE) and len(head) == HEAD:
        return Shape(height, width, CHANNELS.get(head[25], 4), head[24] > 8, stored)
    if head.startswith(JPEG):
        return Shape(height, width, 1 if grey else 3, False, stored)
    return Shape(height, width, 2 if grey else 4, not head.startswith(SHALLOW), stored)
