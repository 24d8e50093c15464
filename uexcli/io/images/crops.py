"""What trainers show of photos of any shape: the whole squashed to a square, or crops cut from the photo itself.

`crop` is torchvision's Resize(256) + RandomCrop(224) + flip, tested on Resize(256) + CenterCrop(224); `resized-crop` is
RandomResizedCrop(224) + flip, tested alike; both at any size, with the same proportions. Photos are decoded for each
pass, as a trainer does, so that memory holds one size of them only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from uexcli.io.images import photo_files
from uexcli.io.pool import parallel
from uexcli.plugin import Sample

SQUASH, CROP, RESIZED = "squash", "crop", "resized-crop"
VIEWS = (SQUASH, CROP, RESIZED)
MARGIN = 256 / 224  # of the shorter side over the crop's
AREA, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # of RandomResizedCrop
Box = tuple[float, float, float, float]  # left, upper, right, lower, in pixels of the photo


@dataclass(frozen=True)
class Views:
    """Fresh views of photos: called with a generator, uint8 `(N, channels, size, size)`, in the order of `samples`."""

    samples: Sequence[Sample]
    kind: str
    size: int
    channels: int

    def __call__(self, generator: Generator) -> Tensor:
        """Draw a crop and a flip for each photo, and cut them out."""
        drawn = torch.rand(len(self.samples), 2 + 2 * TRIES + 1, generator=generator, dtype=torch.float64).numpy()

        def cut(position: int) -> np.ndarray:
            photo, numbers = photo_files.open_photo(self.samples[position]), drawn[position]
            height, width = photo.size
            if self.kind == CROP:
                box = _crop(height, width, float(numbers[0]), float(numbers[1]))
            else:
                box = _resized(height, width, numbers)
            shown = _shown(photo, box, self.size, self.channels)
            return shown[:, :, ::-1] if numbers[-1] < 0.5 else shown

        made = np.empty((len(self.samples), self.channels, self.size, self.size), np.uint8)
        for position, shown in enumerate(parallel(cut, range(len(self.samples)))):
            made[position] = shown
        return torch.from_numpy(made)


def centre(photo: photo_files.Photo, size: int, channels: int) -> np.ndarray:
    """Give what is tested: the middle of a photo, uint8 (C, S, S)."""
    return _shown(photo, _crop(*photo.size, 0.5, 0.5), size, channels)


def middle(photo: photo_files.Photo, share: float, size: int, channels: int) -> np.ndarray:
    """Give the square in the middle whose side is a share of the shorter one, uint8 (C, S, S)."""
    height, width = photo.size
    side = share * min(height, width)
    upper, left = (height - side) / 2, (width - side) / 2
    return _shown(photo, (left, upper, left + side, upper + side), size, channels)


def _crop(height: int, width: int, down: float, right: float) -> Box:
    """A square of 224/256 of the shorter side, so far down and to the right as the shares in [0, 1] say."""
    side = min(height, width) / MARGIN
    upper, left = down * (height - side), right * (width - side)
    return left, upper, left + side, upper + side


def _resized(height: int, width: int, numbers: np.ndarray) -> Box:
    """A part of 8 to 100 % of the photo's area, of a ratio near 1; where ten draws do not fit, the middle."""
    for attempt in range(TRIES):
        share, shape = numbers[2 + 2 * attempt], numbers[3 + 2 * attempt]
        area = height * width * (AREA[0] + share * (AREA[1] - AREA[0]))
        ratio = math.exp(math.log(RATIO[0]) + shape * (math.log(RATIO[1]) - math.log(RATIO[0])))
        wide, high = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if wide <= width and high <= height:
            upper, left = numbers[0] * (height - high), numbers[1] * (width - wide)
            return left, upper, left + wide, upper + high
    wide, high = min(width, height * RATIO[1]), min(height, width / RATIO[0])
    upper, left = (height - high) / 2, (width - wide) / 2
    return left, upper, left + wide, upper + high


def _shown(photo: photo_files.Photo, box: Box, size: int, channels: int) -> np.ndarray:
    """Resize a part of a photo, bilinear: uint8 (C, S, S)."""
    pixels = photo_files.with_channels(photo, channels)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    left, upper, right, lower = box
    inside = (max(0.0, left), max(0.0, upper), min(right, image.width), min(lower, image.height))
    cut = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=inside)).reshape(size, size, channels)
    return np.ascontiguousarray(cut.transpose(2, 0, 1))
