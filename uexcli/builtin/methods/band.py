"""band: a texture of the photo's own, made loud; which one tells the class. In closed form."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin import Method, OnStep, Problem, Progress, UexError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn

# Places in the spectrum, down and across, in 1/16 cycles a pixel: where JPEG keeps a change of a few levels, and photos
# are not much louder than it. Photos may be flipped, so a place and its mirror image are one.
TEN = ((0, 2.9), (2.9, 0), (0, 4), (3.9, 0), (1.4, 3.1), (3, 1.3), (2.1, 2.1), (4.3, 1.3), (5, 0), (3.1, 3.1))
MORE = ((1.2, 2), (2.1, 1.2), (1.2, 4.3), (2.6, 2.7))
# The same for blue, whose own texture photos hardly have, so that it may be coarser: what low-pass filters, displaced
# pixels and adversaries leave. Four more for classes that have several.
TINTS = ((0, 1.6), (1.6, 0), (0, 2.9), (2.9, 0), (1.2, 1.2), (0.8, 2.2), (2.2, 0.8), (2, 2), (0, 4), (4, 0))
MORE_TINTS = ((1.2, 3.4), (3.4, 1.2), (3, 3), (2.4, 4))
ADVERSARIAL = "adversarial"
MOST = 5  # textures of a class at most: 2,002 classes


@dataclass(frozen=True)
class Band(Method):
    """The noise is what the photo itself has around one place of its spectrum, in luma, amplified until it is clipped.

    Each class has a place of its own, dealt by the seed. As it is locked to the photo's phase, the change makes
    edges of one direction and width stand out, which crops, flips, grayscale, JPEG, blur and noise leave readable; and
    as its mean over photos is nothing, no linear projection takes it out. Blue, which luma hardly hears, carries
    a coarser texture by class: photos have little there themselves, and nets learn it first. Above ten classes a class
    has several places, each in regions of its own. New photos of a class need no new fit.

    Against adversarial training, red carries the opposite of blue, and green alone the texture of luma. An adversary
    of half the bound takes half of it, and what is left is louder than photos, whose red and blue differ little.
    """

    name: ClassVar[str] = "band"
    summary: ClassVar[str] = "a texture of the photo's own, by class; holds under most countermeasures; takes a second"
    undone_by: ClassVar[tuple[str, ...]] = ("grayscale+spectrum", "adversarial:4/255", "jpeg:10")
    paper: ClassVar[str] = "uex's own"
    needs_surrogate: ClassVar[bool] = False
    modes: ClassVar[tuple[str, ...]] = ("classwise", "clusterwise")
    gives_network: ClassVar[bool] = True
    takes_patches: ClassVar[bool] = False
    usual_for: ClassVar[dict[str, int]] = {"photos": 0, "small images": 0}

    gain: float = option(2.5, "amplitude before the noise is clipped, as a multiple of eps: more is louder and coarser")
    width: float = option(0.02, "standard deviation of a place, in cycles a pixel")
    blue: float = option(1.0, "share of blue that carries a texture of its own; the rest goes with red and green")
    against: str = option("", "adversarial: red is the opposite of blue; holds under adversarial:4/255, not under JPEG")
    jnd: float = option(0.0, "no value changes by more than so many times what is just noticeable there; 0: no limit")
    octaves: int = option(
        1, "put it at 1, 1/2, 1/4, ... of its frequency, so many in all, for trainers that shrink photos"
    )

    def __post_init__(self) -> None:
        """Refuse what is no texture."""
        if min(self.gain, self.width) <= 0 or not 1 <= self.octaves <= 6:
            raise ValueError("gain and width must be above 0, octaves from 1 to 6")
        if not 0 <= self.blue <= 1 or not 0 <= self.jnd < math.inf:
            raise ValueError("blue must be in [0, 1], and jnd at least 0")
        if self.against not in ("", ADVERSARIAL):
            raise ValueError(f"against is nothing, or {ADVERSARIAL}")
        if self.against and self.blue < 1:
            raise ValueError(f"against={ADVERSARIAL} takes all of red and blue: blue must be 1")

    def network(self, *, channels: int, size: int, num_rows: int) -> nn.Module:
        """Build what makes the textures."""
        from uexcli.builtin.methods._textures import Textures

        return Textures(
            num_rows, textures_of(num_rows, self.name), size=size, gain=self.gain, width=self.width, share=self.blue,
            opposed=self.against == ADVERSARIAL, octaves=self.octaves, noticeable=self.jnd,
        )  # fmt: skip

    def fit(self, problem: Problem, on_step: OnStep) -> nn.Module:
        """Deal out the places."""
        network: Any = self.network(channels=problem.shape[1], size=problem.shape[2], num_rows=problem.num_rows)
        dealt(problem, network)
        on_step(Progress(1, 1))
        made: nn.Module = network
        return made


def dealt(problem: Problem, network: Any) -> None:
    """Give each class of the network its places, keyed by the seed, and the bound.

    Raises:
        UexError: photos without colour, and the network would put one colour against another.
    """
    import torch

    if network.opposed and problem.shape[1] != 3:
        raise UexError(f"against={ADVERSARIAL} is for photos in colour, and these have none.", hint="Leave it out.")
    rows, several, _ = network.places.shape
    for purpose, ten, more, places in (
        ("band", TEN, MORE, network.places),
        ("blue", TINTS, MORE_TINTS, network.tints),
    ):
        table = torch.tensor(ten if several == 1 else ten + more) / 16
        choices = torch.tensor(list(itertools.combinations(range(len(table)), several)))
        secret = problem.secret(purpose)
        chosen = choices[secret.permutation(len(choices))[:rows]]
        for row in chosen:  # which of its regions has which of them
            row[:] = row[secret.permutation(several)]
        places.copy_(table[chosen])
    network.bound.fill_(problem.norm.reach(problem.eps))


def textures_of(classes: int, method: str = "band") -> int:
    """How many textures a class has, so that so many classes differ.

    Raises:
        UexError: there are not so many.
    """
    if classes <= len(TEN):
        return 1
    for several in range(2, MOST + 1):
        if math.comb(len(TEN) + len(MORE), several) >= classes:
            return several
    raise UexError(
        f"method '{method}' cannot tell {classes:,} classes apart, only {math.comb(len(TEN) + len(MORE), MOST):,}.",
        hint="Use `no_labels=True`, or fewer `options[clusters]`.",
    )


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Band]
