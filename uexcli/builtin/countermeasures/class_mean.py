"""Class means: what all images of a class share, the noise of the class included, is taken out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class ClassMean(Countermeasure):
    """Subtract from each image the mean of its class, and add the mean of all images.

    For an attacker who knows the labels and takes the noise of a class for the same in all its images. What the photos
    of a class share is in its mean as well, and with few photos also what they have by chance: subtracted, that would
    mark the class anew. Most of it is smooth, so what a wide blur keeps of the means is left alone.
    """

    name: ClassVar[str] = "class-mean"
    summary: ClassVar[str] = "subtract each class's mean image; but for what is smooth in it"

    blur: float = option(0.5, "what a Gaussian blur of this share of the side keeps of the means stays; 0: nothing")

    def __post_init__(self) -> None:
        """Refuse what is no deviation."""
        if not 0 <= self.blur <= 1:
            raise ValueError(f"blur {self.blur} is not within 0 to 1")

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Take the means, subtract, round."""
        import torch

        present, of = labels.unique(return_inverse=True)
        sums = torch.zeros(len(present), *images.shape[1:], device=images.device)
        for part, ones in zip(images.split(1024), of.split(1024), strict=True):
            sums.index_add_(0, ones, part.float())
        shift = sums / of.bincount().view(-1, 1, 1, 1) - sums.sum(0) / len(images)
        if self.blur:
            lines, columns = (_blur(side, self.blur * side).to(shift.device) for side in images.shape[2:])
            shift = shift - lines @ shift @ columns.T

        def cleaned(part: Tensor, ones: Tensor) -> Tensor:
            left: Tensor = part.float() - shift[ones]
            return left.round().clamp(0, 255).to(images.dtype)

        return torch.cat([cleaned(*both) for both in zip(images.split(1024), of.split(1024), strict=True)])


def _blur(side: int, sigma: float) -> Tensor:
    """Give a Gaussian blur along one axis, weights within the image only: float `(S, S)`, each row adds up to 1."""
    import torch

    places = torch.arange(side)
    weights = (-(places - places[:, None]).square() / (2 * sigma**2)).exp()
    return weights / weights.sum(1, keepdim=True)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [ClassMean]
