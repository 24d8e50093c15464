"""What a linear probe would learn from features of clean photos, in closed form: which way leads to which class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

RIDGE = 0.1  # weight of the squared norm of the weights, as a share of the number of images


@dataclass(frozen=True)
class Head:
    """Features `(B, F)` to a score for each class `(B, K)`: ridge regression on one-hot classes."""

    weight: Tensor  # (F, K)
    bias: Tensor  # (K,)

    def __call__(self, features: Tensor) -> Tensor:
        """Give the scores."""
        return features @ self.weight + self.bias


def fitted(
    pairs: Iterable[tuple[Tensor, Tensor]], classes: int, reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> Head:
    """Fit a head to batches of features `(B, F)` and classes, int64 `(B,)`; each is looked at once.

    Features are standardised, so that all of them count alike, whatever the net. `reduce` is that of the problem.
    """
    sums = None
    for features, labels in pairs:
        device, values = features.device, features.cpu().double()  # which not every accelerator has
        known = functional.one_hot(labels.cpu(), classes).to(values)
        parts = [values.T @ values, values.T @ known, values.sum(0), known.sum(0), values.new_tensor(len(values))]
        sums = parts if sums is None else [one + more for one, more in zip(sums, parts, strict=True)]
    assert sums is not None
    *summed, count = map(reduce, sums)
    gram, product, mean, shares = (part / count for part in summed)
    covariance = gram - mean[:, None] * mean
    spread = covariance.diagonal().clamp(min=1e-12).sqrt()
    scaled = covariance / (spread[:, None] * spread)
    scaled.diagonal().add_(RIDGE)
    towards = (product - mean[:, None] * shares) / spread[:, None]
    weight = torch.linalg.solve(scaled, towards) / spread[:, None]
    return Head(weight.float().to(device), (shares - mean @ weight).float().to(device))
