"""An endless stream of shuffled batches that can be stopped and resumed."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from uexcli import plugin


class ShuffledBatches(plugin.Stream):
    """Batches of indices; every pass over the images in another order."""

    def __init__(self, count: int, size: int, generator: Generator, device: torch.device) -> None:
        self._count = count
        self._size = size
        self._generator = generator
        self._device = device
        self._begin()

    def _begin(self) -> None:
        self._before = self._generator.get_state()
        self._order = torch.randperm(self._count, generator=self._generator)
        self._done = 0

    def __next__(self) -> Tensor:
        """Give the next batch: int64 `(B,)`."""
        if self._done >= self._count:
            self._begin()
        batch = self._order[self._done : self._done + self._size]
        self._done += len(batch)
        return batch.to(self._device)

    def state(self) -> plugin.State:
        """Say where the stream is."""
        return {"before": self._before, "done": self._done}

    def load(self, state: plugin.State) -> None:
        """Go to where a stream of the same images was."""
        self._generator.set_state(state["before"])
        self._begin()
        self._done = int(state["done"])
