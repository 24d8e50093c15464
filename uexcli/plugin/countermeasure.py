"""Countermeasures: what an attacker does to protected images before or while training."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin.base import Plugin

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Countermeasure(Plugin, ABC):
    """What an attacker does about the noise, before training or while it goes on: override what it takes.

    `strength` and `rivals` let `eval` doubt a result in which the weaker of two undoes more.
    """

    rivals: ClassVar[str] = ""  # a name that countermeasures share which differ in strength; "": its own

    @property
    def cost(self) -> float:
        """Say what a training under it costs, against a plain one, for the estimate."""
        return 1.0

    @property
    def strength(self) -> float | None:
        """Say how strong these options make it among its rivals; None: they do not compare."""
        return None

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Change the training set, once: uint8 `(N, C, S, S)` to the same shape; `labels` are int64 `(N,)`.

        For what needs the labels; else override `apply`.
        """
        return self.apply(images, generator)

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Change each training image, once: uint8 `(N, C, S, S)` to the same shape."""
        return images

    @property
    def clean(self) -> tuple[str, int] | None:
        """Name clean images that it learns from, as PHOTOS is on the command line, and how many at most; None: none."""
        return None

    def purify(self, images: Tensor, clean: Tensor, generator: Generator) -> Tensor:
        """Do what `prepare` does, where `clean` names images; they are uint8 `(M, C, S, S)`, of the same C and S."""
        return images

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Change a batch that training is about to see, after its crops and flips.

        Float images `(B, C, S, S)` in [0, 1], and the share of each class in each, float `(B, K)`; to the same.
        """
        return images, labels

    def attack(self, net: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Change a batch with a look at what the net, in eval mode, makes of it; shapes as in `batch`.

        `net` gives the logits, float `(B, K)`, with gradients.
        """
        return images
