"""Face recognition and verification: an embedder that knows faces is taught the protected ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.builtin.targets._scratch import check
from uexcli.plugin import Outcome, Target, Trial, UexError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Mobilefacenet(Target):
    """MobileFaceNet, fine-tuned on the identities; pairs of faces are scored before and after."""

    name: ClassVar[str] = "mobilefacenet"
    summary: ClassVar[str] = "a face embedder, fine-tuned; mobilefacenet:FILE.safetensors has its weights"
    paper: ClassVar[str] = "Chen et al., MobileFaceNets, CCBR 2018"
    test_options: ClassVar[dict[str, Any]] = {"weights": "random", "epochs": 1}

    weights: str = option("", "safetensors file of its weights, or random: from scratch")
    epochs: int = option(10, "epochs, where --epochs does not say")
    batch: int = option(64, "images in a batch")
    lr: float = option(0.02, "peak learning rate")

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        check(self.epochs, self.batch, self.lr)

    def missing_requirement(self) -> UexError | None:
        """Say that its weights are to be given."""
        if self.weights:
            return None
        return UexError("target 'mobilefacenet' needs weights.", hint="Write mobilefacenet:FILE.safetensors.")

    def evaluate(self, trial: Trial) -> Outcome:
        """Fine-tune all of it."""
        knows = self.weights != "random"

        def build() -> nn.Module:
            from uexcli.builtin.surrogates._mobilefacenet import MobileFaceNet

            size = trial.train_images.shape[2]
            return MobileFaceNet(num_classes=trial.num_classes, size=size, weights=self.weights if knows else None)

        return trial.supervised(
            build, epochs=trial.epochs or self.epochs, batch=self.batch, lr=self.lr, decay=5e-4, knows=knows
        )

    def work(self, trial: Trial) -> float:
        """Training images times epochs."""
        return len(trial.train_images) * (trial.epochs or self.epochs)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Mobilefacenet]
