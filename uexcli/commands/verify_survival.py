"""What is left of a release's noise after what trainers and platforms do to photos."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

QUALITIES = (95, 75, 50)
HALF = "half size and back"
STEPS = (*(f"JPEG {quality}" for quality in QUALITIES), HALF)


def survival(source: np.ndarray, published: np.ndarray) -> dict[str, float]:
    """Do the same to both, uint8 (H, W, C), and give the share of the noise in what is then between them, by step.

    1: all of it is there; 0: nothing along it is. JPEG is Pillow's, with colours at half size; sizes are bilinear.
    """
    noise = published.astype(np.float32) - source
    energy = float(np.vdot(noise, noise))
    found = {}
    for step in STEPS:
        before, after = (_done(step, image).astype(np.float32) for image in (source, published))
        found[step] = float(np.vdot(after - before, noise)) / energy
    return found


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """The cosine between two changes; 0 where one is none."""
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.vdot(first, second)) / size if size else 0.0


def _done(step: str, pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if step == HALF:
        size = (max(1, image.width // 2), max(1, image.height // 2))
        way = Image.Resampling.BILINEAR
        shown = image.resize(size, way).resize(image.size, way)
    else:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(step.rpartition(" ")[2]))
        shown = Image.open(buffer)
    return np.asarray(shown).reshape(pixels.shape)
