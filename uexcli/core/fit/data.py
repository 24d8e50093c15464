"""The images of a fit: where they are, and how a fit goes over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from uexcli.core.fit.store import Store
from uexcli.core.nets import as_input


@dataclass(frozen=True)
class Data:
    """Images and their labels; where they are bigger than memory, in a file."""

    images: Tensor  # uint8 (N, C, S, S)
    labels: Tensor  # int64 (N,)
    keys: Sequence[str]  # (N,) names, stable across runs
    num_classes: int
    device: torch.device  # on which nets see them
    store: Store = field(default_factory=Store)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> int:
        """The side of the images, in px."""
        return int(self.images.shape[2])

    @property
    def values(self) -> int:
        """The number of values of an image."""
        return self.images[0].numel()

    def inputs(self, batch: Tensor) -> Tensor:
        """Float images in [0, 1] on the device: `(B, C, S, S)`, channels last."""
        return as_input(self.images[batch].to(self.device))

    def batches(self, size: int, generator: Generator | None = None, only: Tensor | None = None) -> Iterator[Tensor]:
        """Go once over the images; shuffled where a generator is given."""
        picked = torch.arange(len(self.images)) if only is None else only.cpu()
        order = picked if generator is None else picked[torch.randperm(len(picked), generator=generator)]
        for batch in order.to(self.images.device).split(size) if len(order) else ():
            yield batch
            self.store.release()
