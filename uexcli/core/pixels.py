"""The pixel promise: the one place where noise meets the 8-bit grid.

What is published is round-half-even(255 * clip01(x + delta)), the change clamped to the whole levels the bound allows,
signs kept; where a norm is not a limit per value, the change is projected, and scaled down until the written pixels
keep the bound.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from uexcli.api import Norm

LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601, as Pillow has it
SLACK = 1e-6  # relative; float32 cannot tell 8/255 from the sum of its parts


def publish(images: Tensor, delta: Tensor, norm: Norm, eps: float) -> Tensor:
    """Add noise on the 8-bit grid: uint8 `(N, C, H, W)` and float `(N, C, H, W)` to uint8 `(N, C, H, W)`."""
    base = images.float()
    published = _round(base, delta, norm, eps)
    size = measure(images, published, norm)
    over = size > eps * (1 + SLACK)
    if bool(over.any()):  # scaling alone does not lower every size: l0 counts faint changes too
        delta = delta.clone()
        delta[over] = norm.project(delta[over], eps, base[over] / 255)
        published[over] = _round(base[over], delta[over], norm, eps)
        size[over] = measure(images[over], published[over], norm)
    share = torch.ones_like(size)
    for _ in range(200):
        over = size > eps * (1 + SLACK)
        if not bool(over.any()):
            return published
        share[over] *= (eps / size[over]).clamp(max=0.995)
        scale = share[over].view(-1, 1, 1, 1)
        published[over] = _round(base[over], delta[over] * scale, norm, eps)
        size[over] = measure(images[over], published[over], norm)
    published[over] = images[over]  # no change at all keeps every bound
    return published


def _round(base: Tensor, delta: Tensor, norm: Norm, eps: float) -> Tensor:
    change = torch.round(base + 255 * delta) - base
    limit = norm.levels(eps)
    if limit is not None:
        change.clamp_(-limit, limit)
    return (base + change).clamp_(0, 255).to(torch.uint8)


def measure(images: Tensor, published: Tensor, norm: Norm) -> Tensor:
    """Give the size of the change of each image, float `(N,)` in the norm's units; both uint8 `(N, C, H, W)`."""
    base = images.float()
    change = published.float() - base  # whole levels, exact; dividing first would round to more than the bound
    return norm.size(change / 255, base / 255)


def stretch(delta: Tensor, height: int, width: int) -> Tensor:
    """Resize noise bilinearly, `(N, C, S, S)` to `(N, C, height, width)`; every weight is positive, so L-inf holds."""
    if delta.shape[2:] == (height, width):
        return delta
    smaller = height < delta.shape[2] or width < delta.shape[3]
    return functional.interpolate(delta, (height, width), mode="bilinear", align_corners=False, antialias=smaller)


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
