"""L0: at most eps pixels change, by however much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Norm, UsageError, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L0(Norm):
    """How many pixels of an image change, whichever of their channels; stated for the size it was fitted at."""

    name: ClassVar[str] = "l0"
    summary: ClassVar[str] = "at most eps pixels of an image change, by however much"
    paper: ClassVar[str] = "Croce and Hein, Sparse and imperceivable adversarial attacks, ICCV 2019"

    sparse: ClassVar[bool] = True

    def usual(self, channels: int, size: int) -> str:
        """One pixel in a hundred: 10 for images of 32 px."""
        return str(max(1, round(0.01 * size * size)))

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Keep the eps pixels of a row that change most, summed over the squares of their channels."""
        import torch

        energy = delta.square().sum(1)
        pixels = energy.flatten(1)
        count = min(math.floor(eps), pixels.shape[1])
        # Among equals the first ones stay, so that never more than `count` do; a threshold would let all of them.
        first = pixels.argsort(dim=1, descending=True, stable=True)[:, :count]
        keep = torch.zeros_like(pixels, dtype=torch.bool).scatter(1, first, True)
        keep = keep | (self.size(delta) <= eps).unsqueeze(1)  # squares of the faintest changes are zero
        return delta * keep.view(energy.shape).unsqueeze(1)

    def steepest(self, grad: Tensor) -> Tensor:
        """The gradient, its largest value 1: dense, as the projection picks the pixels (Croce and Hein 2019)."""
        largest = grad.abs().amax(tuple(range(1, grad.dim())), keepdim=True)
        return grad / largest.where(largest > 0, 1)

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The number of pixels that change in each row."""
        return (delta != 0).any(1).flatten(1).sum(1).to(delta.dtype)

    def reach(self, eps: float) -> float:
        """Eps counts pixels, so a step is measured in shares of the full range."""
        return 1.0

    def rescale(self, eps: float, fitted: tuple[int, int], actual: tuple[int, int]) -> float:
        """The same share of the pixels, and at least one."""
        return max(1.0, eps * math.prod(actual) / math.prod(fitted))

    def parse(self, text: str) -> float:
        """Read eps, a whole number of pixels.

        Raises:
            UsageError: it is no whole number, or below 1.
        """
        hint = "Write a whole number of pixels, such as 10."
        try:
            eps = super().parse(text)
        except UsageError as error:
            raise UsageError(error.message, hint=hint) from None
        if eps < 1 or not eps.is_integer():
            raise UsageError(f"`eps={text}`: under l0 the bound is a whole number of pixels, 1 or more.", hint=hint)
        return eps

    def fill(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Only project: a stronger change is of no more pixels."""
        return self.project(delta, eps, images)


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [L0]
