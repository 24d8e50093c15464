"""Linear layers over fixed features: multinomial logistic regression by L-BFGS, the same end whatever the start."""

from __future__ import annotations

import functools
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.api import Outcome, Progress, Trial
from uexcli.core import nets

ROUNDS = 5  # after each the test images are shown
PENALTY = 1e-4  # on the squared weights


def probe(trial: Trial, net: nn.Module, *, began: float | None = None) -> Outcome:
    """Encode the images by a net with `features`, fit a layer to their standardised features, and score it."""
    began = time.perf_counter() if began is None else began
    embed = functools.partial(nets.embed, net, autocast=trial.autocast)
    book = trial.scores()
    shown = embed(trial.train_images)
    mean, std = shown.mean(0), shown.std(0).clamp(min=1e-6)

    def encoded(images: Tensor) -> Tensor:
        known = shown if images is trial.train_images else tests if images is trial.test_images else embed(images)
        return (known - mean) / std

    tests = embed(trial.test_images)
    layer = nn.Linear(shown.shape[1], trial.num_classes, device=shown.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    inputs = encoded(trial.train_images).clone()  # of inference mode, which autograd cannot save

    def predict(images: Tensor) -> Tensor:
        with torch.no_grad():
            chosen: Tensor = layer(encoded(images)).argmax(1)
        return chosen

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(layer(inputs), trial.train_labels) + PENALTY * layer.weight.square().sum()
        value.backward()
        return value

    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    for number in range(ROUNDS):
        optimiser.step(loss)
        trial.on_step(Progress(number + 1, ROUNDS, f"test accuracy {book.epoch(predict):.1%}"))
    return book.outcome(predict, seconds=time.perf_counter() - began, embed=embed)
