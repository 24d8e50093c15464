"""The Trial that targets are handed: one training run, held in memory on one device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from uexcli import plugin
from uexcli.core import seeding, training
from uexcli.core.eval import supervised
from uexcli.core.eval.against import PLAIN, Against
from uexcli.core.eval.feature_cache import FeatureCache
from uexcli.core.eval.scores import BookOf, Pairs
from uexcli.errors import UexError

Fresh = supervised.Fresh


def _no_surrogates(name: str, weights: str) -> nn.Module:
    raise UexError(f"this trial can build no surrogate '{name}'.")


@dataclass(frozen=True)
class MemoryTrial(plugin.Trial):
    """A training run; see `uexcli.plugin.Trial` for what each member means."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    seed: int
    epochs: int | None
    device: torch.device
    autocast: torch.dtype | None = None
    on_step: plugin.OnStep = lambda _: None
    fresh: Fresh | None = None  # draws the views of an epoch, crops and flips included
    against: Against = PLAIN  # what it does to batches; the images have seen the rest
    parts: Tensor | None = None  # bool (N,): which training images are protected
    pairs: Pairs | None = None  # of faces
    make_surrogate: Callable[[str, str], nn.Module] = _no_surrogates
    features: FeatureCache = field(default_factory=FeatureCache)  # of the whole evaluation, where it has one

    def supervised(
        self,
        build: Callable[[], nn.Module],
        *,
        epochs: int,
        batch: int,
        lr: float,
        decay: float,
        schedule: str = "one-cycle",
        clip: float | None = None,
        optimiser: str = "sgd",
        augment: bool = True,
        knows: bool = False,
    ) -> plugin.Outcome:
        """Train it. A new net's start and the batches' order depend on the seed alone, not on pixels."""
        with self.seeded("target"):
            model = build().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            return supervised.supervised(
                model, self, epochs=epochs, batch=batch, lr=lr, decay=decay, schedule=schedule, clip=clip,
                optimiser=optimiser, augment=augment, knows=knows, fresh=self.fresh,
            )  # fmt: skip

    def loss(
        self, net: nn.Module, images: Tensor, labels: Tensor, generator: Generator, *, smooth: float = 0.0
    ) -> Tensor:
        """Give the loss of a batch under the countermeasures."""
        return self.against.loss(
            net, images, labels, generator, num_classes=self.num_classes, smooth=smooth,
            forward=lambda model, seen: training.forward(model, seen, self.autocast),
        )  # fmt: skip

    def scores(self) -> plugin.Scores:
        """Open the book of this run."""
        return BookOf(self, self.parts, self.pairs)

    def generator(self, purpose: str) -> Generator:
        """Make a generator of its own."""
        return seeding.generator(self.seed, purpose)

    def seeded(self, purpose: str) -> AbstractContextManager[None]:
        """Seed torch's global random numbers."""
        return seeding.global_seed(self.seed, purpose)

    def surrogate(self, name: str, weights: str) -> nn.Module:
        """Build it, on the device."""
        with self.seeded("target"):
            return self.make_surrogate(name, weights).to(self.device)

    def encoder(self, name: str, weights: str) -> Callable[[Tensor], Tensor]:
        """Build the surrogate, and look in the cache before it is asked."""
        return self.features.encoder(self.surrogate(name, weights), f"{name}:{weights}", self.autocast)
