"""JPEG: fine noise does not survive coarse quantisation."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Jpeg(Countermeasure):
    """Encode and decode each image as JPEG, chroma subsampling as Pillow's default (4:2:0)."""

    name: ClassVar[str] = "jpeg"
    summary: ClassVar[str] = "encode and decode as JPEG, jpeg:10 for quality 10"
    paper: ClassVar[str] = "Liu et al., Image Shortcut Squeezing, ICML 2023"

    quality: int = option(10, "JPEG quality, 1 to 95")

    def __post_init__(self) -> None:
        """Refuse what Pillow would not take."""
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality {self.quality} is not within 1 to 95")

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Encode and decode one by one."""
        import numpy as np
        import torch
        from PIL import Image

        def again(image: np.ndarray) -> np.ndarray:
            grey = image.shape[2] == 1
            buffer = io.BytesIO()
            Image.fromarray(image[:, :, 0] if grey else image).save(buffer, "JPEG", quality=self.quality)
            decoded = np.asarray(Image.open(buffer))
            return decoded[:, :, None] if grey else decoded

        arrays = images.permute(0, 2, 3, 1).cpu().numpy()
        changed = np.stack([again(np.ascontiguousarray(image)) for image in arrays])
        return torch.from_numpy(changed).permute(0, 3, 1, 2).contiguous().to(images.device)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Jpeg]
