"""Self-supervised learning: a learner that never sees the labels the noise was tied to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from uexcli.plugin import Outcome, Target, Trial, hookimpl, option


@dataclass(frozen=True)
class Simclr(Target):
    """Contrastive learning without labels, then a linear layer over what was learnt."""

    name: ClassVar[str] = "simclr"
    summary: ClassVar[str] = "contrastive learning without labels, then a linear layer"
    crops: ClassVar[bool] = False
    paper: ClassVar[str] = "Chen et al., A simple framework for contrastive learning, ICML 2020"
    batches: ClassVar[bool] = False
    test_options: ClassVar[dict[str, Any]] = {"epochs": 1, "width": 4}

    epochs: int = option(40, "epochs without labels, where --epochs does not say")
    batch: int = option(256, "images in a batch")
    lr: float = option(0.3, "peak learning rate")
    temperature: float = option(0.5, "of the similarities")
    net: str = option("auto", "small or resnet18; auto: small on a CPU")
    width: int = option(32, "channels of the first convolution of small")

    def __post_init__(self) -> None:
        """Refuse other nets."""
        if self.net not in ("auto", "small", "resnet18"):
            raise ValueError(f"net {self.net} is none of auto, small, resnet18")
        if self.epochs < 1 or self.batch < 2 or self.lr <= 0 or self.temperature <= 0:
            raise ValueError("it needs 1 epoch, 2 images a batch, a rate and a temperature above 0, or more")

    def evaluate(self, trial: Trial) -> Outcome:
        """Learn, then probe."""
        from uexcli.builtin.targets._simclr import learn

        small = self.net == "small" or (self.net == "auto" and trial.device.type == "cpu")
        return learn(
            trial,
            width=self.width if small else None,
            epochs=trial.epochs or self.epochs,
            batch=self.batch,
            lr=self.lr,
            temperature=self.temperature,
        )

    def work(self, trial: Trial) -> float:
        """Two views of each image an epoch."""
        return 2 * len(trial.train_images) * (trial.epochs or self.epochs)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Simclr]
