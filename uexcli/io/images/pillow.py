"""Pillow's pixels as an array, without Pillow's second copy."""

from __future__ import annotations

import numpy as np
from PIL import Image

from uexcli.core.stripes import LARGE, STRIPE


def pixels_of(image: Image.Image) -> np.ndarray:
    """Give what `np.asarray` gives; of a large image stripe by stripe, as that keeps all pixels twice meanwhile."""
    channels = len(image.getbands())
    values = image.width * image.height * channels
    if values < LARGE:
        return np.asarray(image)
    rows = max(1, STRIPE * image.height // values)
    first = np.asarray(image.crop((0, 0, image.width, rows)))
    pixels = np.empty((image.height, *first.shape[1:]), first.dtype)
    for top in range(0, image.height, rows):
        end = min(top + rows, image.height)
        pixels[top:end] = np.asarray(image.crop((0, top, image.width, end)))
    return pixels
