"""The face net of Huang et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.targets._scratch import Scratch
from uexcli.plugin import Target, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class InceptionResnetV1(Scratch):
    """Inception-ResNet-v1, supervised, from scratch; its convolutions are padded so that it takes any size."""

    name: ClassVar[str] = "inception_resnet_v1"
    summary: ClassVar[str] = "Inception-ResNet-v1, as for faces, supervised, 50 epochs"
    paper: ClassVar[str] = "Szegedy et al., Inception-v4, Inception-ResNet, AAAI 2017"

    epochs: int = option(50, "epochs, where --epochs does not say")
    batch: int = option(96, "images in a batch")
    lr: float = option(0.05, "peak learning rate")

    def net(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build it."""
        from uexcli.builtin.targets._inception import build

        return build(num_classes=num_classes, channels=channels, size=size)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [InceptionResnetV1]
