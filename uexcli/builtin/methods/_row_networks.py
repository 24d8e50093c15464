"""Networks without training: what they do to an image depends on its row alone. Both can be written as ONNX."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TINY = 1e-6


class Pixels(nn.Module):
    """Sets pixels to colours: row r's pixel p at place `places[r, p]`, counted line by line."""

    places: Tensor  # int64 (R, P)
    colours: Tensor  # float (R, P, C)

    def __init__(self, num_rows: int, pixels: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("places", torch.zeros(num_rows, pixels, dtype=torch.int64))
        self.register_buffer("colours", torch.zeros(num_rows, pixels, channels))

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        """Give the change of images `(B, C, S, S)` with rows `(B,)`: the colour minus what is there."""
        flat = images.flatten(2)
        grid = torch.arange(flat.shape[2], device=images.device)
        here = (self.places[rows].unsqueeze(2) == grid).to(images.dtype)  # (B, P, S * S)
        wanted = self.colours[rows].transpose(1, 2) @ here  # (B, C, S * S); a row's places are different
        return (wanted - here.sum(1, keepdim=True) * flat).view_as(images)


class Filtered(nn.Module):
    """Filters images by the filter of their row, zeros outside, and divides by the largest value."""

    filters: Tensor  # float (R, k, k)

    def __init__(self, num_rows: int, kernel: int) -> None:
        super().__init__()
        self.register_buffer("filters", torch.zeros(num_rows, kernel, kernel))

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        """Give the change of images `(B, C, S, S)` with rows `(B,)`."""
        kernel = self.filters.shape[-1]
        side, pad = images.shape[-1], kernel // 2
        padded = functional.pad(images, (pad, pad, pad, pad))
        weights = self.filters[rows]
        filtered = torch.zeros_like(images)
        for down in range(kernel):  # a sum of shifted images: exact, and of operations that ONNX has
            for right in range(kernel):
                shifted = padded[:, :, down : down + side, right : right + side]
                filtered = filtered + weights[:, down, right].view(-1, 1, 1, 1) * shifted
        return filtered / filtered.amax((1, 2, 3), keepdim=True).clamp(min=TINY) - images
