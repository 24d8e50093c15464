"""What is left of a release's noise after what trainers and platforms do to photos."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from uexcli.core import limits
from uexcli.core.stripes import bands
from uexcli.io.images.pillow import pixels_of

QUALITIES = (95, 75, 50)
HALF = "half size and back"
STEPS = (*(f"JPEG {quality}" for quality in QUALITIES), HALF)


def steps_for(height: int, width: int) -> tuple[str, ...]:
    """The steps that can be done to a photo of this size: a JPEG holds no longer one than 65,500 px."""
    return STEPS if limits.too_long(height, width, ".jpg") is None else (HALF,)


def survival(source: np.ndarray, published: np.ndarray) -> dict[str, float]:
    """Fraction of the noise that remains after each transform is applied to both images, uint8 (H, W, C).

    1: all of it is there; 0: nothing along it is. JPEG is Pillow's, with colours at half size; sizes are bilinear.
    Only steps that can be done to them are.
    """
    energy = _product(published, source, published, source)
    return {step: _left(step, source, published) / energy for step in steps_for(*source.shape[:2])}


def _left(step: str, source: np.ndarray, published: np.ndarray) -> float:
    before, after = _done(step, source), _done(step, published)
    return _product(after, before, published, source)


def _product(after: np.ndarray, before: np.ndarray, published: np.ndarray, source: np.ndarray) -> float:
    """The scalar product of two changes."""
    total = 0.0
    for band in bands(source.shape):
        changes = [one[band].astype(np.float32) - other[band] for one, other in ((after, before), (published, source))]
        total += float(np.vdot(*changes))
    return total


def _done(step: str, pixels: np.ndarray) -> np.ndarray:
    return pixels_of(_halved(pixels) if step == HALF else _in_jpeg(pixels, int(step.rpartition(" ")[2]))).reshape(
        pixels.shape
    )


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _halved(pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape[:2]
    way = Image.Resampling.BILINEAR
    return _image(pixels).resize((max(1, width // 2), max(1, height // 2)), way).resize((width, height), way)


def _in_jpeg(pixels: np.ndarray, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    _image(pixels).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)
