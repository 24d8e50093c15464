"""What upload sites do: make photos smaller; trainers make them larger again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Resize(Countermeasure):
    """Shrink to a share of the side, smoothly, and enlarge to where it was."""

    name: ClassVar[str] = "resize"
    summary: ClassVar[str] = "shrink to a share of the side and enlarge again, resize:0.5"

    share: float = option(0.5, "of the side, above 0 and below 1")

    def __post_init__(self) -> None:
        """Refuse what does not shrink."""
        if not 0 < self.share < 1:
            raise ValueError(f"share {self.share} is not between 0 and 1")

    @property
    def strength(self) -> float:
        """A smaller share is stronger."""
        return -self.share

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Shrink and enlarge, bilinear, to 8 bits both times, as a site that stores the smaller photo does."""
        import torch
        from torchvision.transforms.v2 import functional

        height, width = images.shape[2:]
        small = [max(1, round(self.share * height)), max(1, round(self.share * width))]

        def again(part: Tensor) -> Tensor:
            enlarged: Tensor = functional.resize(functional.resize(part, small), [height, width])
            return enlarged

        return torch.cat([again(part) for part in images.split(256)])


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Resize]
