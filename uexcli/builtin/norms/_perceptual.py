"""What norms that compare images by how they look have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Norm, UsageError, option

if TYPE_CHECKING:
    from torch import Tensor

BISECTIONS = 16


@dataclass(frozen=True)
class Perceptual(Norm):
    """A distance between the image and its changed self; needs the images, so each must have a noise of its own."""

    needs_images: ClassVar[bool] = True

    stride: float = option(16.0, "how many 8-bit levels a step of one whole bound moves each value")

    @abstractmethod
    def against(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Give the distance from these images, float `(N, C, H, W)` in [0, 1]: of as many others, to float `(N,)`.

        What depends on these images alone is computed once, here.
        """

    def usual(self, channels: int, size: int) -> str:
        """About what 8/255 under linf costs on photos."""
        return "0.05"

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Scale rows that are too visible down, by bisection, until they are not."""
        over = self.size(delta, images) > eps
        if not bool(over.any()):
            return delta
        rows, shown = delta[over], self._given(images)[over]
        distance = self.against(shown)
        low, high = rows.new_zeros(len(rows)), rows.new_ones(len(rows))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            inside = distance((shown + rows * middle.view(-1, 1, 1, 1)).clamp(0, 1)) <= eps
            low, high = low.where(~inside, middle), high.where(inside, middle)
        projected = delta.clone()
        projected[over] = rows * low.view(-1, 1, 1, 1)
        return projected

    def steepest(self, grad: Tensor) -> Tensor:
        """The sign: every value moves alike, and `project` decides how far."""
        return grad.sign()

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The distance between each image and its changed self, clamped to the box."""
        shown = self._given(images)
        return self.against(shown)((shown + delta).clamp(0, 1))

    def reach(self, eps: float) -> float:
        """Eps is no distance between pixels, so a step is measured in levels."""
        return self.stride / 255

    def _given(self, images: Tensor | None) -> Tensor:
        if images is None:
            raise UsageError(
                f"norm '{self.name}' needs the image each noise is added to.", hint="Use `mode=samplewise`."
            )
        return images
