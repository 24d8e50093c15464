"""JPEG: fine noise does not survive coarse quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Jpeg(Countermeasure):
    """Encode and decode each image as JPEG, chroma subsampling as Pillow's default (4:2:0)."""

    name: ClassVar[str] = "jpeg"
    summary: ClassVar[str] = "encode and decode as JPEG, jpeg:10 for quality 10"
    paper: ClassVar[str] = "Liu et al., Image Shortcut Squeezing, ICML 2023"

    quality: int = option(10, "JPEG quality, 1 to 95")

    def __post_init__(self) -> None:
        """Refuse what Pillow would not take."""
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality {self.quality} is not within 1 to 95")

    @property
    def strength(self) -> float:
        """A lower quality is stronger."""
        return -self.quality

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Encode and decode one by one."""
        from uexcli.builtin.countermeasures._codec import through

        return through(images, "JPEG", quality=self.quality)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Jpeg]
