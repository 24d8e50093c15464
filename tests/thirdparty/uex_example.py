"""A third-party plugin: it knows uexcli.plugin and nothing else of uexcli."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Granularity, Norm, Secret, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Brightness(Granularity):
    """Images of like brightness share a noise; the limits between the bands are kept for new images."""

    name: ClassVar[str] = "brightness"
    summary: ClassVar[str] = "images of like brightness share a noise"
    can_assign: ClassVar[bool] = True

    bands: int = option(3, "how many bands of brightness")

    def rows(self, labels: Tensor, features: Callable[[], Tensor], secret: Secret, *, keys: Sequence[str]) -> Tensor:
        """Equally many images in each band."""
        order = features().mean(1).argsort().argsort()
        return order * min(self.bands, len(order)) // len(order)

    def memory(self, rows: Tensor, features: Callable[[], Tensor]) -> dict[str, Tensor]:
        """The brightest image of each band but the last."""
        values = features().mean(1)
        tops = [values[rows == row].max() for row in range(int(rows.max()))]
        return {"tops": values.new_tensor(tops)}

    def assign(
        self,
        labels: Tensor,
        features: Callable[[], Tensor],
        memory: Mapping[str, Tensor],
        *,
        keys: Sequence[str],
    ) -> Tensor:
        """The band whose limit is the first at or above the image's brightness."""
        return (features().mean(1).unsqueeze(1) > memory["tops"]).sum(1)


@dataclass(frozen=True)
class Rms(Norm):
    """The root mean square change; the same number at every size."""

    name: ClassVar[str] = "rms"
    summary: ClassVar[str] = "the root mean square change is at most eps"

    def usual(self, channels: int, size: int) -> str:
        """Six levels."""
        return "6/255"

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Scale larger rows down."""
        return delta * (eps / self.size(delta).clamp(min=1e-12)).clamp(max=1).view(-1, 1, 1, 1)

    def steepest(self, grad: Tensor) -> Tensor:
        """The gradient at unit root mean square."""
        return grad / self.size(grad).clamp(min=1e-12).view(-1, 1, 1, 1)

    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The root mean square of each row."""
        return delta.square().flatten(1).mean(1).sqrt()


@hookimpl
def uex_granularities() -> list[type[Granularity]]:
    """Register."""
    return [Brightness]


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [Rms]
