"""Noise over the noise: whoever trains adds some of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class UniformNoise(Countermeasure):
    """Add uniform noise to each value of each batch, anew each time."""

    name: ClassVar[str] = "uniform-noise"
    summary: ClassVar[str] = "add up to so many levels of noise to each batch, uniform-noise:8"
    paper: ClassVar[str] = "Huang et al., Unlearnable Examples, ICLR 2021"

    levels: float = option(8.0, "largest change of a value, in levels of 255")

    def __post_init__(self) -> None:
        """Refuse what adds nothing."""
        if not 0 < self.levels <= 255:
            raise ValueError(f"levels {self.levels} is not above 0 and at most 255")

    @property
    def strength(self) -> float:
        """More is stronger."""
        return self.levels

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add it."""
        import torch

        drawn = torch.rand(images.shape, generator=generator).to(images.device)
        return (images + (2 * drawn - 1) * self.levels / 255).clamp(0, 1), labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [UniformNoise]
