"""Mixup: sums of images, and of their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Mixup(Countermeasure):
    """Take the weighted mean of an image and another one of the batch, and of their labels; up to `mixes` times."""

    name: ClassVar[str] = "mixup"
    summary: ClassVar[str] = "means of two images, labels alike"
    paper: ClassVar[str] = "Zhang et al., mixup, ICLR 2018"

    mixes: int = option(2, "how often at most")
    chance: float = option(0.5, "probability of each time, of each image")

    def __post_init__(self) -> None:
        """Refuse what mixes nothing."""
        if self.mixes < 1 or not 0 < self.chance <= 1:
            raise ValueError("it needs 1 mix or more, and a chance above 0 and at most 1")

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mix; the weight is uniform, Beta(1, 1)."""
        import torch

        for _ in range(self.mixes):
            count = len(images)
            partner = torch.randperm(count, generator=generator).to(images.device)
            drawn = torch.rand(count, generator=generator)
            weight = (drawn * (torch.rand(count, generator=generator) < self.chance)).to(images.device)
            images = images.lerp(images[partner], weight.view(-1, 1, 1, 1))
            labels = labels.lerp(labels[partner], weight.view(-1, 1))
        return images, labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Mixup]
