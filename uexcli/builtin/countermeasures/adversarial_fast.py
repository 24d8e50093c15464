"""Fast adversarial training: one step from a random start, at a fifth of the cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.countermeasures._adversary import bound
from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor


@dataclass(frozen=True)
class AdversarialFast(Countermeasure):
    """Train on uniform noise of twice the bound and one FGSM step of the bound from there, neither cut back.

    With a start and a step that are cut back to the bound (Wong et al., Fast is better than free, ICLR 2020) a net soon
    learns to deceive the single step and forgets what images look like; strong noise that is not cut back prevents it.
    """

    name: ClassVar[str] = "adversarial-fast"
    summary: ClassVar[str] = "adversarial training by one FGSM step, at twice the cost of plain training"
    paper: ClassVar[str] = "de Jorge et al., Make some noise, NeurIPS 2022"
    aliases: ClassVar[tuple[str, ...]] = ("fat",)
    rivals: ClassVar[str] = "adversarial"

    eps: str = option("8/255", "length of the adversary's step on each value, and half its random start's")

    def __post_init__(self) -> None:
        """Refuse what is no bound."""
        bound(self.eps)

    @property
    def cost(self) -> float:
        """One pass forward and back more."""
        return 2.0

    @property
    def strength(self) -> float:
        """A larger bound is stronger, the same by one step weaker than by many."""
        return 0.99 * bound(self.eps)

    def attack(self, net: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Climb the loss."""
        import torch
        from torch.nn import functional

        eps = bound(self.eps)
        start = images + (2 * torch.rand(images.shape, generator=generator) - 1).to(images.device) * 2 * eps
        start.requires_grad_(True)
        (grad,) = torch.autograd.grad(functional.cross_entropy(net(start), labels, reduction="sum"), start)
        return (start.detach() + eps * grad.sign()).clamp_(0, 1)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [AdversarialFast]
