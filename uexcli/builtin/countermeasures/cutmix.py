"""CutMix: parts of other images, and their share of the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class CutMix(Countermeasure):
    """Put a square of another image of the batch into an image, and as much of its label; up to `mixes` times."""

    name: ClassVar[str] = "cutmix"
    summary: ClassVar[str] = "squares of other images, labels in proportion"
    paper: ClassVar[str] = "Yun et al., CutMix, ICCV 2019"

    mixes: int = option(2, "how often at most")
    chance: float = option(0.5, "probability of each time, of each image")

    def __post_init__(self) -> None:
        """Refuse what mixes nothing."""
        if self.mixes < 1 or not 0 < self.chance <= 1:
            raise ValueError("it needs 1 mix or more, and a chance above 0 and at most 1")

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Paste; the share that is kept is uniform, Beta(1, 1), before the borders cut the square."""
        import torch

        from uexcli.core.augment import squares

        for _ in range(self.mixes):
            count = len(images)
            partner = torch.randperm(count, generator=generator)
            centres, pasted = torch.rand(count, 2, generator=generator), torch.rand(count, generator=generator)
            pasted = pasted * (torch.rand(count, generator=generator) < self.chance)
            inside = squares(centres, pasted.sqrt(), images.shape[2], images.shape[3])
            share = inside.float().mean((1, 2, 3)).to(images.device)[:, None]
            partner, inside = partner.to(images.device), inside.to(images.device)
            images = torch.where(inside, images[partner], images)
            labels = (1 - share) * labels + share * labels[partner]
        return images, labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [CutMix]
