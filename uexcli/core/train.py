"""Training nets: the theta steps of a fit, and the supervised run of a target."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.api import OnStep, Outcome, Progress
from uexcli.core.augment import crop_and_flip
from uexcli.core.nets import as_input, predict
from uexcli.core.sgd import Sgd

Fresh = Callable[[Generator], Tensor]  # to uint8 (N, C, S, S), in the order of the labels


@contextlib.contextmanager
def shaken(model: nn.Module, std: float, generator: Generator) -> Iterator[None]:
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


def supervised(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch: int,
    lr: float,
    decay: float,
    augment: bool,
    generator: Generator,
    autocast: torch.dtype | None = None,
    on_step: OnStep = lambda _: None,
    fresh: Fresh | None = None,
) -> Outcome:
    """Train with SGD, Nesterov momentum .9 and a one-cycle learning rate; test on clean images after every epoch.

    `train` and `test` are uint8 images `(N, C, S, S)` and int64 labels `(N,)` on one device. The last, short batch of
    an epoch is left out; what it would have held comes at another place in the next shuffle. `fresh` draws the images
    of each epoch anew, with what augments them.
    """
    images, labels = train
    batch = min(batch, len(images))
    total = epochs * (len(images) // batch)
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay, nesterov=True)
    warm_up = 0.2 if total > 10 else 0.5 - 0.1 / total  # a rise of exactly one step divides by zero in torch
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=total, pct_start=warm_up)
    began = time.perf_counter()
    curve: list[float] = []
    for epoch in range(epochs):
        model.train()
        shown = images if fresh is None else fresh(generator).to(images.device)
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for number, picked in enumerate(order.split(batch)):
            if len(picked) < batch:
                break
            seen = shown[picked]
            inputs = as_input(crop_and_flip(seen, generator) if augment and fresh is None else seen)
            learn(model, optimiser, inputs, labels[picked], autocast=autocast)
            rate.step()
            if number % 8 == 0:
                on_step(Progress(epoch + number * batch / len(images), epochs, _note(curve)))
        curve.append(accuracy(model, *test, autocast))
        on_step(Progress(epoch + 1, epochs, _note(curve)))
    return Outcome(tuple(curve), accuracy(model, images, labels, autocast), time.perf_counter() - began)


def _note(curve: list[float]) -> str:
    return f"test accuracy {curve[-1]:.1%}" if curve else ""


def learn(
    model: nn.Module,
    optimiser: torch.optim.Optimizer | Sgd,
    inputs: Tensor,
    labels: Tensor,
    *,
    clip: float | None = None,
    autocast: torch.dtype | None = None,
    jitter: tuple[float, int, Generator] | None = None,
) -> Tensor:
    """Take one optimiser step on the mean cross-entropy of a batch; returns the loss before it, detached.

    With `jitter` loss and gradient are means over so many nets with noise of that deviation on their weights.
    """
    optimiser.zero_grad(set_to_none=True)
    total = torch.zeros((), device=inputs.device)
    copies = jitter[1] if jitter else 1
    for _ in range(copies):
        with shaken(model, jitter[0], jitter[2]) if jitter else contextlib.nullcontext():
            loss = functional.cross_entropy(forward(model, inputs, autocast).float(), labels) / copies
            loss.backward()
        total = total + loss.detach()
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    return total


def forward(model: Callable[[Tensor], Tensor], inputs: Tensor, autocast: torch.dtype | None) -> Tensor:
    """Run a net, in the lower precision where one is given."""
    with torch.autocast(inputs.device.type, dtype=autocast, enabled=autocast is not None):
        return model(inputs)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, autocast: torch.dtype | None = None) -> float:
    """Give the share in [0, 1] of uint8 images that the model, put in eval mode, gets right."""
    return float((predict(model, images, autocast) == labels).float().mean())
