"""Sample-wise: every image has a noise of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Granularity, Secret, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Samplewise(Granularity):
    """Row i is image i's."""

    name: ClassVar[str] = "samplewise"
    summary: ClassVar[str] = "every image has a noise of its own; protects only the images it was fitted on"
    per_sample: ClassVar[bool] = True

    def rows(self, labels: Tensor, features: Callable[[], Tensor], secret: Secret, *, keys: Sequence[str]) -> Tensor:
        """0 to N - 1."""
        return labels.new_ones(len(labels)).cumsum(0) - 1


@hookimpl
def uex_granularities() -> list[type[Granularity]]:
    """Register."""
    return [Samplewise]
