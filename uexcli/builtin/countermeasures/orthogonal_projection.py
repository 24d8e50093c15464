"""Orthogonal projection: what a linear net learns from the images is taken out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class OrthogonalProjection(Countermeasure):
    """Train a linear net without bias on the protected images, and project its weights out of every image."""

    name: ClassVar[str] = "orthogonal-projection"
    summary: ClassVar[str] = "take out of the images what a linear net learns"
    paper: ClassVar[str] = "Sandoval-Segura et al., What can we learn from unlearnable datasets?, NeurIPS 2023"
    aliases: ClassVar[tuple[str, ...]] = ("projection",)

    epochs: int = option(20, "of the linear net")
    lr: float = option(0.1, "its learning rate, a tenth after half of the epochs, and again after three quarters")

    def __post_init__(self) -> None:
        """Refuse what learns nothing."""
        if self.epochs < 1 or self.lr <= 0:
            raise ValueError("it needs 1 epoch or more, and a learning rate above 0")

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Learn, orthogonalise the weights of the classes, subtract the projection."""
        import torch
        from torch.nn import functional

        count, batch = len(images), min(1024, len(images))
        classes = int(labels.max()) + 1
        weights = torch.zeros(classes, images[0].numel(), device=images.device, requires_grad=True)
        optimiser = torch.optim.SGD([weights], lr=self.lr, momentum=0.9)
        falls = [self.epochs // 2, 3 * self.epochs // 4]
        rate = torch.optim.lr_scheduler.MultiStepLR(optimiser, falls)
        for _ in range(self.epochs):
            for picked in torch.randperm(count, generator=generator).to(images.device).split(batch):
                loss = functional.cross_entropy(images[picked].flatten(1).float() / 255 @ weights.T, labels[picked])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            rate.step()
        basis = torch.linalg.qr(weights.detach()[1:].T).Q  # (D, K - 1): the rows add up to zero, as they began

        def projected(part: Tensor) -> Tensor:
            flat = part.flatten(1).float()
            left: Tensor = flat - (flat @ basis) @ basis.T
            return left.round().clamp(0, 255).to(part.dtype).view_as(part)

        return torch.cat([projected(part) for part in images.split(1024)])


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [OrthogonalProjection]
