"""Projected gradient steps on rows of a noise bank."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

from uexcli.api import Norm
from uexcli.core.augment import crop_and_flip

Forward = Callable[[Tensor], Tensor]


def move(
    forward: Forward,
    delta: Tensor,
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    *,
    norm: Norm,
    eps: float,
    step: float,
    steps: int,
    own: bool,
    view: Generator | None = None,
    survival: Tensor | None = None,
) -> None:
    """Take `steps` projected steps of length `step` on the rows a batch uses, in place.

    images: float (B, C, S, S) in [0, 1]; labels: int64 (B,); rows: int64 (B,), each used once where `own` says that
    rows serve one image; delta: float (R, C, S, S). A negative step climbs. With `view`, the net sees the published
    images through random crops and flips; with `survival`, an (S, S) matrix, the noise as resizing leaves it.
    """
    touched, index = (rows, torch.arange(len(rows), device=rows.device)) if own else rows.unique(return_inverse=True)
    bank = delta[touched]
    box = images if own else None
    for _ in range(steps):
        shown = images + through(bank, survival)[index]
        grad = torch.zeros_like(bank).index_add_(0, index, input_gradient(forward, shown, labels, view))
        grad = through(grad, None if survival is None else survival.T)
        bank = norm.project(bank - step * norm.steepest(grad), eps, box)
        if own:
            bank = (images + bank).clamp_(0, 1) - images
    delta[touched] = bank


def through(noise: Tensor, matrix: Tensor | None) -> Tensor:
    """Apply a matrix A to both axes of each plane of `(R, C, S, S)`: A n A^T; None leaves the noise alone."""
    return noise if matrix is None else matrix @ noise @ matrix.T


def input_gradient(forward: Forward, images: Tensor, labels: Tensor, view: Generator | None = None) -> Tensor:
    """Give the gradient of the SUMMED cross-entropy with respect to the clamped images, so batches add up."""
    published = images.clamp(0, 1).requires_grad_(True)
    seen = published if view is None else crop_and_flip(published, view)
    loss = functional.cross_entropy(forward(seen).float(), labels, reduction="sum")
    (grad,) = torch.autograd.grad(loss, published)
    return grad
