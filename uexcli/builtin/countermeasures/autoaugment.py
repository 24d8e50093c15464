"""AutoAugment: pairs of operations that a search found good for CIFAR-10 or ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class AutoAugment(Countermeasure):
    """torchvision's AutoAugment on each image of a batch, drawn anew each time."""

    name: ClassVar[str] = "autoaugment"
    summary: ClassVar[str] = "the searched policy, of CIFAR-10 up to 64 px, else of ImageNet"
    paper: ClassVar[str] = "Cubuk et al., AutoAugment, CVPR 2019"
    aliases: ClassVar[tuple[str, ...]] = ("aa",)

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Change each image by itself."""
        from torchvision.transforms import v2

        from uexcli.builtin.countermeasures._each import each

        policy = v2.AutoAugmentPolicy.CIFAR10 if images.shape[2] <= 64 else v2.AutoAugmentPolicy.IMAGENET
        return each(v2.AutoAugment(policy), images, generator), labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [AutoAugment]
