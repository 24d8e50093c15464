"""How visible a change is: PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from uexcli.plugin import Norm

RMS_AT_50_DB = 0.806  # levels
WINDOW = 11  # px, of SSIM
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

    The mean over all whole windows and channels.
    """
    return ssim_map(first, second).mean((1, 2, 3))


def window_of(height: int, width: int) -> int:
    """Give the side of the windows of an image: 11 px, smaller, and odd, where the image is smaller."""
    side = min(WINDOW, height, width)
    return side - 1 + side % 2


def ssim_map(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of each whole window, Gaussian with sigma 1.5: float `(N, C, H, W)` to one a window."""
    side = window_of(first.shape[2], first.shape[3])
    grid = torch.arange(side, dtype=first.dtype, device=first.device) - side // 2
    window = torch.exp(-(grid**2) / (2 * 1.5**2))
    window /= window.sum()
    maps = torch.cat((first, second, first * first + second * second, first * second), 1)
    for dim in (3, 2):
        maps = _blurred(maps, window, dim)
    mean_a, mean_b, squares, product = maps.chunk(4, 1)
    means, mean_squares = mean_a * mean_b, mean_a**2 + mean_b**2
    small_1, small_2 = 0.01**2, 0.03**2
    structure = (2 * (product - means) + small_2) / (squares - mean_squares + small_2)
    return structure * (2 * means + small_1) / (mean_squares + small_1)


def _blurred(maps: Tensor, window: Tensor, dim: int) -> Tensor:
    """Weigh each whole window along rows (3) or columns (2), `(N, C, H, W)`; exact in float64, fast in float32."""
    side, channels = len(window), maps.shape[1]
    if maps.dtype == torch.float64:  # which no fast convolution takes
        length = maps.shape[dim] - side + 1
        return sum((weight * maps.narrow(dim, at, length) for at, weight in enumerate(window)), torch.zeros(()))
    shape = (1, side) if dim == 3 else (side, 1)
    # the channels of a pixel side by side: several times as fast on a CPU as map by map
    maps = maps.contiguous(memory_format=torch.channels_last)
    return functional.conv2d(maps, window.view(1, 1, *shape).expand(channels, 1, *shape), groups=channels)
