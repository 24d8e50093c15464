"""Adversarial noise from a shallow net, and strong augmentation: what is simple to read is hidden first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.countermeasures._adversary import bound
from uexcli.plugin import Countermeasure, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Sda(Countermeasure):
    """Train a shallow net adversarially on the protected images, and put the noise that fools it onto each.

    The net is trained on the worst noise by 10 steps of a quarter of the bound, with SGD as in the paper's code: rate
    .01, a tenth after three quarters and again after nine tenths of the epochs. The noise is 10 steps of an eighth of
    the bound. Each batch is changed as for contrastive learning: cut to a tenth of the area or more, mirrored, and
    changed in brightness, contrast and saturation, one in five grey (the paper changes the hue, too). The paper trains
    100 epochs, with as many hidden units as an image has values.
    """

    name: ClassVar[str] = "sda"
    summary: ClassVar[str] = "adversarial noise of a shallow net put onto the images, and strong augmentation"
    paper: ClassVar[str] = "Zhu et al., Detection and defense of unlearnable examples, AAAI 2024"

    hidden: int = option(512, "hidden units of the shallow net; 0: a linear one")
    epochs: int = option(30, "of the shallow net")
    eps: str = option("8/255", "bound on each value of the noise")

    def __post_init__(self) -> None:
        """Refuse what learns nothing."""
        bound(self.eps)
        if self.hidden < 0 or self.epochs < 1:
            raise ValueError("it needs 1 epoch or more, and hidden units, or 0 for none")

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Train the net, add the noise, round."""
        import torch

        from uexcli.builtin.countermeasures._shallow import climbed, trained

        eps = bound(self.eps)
        net = trained(images, labels, generator, hidden=self.hidden, epochs=self.epochs, eps=eps)
        noisy = [
            (climbed(net, part.float() / 255, ones, eps, eps / 8) * 255).round().to(images.dtype)
            for part, ones in zip(images.split(512), labels.split(512), strict=True)
        ]
        return torch.cat(noisy)

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw a view of each."""
        from uexcli.builtin.targets._simclr import views

        return views(images, generator, least=0.1), labels


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Sda]
