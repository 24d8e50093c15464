"""Error-minimising noise as the paper writes it (Huang et al., ICLR 2021), plain and slow.

The baseline of every ratio in RESULTS.md, and the oracle of the tests. Nothing here is shared with uexcli: one net in
one precision, parameters and noise in the order of the paper's Algorithm 1; a step of the noise is the one that uexcli
documents (the sign of the summed gradient per row, inside the ball and, for noise of one image, inside its box).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Run:
    """What came of a fit: the bank `(R, C, S, S)`, the error after each round, and the passes of single images."""

    delta: Tensor
    errors: list[float] = field(default_factory=list)
    moved: int = 0
    trained: int = 0
    seen: int = 0


def step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    delta: Tensor,
    *,
    own: bool,
    eps: float,
    length: float,
) -> None:
    """Move the rows that float images `(B, C, S, S)` in [0, 1] use, in place, by one sign step."""
    shown = (images + delta[rows]).clamp(0, 1).requires_grad_(True)
    loss = functional.cross_entropy(model(shown), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, shown)
    for row in rows.unique().tolist():
        mine = rows == row
        moved = (delta[row] - length * gradient[mine].sum(0).sign()).clamp(-eps, eps)
        if own:
            image = images[mine][0]
            moved = (image + moved).clamp(0, 1) - image
        delta[row] = moved


def fit(
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    build: Callable[[], nn.Module],
    *,
    own: bool,
    eps: float = 8 / 255,
    length: float = 0.8 / 255,
    steps: int = 20,
    theta_steps: int = 10,
    batch: int = 512,
    lr: float = 0.1,
    stop: float = 0.01,
    rounds: int = 100,
    on_round: Callable[[int, float], bool] = lambda _round, _error: True,
) -> Run:
    """Fit noise for uint8 images `(N, C, S, S)`; `on_round` hears the error of each and may end the fit by False."""
    model = build()
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    data = images.float() / 255
    run = Run(torch.zeros(int(rows.max()) + 1, *images.shape[1:]))
    batches = list(torch.arange(len(images)).split(batch))
    turn = 0
    for number in range(rounds):
        model.train()
        for _ in range(theta_steps):
            picked = batches[turn % len(batches)]
            turn += 1
            shown = (data[picked] + run.delta[rows[picked]]).clamp(0, 1)
            loss = functional.cross_entropy(model(shown), labels[picked])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimiser.step()
            run.trained += len(picked)
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for picked in batches:
            for _ in range(steps):
                step(model, data[picked], labels[picked], rows[picked], run.delta, own=own, eps=eps, length=length)
            run.moved += steps * len(picked)
        wrong = 0
        with torch.no_grad():
            for picked in batches:
                levels = (255 * run.delta[rows[picked]]).round()
                written = (images[picked] + levels).clamp(0, 255) / 255
                wrong += int((model(written).argmax(1) != labels[picked]).sum())
        run.seen += len(images)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        run.errors.append(wrong / len(images))
        if run.errors[-1] <= stop or not on_round(number, run.errors[-1]):
            break
    return run
