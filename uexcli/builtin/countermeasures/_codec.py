"""Images through a lossy codec and back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from uexcli.plugin import UexError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = {"JPEG": ".jpg", "WEBP": ".webp"}


def through(images: Tensor, codec: str, **options: Any) -> Tensor:
    """Encode and decode each by Pillow: uint8 `(N, C, H, W)` to the same; grey ones stay grey.

    Raises:
        UexError: they are longer than the codec takes.
    """
    import numpy as np
    import torch
    from PIL import Image

    from uexcli.core import limits

    why = limits.too_long(images.shape[2], images.shape[3], SUFFIXES[codec])
    if why is not None:
        raise UexError(f"countermeasure '{codec.lower()}': images are {why}.", hint="Use a smaller `size`.")

    def again(image: np.ndarray) -> np.ndarray:
        grey = image.shape[2] == 1
        buffer = io.BytesIO()
        Image.fromarray(image[:, :, 0] if grey else image).save(buffer, codec, **options)
        decoded = np.asarray(Image.open(buffer).convert("L" if grey else "RGB"))
        return decoded[:, :, None] if grey else decoded

    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    changed = np.stack([again(np.ascontiguousarray(image)) for image in arrays])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).contiguous().to(images.device)
