"""The pixel promise: the one place where noise meets the grid of the file, of 8 bits a value or of 16.

What is published is round-half-even(255 * clip01(x + delta)), the change clamped to the whole levels the bound allows,
signs kept; where a norm is not a limit per value, the change is projected, and scaled down until the written pixels
keep the bound. On the 16-bit grid 255 is 65,535.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from uexcli.plugin import Norm

LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601, as Pillow has it
SLACK = 1e-6  # relative; float32 cannot tell 8/255 from the sum of its parts


def peak_of(images: Tensor) -> int:
    """Give the highest level of an image's grid: 255 for uint8, 65,535 for the int32 that 16-bit images come in."""
    return 255 if images.dtype == torch.uint8 else 65535


def publish(images: Tensor, delta: Tensor, norm: Norm, eps: float) -> Tensor:
    """Add noise, float `(N, C, H, W)`, on the images' grid: uint8 (or int32) `(N, C, H, W)` to the same."""
    peak = peak_of(images)
    base = images.float()
    published = on_levels(base, delta, norm, eps, images.dtype, peak)
    size = measure(images, published, norm)
    over = size > eps * (1 + SLACK)
    if bool(over.any()):  # scaling alone does not lower every size: l0 counts faint changes too
        delta = delta.clone()
        delta[over] = norm.project(delta[over], eps, base[over] / peak)
        published[over] = on_levels(base[over], delta[over], norm, eps, images.dtype, peak)
        size[over] = measure(images[over], published[over], norm)
    share = torch.ones_like(size)
    for _ in range(200):
        over = size > eps * (1 + SLACK)
        if not bool(over.any()):
            return published
        share[over] *= (eps / size[over]).clamp(max=0.995)
        scale = share[over].view(-1, 1, 1, 1)
        published[over] = on_levels(base[over], delta[over] * scale, norm, eps, images.dtype, peak)
        size[over] = measure(images[over], published[over], norm)
    published[over] = images[over]  # no change at all keeps every bound
    return published


def on_levels(base: Tensor, delta: Tensor, norm: Norm, eps: float, dtype: torch.dtype, peak: int) -> Tensor:
    """Add noise to whole levels `base`, as float, on a grid up to `peak`, no value by more than its norm's limit."""
    change = (base + peak * delta).round_().sub_(base)
    limit = norm.levels(eps, peak)
    if limit is not None:
        change.clamp_(-limit, limit)
    return change.add_(base).clamp_(0, peak).to(dtype)


def measure(images: Tensor, published: Tensor, norm: Norm) -> Tensor:
    """Give the size of the change of each image, float `(N,)` in the norm's units; both as `publish` has them."""
    peak, base = peak_of(images), images.float()
    change = published.float() - base  # whole levels, exact; dividing first would round to more than the bound
    return norm.size(change.div_(peak), base.div_(peak))


def stretch(delta: Tensor, height: int, width: int) -> Tensor:
    """Resize noise bilinearly, `(N, C, S, S)` to `(N, C, height, width)`; every weight is positive, so L-inf holds."""
    if delta.shape[2:] == (height, width):
        return delta
    smaller = height < delta.shape[2] or width < delta.shape[3]
    last = delta.contiguous(memory_format=torch.channels_last)  # in half the time
    return functional.interpolate(last, (height, width), mode="bilinear", align_corners=False, antialias=smaller)


def survival(size: int, side: int) -> Tensor:
    """What is left of noise that is stretched from `size` to a photo's `side`, and squashed back by a trainer.

    Both are linear and separable, so it is a matrix A, float32 `(size, size)`: noise n arrives as A n A^T. At 64 px on
    photos of 224 px it halves white noise; a fit that sees it puts its noise where it survives.
    """
    unit = torch.eye(size).view(1, 1, size, size)
    wide = functional.interpolate(unit, (side, size), mode="bilinear", align_corners=False)
    return functional.interpolate(wide, (size, size), mode="bilinear", align_corners=False, antialias=True)[0, 0]


def squash(pixels: Tensor, size: int, channels: int) -> Tensor:
    """Show a photo as nets see it: uint8 `(1, C, H, W)` to float `(1, channels, size, size)` in [0, 1].

    Bilinear, smooth where it shrinks; an ONNX model does the same, so that both see the same numbers.
    """
    shown = pixels.float() / 255
    if shown.shape[1] > channels:
        shown = (shown * shown.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    shown = shown.expand(-1, channels, -1, -1)
    return functional.interpolate(shown, (size, size), mode="bilinear", align_corners=False, antialias=True)


def match_channels(delta: Tensor, channels: int) -> Tensor:
    """Fit noise to an image's channels: grey images get the mean of the channels, colour ones grey noise in each."""
    if delta.shape[1] == channels:
        return delta
    return delta.mean(1, keepdim=True) if channels == 1 else delta.expand(-1, channels, -1, -1)
