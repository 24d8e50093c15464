"""Optimisers whose whole state can be saved and restored; importing `torch.optim` takes longer than many a fit."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from uexcli.plugin import State


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


Tensors = list[Tensor] | tuple[Tensor, ...]


TINY, BETAS = 1e-8, (0.9, 0.999)  # Adam's


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) on float32 weights; torch's takes a second to import."""

    def __init__(self, weights: Tensors, *, lr: float) -> None:
        self.weights = list(weights)
        self.means = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.steps = 0
        self.lr = lr

    @torch.no_grad()
    def step(self, grads: Tensors) -> None:
        """Take one step down the gradients, one for each weight."""
        first, second = BETAS
        self.steps += 1
        torch._foreach_lerp_(self.means, grads, 1 - first)
        torch._foreach_mul_(self.squares, second)
        torch._foreach_addcmul_(self.squares, grads, grads, value=1 - second)
        sizes = torch._foreach_sqrt(self.squares)
        torch._foreach_div_(sizes, math.sqrt(1 - second**self.steps))
        torch._foreach_add_(sizes, TINY)
        torch._foreach_addcdiv_(self.weights, self.means, sizes, value=-self.lr / (1 - first**self.steps))

    def state(self) -> State:
        """All but the weights."""
        state: dict[str, object] = {"steps": self.steps}
        state.update({f"mean.{number}": mean for number, mean in enumerate(self.means)})
        state.update({f"square.{number}": square for number, square in enumerate(self.squares)})
        return state

    def load(self, state: State) -> None:
        """Go on from a state."""
        self.steps = int(state["steps"])
        for number, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            mean.copy_(state[f"mean.{number}"])
            square.copy_(state[f"square.{number}"])
