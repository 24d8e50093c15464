"""Stochastic gradient descent whose whole state can be put down and taken up."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Sgd:
    """SGD with momentum and weight decay: v <- momentum v + g + decay w, w <- w - lr v.

    The same arithmetic as torch's. Importing `torch.optim` takes over a second, longer than many a fit.
    """

    def __init__(self, weights: Iterable[Tensor], *, lr: float, momentum: float, decay: float) -> None:
        self.weights = [weight for weight in weights if weight.requires_grad]
        self.speeds = [torch.zeros_like(weight) for weight in self.weights]
        self.lr = lr
        self._momentum = momentum
        self._decay = decay

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        assert set_to_none
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients."""
        used = [number for number, weight in enumerate(self.weights) if weight.grad is not None]
        weights, speeds = [self.weights[number] for number in used], [self.speeds[number] for number in used]
        torch._foreach_mul_(speeds, self._momentum)
        torch._foreach_add_(speeds, [weight.grad for weight in weights if weight.grad is not None])
        torch._foreach_add_(speeds, weights, alpha=self._decay)
        torch._foreach_add_(weights, speeds, alpha=-self.lr)
