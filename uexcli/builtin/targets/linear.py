"""A linear classifier of pixels: what it learns, any net can learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.targets._scratch import Scratch
from uexcli.plugin import Target, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Linear(Scratch):
    """One linear layer over the pixels, which are neither cropped nor flipped."""

    name: ClassVar[str] = "linear"
    summary: ClassVar[str] = "one linear layer over the pixels"

    epochs: int = option(20, "epochs, where --epochs does not say")
    lr: float = option(0.02, "peak learning rate")

    augment: ClassVar[bool] = False

    def net(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build it, over batch-normalised pixels: the rate then fits any size."""
        from torch import nn

        width = channels * size * size
        return nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Flatten(), nn.Linear(width, num_classes))


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Linear]
