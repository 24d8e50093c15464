"""The surrogate for machines without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Surrogate, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Small(Surrogate):
    """Four convolutions; a weak surrogate given full rounds of steps protects well on small data."""

    name: ClassVar[str] = "small"
    summary: ClassVar[str] = "four convolutions, any image size; the default without a GPU"

    width: int = option(16, "channels of the first convolution")

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net."""
        from uexcli.core.nets import SmallNet

        return SmallNet(num_classes=num_classes, channels=channels, size=size, width=self.width)


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [Small]
