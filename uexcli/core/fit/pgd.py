"""Projected gradient steps on rows of a noise bank: the hot loop of every fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from uexcli.core.augment import cut
from uexcli.core.fit.patch import lift, paste
from uexcli.plugin import Norm

Forward = Callable[[Tensor], Tensor]
Reduce = Callable[[Tensor], Tensor]  # of what was summed over images


def alone(tensor: Tensor) -> Tensor:
    """Give a sum over images as it is: no other machine has more of them."""
    return tensor


@dataclass(frozen=True)
class Step:
    """What one step does: how far, how often, under which norm, and what lies between noise and net.

    A negative `length` climbs. With `survival`, an (S, S) matrix, the net sees the noise as resizing leaves it. With
    `per_sample` each row serves one image. `reduce` adds up gradients of rows that images share over the machines that
    share the fit.
    """

    norm: Norm
    eps: float
    length: float
    count: int
    per_sample: bool
    survival: Tensor | None = field(default=None, compare=False)  # one and the same throughout a fit
    reduce: Reduce = field(default=alone, compare=False)


@dataclass(frozen=True)
class Part:
    """A micro-batch: images `(B, C, S, S)` in [0, 1], labels `(B,)`, the bank's row of each image `(B,)`.

    With `cuts`, int64 `(T, B, 3)`, the net sees the images of each of the T steps cut there (`augment.cut`). With
    `places`, int64 `(B, 2)`, rows are patches that lie there (`patch.paste`).
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    cuts: Tensor | None = None
    places: Tensor | None = None


def move(forward: Forward, bank: Tensor, parts: Sequence[Part], step: Step) -> Tensor:
    """Take the steps on the rows `bank`, float `(R, C, S, S)`, of one batch; gives the moved rows.

    Gradients of all micro-batches are added up before a step, so how a batch is cut does not matter. Where rows serve
    one image there is one part, and row i is image i's.
    """
    for number in range(step.count):
        grads = []
        for part in parts:
            noise = arriving(
                bank if step.per_sample else bank[part.index], step.survival, part.places, part.images.shape[2]
            )
            cuts = None if part.cuts is None else part.cuts[number]
            grads.append(input_gradient(forward, part.images + noise, part.labels, cuts))
        bank = take(bank, parts, grads, step)
    return bank


def take(bank: Tensor, parts: Sequence[Part], grads: Sequence[Tensor], step: Step) -> Tensor:
    """Take one step on the rows of one batch along the gradients, `(B, C, S, S)`, at each part's published images."""
    grad = None if step.per_sample else torch.zeros_like(bank)
    for part, each in zip(parts, grads, strict=True):
        pulled = through(each, None if step.survival is None else step.survival.T)
        if part.places is not None:
            pulled = lift(pulled, part.places, bank.shape[2])
        grad = pulled if grad is None else grad.index_add_(0, part.index, pulled)
    assert grad is not None
    if not step.per_sample:
        grad = step.reduce(grad)
    images = parts[0].images if step.per_sample else None
    if images is not None and parts[0].places is not None:
        images = lift(images, parts[0].places, bank.shape[2])
    bank = step.norm.project(bank - step.length * step.norm.steepest(grad), step.eps, images)
    return bank if images is None else bank.add_(images).clamp_(0, 1).sub_(images)


def arriving(noise: Tensor, survival: Tensor | None, places: Tensor | None, side: int) -> Tensor:
    """Give the noise of a batch, one row an image, as it reaches a net: `(B, C, side, side)`."""
    return through(noise if places is None else paste(noise, places, side), survival)


def through(noise: Tensor, matrix: Tensor | None) -> Tensor:
    """Apply a matrix A to both axes of each plane of `(R, C, S, S)`: A n A^T; None leaves the noise alone."""
    return noise if matrix is None else matrix @ noise @ matrix.T


def input_gradient(forward: Forward, images: Tensor, labels: Tensor, cuts: Tensor | None = None) -> Tensor:
    """Give the gradient of the SUMMED cross-entropy with respect to the clamped images, so batches add up."""
    published = images.clamp(0, 1).requires_grad_(True)
    seen = published if cuts is None else cut(published, cuts)
    loss = functional.cross_entropy(forward(seen), labels, reduction="sum")
    (grad,) = torch.autograd.grad(loss, published)
    return grad
