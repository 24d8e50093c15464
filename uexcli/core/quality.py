"""How visible a change is: PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from uexcli.api import Norm

RMS_AT_50_DB = 0.806  # levels
FAR = 16  # levels, twice what is usual where every value may change


def psnr(rms: float) -> float:
    """Peak signal-to-noise ratio in dB of a root mean square change of `rms` 8-bit levels."""
    return math.inf if rms == 0 else 20 * math.log10(255 / rms)


def usual_rms(changes: Sequence[float]) -> float:
    """How much an image of a release usually changes, in levels: the root mean square, or the median if more."""
    if not changes:
        return 0.0
    return max(math.sqrt(sum(change**2 for change in changes) / len(changes)), median(changes))


def leak_limit(usual: float) -> float:
    """The RMS change, in levels, up to which an image counts as clean, where `usual` is what others change by.

    A quarter of that, or a PSNR of 50 dB where the noise is clearly stronger than that.
    """
    return max(usual / 4, min(RMS_AT_50_DB, usual / 2))


def evident(norm: Norm, size: float, allowed: float, levels: float) -> bool:
    """Whether a change counts as one whatever its mean square, so that the image is no clean copy.

    It does where a norm that looks at the images says so, and where few values may change and one does by far.
    """
    return size > allowed / 4 and (norm.needs_images or (norm.sparse and levels >= FAR))


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004) of float images in [0, 1], `(N, C, H, W)` to `(N,)`.

    Gaussian window of 11 px, sigma 1.5 (smaller, and odd, where the image is smaller); the mean over all whole
    windows and channels.
    """
    side = min(11, first.shape[2], first.shape[3])
    side -= 1 - side % 2
    grid = torch.arange(side, dtype=first.dtype, device=first.device) - side // 2
    window = torch.exp(-(grid**2) / (2 * 1.5**2))
    window /= window.sum()
    channels = first.shape[1]

    def blur(images: Tensor) -> Tensor:
        across = functional.conv2d(images, window.expand(channels, 1, 1, side), groups=channels)
        return functional.conv2d(across, window.view(1, 1, side, 1).expand(channels, 1, side, 1), groups=channels)

    mean_a, mean_b = blur(first), blur(second)
    var_a = blur(first * first) - mean_a**2
    var_b = blur(second * second) - mean_b**2
    covariance = blur(first * second) - mean_a * mean_b
    small_1, small_2 = 0.01**2, 0.03**2
    structure = (2 * covariance + small_2) / (var_a + var_b + small_2)
    return (structure * (2 * mean_a * mean_b + small_1) / (mean_a**2 + mean_b**2 + small_1)).mean((1, 2, 3))
