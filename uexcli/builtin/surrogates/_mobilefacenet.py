"""MobileFaceNet: a small net whose features tell faces apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.plugin.encoder import IMAGENET, load_weights, triangles

SIDE = 112  # px
# how much wider in the middle, channels, how often, stride of the first
STAGES = (
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


class MobileFaceNet(nn.Module):
    """Images of `size`, shown at 112 px, grey ones as colour, to 128 features, and to logits through a layer of K.

    `weights` is a safetensors file of an embedder, or None: a fresh start.
    """

    mean: Tensor
    std: Tensor
    shrink: Tensor | None

    def __init__(self, *, num_classes: int, size: int, weights: str | None) -> None:
        super().__init__()
        # by a matrix, which has a gradient on every device
        self.register_buffer("shrink", triangles(size, SIDE) if size > SIDE else None, persistent=False)
        self.net = _Net()
        if weights is not None:
            load_weights(self.net, weights)
        self.head = nn.Linear(128, num_classes)
        for name, values in zip(("mean", "std"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1] to `(B, 128)`."""
        if self.shrink is None:
            shown = functional.interpolate(images, (SIDE, SIDE), mode="bilinear")
        else:
            shown = self.shrink @ images @ self.shrink.T
        features: Tensor = self.net((shown.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1] to logits `(B, K)`; of directions, whose angles the embedder was taught."""
        logits: Tensor = self.head(8 * functional.normalize(self.features(images), dim=1))
        return logits


class _Net(nn.Module):
    """Named as published weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 3, stride=2)
        self.dw_conv = _Depthwise()
        blocks: list[nn.Module] = []
        inputs = 64
        for grows, outputs, times, stride in STAGES:
            for number in range(times):
                blocks.append(_Block(inputs, outputs, grows, stride if number == 0 else 1))
                inputs = outputs
        self.features = nn.Sequential(*blocks)
        self.conv2 = _conv(inputs, 512, 1)
        self.gdconv = _Global()
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm2d(128)

    def forward(self, images: Tensor) -> Tensor:
        made = self.features(self.dw_conv(self.conv1(images)))
        features: Tensor = self.bn(self.conv3(self.gdconv(self.conv2(made))))
        return features.flatten(1)


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pointwise = nn.Conv2d(64, 64, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)

    def forward(self, images: Tensor) -> Tensor:
        made = functional.relu(self.bn1(self.depthwise(images)))
        return functional.relu(self.bn2(self.pointwise(made)))


class _Block(nn.Module):
    """A bottleneck with a wide middle, and a way around where the size stays."""

    def __init__(self, inputs: int, outputs: int, grows: int, stride: int) -> None:
        super().__init__()
        wide = inputs * grows
        self.around = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            _conv(inputs, wide, 1),
            _conv(wide, wide, 3, stride=stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.conv(images)
        return images + made if self.around else made


class _Global(nn.Module):
    """A weighted mean over the image, of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(512, 512, 7, groups=512, bias=False)
        self.bn = nn.BatchNorm2d(512)

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.bn(self.depthwise(images))
        return made
