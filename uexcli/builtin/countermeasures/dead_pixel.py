"""Dead pixels: those that hardly vary over the images of a class are read from their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class DeadPixel(Countermeasure):
    """Repair in each class the places that vary least over its images, as cameras repair defective pixels.

    For an attacker who knows the labels, against `ops`, which sets one pixel of a class to one colour. A place is
    judged by its variance within the class over that within all images, and gets the median of the eight around it.
    """

    name: ClassVar[str] = "dead-pixel"
    summary: ClassVar[str] = "repair the pixel that varies least in each class, dead-pixel:3 for three"

    pixels: int = option(1, "places of each class")

    def __post_init__(self) -> None:
        """Refuse what repairs nothing."""
        if self.pixels < 1:
            raise ValueError(f"pixels {self.pixels} is below 1")

    @property
    def strength(self) -> float:
        """More are stronger."""
        return self.pixels

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Find them and repair them."""
        import torch

        made, width = images.clone(), images.shape[3]
        whole = _variance(images)
        for label in labels.unique():
            own = (labels == label).nonzero().squeeze(1)
            ratio = (_variance(images[own]) / whole.clamp(min=1.0)).flatten()
            for place in ratio.argsort(stable=True)[: self.pixels].tolist():
                line, column = divmod(place, width)
                upper, left = max(line - 1, 0), max(column - 1, 0)
                window = images[own, :, upper : line + 2, left : column + 2]
                around = torch.ones(window.shape[2:], dtype=torch.bool)
                around[line - upper, column - left] = False
                made[own, :, line, column] = window[:, :, around.to(images.device)].median(2).values
        return made


def _variance(images: Tensor) -> Tensor:
    """Give the variance of each place over images, uint8 `(N, C, H, W)`, the sum over channels: float `(H, W)`."""
    import torch

    mean = torch.stack([part.float().sum(0) for part in images.split(1024)]).sum(0) / len(images)
    squares = torch.stack([(part.float() - mean).square().sum((0, 1)) for part in images.split(1024)])
    variance: Tensor = squares.sum(0) / len(images)
    return variance


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [DeadPixel]
