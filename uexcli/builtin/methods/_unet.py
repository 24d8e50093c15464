"""What `gue` and `deepconfuse` share: the U-Net that makes the noise, and the arithmetic around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = Mapping[str, Tensor]
Net = Callable[[Weights, Tensor], Tensor]  # weights and float images (B, C, S, S) to logits (B, K)
LEVELS = 4


class Generator(nn.Module):
    """Noise from the image alone: a U-Net with `width` channels at full size, twice as many at each halving.

    Two 3x3 convolutions with batch norm a level and average pooling down; 2x2 up-convolutions up, so that it can draw
    textures of its own (from bilinear ones a place within its cell cannot be told); and what the lowest level makes of
    the whole image is added to each of its places, so that all of them know what the image shows. Any side of 8 pixels
    or more will do, odd ones too. What it makes is at most `reach`, which travels with its weights.
    """

    reach: Tensor

    def __init__(self, *, channels: int, width: int, reach: float = 1.0) -> None:
        super().__init__()
        widths = [width << level for level in range(LEVELS)]
        self.features = widths[-1]
        self.down = nn.ModuleList(_block(*pair) for pair in zip([channels, *widths], widths, strict=False))
        self.whole = nn.Sequential(nn.Linear(self.features, self.features), nn.ReLU())
        self.wide = nn.ModuleList(nn.ConvTranspose2d(below, below // 2, 2, 2, bias=False) for below in widths[1:])
        self.up = nn.ModuleList(_block(2 * here, here) for here in widths[:-1])
        self.out = nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.register_buffer("reach", torch.tensor(reach))

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        """Float images `(B, C, S, S)` in [0, 1] to their noise, within `reach`; `rows`, int64 `(B,)`, are ignored."""
        levels = self.encode(images)
        values = levels.pop()
        values = values + self.whole(values.mean((2, 3)))[:, :, None, None]
        for block, wide, skip in zip(reversed(self.up), reversed(self.wide), reversed(levels), strict=True):
            values = block(torch.cat((skip, wide(values, skip.shape[-2:])), 1))  # of the skip's size, odd ones too
        return self.reach * torch.tanh(self.out(values))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Give what the way down makes of images, `(B, width << level, S >> level, S >> level)` for levels 0 to 3."""
        levels = [self.down[0](images)]
        for block in list(self.down)[1:]:
            levels.append(block(functional.avg_pool2d(levels[-1], 2)))
        return levels

    def settle(self) -> None:
        """Let the way down stay as it is from now on."""
        self.down.eval().requires_grad_(False)

    def learning(self) -> list[Tensor]:
        """Give the weights that still learn."""
        return [weight for weight in self.parameters() if weight.requires_grad]


def _block(inputs: int, outputs: int) -> nn.Sequential:
    def conv(inputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(*conv(inputs), *conv(outputs))
