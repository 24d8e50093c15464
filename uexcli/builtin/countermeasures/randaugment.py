"""RandAugment: a few random operations on each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class RandAugment(Countermeasure):
    """torchvision's RandAugment on each image of a batch, drawn anew each time."""

    name: ClassVar[str] = "randaugment"
    summary: ClassVar[str] = "random operations on each image, randaugment:2,9"
    paper: ClassVar[str] = "Cubuk et al., RandAugment, 2020"
    aliases: ClassVar[tuple[str, ...]] = ("ra",)

    operations: int = option(2, "operations an image")
    magnitude: int = option(9, "how strong they are, 1 to 30")

    def __post_init__(self) -> None:
        """Refuse what torchvision would not take."""
        if self.operations < 1 or not 1 <= self.magnitude <= 30:
            raise ValueError("it needs 1 operation or more, of a magnitude within 1 to 30")

    @property
    def strength(self) -> float:
        """More and stronger operations are stronger."""
        return self.operations * self.magnitude

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Change each image by itself."""
        from torchvision.transforms import v2

        from uexcli.builtin.countermeasures._each import each

        return each(v2.RandAugment(self.operations, self.magnitude), images, generator), labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [RandAugment]
