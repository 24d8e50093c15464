"""SimCLR on images in memory: views of whole batches at once, the contrastive loss, the probe."""

from __future__ import annotations

import functools
import math
import time

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.builtin.targets._probe import probe
from uexcli.core import nets
from uexcli.core.nets import ResNet18, SmallNet, as_input
from uexcli.core.pixels import LUMA
from uexcli.plugin import Outcome, Progress, Trial

PROJECTED = 128
AREA, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)  # of crops
JITTER, GREY = 0.4, 0.2  # strength of brightness, contrast and saturation; share of grey views


def learn(trial: Trial, *, width: int | None, epochs: int, batch: int, lr: float, temperature: float) -> Outcome:
    """Train a net without labels, `SmallNet` of a width or ResNet-18, and fit a linear layer to its features."""
    began = time.perf_counter()
    shape = {"num_classes": trial.num_classes, "channels": trial.channels, "size": trial.size}
    images, generator = trial.train_images, trial.generator("batches")
    batch = min(batch, len(images))
    with trial.seeded("target"):
        net = ResNet18(**shape) if width is None else SmallNet(**shape, width=width)
        features = net.head.in_features
        project = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, PROJECTED))
    net.to(trial.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    project.to(trial.device)
    weights = [*net.parameters(), *project.parameters()]
    optimiser = torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=5e-4)
    total = epochs * (len(images) // batch)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _cosine(step, total))
    for epoch in range(epochs):
        net.train()
        loss = torch.zeros(())
        for number, picked in enumerate(torch.randperm(len(images), generator=generator).split(batch)):
            if len(picked) < batch:
                break
            seen = as_input(images[picked.to(images.device)])
            both = torch.cat([views(seen, generator), views(seen, generator)])
            with torch.autocast(trial.device.type, dtype=trial.autocast, enabled=trial.autocast is not None):
                projected = project(net.features(both))
            loss = contrast(projected.float(), temperature)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            rate.step()
            trial.on_step(Progress(epoch + number * batch / len(images), epochs + 1, "without labels"))
        trial.on_step(Progress(epoch + 1, epochs + 1, f"loss {float(loss.detach()):.2f}"))
    return probe(trial, functools.partial(nets.embed, net, autocast=trial.autocast), began=began)


def _cosine(step: int, total: int) -> float:
    """Rise for a tenth of the steps, then fall as a cosine."""
    rise = max(1, total // 10)
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def contrast(projected: Tensor, temperature: float) -> Tensor:
    """NT-Xent: float `(2B, F)`, the views of an image B apart, to the mean loss of telling its other view."""
    unit = functional.normalize(projected, dim=1)
    count = len(unit)
    alike = unit @ unit.T / temperature
    alike.fill_diagonal_(-torch.inf)
    others = torch.arange(count, device=unit.device).roll(count // 2)
    return functional.cross_entropy(alike, others)


def views(images: Tensor, generator: Generator, *, least: float = AREA[0]) -> Tensor:
    """Draw a view of each: a crop, enlarged, mirrored or not; brightness, contrast, saturation; at times grey.

    Float `(B, C, S, S)` in [0, 1] to the same; a crop is at least that share of the area.
    """
    count, channels = images.shape[:2]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    area, ratio = uniform(least, AREA[1]), uniform(math.log(RATIO[0]), math.log(RATIO[1])).exp()
    wide, high = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
    right, down = ((1 - side) * uniform(-1, 1) for side in (wide, high))
    mirrored = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    where = torch.stack([torch.stack([wide * mirrored, zero, right], 1), torch.stack([zero, high, down], 1)], 1)
    grid = functional.affine_grid(where.to(images.device), list(images.shape), align_corners=False)
    cut = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    strength = [uniform(1 - JITTER, 1 + JITTER).view(-1, 1, 1, 1).to(images.device) for _ in range(3)]
    cut = (cut * strength[0]).clamp(0, 1)
    middle = cut.mean((1, 2, 3), keepdim=True)
    cut = (middle + strength[1] * (cut - middle)).clamp(0, 1)
    if channels == 3:
        grey = (cut * cut.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        chosen = (uniform(0, 1) < GREY).to(cut.device).view(-1, 1, 1, 1)
        kept = torch.where(chosen, torch.zeros_like(strength[2]), strength[2])
        cut = (grey + kept * (cut - grey)).clamp(0, 1)
    return cut.contiguous(memory_format=torch.channels_last)
