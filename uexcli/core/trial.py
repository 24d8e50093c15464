"""The Trial that targets are handed: one training run, held in memory on one device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uexcli import api
from uexcli.core import seeding, train

Fresh = train.Fresh


@dataclass(frozen=True)
class MemoryTrial(api.Trial):
    """A training run; see `uexcli.api.Trial` for what each member means."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    seed: int
    epochs: int | None
    device: torch.device
    autocast: torch.dtype | None = None
    on_step: api.OnStep = lambda _: None
    fresh: Fresh | None = None  # draws the views of an epoch, crops and flips included

    def supervised(
        self,
        build: Callable[[], nn.Module],
        *,
        epochs: int,
        batch: int,
        lr: float,
        decay: float,
        augment: bool = True,
    ) -> api.Outcome:
        """Train from scratch. The net's start and the batches' order depend on the seed alone, not on pixels."""
        with seeding.global_seed(self.seed, "target"):
            model = build()
        return train.supervised(
            model.to(self.device, memory_format=torch.channels_last),  # type: ignore[call-overload]
            (self.train_images, self.train_labels),
            (self.test_images, self.test_labels),
            epochs=epochs,
            batch=batch,
            lr=lr,
            decay=decay,
            augment=augment,
            generator=seeding.generator(self.seed, "batches"),
            autocast=self.autocast,
            on_step=self.on_step,
            fresh=self.fresh,
        )
