"""Textures of photos around places of their spectrum, made loud: the network of `band`. Can be written as ONNX.

A place is a frequency, down and across, in cycles a pixel. A Gaussian around a place is one down times one across, so
that two products with matrices filter an image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from uexcli.builtin.methods._noticeable import Noticeable, luma_of

GRAIN = 0.1 / 255  # standard deviation of noise added before filtering: so flat photos have something to amplify
FAINT = 0.5 / 255  # the same of what blue has more than luma or red, below which a photo is grey
TINY = 1e-8
REGION = 16  # px: the usual side of a region, in which a texture of luma has two to five waves


class Waves(nn.Module):
    """Filters of square images of one size, around places that are given."""

    apart: Tensor  # int64 (S, S): from pixel to pixel around the edge, as Fourier has it
    frequencies: Tensor  # float (F,): cycles a pixel
    cosines: Tensor  # float (F, S)

    def __init__(self, size: int) -> None:
        super().__init__()
        steps = torch.arange(size)
        frequencies = torch.arange(size // 2 + 1) / size
        twice = torch.where((frequencies == 0) | (frequencies == 0.5), 1.0, 2.0)
        _keep(self, "apart", (steps[:, None] - steps) % size)
        _keep(self, "frequencies", frequencies)
        _keep(self, "cosines", torch.cos(2 * math.pi * frequencies[:, None] * steps) * twice[:, None] / size)

    def forward(self, images: Tensor, places: Tensor, width: float) -> Tensor:
        """Give what images `(..., S, S)` have around their places `(..., 2)`; `width` is a standard deviation."""
        return self.lines(places[..., 0], width) @ images @ self.lines(places[..., 1], width)

    def lines(self, centres: Tensor, width: float) -> Tensor:
        """Give the filters of lines around centres `(...)`: symmetric matrices `(..., S, S)`."""
        gains = torch.exp(-((self.frequencies - centres[..., None]) ** 2) / (2 * width**2))
        return (gains @ self.cosines)[..., self.apart]


class Textures(nn.Module):
    """The noise of a photo: the parts of its luma around the places of its row, each in regions of its own.

    On photos in colour, red and green carry these; blue carries a coarser texture, or with a `share` below 1 some of
    both. `opposed`, red carries the opposite of blue's. `gain` is the noise's standard deviation before it is clipped,
    in units of the bound; `width` is that of a place, in cycles a pixel. With `noticeable` above 0, no value changes by
    more than so many times what is just noticeable there, in whole levels.
    """

    places: Tensor  # float (R, M, 2)
    tints: Tensor  # float (R, M, 2): of blue
    bound: Tensor  # float (): where the noise is clipped
    regions: Tensor  # float (M, S, S), of 0 and 1
    grain: Tensor  # float (S, S)

    def __init__(
        self,
        num_rows: int,
        several: int,
        *,
        size: int,
        gain: float,
        width: float,
        share: float,
        opposed: bool,
        octaves: int,
        noticeable: float,
    ) -> None:
        super().__init__()
        self.register_buffer("places", torch.zeros(num_rows, several, 2))
        self.register_buffer("tints", torch.zeros(num_rows, several, 2))
        self.register_buffer("bound", torch.zeros(()))
        self._gain, self._width, self._share, self._octaves = gain, width, share, octaves
        self.opposed = opposed
        self._times = noticeable
        self._seen = Noticeable() if noticeable else None
        self.waves = Waves(size)
        _keep(self, "grain", _grain(size))
        _keep(self, "regions", regions(size, several))

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        """Give the noise of float images `(B, C, S, S)` with rows `(B,)`."""
        noise = self.luma(images, rows)
        blue = self.blue(images, rows) if images.shape[1] == 3 else None
        return self.limited(noise, blue, self.limits(images))

    def limits(self, images: Tensor) -> Tensor | None:
        """Give by how much each pixel may change, `(B, 1, S, S)`; None: the bound is the only limit."""
        return None if self._seen is None else self._seen.limits(images, self._times)

    def limited(self, noise: Tensor, blue: Tensor | None, limits: Tensor | None) -> Tensor:
        """Put noise of luma, and that of blue where there is one, together, within the limits: `(B, C, S, S)`."""
        whole = noise.unsqueeze(1) if blue is None else self.coloured(noise, blue)
        return whole if limits is None else whole.clamp(-limits, limits)

    def coloured(self, noise: Tensor, blue: Tensor) -> Tensor:
        """Put noise of luma and that of blue, both `(B, S, S)`, together: `(B, 3, S, S)`."""
        rest, share = (1 - self._share) * noise, self._share * blue
        return torch.stack([rest - share if self.opposed else noise, noise, rest + share], 1)

    def luma(self, images: Tensor, rows: Tensor) -> Tensor:
        """Give the noise of luma, `(B, S, S)`."""
        return self._texture(luma_of(images), self.places[rows], self._octaves)

    def blue(self, images: Tensor, rows: Tensor) -> Tensor:
        """Give the noise of blue, `(B, S, S)`: of what it has more than luma, or red; of luma on grey photos."""
        luma = luma_of(images)
        more = images[:, 2] - (images[:, 0] if self.opposed else luma)
        spread = (more - more.mean((1, 2), keepdim=True)).square().mean((1, 2), keepdim=True).sqrt()
        return self._texture(torch.where(spread < FAINT, luma, more), self.tints[rows], 1)

    def _texture(self, plane: Tensor, places: Tensor, octaves: int) -> Tensor:
        """Give what planes `(B, S, S)` have around places `(B, M, 2)`, amplified and clipped."""
        plane = plane - plane.mean((1, 2), keepdim=True) + self.grain
        noise = torch.zeros_like(plane)
        for number, region in enumerate(self.regions):
            for octave in range(octaves):
                found = self.waves(plane, places[:, number] / 2**octave, self._width / 2**octave)
                noise = noise + region * found / found.square().mean((1, 2), keepdim=True).sqrt().clamp(min=TINY)
        loud = noise * (self._gain / math.sqrt(octaves))
        return loud.clamp(-1, 1) * self.bound


def regions(size: int, several: int) -> Tensor:
    """Mark where each of a class's textures is: float `(M, S, S)` of 0 and 1."""
    side = min(max(REGION, size // 8), size // ((several + 2) // 2))  # so that there is a region for each
    steps = torch.arange(size) // max(1, side)
    return ((steps[:, None] + steps) % several == torch.arange(several)[:, None, None]).float()


def _grain(size: int) -> Tensor:
    """Give what is added to every photo: float `(S, S)`, drawn from the stream that numpy promises to keep."""
    if torch.empty(0).is_meta:  # of a stranger's noise file, whose size nobody has checked yet
        return torch.empty(size, size)
    return torch.from_numpy(np.random.RandomState(0).standard_normal((size, size))).float() * GRAIN


def _keep(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Keep what follows from the size: not in the noise file."""
    module.register_buffer(name, tensor, persistent=False)
