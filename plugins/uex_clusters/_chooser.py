"""The nearest centre as a module, for models that run without uex."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Nearest(nn.Module):
    """Features `(1, F)` to the nearest centre's row, int64 `(1,)`, and how near it is, float `(1,)`."""

    centres: Tensor
    farthest: Tensor

    def __init__(self, centres: Tensor, farthest: Tensor) -> None:
        super().__init__()
        self.register_buffer("centres", centres.float())
        self.register_buffer("farthest", farthest.float().clamp(min=1e-12))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Choose."""
        distances = (self.centres - features).square().sum(1).sqrt()
        row = torch.argmin(distances, 0, keepdim=True)
        return row, distances[row] / self.farthest[row]
