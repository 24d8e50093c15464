"""What a fit's hot loop keeps between batches: the frozen net, the micro-batch that fits, and what was done so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from uexcli.core.fit.frozen import Frozen
from uexcli.core.fit.graphs import Captured
from uexcli.core.fit.pgd import Part, Step, move

T = TypeVar("T")
GRAPHS = 4  # each keeps memory of its own; shapes that change with every batch are not worth one
# Values of images at once, and the least images: a CPU wants its cache, a GPU wants work.
MICRO = {"cpu": (256 * 3072, 8), "cuda": (2048 * 3072, 32), "mps": (256 * 3072, 16)}


@dataclass
class Tally:
    """Passes of single images so far: noise steps (forward and back), training steps, forward passes only."""

    moved: int = 0
    trained: int = 0
    seen: int = 0

    def count(self, images: Tensor) -> None:
        """Count a pass of images: there and back if their gradient is wanted."""
        if images.requires_grad:
            self.moved += len(images)
        else:
            self.seen += len(images)


class Engine:
    """Runs the steps of one fit on one device."""

    def __init__(self, micro: int | None = None, *, compiled: bool = False) -> None:
        self.micro = micro
        self.tally = Tally()
        self.compiled = compiled
        self._frozen: Frozen | None = None
        self._captured: dict[object, Captured | None] = {}

    def size(self, device: torch.device, values: int) -> int:
        """How many images of so many values to work on at once."""
        if self.micro is None:
            most, least = MICRO.get(device.type, MICRO["cpu"])
            self.micro = max(least, most // max(3072, values))
        return self.micro

    def freeze(self, model: nn.Module, example: Tensor, dtype: torch.dtype | None) -> Frozen:
        """Give the frozen copy of a net, with the weights it has now."""
        if self._frozen is None or not self._frozen.copies(model):
            self._frozen = Frozen(model, example, dtype, compiled=self.compiled)
            self._captured.clear()
        self._frozen.refresh()
        return self._frozen

    def steps(self, frozen: Frozen, bank: Tensor, parts: Sequence[Part], step: Step) -> Tensor:
        """Take the steps on one batch; on a CUDA device as one graph, where it can be captured."""
        if bank.device.type != "cuda" or len(parts) > 1:
            return move(frozen, bank, parts, step)
        key = (bank.shape, parts[0].images.shape, parts[0].cuts is None, parts[0].places is None, step)
        if key not in self._captured:
            if len(self._captured) == GRAPHS:
                return move(frozen, bank, parts, step)
            try:
                self._captured[key] = Captured(frozen, bank, parts[0], step)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # a norm or a net of a plugin that asks the device for values
                self._captured[key] = None
        captured = self._captured[key]
        return move(frozen, bank, parts, step) if captured is None else captured(bank, parts[0])

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do work on a micro-batch; where memory runs out, halve it and give None: to be tried again.

        Raises:
            torch.OutOfMemoryError: not even one image fits.
        """
        try:
            return work()
        except torch.OutOfMemoryError:
            if self.micro is None or self.micro <= 1:
                raise
            self.micro //= 2
        self._captured.clear()
        torch.cuda.empty_cache()
        return None
