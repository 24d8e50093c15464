"""What upload sites do: cut the middle out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Crop(Countermeasure):
    """Cut out the middle, a share of the side, and enlarge it to the whole."""

    name: ClassVar[str] = "crop"
    summary: ClassVar[str] = "the middle, a share of the side, enlarged, crop:0.875"

    share: float = option(0.875, "of the side, above 0 and below 1; 0.875 is 224 of 256")

    def __post_init__(self) -> None:
        """Refuse what cuts nothing off."""
        if not 0 < self.share < 1:
            raise ValueError(f"share {self.share} is not between 0 and 1")

    @property
    def strength(self) -> float:
        """A smaller middle is stronger."""
        return -self.share

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Cut and enlarge, bilinear."""
        import torch
        from torch.nn import functional

        height, width = images.shape[2:]
        high, wide = (min(side - 1, max(1, round(self.share * side))) for side in (height, width))
        upper, left = (height - high) // 2, (width - wide) // 2
        middle = images[:, :, upper : upper + high, left : left + wide]

        def enlarged(part: Tensor) -> Tensor:
            return functional.interpolate(part.float(), (height, width), mode="bilinear").round().clamp(0, 255)

        return torch.cat([enlarged(part).to(images.dtype) for part in middle.split(256)])


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Crop]
