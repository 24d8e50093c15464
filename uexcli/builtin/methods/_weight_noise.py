"""PUE: noise that also works on nets near the surrogate, by gradients averaged over jittered weights.

Wang et al., Provably Unlearnable Data Examples, NDSS 2025, arXiv 2405.03316.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uexcli.api import Problem

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

LEVELS = 20


class Smoothing(Protocol):
    """The options that say how far and how often."""

    @property
    def weight_noise(self) -> float:
        """The largest standard deviation."""

    @property
    def copies(self) -> int:
        """How many nets at each."""


def levels(most: float) -> list[float]:
    """Give the standard deviations of the weights' noise, from none to `most`, one step of the fit at each."""
    return [most * number / LEVELS for number in range(LEVELS + 1)]


def step_behind_noise(
    problem: Problem,
    model: nn.Module,
    delta: Tensor,
    batch: Tensor,
    step: float,
    smoothing: Smoothing,
    generator: Generator,
) -> None:
    """Take one step of a batch's noise at each level, along the mean gradient over jittered copies of the net."""
    import torch
    from torch.nn import functional

    frozen, labels = problem.freeze(model), problem.labels[batch].to(problem.device)
    for std in levels(smoothing.weight_noise):
        shown = problem.published(delta, batch)
        grad = torch.zeros_like(shown)
        for _ in range(smoothing.copies if std else 1):
            with problem.shaken(model, std, generator):
                frozen.refresh()
            leaf = shown.detach().requires_grad_(True)
            loss = functional.cross_entropy(frozen(leaf), labels, reduction="sum")
            grad += torch.autograd.grad(loss, leaf)[0]
        problem.nudge(delta, batch, grad, step=step)
