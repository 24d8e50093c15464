"""Countermeasures in a row, as `jpeg:10+cutmix` writes them: what they do before training, and to each batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.core import seeding
from uexcli.errors import UexError
from uexcli.plugin import Countermeasure


def _no_images(uri: str, count: int, channels: int, size: int) -> Tensor:
    raise UexError(f"{uri}: nothing here reads clean images.")


@dataclass(frozen=True)
class Against:
    """The countermeasures of one training, the first one first; none: plain training."""

    spec: str
    parts: tuple[Countermeasure, ...] = ()
    read: Callable[[str, int, int, int], Tensor] = field(
        default=_no_images, compare=False
    )  # clean images to learn from

    @property
    def on_batches(self) -> bool:
        """Whether any of them has something to do while training goes on."""
        return any(
            getattr(type(part), moment) is not getattr(Countermeasure, moment)
            for part in self.parts
            for moment in ("batch", "attack")
        )

    @property
    def cost(self) -> float:
        """Of a training under all of them, against a plain one."""
        return math.prod(part.cost for part in self.parts)

    def clean(self, channels: int, size: int) -> list[Tensor]:
        """Give the clean images that those learn from which name some, uint8 `(M, C, S, S)` each."""
        return [self.read(*part.clean, channels, size) for part in self.parts if part.clean]

    def prepare(self, images: Tensor, labels: Tensor) -> Tensor:
        """Change a training set, uint8 `(N, C, S, S)`; clean and protected images see the same random numbers."""
        for place, part in enumerate(self.parts):
            generator = seeding.generator(0, f"against {place or ''}{part.name}")
            if part.clean is None:
                images = part.prepare(images, labels, generator)
            else:
                clean = self.read(*part.clean, images.shape[1], images.shape[2]).to(images.device)
                images = part.purify(images, clean, generator)
        return images

    def loss(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: Generator,
        *,
        num_classes: int,
        smooth: float = 0.0,
        forward: Callable[[nn.Module, Tensor], Tensor],
    ) -> Tensor:
        """Give the mean cross-entropy of a batch, float `(B, C, S, S)` and int64 `(B,)`, after what they do to it."""
        if not self.on_batches:
            return functional.cross_entropy(forward(net, images).float(), labels, label_smoothing=smooth)
        shares = functional.one_hot(labels, num_classes).float()
        for part in self.parts:
            images, shares = part.batch(images, shares, generator)
            if type(part).attack is not Countermeasure.attack:
                images = _attacked(part, net, images, shares, generator, forward)
        return functional.cross_entropy(forward(net, images.detach()).float(), shares, label_smoothing=smooth)


def _attacked(
    part: Countermeasure,
    net: nn.Module,
    images: Tensor,
    shares: Tensor,
    generator: Generator,
    forward: Callable[[nn.Module, Tensor], Tensor],
) -> Tensor:
    """Let it look at the net, whose batch norm and weights stay as they are."""
    modes = {module: module.training for module in net.modules()}
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    net.eval()
    for weight in weights:
        weight.requires_grad_(False)
    try:
        return part.attack(lambda seen: forward(net, seen).float(), images, shares, generator)
    finally:
        for weight in weights:
            weight.requires_grad_(True)
        for module, mode in modes.items():
            module.training = mode


PLAIN = Against("none")
