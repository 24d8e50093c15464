"""Fine-tuning: a net that knows the world already needs little from the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Outcome, Target, Trial, UsageError, hookimpl, option
from uexcli.builtin.targets._scratch import check

if TYPE_CHECKING:
    from torch import nn

LAST_LAYER = 2  # tensors of weights: all there is where another library runs the net


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

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        check(self.epochs, self.batch, self.lr)

    def evaluate(self, trial: Trial) -> Outcome:
        """Train on crops and flips.

        Raises:
            UexError: the surrogate has no weights that could be trained.
        """

        def build() -> nn.Module:
            net = trial.surrogate(self.surrogate, self.weights)
            if sum(1 for _ in net.parameters()) <= LAST_LAYER:
                raise UsageError(
                    f"surrogate '{self.surrogate}' cannot be trained.", hint=f"probe:{self.surrogate} can."
                )
            return net

        return trial.supervised(
            build,
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
