"""A small vision transformer: a learner without convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.targets._scratch import Scratch
from uexcli.plugin import Target, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Vit(Scratch):
    """Patches of an eighth of the side, 6 layers of 192 numbers and 3 heads, mean of the tokens; AdamW."""

    name: ClassVar[str] = "vit"
    summary: ClassVar[str] = "a small vision transformer, supervised, 40 epochs"
    paper: ClassVar[str] = "Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021"

    epochs: int = option(40, "epochs, where --epochs does not say")
    lr: float = option(1e-3, "peak learning rate")
    decay: float = option(0.05, "weight decay")
    clip: float | None = option(1.0, "largest norm of the gradient")

    optimiser: ClassVar[str] = "adamw"

    def net(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build it."""
        from uexcli.builtin.targets._vit import build

        return build(num_classes=num_classes, channels=channels, size=size)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Vit]
