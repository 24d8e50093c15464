"""Class means: what all images of a class share, the noise of the class included, is taken out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class ClassMean(Countermeasure):
    """Subtract from each image the mean of its class, and add the mean of all images.

    For an attacker who knows the labels and takes the noise of a class for the same in all its images. What the photos
    of a class share goes as well; most of that is smooth, so `sigma` can keep it.
    """

    name: ClassVar[str] = "class-mean"
    summary: ClassVar[str] = "subtract each class's mean image; class-mean:2 leaves in what a blur of 2 px keeps"

    sigma: float = option(0.0, "what a Gaussian blur of this deviation in px keeps of the means stays; 0: nothing")

    def __post_init__(self) -> None:
        """Refuse what is no deviation."""
        if self.sigma != 0 and not 0.3 <= self.sigma <= 100:
            raise ValueError(f"sigma {self.sigma} is neither 0 nor within 0.3 to 100")

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Take the means, subtract, round."""
        import torch
        from torchvision.transforms.v2 import functional

        present, of = labels.unique(return_inverse=True)
        sums = torch.zeros(len(present), *images.shape[1:], device=images.device)
        for part, ones in zip(images.split(1024), of.split(1024), strict=True):
            sums.index_add_(0, ones, part.float())
        shift = sums / of.bincount().view(-1, 1, 1, 1) - sums.sum(0) / len(images)
        if self.sigma:
            reach = min(round(3 * self.sigma), min(images.shape[2:]) - 1)
            shift -= functional.gaussian_blur(shift, [2 * reach + 1] * 2, [self.sigma] * 2)

        def cleaned(part: Tensor, ones: Tensor) -> Tensor:
            left: Tensor = part.float() - shift[ones]
            return left.round().clamp(0, 255).to(images.dtype)

        return torch.cat([cleaned(*both) for both in zip(images.split(1024), of.split(1024), strict=True)])


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [ClassMean]
