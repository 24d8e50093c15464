"""L2: the root of the summed squared change stays within eps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Norm, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-12


@dataclass(frozen=True)
class L2(Norm):
    """The Euclidean length of the change of an image; stated for the size it was fitted at."""

    name: ClassVar[str] = "l2"
    summary: ClassVar[str] = "the Euclidean length of an image's change is at most eps"

    def usual(self, channels: int, size: int) -> str:
        """6 levels a value, which is LSP's bound: 1.304 for colour images of 32 px."""
        return f"{6 / 255 * math.sqrt(channels) * size:.4g}"

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Scale longer rows to eps."""
        return delta * _wide((eps / self.size(delta).clamp(min=TINY)).clamp(max=1), delta)

    def steepest(self, grad: Tensor) -> Tensor:
        """The gradient at unit length."""
        return grad / _wide(self.size(grad).clamp(min=TINY), grad)

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The length of each row."""
        return delta.flatten(1).square().sum(1).sqrt()

    def rescale(self, eps: float, fitted: tuple[int, int], actual: tuple[int, int]) -> float:
        """The same change per pixel over more pixels is longer by the root of their ratio."""
        return eps * math.sqrt(math.prod(actual) / math.prod(fitted))


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *([1] * (like.dim() - 1)))


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [L2]
