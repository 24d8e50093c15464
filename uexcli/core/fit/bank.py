"""The noise of a fit: a bank of rows, which image uses which, and the bound that all of them keep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from uexcli.core import seeding
from uexcli.core.fit import pgd
from uexcli.core.fit.data import Data
from uexcli.core.fit.patch import Patch, lift
from uexcli.plugin import Norm


def chunk_of(values: int) -> int:
    """Give how many images of so many values to work on at once, where only memory is at stake."""
    return max(16, min(1024, 2**24 // values))


@dataclass(frozen=True)
class NoiseBank:
    """Rows of noise, float32 `(R, C, S, S)`, for images that each use one of them."""

    data: Data
    rows: Tensor  # int64 (N,): the row of each image
    num_rows: int
    norm: Norm
    eps: float
    seed: int
    survival: Tensor | None = None  # see `core.pixels.survival`; None where photos have the fit's size
    patch: Patch | None = None  # rows are patches of this size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the bank."""
        _, channels, height, width = self.data.images.shape
        if self.patch is not None:
            height = width = self.patch.size
        return (self.num_rows, channels, height, width)

    @functools.cached_property
    def places(self) -> Tensor | None:
        """Where the patch of each image lies, int64 `(N, 2)`, on the device; None where noise is as big as images."""
        if self.patch is None:
            return None
        return self.patch.places(self.data.keys, self.data.side, self.seed).to(self.data.device)

    def places_of(self, batch: Tensor) -> Tensor | None:
        """Where the patches of a batch lie."""
        return None if self.places is None else self.places[batch.to(self.data.device)]

    @property
    def per_sample(self) -> bool:
        """Whether each row serves exactly one image."""
        return self.num_rows == len(self.data)

    def empty(self) -> Tensor:
        """Make an empty bank where there is room for it."""
        return self.data.store.bank(self.shape, self.data.device)

    def copy(self, delta: Tensor, into: Tensor | None = None) -> Tensor:
        """Copy a bank, a chunk of rows at a time."""
        into = self.empty() if into is None else into
        for part in _slices(delta):
            into[part] = delta[part]
            self.data.store.release()
        return into

    def start(self, *, random: bool, draw: int = 0) -> Tensor:
        """Make a bank of zeros, or one uniform in [-1, 1) keyed by the row's name."""
        delta = self.empty()
        names = self._row_keys() if random else []
        purpose = f"start {draw}"
        for part in _slices(delta):
            delta[part] = seeding.keyed_uniform(names[part], self.shape[1:], self.seed, purpose) if random else 0
            self.data.store.release()
        return delta

    def _row_keys(self) -> list[str]:
        if not self.per_sample:
            return [f"row {row}" for row in range(self.num_rows)]
        names = [""] * self.num_rows
        for key, row in zip(self.data.keys, self.rows.tolist(), strict=True):
            names[row] = key
        return names

    def spread(self, delta: Tensor, batch: Tensor) -> Tensor:
        """The noise of each image as it is published: `(B, C, S, S)`."""
        noise = delta[self.rows[batch].to(delta.device)].to(self.data.device)
        return pgd.arriving(noise, None, self.places_of(batch), self.data.side)

    def arriving(self, delta: Tensor, batch: Tensor) -> Tensor:
        """The noise of each image as it reaches a net: `(B, C, S, S)`."""
        return pgd.through(self.spread(delta, batch), self.survival)

    def published(self, delta: Tensor, batch: Tensor) -> Tensor:
        """Float images in [0, 1] with their noise as it arrives, clamped: `(B, C, S, S)`."""
        return self.data.inputs(batch).add_(self.arriving(delta, batch)).clamp_(0, 1)

    def touched(self, batch: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Give the rows of the bank that a batch shares, and for each of its images which of these it uses."""
        rows = self.rows[batch]
        every = self.num_rows <= len(batch)  # the same shapes for every batch; rows without a gradient stay
        touched = torch.arange(self.num_rows, device=rows.device) if every else rows.unique()
        index = rows if every else torch.searchsorted(touched, rows)
        return touched.to(delta.device), index.to(self.data.device)

    def project(self, delta: Tensor) -> Tensor:
        """Bring a whole bank inside the bound."""
        return self._by_chunk(delta, lambda rows, images: _boxed(self.norm.project(rows, self.eps, images), images))

    def fill(self, delta: Tensor) -> Tensor:
        """Bring every row to the bound."""
        return self._by_chunk(delta, lambda rows, images: self.norm.fill(rows, self.eps, images))

    def _by_chunk(self, delta: Tensor, change: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        """Apply `change` to the bank a chunk of rows at a time, in place, each with its image where it serves one."""
        data, image_of = self.data, torch.empty_like(self.rows)
        if self.per_sample:
            image_of[self.rows] = torch.arange(len(self.rows), device=self.rows.device)
        for part in _slices(delta):
            images = data.inputs(image_of[part]) if self.per_sample else None
            if images is not None and self.places is not None:
                images = lift(images, self.places[image_of[part].to(data.device)], self.shape[2])
            delta[part] = change(delta[part].to(data.device, torch.float32), images).to(delta.device)
            data.store.release()
        return delta


def _boxed(rows: Tensor, images: Tensor | None) -> Tensor:
    return rows if images is None else (images + rows).clamp_(0, 1) - images


def _slices(bank: Tensor) -> list[slice]:
    size, count = chunk_of(bank[0].numel()), len(bank)
    return [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]
