"""What trains a generator in one stage, and what such training costs."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin.resume import Run

if TYPE_CHECKING:
    from torch import Tensor


class Player(Run):
    """What teaches a generator in one stage of a course; its state is all that changes but for the generator."""

    hint: ClassVar[str] = "Try a smaller `options[lr]` or `options[generator_lr]`."  # where it diverges

    def begin(self, passed: int) -> None:
        """Get ready for the next pass over the images; the stage has made so many."""

    @abstractmethod
    def step(self, batch: Tensor, share: float) -> Tensor:
        """Learn from the images with these indices, int64 `(B,)`, at that share of the stage; gives losses, `(L,)`."""

    @abstractmethod
    def words(self, losses: list[float]) -> str:
        """Say how it goes, from the mean losses of a pass."""


def generator_passes(width: int) -> float:
    """Say how many passes through a ResNet-18 at 32 px one through a generator of this width costs, multiplying."""
    return 1.05 * (width / 64) ** 2


def times_over(images: int, *, batch: int, batches: int) -> int:
    """Say how often a pass goes over the images, so that it has at least so many batches."""
    return max(1, math.ceil(batches / math.ceil(images / batch)))


def primer_passes(width: int, classes: int, marks: int) -> float:
    """Say how many passes through a ResNet-18 at 32 px teaching a generator of this width before its game costs.

    A pass of `classes` takes its way down, a third of its work; one of `marks` all of it, and a net.
    """
    each = generator_passes(width)
    return classes * each / 3 + marks * (each + 1)
