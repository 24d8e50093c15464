"""What is done to photos before a pretrained net sees them: compressed, grey, resized; differentiable."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from uexcli.builtin.countermeasures.jpeg import Jpeg
from uexcli.core.pixels import LUMA

KINDS = ("jpeg", "jpeg", "jpeg", "gray", "resize", "none")  # one is drawn for a batch
QUALITY = (20, 96)  # of JPEG, the last one excluded
SMALLEST = 0.6  # of the side that photos are resized to and back


def shown(images: Tensor, generator: Generator) -> Tensor:
    """Treat float images `(B, C, S, S)` in [0, 1] in a way that is drawn, half of the batches mirrored.

    JPEG is the real codec; gradients pass it as if it changed nothing.
    """
    which, mirrored = KINDS[_drawn(len(KINDS), generator)], _drawn(2, generator)
    if mirrored:
        images = images.flip(3)
    if which == "jpeg":
        quality = QUALITY[0] + _drawn(QUALITY[1] - QUALITY[0], generator)
        with torch.no_grad():
            levels = (images * 255).round_().clamp_(0, 255).to(torch.uint8)
            change = Jpeg(quality).apply(levels, generator).float() / 255 - images
        return images + change
    if which == "gray" and images.shape[1] == 3:
        luma = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return luma.expand_as(images)
    if which == "resize":
        side = images.shape[2]
        least = max(1, round(SMALLEST * side))
        small = least + _drawn(side - least + 1, generator)
        less = functional.interpolate(images, size=(small, small), mode="bilinear", antialias=True)
        return functional.interpolate(less, size=(side, side), mode="bilinear")
    return images


def _drawn(most: int, generator: Generator) -> int:
    return int(torch.randint(0, most, (), generator=generator))
