"""Random crop and flip of a whole batch at once, differentiable, from an explicit generator."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional


def draw(count: int, side: int, generator: Generator) -> Tensor:
    """Draw where to cut images of this side: int64 `(count, 3)`, lines down, columns right, and 1 where mirrored."""
    reach = 2 * _pad(side) + 1
    down, right = (torch.randint(0, reach, (count,), generator=generator) for _ in range(2))
    return torch.stack([down, right, (torch.rand(count, generator=generator) < 0.5).long()], 1)


def cut(images: Tensor, cuts: Tensor) -> Tensor:
    """Pad by an eighth of the side with zeros and cut back at the drawn places: `(B, C, S, S)`, channels last.

    Float or uint8 to the same. Gradients flow back to `images`.
    """
    count, _, height, width = images.shape
    pad, device = _pad(height), images.device
    down, right, mirrored = cuts.to(device).unbind(1)
    columns = torch.arange(width, device=device).expand(count, width)
    columns = torch.where(mirrored[:, None] > 0, columns.flip(1), columns) + right[:, None]
    lines = torch.arange(height, device=device) + down[:, None]
    padded = functional.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    which = torch.arange(count, device=device)[:, None, None]
    return padded[which, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def crop_and_flip(images: Tensor, generator: Generator) -> Tensor:
    """Cut every image at a place of its own and mirror half of them; see `cut`."""
    return cut(images, draw(len(images), images.shape[2], generator))


def _pad(side: int) -> int:
    return max(1, side // 8)


def squares(centres: Tensor, sides: Tensor, height: int, width: int) -> Tensor:
    """Mark squares in images, cut off at the borders: bool `(N, 1, height, width)`.

    `centres` are float `(N, 2)` in [0, 1], down and across; `sides` float `(N,)`, as a share of the image's.
    """
    lines, columns = (
        ((torch.arange(side) + 0.5) / side - centres[:, axis, None]).abs() < sides[:, None] / 2
        for axis, side in enumerate((height, width))
    )
    return (lines[:, :, None] & columns[:, None, :]).unsqueeze(1)
