"""PUE: noise that also works on nets near the surrogate, by gradients averaged over jittered weights.

Wang et al., Provably Unlearnable Data Examples, NDSS 2025, arXiv 2405.03316.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uexcli.plugin import Frozen, Problem

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

LEVELS = 20


def levels(most: float) -> list[float]:
    """Give the standard deviations of the weights' noise, from none to `most`, one step of the fit at each."""
    return [most * number / LEVELS for number in range(LEVELS + 1)]


def step_behind_noise(
    problem: Problem,
    frozen: Frozen,
    model: nn.Module,
    delta: Tensor,
    batch: Tensor,
    *,
    step: float,
    most: float,
    copies: int,
    generator: Generator,
    view: Generator | None,
) -> None:
    """Take one step of a batch's noise at each level, along the mean gradient over jittered copies of the net.

    `frozen` is that of `model`, with its own weights before and after; `view` draws crops and flips.
    """
    import torch
    from torch.nn import functional

    labels = problem.labels[batch].to(problem.device)
    for std in levels(most):
        shown = problem.published(delta, batch)
        grad = torch.zeros_like(shown)
        for _ in range(copies if std else 1):
            with problem.perturb_weights(model, std, generator):
                frozen.refresh()
            leaf = shown.detach().requires_grad_(True)
            seen = leaf if view is None else problem.view(leaf, view)
            loss = functional.cross_entropy(frozen(seen), labels, reduction="sum")
            grad += torch.autograd.grad(loss, leaf)[0]
        problem.apply_gradient(delta, batch, grad, step=step)
    frozen.refresh()
