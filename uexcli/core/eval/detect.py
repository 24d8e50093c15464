"""Whether a training set looks unlearnable to someone who has some clean images: simple nets find noise at once.

After Zhu et al., Detection and Defense of Unlearnable Examples, AAAI 2024: a linear or a two-layer net reads off
shortcuts what no such net can read off images. What tells them apart without the clean originals is that it knows new
images of the same set much better than clean ones. A third net of ours is linear, too, but sees of an image only how
strong each texture is: noise that has another phase in every image is nothing to a net that looks at pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.core import seeding

NETS = ("linear", "two-layer", "textures")
RULE = "classes weighed alike"  # by which results that were kept are told from those of another rule
EPOCHS, BATCH, LR, DECAY = 20, 256, 1e-3, 1e-4
HIDDEN = 256
TEXTURE_LR = 1e-2  # of few inputs, all of one scale
BLOCK = 8  # px: the side of the windows in which textures are measured, every half of it
AT_ONCE = 1024 * 32**2  # pixels of the images whose textures are measured together
HELD = 0.2
CERTAIN = 3.0  # standard deviations
LEAST = 0.05  # a smaller gap says nothing, however certain


@dataclass(frozen=True)
class Probe:
    """What a simple net finds: accuracies in [0, 1] on held-out images of the set, and on clean test images.

    Only classes that both have count, and each in both as often as among those held out.
    """

    net: str
    held_out: float
    clean: float
    flagged: bool


def detect(images: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> tuple[Probe, ...]:
    """Train the nets on four fifths of a set, uint8 `(N, C, S, S)`, and compare; clean test images alike."""
    order = torch.randperm(len(images), generator=seeding.generator(0, "detect")).to(images.device)
    count = max(1, round(HELD * len(images)))
    held, shown = order[:count], order[count:]

    def judged(name: str, whole: Tensor, tests: Tensor, hidden: int | None, lr: float) -> Probe:
        return _judged(name, whole, labels, shown, held, tests, test_labels, classes, hidden, lr)

    linear, two_layer, third = NETS
    pixels = images.flatten(1), test.flatten(1)
    return (
        judged(linear, *pixels, None, LR),
        judged(two_layer, *pixels, HIDDEN, LR),
        judged(third, textures(images), textures(test), None, TEXTURE_LR),
    )


def textures(images: Tensor) -> Tensor:
    """Give the log power of each frequency of the windows of uint8 images `(B, C, S, S)`: float `(B, 63 C)`.

    Frequencies are those of the discrete cosine transform, without the mean. Smaller images are continued by their last
    pixels.
    """
    _, channels, side, _ = images.shape
    steps = torch.arange(BLOCK, dtype=torch.float32)
    waves = torch.cos((2 * steps + 1) * steps[:, None] * math.pi / (2 * BLOCK))
    kernels = torch.einsum("ui,vj->uvij", waves, waves).flatten(0, 1)[1:, None].to(images.device)
    more = max(0, BLOCK - side)
    found = []
    for batch in images.split(max(1, AT_ONCE // side**2)):
        planes = functional.pad(batch.float(), (0, more, 0, more), mode="replicate").flatten(0, 1).unsqueeze(1)
        powers = functional.conv2d(planes, kernels, stride=BLOCK // 2).square().mean((2, 3))
        found.append((powers + 1).log().view(len(batch), channels * len(kernels)))
    return torch.cat(found)


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
    lr: float,
) -> Probe:
    part = images[shown]
    mean = part.mean(0, dtype=torch.float32)
    scale = part[:1000].float().std().clamp(min=1.0)

    def inputs(batch: Tensor) -> Tensor:
        return (batch.float() - mean) / scale

    width = part.shape[1]
    with seeding.global_seed(0, f"detect {name}"):
        layers = [nn.Linear(width, classes)] if hidden is None else [
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        ]  # fmt: skip
        net = nn.Sequential(*layers).to(images.device)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=DECAY)
    generator = seeding.generator(0, "detect order")
    for _ in range(EPOCHS):
        for picked in shown[torch.randperm(len(shown), generator=generator).to(shown.device)].split(BATCH):
            loss = functional.cross_entropy(net(inputs(images[picked])), labels[picked])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    def right(batch: Tensor, wanted: Tensor) -> Tensor:
        with torch.inference_mode():
            found = torch.cat([net(inputs(some)).argmax(1) for some in batch.split(1024)])
        return (found == wanted).cpu().double()

    # clean images count as if each class had the share among them that it has in the set: a net knows the common ones
    shares, there = (known.cpu().bincount(minlength=classes).double() for known in (labels[held], test_labels))
    weights = (shares / there.clamp(min=1))[test_labels.cpu()]
    compared = held[(there[labels[held].cpu()] > 0).to(held.device)]
    if len(compared) == 0:
        return Probe(name, 0.0, 0.0, flagged=False)
    own = float(right(images[compared], labels[compared]).mean())
    clean = float((right(test, test_labels) * weights).sum() / weights.sum())
    ours, theirs = len(compared), float(weights.sum() ** 2 / weights.square().sum())
    both = (own * ours + clean * theirs) / (ours + theirs)
    deviation = math.sqrt(both * (1 - both) * (1 / ours + 1 / theirs))
    return Probe(name, own, clean, own - clean > max(LEAST, CERTAIN * deviation))
