"""Whether a training set looks unlearnable to someone who has some clean images: simple nets find noise at once.

After Zhu et al., Detection and Defense of Unlearnable Examples, AAAI 2024: a linear or a two-layer net reads off
shortcuts what no such net can read off images. What tells them apart without the clean originals is that it knows new
images of the same set much better than clean ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.core import seeding

EPOCHS, BATCH, LR, DECAY = 20, 256, 1e-3, 1e-4
HIDDEN = 256
HELD = 0.2
CERTAIN = 3.0  # standard deviations
LEAST = 0.05  # a smaller gap says nothing, however certain


@dataclass(frozen=True)
class Probe:
    """What a simple net finds: accuracies in [0, 1] on held-out images of the set, and on clean test images."""

    net: str
    held_out: float
    clean: float
    flagged: bool


def detect(images: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> tuple[Probe, ...]:
    """Train both nets on four fifths of a set, uint8 `(N, C, S, S)`, and compare; clean test images alike."""
    order = torch.randperm(len(images), generator=seeding.generator(0, "detect")).to(images.device)
    count = max(1, round(HELD * len(images)))
    held, shown = order[:count], order[count:]
    return tuple(
        _judged(name, images, labels, shown, held, test, test_labels, classes, hidden)
        for name, hidden in (("linear", None), ("two-layer", HIDDEN))
    )


def _judged(
    name: str,
    images: Tensor,
    labels: Tensor,
    shown: Tensor,
    held: Tensor,
    test: Tensor,
    test_labels: Tensor,
    classes: int,
    hidden: int | None,
) -> Probe:
    part = images[shown].flatten(1)
    mean = part.mean(0, dtype=torch.float32)
    scale = part[:1000].float().std().clamp(min=1.0)

    def inputs(batch: Tensor) -> Tensor:
        return (batch.flatten(1).float() - mean) / scale

    width = part.shape[1]
    with seeding.global_seed(0, f"detect {name}"):
        layers = [nn.Linear(width, classes)] if hidden is None else [
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        ]  # fmt: skip
        net = nn.Sequential(*layers).to(images.device)
    optimiser = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=DECAY)
    generator = seeding.generator(0, "detect order")
    for _ in range(EPOCHS):
        for picked in shown[torch.randperm(len(shown), generator=generator).to(shown.device)].split(BATCH):
            loss = functional.cross_entropy(net(inputs(images[picked])), labels[picked])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    def accuracy(batch: Tensor, wanted: Tensor) -> float:
        with torch.inference_mode():
            found = torch.cat([net(inputs(some)).argmax(1) for some in batch.split(1024)])
        return float((found == wanted).float().mean())

    own, clean = accuracy(images[held], labels[held]), accuracy(test, test_labels)
    both = (own * len(held) + clean * len(test)) / (len(held) + len(test))
    deviation = math.sqrt(both * (1 - both) * (1 / len(held) + 1 / len(test)))
    return Probe(name, own, clean, own - clean > max(LEAST, CERTAIN * deviation))
