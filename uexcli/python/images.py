"""What a program hands over as images: arrays, a torch dataset, or where files lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from uexcli.errors import UsageError
from uexcli.io.sources import Source, source_in_memory

if TYPE_CHECKING:
    pass

Images = "str | Path | np.ndarray | torch.Tensor | Sequence[Any] | Dataset[Any]"
HINT = "Give uint8 (N, H, W, 3) or (N, H, W), a list of such images, a dataset, or a path."


def source_of_images(images: Any, labels: Sequence[Any] | None, keys: Sequence[str] | None = None) -> str | Source:
    """Make a source of what a program calls images; paths and URIs stay what they are.

    `labels` are the classes of images in memory, names or numbers; a dataset may give them with its images.

    Raises:
        UsageError: these are no images, or not as many labels.
    """
    if isinstance(images, (str, Path)):
        if labels is not None:
            raise UsageError("`labels`: of files, these are a CSV, given as its path.", hint="Or give arrays.")
        return str(images)
    found, given = _pairs(images)
    names = labels if labels is not None else given
    if names is not None and len(names) != len(found):
        raise UsageError(f"`labels`: {len(names):,} for {len(found):,} images.")
    keys = keys or [f"{number:06d}.png" for number in range(len(found))]
    if len(keys) != len(found):
        raise UsageError(f"`keys`: {len(keys):,} for {len(found):,} images.")
    return source_in_memory(found, None if names is None else [name_of(one) for one in names], keys)


def name_of(label: Any) -> str:
    """Give the name of a class."""
    return str(label.item() if isinstance(label, (torch.Tensor, np.generic)) else label)


def pixels_of(image: Any) -> np.ndarray:
    """Give an image as uint8 `(H, W, 3)` or `(H, W)`, of an array, a tensor `(C, H, W)` or a Pillow image.

    Raises:
        UsageError: it is none of these, or its values are not whole levels of 8 bits.
    """
    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode in {"L", "RGB"} else image.convert("RGB"))
    if isinstance(image, torch.Tensor):
        image = (image.movedim(0, -1) if image.ndim == 3 else image).cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise UsageError(f"a {type(image).__name__} is no image.", hint=HINT)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim not in {2, 3} or (image.ndim == 3 and image.shape[2] != 3):
        raise UsageError(f"an array of shape {image.shape} is no image.", hint=HINT)
    if np.issubdtype(image.dtype, np.floating):
        levels = 255 * image
        if not np.allclose(levels, levels.round(), atol=1e-3) or levels.min() < 0 or levels.max() > 255:
            raise UsageError("an image of floats is not in whole 8-bit levels in [0, 1].", hint="Give uint8.")
        image = levels.round().astype(np.uint8)
    if image.dtype != np.uint8:
        raise UsageError(f"an image of {image.dtype}.", hint="Give uint8.")
    return np.ascontiguousarray(image)


def _pairs(images: Any) -> tuple[list[np.ndarray], list[Any] | None]:
    """Give all images, and their labels where each comes with one."""
    if isinstance(images, torch.Tensor) or not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise UsageError(f"a {type(images).__name__} is no set of images.", hint=HINT)
    if isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] in {1, 3}:
        raise UsageError(f"an array of shape {images.shape} is one image, or images of a strange width.", hint=HINT)
    found, labels = [], []
    for item in _items(images):
        if isinstance(item, (tuple, list)) and len(item) == 2:
            found.append(pixels_of(item[0]))
            labels.append(item[1])
        else:
            found.append(pixels_of(item))
    if labels and len(labels) != len(found):
        raise UsageError("only some of the images come with a label.")
    return found, labels or None


def _items(images: Any) -> Iterator[Any]:
    for number in range(len(images)):  # a map-style dataset may not end by itself
        yield images[number]
