"""Adversarial training: a net that is taught to bear any bounded noise bears the protection's, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Countermeasure, hookimpl, option
from uexcli.builtin.countermeasures._adversary import bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor


@dataclass(frozen=True)
class Adversarial(Countermeasure):
    """Train on the worst noise within a bound, found by projected gradient descent from a random start."""

    name: ClassVar[str] = "adversarial"
    summary: ClassVar[str] = "adversarial training by PGD, adversarial:4/255 for that bound"
    paper: ClassVar[str] = "Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018"
    aliases: ClassVar[tuple[str, ...]] = ("at",)
    rivals: ClassVar[str] = "adversarial"

    eps: str = option("8/255", "the adversary's bound on each value")
    steps: int = option(10, "of the adversary, each a quarter of the bound")

    def __post_init__(self) -> None:
        """Refuse what is no bound."""
        bound(self.eps)
        if self.steps < 1:
            raise ValueError(f"steps {self.steps} is below 1")

    @property
    def strength(self) -> float:
        """A larger bound is stronger."""
        return bound(self.eps)

    @property
    def cost(self) -> float:
        """A pass forward and back for each step."""
        return 1 + self.steps

    def attack(self, net: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Climb the cross-entropy by signed steps, from a uniform start, within the bound and [0, 1]."""
        import torch
        from torch.nn import functional

        eps = bound(self.eps)
        delta = (2 * torch.rand(images.shape, generator=generator) - 1).to(images.device) * eps
        delta = (images + delta).clamp_(0, 1) - images
        for _ in range(self.steps):
            delta.requires_grad_(True)
            loss = functional.cross_entropy(net(images + delta), labels, reduction="sum")
            (grad,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                delta = (delta + eps / 4 * grad.sign()).clamp_(-eps, eps)
                delta = (images + delta).clamp_(0, 1) - images
        return images + delta.detach()


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Adversarial]
