"""A small net from scratch, the cheapest that learns from photos; blind to fine class-wise noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.targets._scratch import Scratch
from uexcli.plugin import Target, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Small(Scratch):
    """Four convolutions trained from scratch; about 71 % on CIFAR-10 from 10,000 images."""

    name: ClassVar[str] = "small"
    summary: ClassVar[str] = "four convolutions, supervised, 12 epochs; blind to fine class-wise noise"

    epochs: int = option(12, "epochs, where --epochs does not say")
    width: int = option(32, "channels of the first convolution")

    def __post_init__(self) -> None:
        """Refuse a net without channels."""
        super().__post_init__()
        if self.width < 1:
            raise ValueError(f"width {self.width} is below 1")

    def net(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build it."""
        from uexcli.core.nets import SmallNet

        return SmallNet(num_classes=num_classes, channels=channels, size=size, width=self.width)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Small]
