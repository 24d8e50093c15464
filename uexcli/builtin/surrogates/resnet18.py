"""The surrogate of Huang et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Surrogate, hookimpl

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Resnet18(Surrogate):
    """ResNet-18 from scratch, its stem chosen by the image size."""

    name: ClassVar[str] = "resnet18"
    summary: ClassVar[str] = "ResNet-18 from scratch, 3x3 stem below 64 px; the default on a GPU"
    paper: ClassVar[str] = "He et al., Deep residual learning for image recognition, CVPR 2016"

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net."""
        from uexcli.core.nets import ResNet18

        return ResNet18(num_classes=num_classes, channels=channels, size=size)


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [Resnet18]
