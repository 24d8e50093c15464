"""Inception-ResNet-v1, as Szegedy et al. describe it, with padding everywhere, and 512 features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uexcli.core.nets import Headed

Shape = tuple[int, int]
FEATURES = 512


def build(*, num_classes: int, channels: int, size: int) -> nn.Module:
    """Build it; below 64 px its first convolution does not shrink."""
    first = 1 if size < 64 else 2
    body = nn.Sequential(
        _conv(channels, 32, 3, stride=first),
        _conv(32, 32, 3),
        _conv(32, 64, 3),
        nn.MaxPool2d(3, 2, 1),
        _conv(64, 80, 1),
        _conv(80, 192, 3),
        _conv(192, 256, 3, stride=2),
        *(_Residual(256, [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]], 0.17) for _ in range(5)),
        _Shrink(256, [[(384, 3)], [(192, 1), (192, 3), (256, 3)]]),
        *(_Residual(896, [[(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]], 0.1) for _ in range(10)),
        _Shrink(896, [[(256, 1), (384, 3)], [(256, 1), (256, 3)], [(256, 1), (256, 3), (256, 3)]]),
        *(_Residual(1792, [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]], 0.2) for _ in range(5)),
        _Residual(1792, [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]], 1.0, ends=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.6),
        nn.Linear(1792, FEATURES, bias=False),
        nn.BatchNorm1d(FEATURES),
    )
    return Headed(body, FEATURES, num_classes=num_classes)


def _conv(inputs: int, outputs: int, kernel: int | Shape, *, stride: int = 1) -> nn.Sequential:
    high, wide = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (high, wide), stride, (high // 2, wide // 2), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _branch(inputs: int, layers: Sequence[tuple[int, int | Shape]], *, stride: int = 1) -> nn.Sequential:
    """Convolutions in a row; the last one shrinks."""
    made: list[nn.Module] = []
    for number, (outputs, kernel) in enumerate(layers):
        made.append(_conv(inputs, outputs, kernel, stride=stride if number == len(layers) - 1 else 1))
        inputs = outputs
    return nn.Sequential(*made)


class _Residual(nn.Module):
    """Branches side by side, added to their input with a weight."""

    def __init__(
        self, width: int, branches: Sequence[Sequence[tuple[int, int | Shape]]], scale: float, *, ends: bool = False
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(width, layers) for layers in branches)
        self.join = nn.Conv2d(sum(layers[-1][0] for layers in branches), width, 1)
        self.scale, self.ends = scale, ends

    def forward(self, images: Tensor) -> Tensor:
        joined: Tensor = self.join(torch.cat([branch(images) for branch in self.branches], 1))
        made = images + self.scale * joined
        return made if self.ends else made.relu()


class _Shrink(nn.Module):
    """Branches and a pooling side by side, at half of the size."""

    def __init__(self, width: int, branches: Sequence[Sequence[tuple[int, int | Shape]]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(width, layers, stride=2) for layers in branches)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([*(branch(images) for branch in self.branches), self.pool(images)], 1)
