"""Textures of photos around places of their spectrum, made loud: the network of `band`. Can be written as ONNX."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from uexcli.core.pixels import LUMA

GRAIN = 0.1 / 255  # standard deviation of noise that every photo gets before, for flat ones: it has all textures
TINY = 1e-8


class Textures(nn.Module):
    """The noise of a photo: the parts of its luma around the places of its row, each in regions of its own."""

    places: Tensor  # float (R, M, 2): cycles a pixel, down and across
    strength: Tensor  # float (): standard deviation of the noise, before it is clipped
    apart: Tensor  # int64 (S, S): from pixel to pixel around the edge, as Fourier has it
    frequencies: Tensor  # float (F,): cycles a pixel
    waves: Tensor  # float (F, S)
    grain: Tensor  # float (S, S)
    regions: Tensor  # float (M, S, S), of 0 and 1

    def __init__(self, num_rows: int, several: int, *, size: int, width: float, octaves: int) -> None:
        super().__init__()
        self.register_buffer("places", torch.zeros(num_rows, several, 2))
        self.register_buffer("strength", torch.zeros(()))
        self._width, self._octaves = width, octaves
        steps = torch.arange(size)
        self._keep("apart", (steps[:, None] - steps) % size)
        frequencies = torch.arange(size // 2 + 1) / size
        twice = torch.where((frequencies == 0) | (frequencies == 0.5), 1.0, 2.0)
        self._keep("frequencies", frequencies)
        self._keep("waves", torch.cos(2 * math.pi * frequencies[:, None] * steps) * twice[:, None] / size)
        grain = np.random.RandomState(0).standard_normal((size, size))  # the stream that numpy promises to keep
        self._keep("grain", torch.from_numpy(grain).float() * GRAIN)
        side = max(1, min(16, size // 2), size // 8)  # of a region
        regions = (steps[:, None] // side + steps // side) % several
        self._keep("regions", (regions == torch.arange(several)[:, None, None]).float())

    def _keep(self, name: str, tensor: Tensor) -> None:
        """Keep what follows from the size: not in the noise file."""
        self.register_buffer(name, tensor, persistent=False)

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        """Give the noise of float images `(B, C, S, S)` with rows `(B,)`, the same in all channels."""
        luma = images[:, 0]
        if images.shape[1] == 3:
            luma = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1)
        luma = luma - luma.mean((1, 2), keepdim=True) + self.grain
        noise = torch.zeros_like(luma)
        for number, region in enumerate(self.regions):
            for octave in range(self._octaves):
                noise = noise + region * self._texture(luma, self.places[rows, number] / 2**octave, octave)
        return (noise * self.strength / math.sqrt(self._octaves)).unsqueeze(1).expand_as(images)

    def _texture(self, luma: Tensor, places: Tensor, octave: int) -> Tensor:
        """Give what luma `(B, S, S)` has around places `(B, 2)`, brought to a standard deviation of 1."""
        down, across = (self._pass(places[:, axis], self._width / 2**octave) for axis in (0, 1))
        found = down @ luma @ across
        return found / found.square().mean((1, 2), keepdim=True).sqrt().clamp(min=TINY)

    def _pass(self, centres: Tensor, width: float) -> Tensor:
        """Give the filters of lines that keep frequencies around centres `(B,)`: symmetric matrices `(B, S, S)`.

        A Gaussian around a place is one down times one across, so that two products with matrices filter an image.
        """
        gains = torch.exp(-((self.frequencies - centres[:, None]) ** 2) / (2 * width**2))
        return (gains @ self.waves)[:, self.apart]
