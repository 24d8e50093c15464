"""Any ONNX image encoder, run by ONNX Runtime, to tell images that are alike; it has no gradient to fit noise by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Surrogate, UexError, UsageError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class OnnxEncoder(Surrogate):
    """A model in a file: one input, images `(batch, 3, height, width)`; the first output, flattened, are the features.

    Where a model takes any size, it sees images at `side`.
    """

    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "an ONNX image encoder, to group images by: -O encoder=onnx:FILE.onnx"
    pretrained: ClassVar[bool] = True
    has_gradient: ClassVar[bool] = False

    weights: str = option("", "the model, an ONNX file")
    side: int = option(224, "side at which a model that takes any size sees images")
    mean: float = option(0.45, "what is taken from images in [0, 1] before the model sees them")
    std: float = option(0.225, "what they are divided by then")

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        if self.side < 8 or self.std <= 0:
            raise ValueError("side must be at least 8, and std above 0")

    def missing_requirement(self) -> UexError | None:
        """The file."""
        if not self.weights:
            return UsageError("the encoder 'onnx' needs a model.", hint="Write `options[encoder]=onnx:FILE.onnx`")
        if not Path(self.weights).is_file():
            return UsageError(f"{self.weights}: no such ONNX model.", hint="Write `options[encoder]=onnx:FILE.onnx`")
        return None

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Load the model.

        Raises:
            UexError: there is none, ONNX Runtime cannot run it, or it is no image encoder.
        """
        missing = self.missing_requirement()
        if missing is not None:
            raise missing
        from uex_onnx._session import Model

        return Model(Path(self.weights), size=size, side=self.side, mean=self.mean, std=self.std)


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [OnnxEncoder]
