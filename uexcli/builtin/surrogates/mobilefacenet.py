"""A net that tells faces apart, for photos of people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin import Surrogate, UexError, UsageError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn

HINT = "Write `surrogate=mobilefacenet` `weights=FILE.safetensors`"


@dataclass(frozen=True)
class Mobilefacenet(Surrogate):
    """MobileFaceNet: 128 features of a face that fills the image, seen at 112 px."""

    name: ClassVar[str] = "mobilefacenet"
    summary: ClassVar[str] = "a face embedder, for --method shift: --surrogate mobilefacenet --weights FILE.safetensors"
    paper: ClassVar[str] = "Chen et al., MobileFaceNets, CCBR 2018"
    pretrained: ClassVar[bool] = True
    test_options: ClassVar[dict[str, Any]] = {"weights": "random"}

    weights: str = option("", "safetensors file of its weights; random: none")

    def missing_requirement(self) -> UexError | None:
        """The file."""
        if not self.weights:
            return UexError("surrogate 'mobilefacenet' needs its weights.", hint=HINT)
        if self.weights != "random" and not Path(self.weights).is_file():
            return UsageError(f"`weights={self.weights}`: no such file.", hint=HINT)
        return None

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net, its weights loaded; the last layer is fresh.

        Raises:
            UexError: the weights are not there, or are none of this net's.
        """
        from uexcli.builtin.surrogates._mobilefacenet import MobileFaceNet

        missing = self.missing_requirement()
        if missing is not None:
            raise missing
        weights = None if self.weights == "random" else self.weights
        return MobileFaceNet(num_classes=num_classes, size=size, weights=weights)


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [Mobilefacenet]
