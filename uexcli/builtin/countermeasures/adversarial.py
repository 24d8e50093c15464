"""Adversarial training: a net that is taught to bear any bounded noise bears the protection's, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.countermeasures._adversary import NORMS, bound, length
from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor


@dataclass(frozen=True)
class Adversarial(Countermeasure):
    """Train on the worst noise within a bound, found by projected gradient descent from a random start.

    The bound is on each value, or with `norm=l2` on the Euclidean norm of the noise of an image, all values together,
    each in [0, 1]: .5 and 1 are usual at 32 px.
    """

    name: ClassVar[str] = "adversarial"
    summary: ClassVar[str] = "adversarial training by PGD, adversarial:4/255 for that bound"
    paper: ClassVar[str] = "Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018"
    aliases: ClassVar[tuple[str, ...]] = ("at",)
    rivals: ClassVar[str] = "adversarial"

    eps: str = option("8/255", "the adversary's bound: on each value, or with l2 on the norm of a whole image's noise")
    steps: int = option(10, "of the adversary, each a quarter of the bound")
    norm: str = option("linf", "linf, or l2: the Euclidean norm over all values of an image, each in [0, 1]")

    def __post_init__(self) -> None:
        """Refuse what is no bound."""
        if self.norm not in NORMS:
            raise ValueError(f"norm {self.norm} is neither {' nor '.join(NORMS)}")
        bound(self.eps, NORMS[self.norm])
        if self.steps < 1:
            raise ValueError(f"steps {self.steps} is below 1")

    @property
    def strength(self) -> float | None:
        """A larger bound is stronger; bounds in l2 do not compare with those of a value."""
        return bound(self.eps) if self.norm == "linf" else None

    @property
    def cost(self) -> float:
        """A pass forward and back for each step."""
        return 1 + self.steps

    def attack(self, net: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Climb the cross-entropy from a random start, within the bound and [0, 1].

        A step goes along the signs of the gradient, or with l2 along the gradient.
        """
        import torch
        from torch.nn import functional

        eps = bound(self.eps, NORMS[self.norm])
        delta = self._inside(self._start(images, generator).to(images.device) * eps, eps)
        delta = (images + delta).clamp_(0, 1) - images
        for _ in range(self.steps):
            delta.requires_grad_(True)
            loss = functional.cross_entropy(net(images + delta), labels, reduction="sum")
            (grad,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                along = grad.sign() if self.norm == "linf" else grad / length(grad)
                delta = self._inside(delta + eps / 4 * along, eps)
                delta = (images + delta).clamp_(0, 1) - images
        return images + delta.detach()

    def _start(self, images: Tensor, generator: Generator) -> Tensor:
        """Draw uniformly from the cube of size 1, or a point at most 1 from the middle, in any direction."""
        import torch

        if self.norm == "linf":
            return 2 * torch.rand(images.shape, generator=generator) - 1
        drawn = torch.randn(images.shape, generator=generator)
        return drawn / length(drawn) * torch.rand(len(images), 1, 1, 1, generator=generator)

    def _inside(self, delta: Tensor, eps: float) -> Tensor:
        """Bring back to the bound what is beyond it."""
        if self.norm == "linf":
            return delta.clamp(-eps, eps)
        return delta * (eps / length(delta)).clamp(max=1)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Adversarial]
