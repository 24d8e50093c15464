"""L-infinity: no value changes by more than eps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Norm, UsageError, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Linf(Norm):
    """The largest change of any value."""

    name: ClassVar[str] = "linf"
    summary: ClassVar[str] = "no pixel value changes by more than eps"
    local: ClassVar[bool] = True

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Clamp."""
        return delta.clamp(-eps, eps)

    def steepest(self, grad: Tensor) -> Tensor:
        """The sign."""
        return grad.sign()

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The largest magnitude of each row."""
        return delta.abs().amax(tuple(range(1, delta.dim())))

    def levels(self, eps: float, peak: int = 255) -> int:
        """The whole levels inside eps; of 16 bits so many that the upper bytes, which most readers take, keep it."""
        levels = math.floor(255 * eps + 1e-6)
        return levels if peak == 255 else min(math.floor(peak * eps + 1e-6), 256 * levels)

    def parse(self, text: str) -> float:
        """Read eps; levels such as `8` are refused, as is less than one level."""
        eps = super().parse(text)
        if eps >= 1:
            raise UsageError(
                f"`eps={text}`: under linf the bound is a share of the full range, below 1.",
                hint=f"Did you mean {text}/255?" if "/" not in text and eps < 255 else "Write it as 8/255 or 0.03.",
            )
        if self.levels(eps) < 1:
            raise UsageError(
                f"`eps={text}`: less than one 8-bit level, nothing would be written.", hint="Use 1/255 or more."
            )
        return eps


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [Linf]
