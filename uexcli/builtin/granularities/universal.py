"""Universal: all images share one noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Granularity, Secret, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Universal(Granularity):
    """One row for everything: a control more than a protection, as a net can learn to ignore it."""

    name: ClassVar[str] = "universal"
    summary: ClassVar[str] = "one noise for all images; a control rather than a protection"
    can_assign: ClassVar[bool] = True

    def rows(self, labels: Tensor, features: Callable[[], Tensor], secret: Secret, *, keys: Sequence[str]) -> Tensor:
        """Zeros."""
        return labels * 0

    def assign(
        self,
        labels: Tensor,
        features: Callable[[], Tensor],
        memory: Mapping[str, Tensor],
        *,
        keys: Sequence[str],
    ) -> Tensor:
        """Zeros again."""
        return labels * 0


@hookimpl
def uex_granularities() -> list[type[Granularity]]:
    """Register."""
    return [Universal]
