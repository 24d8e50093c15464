"""The target for machines without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Outcome, Target, Trial, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Small(Target):
    """Four convolutions trained from scratch; about 71 % on CIFAR-10 from 10,000 images."""

    name: ClassVar[str] = "small"
    summary: ClassVar[str] = "four convolutions, supervised, 12 epochs; the default without a GPU"

    epochs: int = option(12, "epochs, where --epochs does not say")
    batch: int = option(128, "images in a batch")
    lr: float = option(0.1, "peak learning rate")
    width: int = option(32, "channels of the first convolution")

    def evaluate(self, trial: Trial) -> Outcome:
        """Train with crops and flips, test on clean images."""

        def build() -> nn.Module:
            from uexcli.core.nets import SmallNet

            return SmallNet(num_classes=trial.num_classes, channels=trial.channels, size=trial.size, width=self.width)

        return trial.supervised(build, epochs=trial.epochs or self.epochs, batch=self.batch, lr=self.lr, decay=5e-4)

    def work(self, trial: Trial) -> float:
        """Training images times epochs."""
        return len(trial.train_images) * (trial.epochs or self.epochs)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Small]
