"""Grayscale: colour noise loses its colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Grayscale(Countermeasure):
    """Luma (ITU-R 601) in every channel; one-channel images stay as they are."""

    name: ClassVar[str] = "grayscale"
    summary: ClassVar[str] = "luma in every channel"
    paper: ClassVar[str] = "Liu et al., Image Shortcut Squeezing, ICML 2023"
    aliases: ClassVar[tuple[str, ...]] = ("gray",)

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Weigh the channels."""
        if images.shape[1] != 3:
            return images
        red, green, blue = images.float().unbind(1)
        luma = (0.299 * red + 0.587 * green + 0.114 * blue).round().clamp(0, 255).to(images.dtype)
        return luma.unsqueeze(1).expand(-1, 3, -1, -1).contiguous()


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Grayscale]
