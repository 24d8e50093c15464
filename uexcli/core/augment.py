"""Random crop and flip of a whole batch at once, differentiable, from an explicit generator."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional


def crop_and_flip(images: Tensor, generator: Generator) -> Tensor:
    """Pad by an eighth of the side with zeros, cut back at a random place, mirror half of the images.

    Float or uint8 `(B, C, H, W)` to the same, channels last. Gradients flow back to `images`.
    """
    count, _, height, width = images.shape
    pad = max(1, height // 8)
    device = images.device
    down = torch.randint(0, 2 * pad + 1, (count, 1), generator=generator).to(device)
    right = torch.randint(0, 2 * pad + 1, (count, 1), generator=generator).to(device)
    mirrored = (torch.rand(count, 1, generator=generator) < 0.5).to(device)
    columns = torch.arange(width, device=device).expand(count, width)
    columns = torch.where(mirrored, columns.flip(1), columns) + right
    lines = torch.arange(height, device=device) + down
    padded = functional.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    which = torch.arange(count, device=device)[:, None, None]
    return padded[which, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
