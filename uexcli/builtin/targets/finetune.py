"""Fine-tuning: a net that knows the world already needs little from the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uexcli.builtin.targets._scratch import check
from uexcli.plugin import Outcome, Target, Trial, hookimpl, option


@dataclass(frozen=True)
class Finetune(Target):
    """A pretrained surrogate whose last layer starts as a linear probe, and all of whose weights are trained further.

    Starting so keeps what the net knows: from a random last layer the first steps distort it. Its batch norms keep
    their statistics, since a few images give worse ones.
    """

    name: ClassVar[str] = "finetune"
    summary: ClassVar[str] = "a pretrained net trained further; finetune:NAME or finetune:NAME,WEIGHTS"
    paper: ClassVar[str] = "Kumar et al., Fine-tuning can distort pretrained features, ICLR 2022"

    surrogate: str = option("efficientnet_lite0", "name of the surrogate")
    weights: str = option("auto", "file of its weights")
    epochs: int = option(2, "epochs after the probe, where --epochs does not say")
    batch: int = option(16, "images in a batch")
    lr: float = option(0.003, "peak learning rate")

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        check(self.epochs, self.batch, self.lr)

    def evaluate(self, trial: Trial) -> Outcome:
        """Probe, then train on crops and flips.

        Raises:
            UexError: the surrogate has no weights that could be trained.
        """
        from uexcli.builtin.targets._finetune import finetune

        return finetune(
            trial, self.surrogate, self.weights,
            epochs=trial.epochs or self.epochs, batch=self.batch, lr=self.lr,
        )  # fmt: skip

    def work(self, trial: Trial) -> float:
        """Training images times epochs, and one pass of them for the probe."""
        return len(trial.train_images) * ((trial.epochs or self.epochs) + 0.4)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Finetune]
