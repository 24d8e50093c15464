"""L1: the summed magnitude of the change stays within eps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Norm, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

STEEPEST = 0.05  # the share of an image's values that one step moves
TINY = 1e-12
WHOLE = 2**31  # steps between 0 and the largest value; 2**32 values can be added up


@dataclass(frozen=True)
class L1(Norm):
    """The summed magnitude of the change of an image; stated for the size it was fitted at."""

    name: ClassVar[str] = "l1"
    summary: ClassVar[str] = "the summed magnitude of an image's change is at most eps"
    paper: ClassVar[str] = (
        "Duchi et al., Efficient projections onto the l1-ball for learning in high dimensions, ICML 2008;"
        " Tramer and Boneh, Adversarial training and robustness for multiple perturbations, NeurIPS 2019"
    )

    def usual(self, channels: int, size: int) -> str:
        """4 levels a value: 48.19 for colour images of 32 px."""
        return f"{4 / 255 * channels * size * size:.4g}"

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Take the same amount off every value of a larger row: the nearest point of the ball (Duchi et al. 2008)."""
        import torch

        ordered = delta.flatten(1).abs().sort(1, descending=True).values
        rank = torch.arange(1, ordered.shape[1] + 1, device=delta.device)
        largest = ordered[:, :1].clamp(min=TINY)
        # Whole numbers: a GPU's running sums of floats differ from run to run.
        sums = (ordered / largest * WHOLE).long().cumsum(1) * (largest / WHOLE)
        kept = (ordered * rank > sums - eps).sum(1, keepdim=True).clamp(min=1)  # the others become zero
        amount = (((ordered * (rank <= kept)).sum(1, keepdim=True) - eps) / kept).clamp(min=0)
        shrunk = delta.sign() * (delta.abs() - _wide(amount, delta)).clamp(min=0)
        return delta.where(_wide(self.size(delta) <= eps, delta), shrunk)

    def steepest(self, grad: Tensor) -> Tensor:
        """The sign at the 5 % of values with the largest gradient, at unit size (SLIDE, Tramer and Boneh 2019).

        A single value is steeper still, but can change by 1 only.
        """
        size = grad.flatten(1).abs()
        least = size.topk(math.ceil(STEEPEST * size.shape[1])).values[:, -1]
        picked = grad.sign() * (grad.abs() >= _wide(least, grad))
        return picked / _wide(self.size(picked).clamp(min=1), grad)

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The sum of each row's magnitudes."""
        return delta.flatten(1).abs().sum(1)

    def rescale(self, eps: float, fitted: tuple[int, int], actual: tuple[int, int]) -> float:
        """The same change per pixel adds up over the pixels there are."""
        return eps * math.prod(actual) / math.prod(fitted)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *([1] * (like.dim() - 1)))


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [L1]
