"""Spectrum matching: no class keeps a texture of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Spectrum(Countermeasure):
    """Scale each frequency of each channel so that a class's mean power is that of all images; phases stay.

    For an attacker who knows the labels. It removes what marks a class by its spectrum, of noise and of photos alike.
    """

    name: ClassVar[str] = "spectrum"
    summary: ClassVar[str] = "scale each class's mean power spectrum to that of all images"

    limit: float = option(3.0, "largest factor of a frequency; the smallest is 1 over it")

    def __post_init__(self) -> None:
        """Refuse what scales nothing."""
        if not 1 < self.limit <= 1000:
            raise ValueError(f"limit {self.limit} is not above 1 and at most 1000")

    @property
    def strength(self) -> float:
        """More freedom is stronger."""
        return self.limit

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Measure both spectra, scale, round."""
        import torch

        height, width = images.shape[2:]
        common = torch.stack([_power(images[labels == label]) for label in labels.unique()])
        whole = _power(images)
        gains = ((whole + 1e-6) / (common + 1e-6)).sqrt().clamp(1 / self.limit, self.limit)
        made = torch.empty_like(images)
        for gain, label in zip(gains, labels.unique(), strict=True):
            for picked in (labels == label).nonzero().squeeze(1).split(256):
                spectrum = torch.fft.rfft2(images[picked].float()) * gain
                shown = torch.fft.irfft2(spectrum, s=(height, width))
                made[picked] = shown.round().clamp(0, 255).to(images.dtype)
        return made


def _power(images: Tensor) -> Tensor:
    """Give the mean power of each frequency, float `(C, S, S // 2 + 1)`, of uint8 `(N, C, S, S)`."""
    import torch

    sums = torch.stack([torch.fft.rfft2(part.float()).abs().square().sum(0) for part in images.split(256)])
    mean: Tensor = sums.sum(0) / len(images)
    return mean


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Spectrum]
