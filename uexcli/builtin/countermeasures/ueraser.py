"""UEraser: augmentations strong enough that noise cannot be told from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Countermeasure, hookimpl, option

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
    """Draw a cloudy picture for each image, float `(B, 1, H, W)` in [0, 1]: octaves of noise, each finer and weaker.

    The roughness, the strength of an octave against the coarser one, is uniform in .3 to .7, as in the paper.
    """
    import torch
    from torch.nn import functional

    count, size = len(images), tuple(images.shape[2:])
    roughness = _uniform(count, 0.3, 0.7, generator)
    picture, side, strength = torch.zeros(count, 1, *size), 2, torch.ones(count, 1, 1, 1)
    while side < 2 * max(size):
        octave = torch.rand(count, 1, side, side, generator=generator) - 0.5
        picture += strength * functional.interpolate(octave, size, mode="bilinear", align_corners=True)
        side, strength = 2 * side - 1, strength * roughness
    low, high = picture.amin((1, 2, 3), keepdim=True), picture.amax((1, 2, 3), keepdim=True)
    return ((picture - low) / (high - low).clamp(min=1e-6)).to(images.device)


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    import torch

    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Ueraser]
