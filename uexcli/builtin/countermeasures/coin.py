"""COIN: every pixel is read a little beside its place, so that no filter over an image stays the same filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Coin(Countermeasure):
    """Move each pixel of each batch by an offset of its own, the same for its channels; beyond a border is the other.

    The offsets are uniform along both axes, drawn anew each time; between pixels the image is bilinear.
    """

    name: ClassVar[str] = "coin"
    summary: ClassVar[str] = "random displacement of each pixel, coin:2 for up to 2 px"
    paper: ClassVar[str] = "Li et al., Detecting and corrupting convolution-based unlearnable examples, AAAI 2025"

    pixels: float = option(2.0, "largest displacement along an axis, in px")

    def __post_init__(self) -> None:
        """Refuse what moves nothing."""
        if not 0 < self.pixels <= 100:
            raise ValueError(f"pixels {self.pixels} is not above 0 and at most 100")

    @property
    def strength(self) -> float:
        """Further is stronger."""
        return self.pixels

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Read the four pixels around each place, and weigh them."""
        import torch

        count, channels, height, width = images.shape
        offsets = (2 * torch.rand(2, count, height, width, generator=generator) - 1).to(images.device) * self.pixels
        down = offsets[0] + torch.arange(height, device=images.device).view(-1, 1)
        right = offsets[1] + torch.arange(width, device=images.device)
        top, left = down.floor(), right.floor()
        below, beside = (down - top).unsqueeze(1), (right - left).unsqueeze(1)  # weights of the further ones
        flat = images.flatten(2)

        def at(line: Tensor, column: Tensor) -> Tensor:
            places = line.long() % height * width + column.long() % width
            return flat.gather(2, places.view(count, 1, -1).expand(-1, channels, -1)).view_as(images)

        upper = at(top, left).lerp(at(top, left + 1), beside)
        lower = at(top + 1, left).lerp(at(top + 1, left + 1), beside)
        return upper.lerp(lower, below), labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Coin]
