"""UEraser: augmentations strong enough that noise cannot be told from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

DRAWS = {"lite": 1, "max": 5}


@dataclass(frozen=True)
class Ueraser(Countermeasure):
    """Plasma brightness, plasma contrast and channel shuffle, each with probability .5, then TrivialAugment."""

    name: ClassVar[str] = "ueraser"
    summary: ClassVar[str] = "strong augmentation; ueraser:max keeps the worst of five draws"
    paper: ClassVar[str] = "Qin et al., Learning the Unlearnable, 2023"
    rivals: ClassVar[str] = "ueraser"

    kind: str = option("lite", "lite: one draw of each image; max: of five, the one with the highest loss")

    def __post_init__(self) -> None:
        """Refuse other kinds."""
        if self.kind not in DRAWS:
            raise ValueError(f"kind {self.kind} is neither lite nor max")

    @property
    def strength(self) -> float:
        """More draws are stronger."""
        return DRAWS[self.kind]

    @property
    def cost(self) -> float:
        """A forward pass more for each draw, where there are several."""
        return 1.5 if self.kind == "lite" else 1.5 + 0.8 * DRAWS[self.kind]

    def attack(self, net: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Draw, look at the loss of each, keep the highest."""
        import torch
        from torch.nn import functional

        if self.kind == "lite":
            return _drawn(images, generator)
        worst, kept = images.new_full((len(images),), -torch.inf), images
        for _ in range(DRAWS[self.kind]):
            shown = _drawn(images, generator)
            with torch.no_grad():
                loss = functional.cross_entropy(net(shown), labels, reduction="none")
            kept = torch.where((loss > worst).view(-1, 1, 1, 1), shown, kept)
            worst = torch.maximum(loss, worst)
        return kept


def _drawn(images: Tensor, generator: Generator) -> Tensor:
    """Draw once: float `(B, C, S, S)` in [0, 1] to the same."""
    import torch
    from torchvision.transforms import v2

    from uexcli.builtin.countermeasures._each import each

    count, channels = images.shape[:2]
    chosen = (torch.rand(3, count, 1, 1, 1, generator=generator) < 0.5).to(images.device)
    brightness = plasma(images, generator).mul_(2).sub_(1) * _uniform(count, 0.5, 1.0, generator).to(images.device)
    images = torch.where(chosen[0], (images + brightness).clamp(0, 1), images)
    contrast = 4 * plasma(images, generator)
    images = torch.where(chosen[1], ((images - 0.5) * contrast + 0.5).clamp(0, 1), images)
    order = torch.rand(count, channels, generator=generator).argsort(1).to(images.device)
    shuffled = images.gather(1, order.view(count, channels, 1, 1).expand_as(images))
    images = torch.where(chosen[2], shuffled, images)
    return each(v2.TrivialAugmentWide(), images, generator)


def plasma(images: Tensor, generator: Generator) -> Tensor:
    """Draw a cloudy picture for each channel of each image, float `(B, C, H, W)` in [0, 1], by diamonds and squares.

    As in kornia, which the paper's code uses: the four corners are drawn uniformly from [0, 1]; a pixel between others
    is their mean, mixed with a number drawn likewise. The weight of what is drawn is none at first, then the roughness,
    and falls by the roughness at each finer grid; the roughness of an image is uniform in .3 to .7. Nothing is
    stretched: a map keeps near .5, with a standard deviation of .1.
    """
    import torch

    count, channels, height, width = images.shape
    roughness = _uniform(count, 0.3, 0.7, generator)
    picture = torch.rand(count, channels, 2, 2, generator=generator)
    share = torch.zeros(count, 1, 1, 1)
    while picture.shape[2] < max(height, width):
        picture = _doubled(picture, share, generator)
        share = roughness if picture.shape[2] == 3 else share * roughness
    return picture[:, :, :height, :width].to(images.device)


def _doubled(grid: Tensor, share: Tensor, generator: Generator) -> Tensor:
    """Put a pixel between any two of a square grid, float `(B, C, S, S)` to `(B, C, 2S - 1, 2S - 1)`."""
    import torch
    from torch.nn import functional

    count, channels, side = grid.shape[:3]
    inside = torch.full((side, 1), 4.0)
    inside[[0, -1]] = 3.0  # a pixel on the border has three neighbours

    def mixed(mean: Tensor) -> Tensor:
        return mean + share * (torch.rand(mean.shape, generator=generator) - mean)

    centres = mixed(functional.avg_pool2d(grid, 2, stride=1))
    beside = (
        grid[..., :-1] + grid[..., 1:] + functional.pad(centres, (0, 0, 1, 0)) + functional.pad(centres, (0, 0, 0, 1))
    )
    below = grid[..., :-1, :] + grid[..., 1:, :] + functional.pad(centres, (1, 0)) + functional.pad(centres, (0, 1))
    finer = grid.new_empty(count, channels, 2 * side - 1, 2 * side - 1)
    finer[..., ::2, ::2] = grid
    finer[..., 1::2, 1::2] = centres
    finer[..., ::2, 1::2] = mixed(beside / inside)
    finer[..., 1::2, ::2] = mixed(below / inside.T)
    return finer


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    import torch

    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Ueraser]
