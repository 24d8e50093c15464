"""A small vision transformer for images of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.core.nets import Headed

WIDTH, DEPTH, HEADS, TOKENS = 192, 6, 3, 8  # tokens along a side


def build(*, num_classes: int, channels: int, size: int) -> nn.Module:
    """Build it with a fresh start."""
    return Headed(_Body(channels, max(1, size // TOKENS)), WIDTH, num_classes=num_classes)


class _Body(nn.Module):
    """Images to the mean of their tokens after all layers."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.cut = nn.Conv2d(channels, WIDTH, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, TOKENS * TOKENS, WIDTH))
        self.layers = nn.Sequential(*(_Layer() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        side = self.patch * TOKENS
        if images.shape[2:] != (side, side):
            images = functional.interpolate(images, (side, side), mode="bilinear")
        tokens = self.cut((images - 0.5) * 4).flatten(2).transpose(1, 2) + self.places
        features: Tensor = self.norm(self.layers(tokens)).mean(1)
        return features


class _Layer(nn.Module):
    """Attention and a wider middle, each after a norm and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.ask, self.give = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.middle = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, _ = tokens.shape
        parts = self.ask(self.before(tokens)).view(count, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).reshape_as(tokens)
        tokens = tokens + self.give(seen)
        made: Tensor = tokens + self.middle(self.between(tokens))
        return made
