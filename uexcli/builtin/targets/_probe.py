"""Linear layers over fixed features: multinomial logistic regression by L-BFGS, the same end whatever the start."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.plugin import Outcome, Progress, Trial

ROUNDS = 5  # after each the test images are shown
# on the squared weights; from 1e-5 to 1e-1 it makes a difference of 1 point at the most (100 and 600 Imagenette photos)
PENALTY = 1e-4


def probe(trial: Trial, embed: Callable[[Tensor], Tensor], *, began: float | None = None) -> Outcome:
    """Encode the images by `embed`, as `Trial.encoder` gives it, fit a layer to their features, and score it."""
    began = time.perf_counter() if began is None else began
    book = trial.scores()
    shown, tests = embed(trial.train_images), embed(trial.test_images)
    mean, std = spread(shown)
    layer = nn.Linear(shown.shape[1], trial.num_classes, device=shown.device)

    def encoded(images: Tensor) -> Tensor:
        known = shown if images is trial.train_images else tests if images is trial.test_images else embed(images)
        return (known - mean) / std

    def predict(images: Tensor) -> Tensor:
        with torch.no_grad():
            chosen: Tensor = layer(encoded(images)).argmax(1)
        return chosen

    def on_round(number: int) -> None:
        trial.on_step(Progress(number + 1, ROUNDS, f"test accuracy {book.epoch(predict):.1%}"))

    solve(layer, encoded(trial.train_images), trial.train_labels, on_round)
    return book.outcome(predict, seconds=time.perf_counter() - began, embed=embed)


def spread(features: Tensor) -> tuple[Tensor, Tensor]:
    """Give mean and deviation of each feature, float `(N, F)` to `(F,)` each; no deviation is 0."""
    return features.mean(0), features.std(0).clamp(min=1e-6)


def solve(layer: nn.Linear, inputs: Tensor, labels: Tensor, on_round: Callable[[int], None] = lambda _: None) -> None:
    """Fit a layer, in place, to features, float `(N, F)` with deviations of about 1, and labels, int64 `(N,)`."""
    inputs = inputs.clone()  # of inference mode, which autograd cannot save
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(layer(inputs), labels) + PENALTY * layer.weight.square().sum()
        value.backward()
        return value

    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    for number in range(ROUNDS):
        optimiser.step(loss)
        on_round(number)
