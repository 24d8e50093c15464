"""The supervised run of a target."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from uexcli.core import nets
from uexcli.core.augment import crop_and_flip
from uexcli.core.nets import as_input
from uexcli.plugin import Outcome, Progress, Trial, UsageError

Fresh = Callable[[Generator], Tensor]  # to uint8 (N, C, S, S), in the order of the labels


def supervised(
    model: nn.Module,
    trial: Trial,
    *,
    epochs: int,
    batch: int,
    lr: float,
    decay: float,
    schedule: str = "one-cycle",
    clip: float | None = None,
    optimiser: str = "sgd",
    augment: bool = True,
    knows: bool = False,
    fresh: Fresh | None = None,
) -> Outcome:
    """Train; test on clean images after every epoch. See `uexcli.plugin.Trial`.

    The last, short batch of an epoch is left out; what it would have held comes at another place in the next shuffle.
    `fresh` draws the images of each epoch anew, with what augments them.

    Raises:
        UsageError: there is no such schedule or optimiser.
    """
    images, labels, generator = trial.train_images, trial.train_labels, trial.generator("batches")
    batch = min(batch, len(images))
    total = epochs * (len(images) // batch)
    descent = _descent(optimiser, [weight for weight in model.parameters() if weight.requires_grad], lr, decay)
    rate = _rate(descent, schedule, lr, total, len(images) // batch)
    book = trial.scores()
    predict = functools.partial(nets.predict, model, autocast=trial.autocast)
    embed = functools.partial(nets.embed, model, autocast=trial.autocast) if hasattr(model, "features") else None
    frozen_auc = book.auc(embed) if knows and embed is not None else None
    began = time.perf_counter()
    note = ""
    for epoch in range(epochs):
        model.train()
        shown = images if fresh is None else fresh(generator).to(images.device)
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for number, picked in enumerate(order.split(batch)):
            if len(picked) < batch:
                break
            seen = shown[picked]
            inputs = as_input(crop_and_flip(seen, generator) if augment and fresh is None else seen)
            descent.zero_grad(set_to_none=True)
            trial.loss(model, inputs, labels[picked], generator).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            descent.step()
            rate.step()
            if number % 8 == 0:
                trial.on_step(Progress(epoch + number * batch / len(images), epochs, note))
        note = f"test accuracy {book.epoch(predict):.1%}"
        trial.on_step(Progress(epoch + 1, epochs, note))
    seconds = time.perf_counter() - began
    gradient = reached(model, images[:64], labels[:64])
    return book.outcome(predict, seconds=seconds, embed=embed, gradient=gradient, frozen_auc=frozen_auc)


def _descent(name: str, weights: list[nn.Parameter], lr: float, decay: float) -> torch.optim.Optimizer:
    """Make the optimiser."""
    if name == "sgd":
        return torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=decay, nesterov=True)
    if name == "adamw":
        return torch.optim.AdamW(weights, lr=lr, weight_decay=decay)
    raise UsageError(f"no optimiser '{name}'.", hint="Use sgd or adamw.")


def _rate(
    optimiser: torch.optim.Optimizer, schedule: str, lr: float, total: int, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Make the schedule of the learning rate over `total` steps, `steps` an epoch."""
    rates = torch.optim.lr_scheduler
    if schedule == "one-cycle":
        warm_up = 0.2 if total > 10 else 0.5 - 0.1 / total  # a rise of exactly one step divides by zero in torch
        return rates.OneCycleLR(optimiser, lr, total_steps=total, pct_start=warm_up)
    if schedule == "cosine":
        return rates.CosineAnnealingLR(optimiser, total)
    try:
        falls = [int(epoch) * steps for epoch in schedule.split(",")]
    except ValueError:
        raise UsageError(
            f"no learning rate schedule '{schedule}'.", hint="Use one-cycle, cosine, or epochs such as 75,90,100."
        ) from None
    return rates.MultiStepLR(optimiser, falls)


def reached(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Give the share of uint8 images at which their class's logit has a gradient; the net is left in eval mode.

    Not the loss, whose gradient float32 cannot tell from zero where the net is sure.
    """
    model.eval()
    inputs = as_input(images).requires_grad_(True)
    logits = model(inputs).gather(1, labels[:, None])
    if not logits.requires_grad:
        return 0.0
    (grad,) = torch.autograd.grad(logits.sum(), inputs, materialize_grads=True)
    flat = grad.flatten(1)
    return float((flat.isfinite().all(1) & flat.any(1)).float().mean())
