"""Purification: an autoencoder that learnt from other, clean images takes out what is no part of a photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Countermeasure, UexError, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Purify(Countermeasure):
    """Train a small denoising autoencoder on clean images that the attacker has, and put every image through it.

    The plain relative of D-VAE, which also models the noise of each class. It learns to take out random noise of up to
    8/255; its code has half of the values of an image. The net is trained once, before the trainings that the estimate
    counts: about 60 MFLOP an image and epoch at 32 px and three channels, 50 times that at 224 px.
    """

    name: ClassVar[str] = "purify"
    summary: ClassVar[str] = "an autoencoder trained on other, clean images, purify:cifar10:ROOT or purify:FOLDER"
    paper: ClassVar[str] = "after Yu et al., Purify unlearnable examples via rate-constrained VAEs, ICML 2024"

    photos: str = option("", "clean images to learn from, as PHOTOS is written; not the ones that were protected")
    count: int = option(5000, "how many of them at most, drawn at random")
    epochs: int = option(8, "of the autoencoder")

    def __post_init__(self) -> None:
        """Refuse what learns nothing."""
        if self.count < 1 or self.epochs < 1:
            raise ValueError("it needs 1 image and 1 epoch, or more")

    @property
    def clean(self) -> tuple[str, int] | None:
        """The images named."""
        return (self.photos, self.count) if self.photos else None

    def missing_requirement(self) -> UexError | None:
        """Ask for clean images."""
        if self.photos:
            return None
        return UexError("countermeasure 'purify' names no clean images.", hint="For example purify:cifar10:ROOT.")

    def purify(self, images: Tensor, clean: Tensor, generator: Generator) -> Tensor:
        """Learn from the clean images, then put the others through."""
        from uexcli.builtin.countermeasures._purifier import purified, trained

        return purified(trained(clean, generator, epochs=self.epochs), images)


@hookimpl
def uex_countermeasures() -> list[type[Countermeasure]]:
    """Register."""
    return [Purify]
