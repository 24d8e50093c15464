"""A net for small images that learns in seconds on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uexcli.plugin import Outcome, Target, Trial, hookimpl, option


@dataclass(frozen=True)
class Airbench(Target):
    """A whitened first layer, six convolutions moved by Muon, alternating flips, 8 epochs: 94 % on CIFAR-10.

    The code is compiled once on a GPU, on random labels, and used again by every later run of the same shape.
    """

    name: ClassVar[str] = "airbench"
    summary: ClassVar[str] = "six convolutions and Muon, 8 epochs; the default up to 96 px, on a CPU with width 16"
    crops: ClassVar[bool] = False
    paper: ClassVar[str] = "Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024"

    epochs: int = option(8, "epochs, where --epochs does not say")
    batch: int = option(2000, "images in a batch, fewer where there would not be 25 batches an epoch")
    lr: float = option(0.24, "peak learning rate of the filters")
    width: int = option(64, "channels of the first pair of convolutions; the others have four times as many")

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        if self.epochs < 1 or self.batch < 2 or self.width < 1 or self.lr <= 0:
            raise ValueError("it needs 1 epoch, 2 images a batch, 1 channel and a rate above 0, or more")

    def evaluate(self, trial: Trial) -> Outcome:
        """Train on shifts and flips, test on clean images and their mirrored ones."""
        from uexcli.builtin.targets._airbench import learn

        return learn(trial, epochs=trial.epochs or self.epochs, batch=self.batch, lr=self.lr, width=self.width)

    def work(self, trial: Trial) -> float:
        """Training images times epochs."""
        return len(trial.train_images) * (trial.epochs or self.epochs)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Airbench]
