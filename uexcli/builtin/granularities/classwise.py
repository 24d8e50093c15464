"""Class-wise: the images of a class share a noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Granularity, hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Classwise(Granularity):
    """Row k is class k's; a new image of a known class can be protected too."""

    name: ClassVar[str] = "classwise"
    summary: ClassVar[str] = "all images of a class share a noise; new images of a class can be protected too"
    can_assign: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    def rows(
        self, labels: Tensor, features: Callable[[], Tensor], generator: Generator, *, keys: Sequence[str]
    ) -> Tensor:
        """The labels."""
        return labels

    def assign(
        self,
        labels: Tensor,
        features: Callable[[], Tensor],
        memory: Mapping[str, Tensor],
        *,
        keys: Sequence[str],
    ) -> Tensor:
        """The labels again."""
        return labels


@hookimpl
def uex_granularities() -> list[type[Granularity]]:
    """Register."""
    return [Classwise]
