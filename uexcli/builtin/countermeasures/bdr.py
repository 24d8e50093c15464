"""Bit depth reduction: noise of a few levels falls below the first bit that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class BitDepth(Countermeasure):
    """Keep the highest bits of each value; the others become zeros."""

    name: ClassVar[str] = "bdr"
    summary: ClassVar[str] = "keep the highest bits of each value, bdr:2 for two"
    paper: ClassVar[str] = "Liu et al., Image Shortcut Squeezing, ICML 2023"

    bits: int = option(2, "bits that are kept, 1 to 7")

    def __post_init__(self) -> None:
        """Refuse what keeps nothing or everything."""
        if not 1 <= self.bits <= 7:
            raise ValueError(f"bits {self.bits} is not within 1 to 7")

    @property
    def strength(self) -> float:
        """Fewer bits are stronger."""
        return -self.bits

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Mask them."""
        return images & (0xFF << (8 - self.bits) & 0xFF)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [BitDepth]
