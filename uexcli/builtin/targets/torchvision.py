"""torchvision's classifiers from scratch, with first layers that fit the images' size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.targets._scratch import Scratch
from uexcli.plugin import Target, hookimpl, option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _Torchvision(Scratch):
    """A net of torchvision's, by its name there."""

    def net(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build it."""
        from uexcli.builtin.targets._torchvision import build

        return build(self.name, num_classes=num_classes, channels=channels, size=size)


@dataclass(frozen=True)
class Resnet18(_Torchvision):
    """ResNet-18, supervised, 30 epochs, from scratch."""

    name: ClassVar[str] = "resnet18"
    summary: ClassVar[str] = "ResNet-18, supervised, 30 epochs; the default on a GPU above 96 px"
    paper: ClassVar[str] = "He et al., Deep residual learning for image recognition, CVPR 2016"


@dataclass(frozen=True)
class Resnet34(_Torchvision):
    """ResNet-34, supervised, from scratch."""

    name: ClassVar[str] = "resnet34"
    summary: ClassVar[str] = "ResNet-34, supervised"
    paper: ClassVar[str] = "He et al., Deep residual learning for image recognition, CVPR 2016"


@dataclass(frozen=True)
class Resnet50(_Torchvision):
    """ResNet-50, supervised, from scratch."""

    name: ClassVar[str] = "resnet50"
    summary: ClassVar[str] = "ResNet-50, supervised"
    paper: ClassVar[str] = "He et al., Deep residual learning for image recognition, CVPR 2016"


@dataclass(frozen=True)
class Vgg11(_Torchvision):
    """VGG-11 with batch norm, supervised, from scratch."""

    name: ClassVar[str] = "vgg11"
    summary: ClassVar[str] = "VGG-11 with batch norm, supervised"
    paper: ClassVar[str] = "Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015"

    lr: float = option(0.05, "peak learning rate")


@dataclass(frozen=True)
class Densenet121(_Torchvision):
    """DenseNet-121, supervised, from scratch."""

    name: ClassVar[str] = "densenet121"
    summary: ClassVar[str] = "DenseNet-121, supervised"
    paper: ClassVar[str] = "Huang et al., Densely connected convolutional networks, CVPR 2017"


@dataclass(frozen=True)
class EfficientnetB1(_Torchvision):
    """EfficientNet-B1, supervised, from scratch."""

    name: ClassVar[str] = "efficientnet_b1"
    summary: ClassVar[str] = "EfficientNet-B1, supervised"
    paper: ClassVar[str] = "Tan and Le, EfficientNet, ICML 2019"


@dataclass(frozen=True)
class RegnetX16gf(_Torchvision):
    """RegNetX-1.6GF, supervised, from scratch."""

    name: ClassVar[str] = "regnet_x_1_6gf"
    summary: ClassVar[str] = "RegNetX-1.6GF, supervised"
    paper: ClassVar[str] = "Radosavovic et al., Designing network design spaces, CVPR 2020"


@dataclass(frozen=True)
class MobilenetV2(_Torchvision):
    """MobileNetV2, supervised, from scratch."""

    name: ClassVar[str] = "mobilenet_v2"
    summary: ClassVar[str] = "MobileNetV2, supervised"
    paper: ClassVar[str] = "Sandler et al., MobileNetV2, CVPR 2018"


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Resnet18, Resnet34, Resnet50, Vgg11, Densenet121, EfficientnetB1, RegnetX16gf, MobilenetV2]
