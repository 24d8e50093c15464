"""Images through a lossy codec and back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def through(images: Tensor, codec: str, **options: Any) -> Tensor:
    """Encode and decode each by Pillow: uint8 `(N, C, H, W)` to the same; grey ones stay grey."""
    import numpy as np
    import torch
    from PIL import Image

    def again(image: np.ndarray) -> np.ndarray:
        grey = image.shape[2] == 1
        buffer = io.BytesIO()
        Image.fromarray(image[:, :, 0] if grey else image).save(buffer, codec, **options)
        decoded = np.asarray(Image.open(buffer).convert("L" if grey else "RGB"))
        return decoded[:, :, None] if grey else decoded

    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    changed = np.stack([again(np.ascontiguousarray(image)) for image in arrays])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).contiguous().to(images.device)
