"""torchvision's classifiers with first layers for small images and any channels."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from uexcli.core.nets import Headed, take_head

SMALL = 64  # px; below it the first layers do not shrink


def build(name: str, *, num_classes: int, channels: int, size: int) -> nn.Module:
    """Build one: below 64 px its first convolution is 3x3 and what follows it at once does not shrink either."""
    net = models.get_model(name, weights=None)
    if isinstance(net, models.VGG):  # its three wide layers are for 224 px
        net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(512, 1))
    _stem(net, channels, small=size < SMALL)
    width = take_head(net)
    assert width is not None
    return Headed(net, width, num_classes=num_classes)


def _stem(net: nn.Module, channels: int, *, small: bool) -> None:
    path, first = next((path, module) for path, module in net.named_modules() if isinstance(module, nn.Conv2d))
    if small or channels != first.in_channels:
        sides: dict[str, Any] = {
            "kernel_size": 3 if small else first.kernel_size,
            "stride": 1 if small else first.stride,
            "padding": 1 if small else first.padding,
        }
        _put(net, path, nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **sides))
    if not small:
        return
    match net:
        case models.VGG():
            for pool in (module for module in net.modules() if isinstance(module, nn.MaxPool2d)):
                pool.ceil_mode = True  # five of them leave nothing of 28 px
        case models.ResNet():
            net.maxpool = nn.Identity()
        case models.DenseNet():
            net.features.pool0 = nn.Identity()
        case models.MobileNetV2() | models.EfficientNet():
            _unshrink(net.features[2])


def _unshrink(stage: nn.Module) -> None:
    """Let the first convolution that shrinks keep the size."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            module.stride = (1, 1)
            return


def _put(net: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    holder = net.get_submodule(parent)
    if isinstance(holder, nn.Sequential):
        holder[int(child) if child.isdigit() else list(dict(holder.named_children())).index(child)] = module
    else:
        setattr(holder, child, module)
