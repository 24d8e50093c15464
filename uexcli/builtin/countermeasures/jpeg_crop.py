"""JPEG after the crop: its blocks of 8 px lie elsewhere each time, so noise cannot be made for their grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class JpegCrop(Countermeasure):
    """Encode and decode each image of each batch as JPEG, after the crops and flips of training."""

    name: ClassVar[str] = "jpeg-crop"
    summary: ClassVar[str] = "JPEG of each batch, after crops and flips, jpeg-crop:10 for quality 10"
    paper: ClassVar[str] = "Jiang et al., Dual-branch robust unlearnable examples, ICML 2026"

    quality: int = option(10, "JPEG quality, 1 to 95")

    def __post_init__(self) -> None:
        """Refuse what Pillow would not take."""
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality {self.quality} is not within 1 to 95")

    @property
    def strength(self) -> float:
        """A lower quality is stronger."""
        return -self.quality

    @property
    def cost(self) -> float:
        """The codec's share, at 32 px and on small nets."""
        return 1.5

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Go through 8 bits and the codec."""
        import torch

        from uexcli.builtin.countermeasures._codec import through

        levels = (images * 255).round().clamp(0, 255).to(torch.uint8)
        return through(levels, "JPEG", quality=self.quality).float() / 255, labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [JpegCrop]
