"""The nets that surrogates and targets share. All take float images in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

AT_ONCE = 256  # images that are shown to a net which does not learn
AT_ONCE_PIXELS = 400_000  # the same on a CPU, whose caches more do not fit: at 224 px that doubles the speed


class SmallNet(nn.Module):
    """Four 3x3 convolutions with batch norm, each but the last followed by pooling, then a mean over the image.

    `width` is the channels of the first; they double twice. At 32 px and width 32 a forward pass is 25 MFLOP.
    """

    def __init__(self, *, num_classes: int, channels: int, size: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for outputs in (width, 2 * width, 4 * width):
            layers += [*_conv(inputs, outputs), nn.MaxPool2d(2)]
            inputs = outputs
        self.body = nn.Sequential(*layers, *_conv(inputs, inputs))
        self.head = nn.Linear(inputs, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to `(B, 4 * width)`."""
        body: Tensor = self.body((images - 0.5) * 4)
        return body.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to logits `(B, K)`."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class ResNet18(nn.Module):
    """torchvision's ResNet-18; below 64 px with a 3x3 stride-1 stem and no max-pool, as Huang et al. 2021 use it."""

    def __init__(self, *, num_classes: int, channels: int, size: int) -> None:
        from torchvision.models import resnet18

        super().__init__()
        self.net = resnet18(num_classes=num_classes)
        if size < 64:
            self.net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
            self.net.maxpool = nn.Identity()
        elif channels != 3:
            self.net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.head = self.net.fc
        self.net.fc = nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to `(B, 512)`."""
        features: Tensor = self.net(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to logits `(B, K)`."""
        logits: Tensor = self.head(self.features(images))
        return logits


def take_head(net: nn.Module) -> int | None:
    """Take a net's last linear layer out, so that the net gives its input; give its width, None where there is none."""
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        return None
    parent, _, child = linear[-1].rpartition(".")
    layer = net.get_submodule(linear[-1])
    assert isinstance(layer, nn.Linear)
    setattr(net.get_submodule(parent), child, nn.Identity())
    return layer.in_features


class Headed(nn.Module):
    """A body, float `(B, C, S, S)` in [0, 1] to features `(B, F)`, and a linear layer over them."""

    def __init__(self, body: nn.Module, width: int, *, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to `(B, F)`."""
        features: Tensor = self.body(images)
        return features.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to logits `(B, K)`."""
        logits: Tensor = self.head(self.features(images))
        return logits


def predict(model: nn.Module, images: Tensor, autocast: torch.dtype | None = None) -> Tensor:
    """Give the class each image is taken for: uint8 `(N, C, S, S)` to int64 `(N,)`; the model is left in eval mode."""
    model.eval()
    with torch.inference_mode(), torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
        return torch.cat([model(as_input(part)).argmax(1) for part in images.split(_at_once(images))])


def embed(model: nn.Module, images: Tensor, autocast: torch.dtype | None = None) -> Tensor:
    """Give the features of images: uint8 `(N, C, S, S)` to float32 `(N, F)`; the model is left in eval mode."""
    model.eval()
    with torch.inference_mode(), torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
        return torch.cat([model.features(as_input(part)).float() for part in images.split(_at_once(images))])  # type: ignore[operator]


def _at_once(images: Tensor) -> int:
    if images.device.type != "cpu":
        return AT_ONCE
    return max(8, min(AT_ONCE, AT_ONCE_PIXELS // (images.shape[2] * images.shape[3])))


def as_input(images: Tensor) -> Tensor:
    """Uint8 to float32 in [0, 1], channels last."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)
