"""SSIM: the image stays structurally similar to itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.norms._perceptual import Perceptual
from uexcli.plugin import Norm, UsageError, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ssim(Perceptual):
    """1 - SSIM between the image and its changed self; needs the images, so each must have a noise of its own."""

    name: ClassVar[str] = "ssim"
    summary: ClassVar[str] = "the loss of structural similarity, 1 - SSIM, is at most eps"
    paper: ClassVar[str] = "Wang et al., Image quality assessment: from error visibility to structural similarity, 2004"

    def against(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """1 - SSIM."""
        from uexcli.core.quality import ssim

        return lambda changed: 1 - ssim(images, changed)

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """In float64, where the device has it: in float32 flat images lose more to rounding than the bound's slack."""
        import torch

        exact = torch.float32 if delta.device.type == "mps" else torch.float64
        return super().size(delta.to(exact), self._given(images).to(exact)).to(delta.dtype)

    def parse(self, text: str) -> float:
        """Read eps; 1 - SSIM is below 1 for anything recognisable."""
        eps = super().parse(text)
        if eps >= 1:
            raise UsageError(f"`eps={text}`: under ssim the bound is 1 - SSIM, below 1.", hint="Write it as 0.05.")
        return eps


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [Ssim]
