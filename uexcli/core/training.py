"""Training a surrogate during a fit: SGD steps, forward passes, and noise on weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.core.optim import Sgd


@contextlib.contextmanager
def perturb_weights(model: nn.Module, std: float, generator: Generator) -> Iterator[None]:
    """Put Gaussian noise of a standard deviation on all weights; take it off again, to the bit."""
    weights = list(model.parameters())
    saved = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn(weight.shape, generator=generator).to(weight), alpha=std)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, saved, strict=True):
                weight.copy_(before)


def learn(
    model: nn.Module,
    optimiser: torch.optim.Optimizer | Sgd,
    inputs: Tensor,
    labels: Tensor,
    *,
    clip: float | None = None,
    autocast: torch.dtype | None = None,
    jitter: tuple[float, int, Generator] | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Take one optimiser step on the mean cross-entropy of a batch; returns the loss before it, detached.

    With `jitter` loss and gradient are means over so many nets with noise of that deviation on their weights; `reduce`
    adds up each gradient over the machines that share a fit.
    """
    optimiser.zero_grad(set_to_none=True)
    total = torch.zeros((), device=inputs.device)
    copies = jitter[1] if jitter else 1
    for _ in range(copies):
        with perturb_weights(model, jitter[0], jitter[2]) if jitter else contextlib.nullcontext():
            loss = functional.cross_entropy(forward(model, inputs, autocast).float(), labels) / copies
            loss.backward()
        total = total + loss.detach()
    if reduce is not None:
        for weight in model.parameters():
            weight.grad = None if weight.grad is None else reduce(weight.grad)
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    return total


def forward(model: Callable[[Tensor], Tensor], inputs: Tensor, autocast: torch.dtype | None) -> Tensor:
    """Run a net, in the lower precision where one is given."""
    with torch.autocast(inputs.device.type, dtype=autocast, enabled=autocast is not None):
        return model(inputs)
