"""torchvision's classifiers, with its ImageNet weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Surrogate, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _Classifier(Surrogate):
    """A classifier of torchvision, as the name says; features are the input of its last linear layer."""

    pretrained: ClassVar[bool] = True
    native: ClassVar[int | None] = 224
    test_options: ClassVar[dict[str, str]] = {"weights": "random"}

    weights: str = option("auto", "auto: torchvision's, downloaded once; a safetensors file; random: none")
    side: int | None = option(None, "side at which the net sees images; auto: twice theirs, from 128 px to its own")

    def __post_init__(self) -> None:
        """Refuse what the nets cannot halve five times."""
        if self.side is not None and self.side < 32:
            raise ValueError("side must be at least 32")

    @property
    def classifier(self) -> str:
        """Its name in torchvision."""
        return self.name

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net, its weights loaded; the last layer is fresh.

        Raises:
            UexError: torchvision has no such net, or its weights are neither here nor can be downloaded.
        """
        from uexcli.builtin.surrogates._torchvision import build

        return build(self.classifier, self.weights, self.side, num_classes=num_classes, size=size)


@dataclass(frozen=True)
class Torchvision(_Classifier):
    """Any of them."""

    name: ClassVar[str] = "torchvision"
    summary: ClassVar[str] = "any classifier of torchvision with ImageNet weights: -O model=NAME"
    paper: ClassVar[str] = "TorchVision maintainers and contributors, TorchVision, 2016"
    test_options: ClassVar[dict[str, str]] = {"weights": "random", "model": "resnet18"}

    model: str = option("resnet101", "the classifier, as torchvision calls it")

    @property
    def classifier(self) -> str:
        """The one that was asked for."""
        return self.model


@dataclass(frozen=True)
class Resnet50(_Classifier):
    """What Unlearnable Clusters were published with; 2,048 features."""

    name: ClassVar[str] = "resnet50"
    summary: ClassVar[str] = "ResNet-50, torchvision's ImageNet weights; the paper's surrogate for uc"
    paper: ClassVar[str] = "He et al., Deep residual learning for image recognition, CVPR 2016"


@dataclass(frozen=True)
class EfficientnetB1(_Classifier):
    """1,280 features; 240 px."""

    name: ClassVar[str] = "efficientnet_b1"
    summary: ClassVar[str] = "EfficientNet-B1, torchvision's ImageNet weights"
    paper: ClassVar[str] = "Tan and Le, EfficientNet: Rethinking model scaling, ICML 2019"


@dataclass(frozen=True)
class RegnetX(_Classifier):
    """912 features."""

    name: ClassVar[str] = "regnet_x_1_6gf"
    summary: ClassVar[str] = "RegNetX-1.6GF, torchvision's ImageNet weights"
    paper: ClassVar[str] = "Radosavovic et al., Designing network design spaces, CVPR 2020"


@dataclass(frozen=True)
class VitB16(_Classifier):
    """768 features; always at 224 px."""

    name: ClassVar[str] = "vit_b_16"
    summary: ClassVar[str] = "ViT-B/16, torchvision's ImageNet weights"
    paper: ClassVar[str] = "Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021"


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [Torchvision, Resnet50, EfficientnetB1, RegnetX, VitB16]
