"""Random sharpening: blurs that mark a class are undone by kernels that are never twice the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor

SPREAD = 0.1  # standard deviation of a weight


@dataclass(frozen=True)
class RandSharp(Countermeasure):
    """Sharpen each image of a batch by a random kernel, then keep its lowest frequencies: RSK and FF in the paper.

    The kernel is a cross of 3 px: its centre is normal around `centre`, each arm normal around what makes the sum 1.
    Borders are repeated. Of the discrete cosine transform of the whole image, the first rows and columns are kept.
    """

    name: ClassVar[str] = "randsharp"
    summary: ClassVar[str] = "random sharpening, then the lowest frequencies; made against cuda"
    paper: ClassVar[str] = "Kim and Sandoval-Segura, Learning from convolution-based unlearnable datasets, 2024"
    aliases: ClassVar[tuple[str, ...]] = ("rsk",)

    centre: float = option(2.5, "mean weight of the kernel's centre, above 1")
    share: float = option(0.3, "of the rows and columns of frequencies, the lowest, that are kept; 1: all")

    def __post_init__(self) -> None:
        """Refuse what sharpens nothing, and what keeps nothing."""
        if not 1 < self.centre <= 100 or not 0 < self.share <= 1:
            raise ValueError("it needs a centre above 1 and at most 100, and a share above 0 and at most 1")

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Sharpen, cut off at 0 and 1, filter, cut off again."""
        import torch
        from torch.nn import functional

        drawn = (torch.randn(5, len(images), 1, 1, 1, generator=generator) * SPREAD).to(images.device)
        centre = self.centre + drawn[0]
        up, down, left, right = (centre - 1) / 4 + drawn[1:]
        wide = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        arms = up * wide[:, :, :-2, 1:-1] + down * wide[:, :, 2:, 1:-1]
        arms = arms + left * wide[:, :, 1:-1, :-2] + right * wide[:, :, 1:-1, 2:]
        sharp = (centre * images - arms).clamp(0, 1)
        if self.share < 1:
            lines, columns = (_lowest(side, self.share).to(images.device) for side in images.shape[2:])
            sharp = (lines @ sharp @ columns).clamp(0, 1)
        return sharp, labels


def _lowest(side: int, share: float) -> Tensor:
    """Give the projection onto the lowest frequencies of the orthonormal DCT-II: float `(S, S)`, symmetric."""
    import torch

    places = torch.arange(side, dtype=torch.float64) + 0.5
    frequencies = torch.arange(max(1, int(side * share + 1e-9)), dtype=torch.float64).unsqueeze(1)
    basis = (math.pi / side * frequencies * places).cos()
    basis = basis / basis.norm(dim=1, keepdim=True)
    projection: Tensor = (basis.T @ basis).float()
    return projection


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [RandSharp]
