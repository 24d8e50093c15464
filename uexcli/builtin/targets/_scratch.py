"""Nets that are trained from scratch, supervised: what all of them share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin import Outcome, Target, Trial, option

if TYPE_CHECKING:
    from torch import nn


def check(epochs: int, batch: int, lr: float) -> None:
    """Refuse what trains nothing, by ValueError."""
    if epochs < 1 or batch < 1 or lr <= 0:
        raise ValueError("it needs 1 epoch, 1 image a batch and a rate above 0, or more")


@dataclass(frozen=True)
class Scratch(Target):
    """A net with a fresh start, trained on crops and flips, tested on clean images after each epoch."""

    epochs: int = option(30, "epochs, where --epochs does not say")
    batch: int = option(128, "images in a batch")
    lr: float = option(0.1, "peak learning rate")
    decay: float = option(5e-4, "weight decay")
    schedule: str = option("one-cycle", "of the learning rate: one-cycle, cosine, or epochs at which it falls")
    clip: float | None = option(None, "largest norm of the gradient")

    optimiser: ClassVar[str] = "sgd"
    augment: ClassVar[bool] = True
    test_options: ClassVar[dict[str, Any]] = {"epochs": 1}

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        check(self.epochs, self.batch, self.lr)
        if self.decay < 0:
            raise ValueError(f"decay {self.decay} is below 0")

    @abstractmethod
    def net(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net: float images `(B, C, S, S)` in [0, 1] to logits `(B, K)`."""

    def evaluate(self, trial: Trial) -> Outcome:
        """Train and test."""
        return trial.supervised(
            lambda: self.net(num_classes=trial.num_classes, channels=trial.channels, size=trial.size),
            epochs=trial.epochs or self.epochs,
            batch=self.batch,
            lr=self.lr,
            decay=self.decay,
            schedule=self.schedule,
            clip=self.clip,
            optimiser=self.optimiser,
            augment=self.augment,
        )

    def work(self, trial: Trial) -> float:
        """Training images times epochs."""
        return len(trial.train_images) * (trial.epochs or self.epochs)
