"""The target of Huang et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Outcome, Target, Trial, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Resnet18(Target):
    """ResNet-18 trained from scratch, its stem chosen by the image size."""

    name: ClassVar[str] = "resnet18"
    summary: ClassVar[str] = "ResNet-18, supervised, 30 epochs; the default on a GPU"
    paper: ClassVar[str] = "He et al., Deep residual learning for image recognition, CVPR 2016"

    epochs: int = option(30, "epochs, where --epochs does not say")
    batch: int = option(128, "images in a batch")
    lr: float = option(0.1, "peak learning rate")

    def evaluate(self, trial: Trial) -> Outcome:
        """Train with crops and flips, test on clean images."""

        def build() -> nn.Module:
            from uexcli.core.nets import ResNet18

            return ResNet18(num_classes=trial.num_classes, channels=trial.channels, size=trial.size)

        return trial.supervised(build, epochs=trial.epochs or self.epochs, batch=self.batch, lr=self.lr, decay=5e-4)

    def work(self, trial: Trial) -> float:
        """Training images times epochs."""
        return len(trial.train_images) * (trial.epochs or self.epochs)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Resnet18]
