"""Noise on a part of the image: a square at the centre, or at a place of each image's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uexcli.core import seeding
from uexcli.errors import UsageError


@dataclass(frozen=True)
class Patch:
    """A square of `size` pixels, at the centre of every image or, `random`, at a place that its name decides."""

    size: int
    random: bool = False

    @classmethod
    def parse(cls, text: str) -> Patch:
        """Read `16` or `16:random`.

        Raises:
            UsageError: it is neither.
        """
        size, colon, where = text.partition(":")
        if re.fullmatch(r"[1-9]\d{0,4}", size, re.ASCII) is None or (colon and where != "random"):
            raise UsageError(f"`patch={text}`: not a patch.", hint="Write its side in pixels: 16, or 16:random.")
        return cls(int(size), bool(colon))

    def __str__(self) -> str:
        return f"{self.size}{':random' if self.random else ''}"

    def places(self, keys: Sequence[str], side: int, seed: int) -> Tensor:
        """Give the top left corner on each image of `side` pixels: int64 `(N, 2)`, line and column."""
        free = side - self.size
        if not self.random:
            return torch.full((len(keys), 2), free // 2)
        drawn = [seeding.derive(seed, f"place:{key}") for key in keys]
        return torch.tensor([[(one >> 32) % (free + 1), (one & 0xFFFFFFFF) % (free + 1)] for one in drawn])


def paste(patches: Tensor, places: Tensor, side: int) -> Tensor:
    """Put patches `(B, C, P, P)` at their places `(B, 2)` on zeros: `(B, C, side, side)`; differentiable."""
    count, channels = patches.shape[:2]
    whole = patches.new_zeros(count, side, side, channels)
    which, lines, columns = _index(places, patches.shape[2])
    return whole.index_put((which, lines, columns), patches.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def lift(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Cut the squares of `size` at their places `(B, 2)` out of `(B, C, S, S)`: `(B, C, size, size)`."""
    which, lines, columns = _index(places, size)
    return images.permute(0, 2, 3, 1)[which, lines, columns].permute(0, 3, 1, 2)


def _index(places: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    run = torch.arange(size, device=places.device)
    which = torch.arange(len(places), device=places.device)[:, None, None]
    top, left = places.unbind(1)
    return which, (top[:, None] + run)[:, :, None], (left[:, None] + run)[:, None, :]
