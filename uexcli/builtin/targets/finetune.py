"""Fine-tuning: a net that knows the world already needs little from the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uexcli.api import Outcome, Target, Trial, hookimpl, option


@dataclass(frozen=True)
class Finetune(Target):
    """A pretrained surrogate, all of whose weights are trained further, with a fresh last layer."""

    name: ClassVar[str] = "finetune"
    summary: ClassVar[str] = "a pretrained net trained further; finetune:NAME or finetune:NAME,WEIGHTS"

    surrogate: str = option("efficientnet_lite0", "name of the surrogate")
    weights: str = option("auto", "file of its weights")
    epochs: int = option(5, "epochs, where --epochs does not say")
    batch: int = option(64, "images in a batch")
    lr: float = option(0.01, "peak learning rate")

    def evaluate(self, trial: Trial) -> Outcome:
        """Train on crops and flips."""
        return trial.supervised(
            lambda: trial.surrogate(self.surrogate, self.weights),
            epochs=trial.epochs or self.epochs,
            batch=self.batch,
            lr=self.lr,
            decay=1e-4,
            knows=True,
        )

    def work(self, trial: Trial) -> float:
        """Training images times epochs."""
        return len(trial.train_images) * (trial.epochs or self.epochs)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Finetune]
