"""What change of a photo is just noticeable, pixel by pixel: the limit that `band`, `shield` and `shift` can be given.

Chou and Li, A perceptually tuned subband image coder based on the measure of just-noticeable-distortion profile, IEEE
TCSVT 1995: the larger of what the brightness around hides, and what its steepest slope does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.core.pixels import LUMA

MEAN = ((1, 1, 1, 1, 1), (1, 2, 2, 2, 1), (1, 2, 0, 2, 1), (1, 2, 2, 2, 1), (1, 1, 1, 1, 1))
ACROSS = ((0, 0, 0, 0, 0), (1, 3, 8, 3, 1), (0, 0, 0, 0, 0), (-1, -3, -8, -3, -1), (0, 0, 0, 0, 0))
ASLANT = ((0, 0, 1, 0, 0), (0, 8, 3, 0, 0), (1, 3, 0, -3, -1), (0, 0, -3, -8, 0), (0, 0, -1, 0, 0))
MIDDLE = 127.0  # 8-bit level of the background on which the eye is keenest


class Noticeable(nn.Module):
    """Tells it of luma: float `(B, S, S)` in [0, 1] to `(B, 1, S, S)`, in the same unit."""

    mean: Tensor  # float (1, 1, 5, 5)
    slopes: Tensor  # float (4, 1, 5, 5): down, across, and the two slants

    def __init__(self) -> None:
        super().__init__()
        down, slant = torch.tensor(ACROSS) / 16, torch.tensor(ASLANT) / 16
        self.register_buffer("mean", torch.tensor(MEAN)[None, None] / 32, persistent=False)
        slopes = torch.stack([down, down.T, slant, slant.flip(1)])[:, None]
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, luma: Tensor) -> Tensor:
        """Give the limits."""
        levels = functional.pad(255 * luma.unsqueeze(1), (2, 2, 2, 2), mode="replicate")
        behind = functional.conv2d(levels, self.mean)
        steepest = functional.conv2d(levels, self.slopes).abs().amax(1, keepdim=True)
        by_slope = steepest * (0.0001 * behind + 0.115) + 0.5 - 0.01 * behind
        dark = 17 * (1 - (behind.clamp(min=0) / MIDDLE).sqrt()) + 3
        bright = 3 / 128 * (behind - MIDDLE) + 3
        return torch.maximum(by_slope, torch.where(behind <= MIDDLE, dark, bright)) / 255

    def limits(self, images: Tensor, times: float) -> Tensor:
        """Give so many times that of images `(B, C, S, S)`, in whole levels: `(B, 1, S, S)`."""
        limits: Tensor = (times * 255 * self(luma_of(images))).floor() / 255
        return limits


def luma_of(images: Tensor) -> Tensor:
    """Give the luma of images `(B, C, S, S)`: `(B, S, S)`."""
    if images.shape[1] != 3:
        return images[:, 0]
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1)
