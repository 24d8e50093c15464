"""Norms: which noise is small enough."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from uexcli.errors import UsageError
from uexcli.plugin.base import Plugin

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_EPS, LARGEST_EPS = 1e-9, 3.0 * 8192**2  # the least that is a bound; white on black, by its L1 length


class Norm(Plugin, ABC):
    """What "small" means for a noise: a ball to stay in, and the steepest direction inside it.

    `delta` is float `(R, C, H, W)`. `images` are the float images in [0, 1] the rows are added to, row for row, or
    None where a row serves several images; a norm with `needs_images` is only ever used where they are at hand.
    """

    needs_images: ClassVar[bool] = False
    bounded: ClassVar[bool] = True  # False: it measures, and forbids nothing
    sparse: ClassVar[bool] = False  # few values change, and strongly: their mean square says little
    local: ClassVar[bool] = False  # `size` is the largest of its parts', so that a large photo can be judged in stripes

    def usual(self, channels: int, size: int) -> str:
        """Give the bound the field uses for images of `(channels, size, size)`, as one would type it."""
        return "8/255"

    @abstractmethod
    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Bring each row of `delta` that is larger than `eps` back to the ball; leave the others alone."""

    @abstractmethod
    def steepest(self, grad: Tensor) -> Tensor:
        """Give the direction of unit size along which a row's loss, with gradient `grad`, grows fastest."""

    @abstractmethod
    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """Measure each row: float `(R,)`, in the units of `eps`."""

    def reach(self, eps: float) -> float:
        """Say how far along `steepest` a step of one whole bound goes; a method's step is a share of this."""
        return eps

    def levels(self, eps: float, peak: int = 255) -> int | None:
        """Give the most levels any single value may change by, or None where the norm sets no such limit.

        `peak` is the highest level of the grid: 255, or 65,535 for 16-bit images.
        """
        return None

    def rescale(self, eps: float, fitted: tuple[int, int], actual: tuple[int, int]) -> float:
        """Translate a bound stated for an image of `fitted` (H, W) to one of `actual` (H, W)."""
        return eps

    def parse(self, text: str) -> float:
        """Read a bound such as `8/255` or `0.03`.

        Raises:
            UsageError: it is no number above 0.
        """
        plain = text.replace(" ", "")
        try:
            if not re.fullmatch(r"[+-]?[\d.]{1,20}(e[+-]?\d{1,3})?(/\d{1,9})?", plain):  # no 1e99999999
                raise ValueError
            share, slash, whole = plain.partition("/")
            value = float(Fraction(share) / (int(whole) if slash else 1))
        except (ValueError, ZeroDivisionError, OverflowError):
            raise UsageError(f"`eps={text}`: not a number.", hint="Write it as 8/255 or 0.03.") from None
        if value <= 0:
            raise UsageError(f"`eps={text}`: the bound must be above 0.", hint="Write it as 8/255 or 0.03.")
        if not SMALLEST_EPS <= value <= LARGEST_EPS:
            much = "little" if value < SMALLEST_EPS else "much"
            raise UsageError(f"`eps={text}`: no image changes by so {much}.", hint="Write it as 8/255 or 0.03.")
        return value

    def fill(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Scale each row up or down until its size is `eps`; rows of zeros stay zero."""
        shape = (-1, *([1] * (delta.dim() - 1)))
        high = delta.new_ones(len(delta))
        for _ in range(40):  # double until every row is outside, then bisect
            small = (self.size(delta * high.view(shape), images) < eps) & delta.flatten(1).any(1)
            if not bool(small.any()):
                break
            high = high.where(~small, high * 2)
        low = high * 0
        for _ in range(30):
            middle = (low + high) / 2
            inside = self.size(delta * middle.view(shape), images) <= eps
            low, high = low.where(~inside, middle), high.where(inside, middle)
        return delta * low.view(shape)
