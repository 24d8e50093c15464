"""Median filter: takes out single pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Median(Countermeasure):
    """Each value becomes the median of the square around it; the borders are mirrored."""

    name: ClassVar[str] = "median"
    summary: ClassVar[str] = "the median of K x K px, median:3"
    paper: ClassVar[str] = "Fu et al., Robust Unlearnable Examples, ICLR 2022"

    kernel: int = option(3, "side of the square in px, odd")

    def __post_init__(self) -> None:
        """Refuse what changes nothing."""
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is not odd and 3 or more")

    @property
    def strength(self) -> float:
        """A wider square is stronger."""
        return self.kernel

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Sort each neighbourhood."""
        import torch
        from torch.nn import functional

        reach = min(self.kernel // 2, min(images.shape[2:]) - 1)
        side = 2 * reach + 1

        def filtered(part: Tensor) -> Tensor:
            padded = functional.pad(part.float(), (reach,) * 4, mode="reflect")
            windows = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(4)
            ordered: Tensor = windows.sort(4).values
            return ordered[..., side * side // 2]

        return torch.cat([filtered(part).to(images.dtype) for part in images.split(64)])


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Median]
