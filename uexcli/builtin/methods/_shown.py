"""What is done to photos before a pretrained net sees them: compressed, grey, resized, cropped; differentiable."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from uexcli.builtin.countermeasures.jpeg import Jpeg
from uexcli.builtin.countermeasures.webp import Webp
from uexcli.core.pixels import LUMA
from uexcli.plugin import Countermeasure
from uexcli.plugin.encoder import triangles

# one is drawn for a batch, and its parts follow each other
KINDS = ("jpeg", "jpeg", "webp", "webp", "gray", "resize", "crop", "jpeg gray", "jpeg resize", "jpeg crop")
QUALITY = (20, 96)  # of JPEG and WebP, the last one excluded
SMALLEST = 0.6  # of the side that photos are resized to and back
NEAREST = 0.7  # of the side that a crop keeps at least


def shown(images: Tensor, generator: Generator) -> Tensor:
    """Treat float images `(B, C, S, S)` in [0, 1] in a way that is drawn, half of the batches mirrored.

    Codecs are the real ones; gradients pass them as if they changed nothing.
    """
    kind, mirrored = KINDS[_drawn(len(KINDS), generator)], _drawn(2, generator)
    if mirrored:
        images = images.flip(3)
    for part in kind.split():
        images = _treated(images, part, generator)
    return images


def _treated(images: Tensor, part: str, generator: Generator) -> Tensor:
    if part in ("jpeg", "webp"):
        quality = QUALITY[0] + _drawn(QUALITY[1] - QUALITY[0], generator)
        return _coded(images, Jpeg(quality) if part == "jpeg" else Webp(quality), generator)
    if part == "gray" and images.shape[1] == 3:
        luma = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return luma.expand_as(images)
    side = images.shape[2]
    if part == "resize":
        least = max(1, round(SMALLEST * side))
        shrink = triangles(side, least + _drawn(side - least + 1, generator)).to(images)
        return _enlarged(shrink @ images @ shrink.T, side)
    if part == "crop":
        least = max(1, round(NEAREST * side))
        kept = least + _drawn(side - least + 1, generator)
        top, left = (_drawn(side - kept + 1, generator) for _ in range(2))
        return _enlarged(images[:, :, top : top + kept, left : left + kept], side)
    return images


def _coded(images: Tensor, codec: Countermeasure, generator: Generator) -> Tensor:
    with torch.no_grad():
        levels = (images * 255).round_().clamp_(0, 255).to(torch.uint8)
        change = codec.apply(levels, generator).float() / 255 - images
    return images + change


def _enlarged(images: Tensor, side: int) -> Tensor:
    return functional.interpolate(images, size=(side, side), mode="bilinear")


def _drawn(most: int, generator: Generator) -> int:
    return int(torch.randint(0, most, (), generator=generator))
