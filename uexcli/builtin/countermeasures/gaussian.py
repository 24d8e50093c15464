"""Gaussian blur: a real one, unlike the 3x3 kernel of deviation .1 that benchmarks carry along, an identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Gaussian(Countermeasure):
    """Blur each channel with a Gaussian kernel; the borders are mirrored."""

    name: ClassVar[str] = "gaussian"
    summary: ClassVar[str] = "blur with a kernel of K px and deviation S, gaussian:7,3"
    paper: ClassVar[str] = "Zhang et al., Unlearnable Clusters, CVPR 2023"

    kernel: int = option(5, "side of the kernel in px, odd")
    sigma: float = option(1.0, "standard deviation in px, at least .3: below that nothing is blurred")

    def __post_init__(self) -> None:
        """Refuse what blurs nothing."""
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is not odd and 3 or more")
        if not 0.3 <= self.sigma <= 100:
            raise ValueError(f"sigma {self.sigma} is not within 0.3 to 100")

    @property
    def strength(self) -> float:
        """A wider kernel is stronger."""
        return self.sigma

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Blur along one axis, then along the other."""
        import torch
        from torch.nn import functional

        channels, reach = images.shape[1], min(self.kernel // 2, min(images.shape[2:]) - 1)
        places = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
        weights = (-places.square() / (2 * self.sigma**2)).exp()
        weights = (weights / weights.sum()).expand(channels, 1, 1, -1)

        def blurred(part: Tensor) -> Tensor:
            padded = functional.pad(part.float(), (reach,) * 4, mode="reflect")
            across = functional.conv2d(padded, weights, groups=channels)
            return functional.conv2d(across, weights.transpose(2, 3), groups=channels).round().clamp(0, 255)

        return torch.cat([blurred(part).to(images.dtype) for part in images.split(256)])


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Gaussian]
