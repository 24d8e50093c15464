"""No bound at all: for methods whose noise is what their recipe makes it, however visible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Norm, UsageError, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Unbounded(Norm):
    """The largest change of any value, measured as linf does and never limited.

    It promises nothing: every image keeps it, also one that was replaced by another. It is there for noise that no
    ball describes, such as the filters of CUDA, which blur a whole image; judge those by PSNR and SSIM.
    """

    name: ClassVar[str] = "unbounded"
    summary: ClassVar[str] = "no bound and no promise: the largest change is measured, any is allowed"
    paper: ClassVar[str] = "Sadasivan et al., CUDA: convolution-based unlearnable datasets, CVPR 2023"
    bounded: ClassVar[bool] = False
    local: ClassVar[bool] = True

    def usual(self, channels: int, size: int) -> str:
        """The whole range."""
        return "1"

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Leave everything as it is."""
        return delta

    def steepest(self, grad: Tensor) -> Tensor:
        """The sign."""
        return grad.sign()

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The largest magnitude of each row, a share of the full range."""
        return delta.abs().amax(tuple(range(1, delta.dim())))

    def parse(self, text: str) -> float:
        """Read eps, which can only be 1.

        Raises:
            UsageError: it is anything else.
        """
        try:
            whole = super().parse(text) == 1
        except UsageError:
            whole = False
        if not whole:
            raise UsageError(f"`eps={text}`: norm 'unbounded' has no bound to set.", hint="Leave `eps` out.")
        return 1.0

    def fill(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Leave everything as it is: there is no bound to come up to."""
        return delta


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [Unbounded]
