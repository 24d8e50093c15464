"""Fast adversarial training: one step from a random start, at a fifth of the cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Countermeasure, hookimpl, option
from uexcli.builtin.countermeasures._adversary import ascend, bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor


@dataclass(frozen=True)
class AdversarialFast(Countermeasure):
    """Train on noise within a bound, found by one step of 1.25 bounds from a random start."""

    name: ClassVar[str] = "adversarial-fast"
    summary: ClassVar[str] = "adversarial training by one FGSM step, at twice the cost of plain training"
    paper: ClassVar[str] = "Wong et al., Fast is better than free, ICLR 2020"
    aliases: ClassVar[tuple[str, ...]] = ("fat",)
    rivals: ClassVar[str] = "adversarial"

    eps: str = option("8/255", "the adversary's bound on each value")

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
        eps = bound(self.eps)
        return ascend(net, images, labels, generator, eps=eps, step=1.25 * eps, steps=1)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [AdversarialFast]
