"""Cutout: no single part of an image may be relied on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Cutout(Countermeasure):
    """Black out a square around a place drawn anew for each image of a batch; it is cut off at the borders."""

    name: ClassVar[str] = "cutout"
    summary: ClassVar[str] = "black out a random square, cutout:0.5 for half of the side"
    paper: ClassVar[str] = "DeVries and Taylor, Improved regularization with cutout, 2017"

    share: float = option(0.5, "side of the square, as a share of the image's")

    def __post_init__(self) -> None:
        """Refuse what hides nothing."""
        if not 0 < self.share <= 1:
            raise ValueError(f"share {self.share} is not above 0 and at most 1")

    @property
    def strength(self) -> float:
        """A larger square is stronger."""
        return self.share

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Multiply with a mask."""
        import torch

        from uexcli.core.augment import squares

        centres = torch.rand(len(images), 2, generator=generator)
        inside = squares(centres, torch.full((len(images),), self.share), images.shape[2], images.shape[3])
        return images * ~inside.to(images.device), labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Cutout]
