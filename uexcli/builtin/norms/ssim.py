"""SSIM: the image stays structurally similar to itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Norm, UsageError, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor

BISECTIONS = 16


@dataclass(frozen=True)
class Ssim(Norm):
    """1 - SSIM between the image and its changed self; needs the images, so each must have a noise of its own."""

    name: ClassVar[str] = "ssim"
    summary: ClassVar[str] = "the loss of structural similarity, 1 - SSIM, is at most eps"
    paper: ClassVar[str] = "Wang et al., Image quality assessment: from error visibility to structural similarity, 2004"
    needs_images: ClassVar[bool] = True

    stride: float = option(16.0, "how many 8-bit levels a step of one whole bound moves each value")

    def usual(self, channels: int, size: int) -> str:
        """About what 8/255 under linf costs on photos."""
        return "0.05"

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Scale rows that are too visible down, by bisection, until they are not."""
        over = self.size(delta, images) > eps
        if not bool(over.any()):
            return delta
        rows, shown = delta[over], None if images is None else images[over]
        low, high = rows.new_zeros(len(rows)), rows.new_ones(len(rows))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            inside = self.size(rows * middle.view(-1, 1, 1, 1), shown) <= eps
            low, high = low.where(~inside, middle), high.where(inside, middle)
        projected = delta.clone()
        projected[over] = rows * low.view(-1, 1, 1, 1)
        return projected

    def steepest(self, grad: Tensor) -> Tensor:
        """The sign: every value moves alike, and `project` decides how far."""
        return grad.sign()

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """1 - SSIM of each image and its changed self, clamped to the box."""
        from uexcli.core.quality import ssim

        if images is None:
            raise UsageError("norm 'ssim' needs the image each noise is added to.", hint="Use --mode samplewise.")
        return 1 - ssim(images, (images + delta).clamp(0, 1))

    def reach(self, eps: float) -> float:
        """Eps is no distance between pixels, so a step is measured in levels."""
        return self.stride / 255

    def parse(self, text: str) -> float:
        """Read eps; 1 - SSIM is below 1 for anything recognisable."""
        eps = super().parse(text)
        if eps >= 1:
            raise UsageError(f"--eps {text}: under ssim the bound is 1 - SSIM, below 1.", hint="Write it as 0.05.")
        return eps


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [Ssim]
