"""WebP: the other lossy format of the web."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Webp(Countermeasure):
    """Encode and decode each image as lossy WebP."""

    name: ClassVar[str] = "webp"
    summary: ClassVar[str] = "encode and decode as WebP, webp:50 for quality 50"

    quality: int = option(50, "WebP quality, 0 to 100")

    def __post_init__(self) -> None:
        """Refuse what Pillow would not take."""
        if not 0 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality} is not within 0 to 100")

    @property
    def strength(self) -> float:
        """A lower quality is stronger."""
        return -self.quality

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Encode and decode one by one."""
        from uexcli.builtin.countermeasures._codec import through

        return through(images, "WEBP", quality=self.quality)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Webp]
