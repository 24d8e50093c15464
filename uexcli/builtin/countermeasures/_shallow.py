"""A net of one or two layers, and the noise that fools it."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.core.optim import Sgd
from uexcli.core.seeding import global_seed

BATCH, LR, MOMENTUM, DECAY, STEPS = 128, 0.01, 0.9, 5e-4, 10


def trained(images: Tensor, labels: Tensor, generator: Generator, *, hidden: int, epochs: int, eps: float) -> nn.Module:
    """Train on the worst noise within `eps`: images uint8 `(N, C, S, S)`, labels int64 `(N,)`; 0 hidden: linear."""
    inputs, classes = images[0].numel(), int(labels.max()) + 1
    with global_seed(int(torch.randint(0, 2**31, (), generator=generator)), "shallow net"):
        first = [nn.Linear(inputs, hidden), nn.ReLU()] if hidden else []
        net = nn.Sequential(nn.Flatten(), *first, nn.Linear(hidden or inputs, classes)).to(images.device)
    optimiser = Sgd(net.parameters(), lr=LR, momentum=MOMENTUM, decay=DECAY)
    for epoch in range(epochs):
        falls = (epoch >= 0.75 * epochs) + (epoch >= 0.9 * epochs)
        optimiser.lr = LR * 0.1**falls
        for picked in torch.randperm(len(images), generator=generator).to(images.device).split(BATCH):
            shown = climbed(net, images[picked].float() / 255, labels[picked], eps, eps / 4)
            optimiser.zero_grad()
            functional.cross_entropy(net(shown), labels[picked]).backward()
            optimiser.step()
    return net


def climbed(net: nn.Module, images: Tensor, labels: Tensor, eps: float, step: float) -> Tensor:
    """Climb the loss by signed steps from the images themselves, float `(B, C, S, S)`, within `eps` and [0, 1]."""
    low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    for _ in range(STEPS):
        images = images.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad(functional.cross_entropy(net(images), labels, reduction="sum"), images)
        images = (images.detach() + step * grad.sign()).clamp(low, high)
    return images
