"""Class-wise: the images of a class share a noise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Granularity, Secret, UexError, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classwise(Granularity):
    """Row k is class k's; a new image of a known class can be protected too."""

    name: ClassVar[str] = "classwise"
    summary: ClassVar[str] = "all images of a class share a noise; new images of a class can be protected too"
    undone_by: ClassVar[tuple[str, ...]] = ("class-mean",)
    can_assign: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    sets: int = option(1, "noises per class; each image has one of them, by its name")

    def __post_init__(self) -> None:
        """Refuse no noise."""
        if self.sets < 1:
            raise ValueError("sets must be at least 1")

    def rows(self, labels: Tensor, features: Callable[[], Tensor], secret: Secret, *, keys: Sequence[str]) -> Tensor:
        """The labels; with several sets, the name of an image decides which of its class's noises it has.

        Raises:
            UexError: a noise would serve no image.
        """
        rows = self._rows(labels, keys)
        if len(rows.unique()) < self.sets * len(labels.unique()):
            raise UexError(
                f"`options[sets]={self.sets}`: a class has too few images.", hint="Use fewer sets, or more images."
            )
        return rows

    def assign(
        self,
        labels: Tensor,
        features: Callable[[], Tensor],
        memory: Mapping[str, Tensor],
        *,
        keys: Sequence[str],
    ) -> Tensor:
        """The same again."""
        return self._rows(labels, keys)

    def _rows(self, labels: Tensor, keys: Sequence[str]) -> Tensor:
        if self.sets == 1:
            return labels
        return labels * self.sets + labels.new_tensor([_number(key) % self.sets for key in keys])


def _number(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


@hookimpl
def uex_granularities() -> list[type[Granularity]]:
    """Register."""
    return [Classwise]
