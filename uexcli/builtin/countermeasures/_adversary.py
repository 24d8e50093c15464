"""The adversary of adversarial training."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


def bound(text: str) -> float:
    """Read a bound such as 8/255.

    Raises:
        ValueError: it is no number above 0 and below 1.
    """
    try:
        value = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"eps {text} is not a number such as 8/255") from None
    if not 0 < value < 1:
        raise ValueError(f"eps {text} is not between 0 and 1")
    return value


def ascend(
    net: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    generator: Generator,
    *,
    eps: float,
    step: float,
    steps: int,
) -> Tensor:
    """Climb the cross-entropy by signed steps within `eps` of each value and [0, 1], from a uniform start.

    Float `(B, C, S, S)` in [0, 1] to the same; `labels` are the share of each class, float `(B, K)`.
    """
    import torch
    from torch.nn import functional

    delta = (2 * torch.rand(images.shape, generator=generator) - 1).to(images.device) * eps
    delta = (images + delta).clamp_(0, 1) - images
    for _ in range(steps):
        delta.requires_grad_(True)
        loss = functional.cross_entropy(net(images + delta), labels, reduction="sum")
        (grad,) = torch.autograd.grad(loss, delta)
        with torch.no_grad():
            delta = (delta + step * grad.sign()).clamp_(-eps, eps)
            delta = (images + delta).clamp_(0, 1) - images
    return images + delta.detach()
