"""torchvision's transforms on the images of a batch one by one, with random numbers from a generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor


def each(transform: Callable[[Tensor], Tensor], images: Tensor, generator: Generator) -> Tensor:
    """Change each image by itself: float `(B, C, S, S)` in [0, 1], through 8 bits, to the same."""
    seed = int(torch.randint(0, 2**62, (), generator=generator))
    levels = (images * 255).round().to(torch.uint8).cpu()
    colour = levels.expand(-1, 3, -1, -1)  # some operations are for colour only
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = torch.stack([transform(image) for image in colour])
    return changed[:, : images.shape[1]].to(images.device).float() / 255
