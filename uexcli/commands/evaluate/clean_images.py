"""Clean images that countermeasures learn from, read from a dataset that the user names."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from uexcli.core import seeding
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.io.sources import source_of
from uexcli.registry import Registry


@dataclass(frozen=True)
class CleanImages:
    """Reads them at the size of the evaluation's images, each set once."""

    registry: Registry
    _read: dict[tuple[str, int, int, int], Tensor] = field(default_factory=dict)

    def __call__(self, uri: str, count: int, channels: int, size: int) -> Tensor:
        """Give at most `count` of the images at `uri`, drawn at random: uint8 `(M, C, S, S)`.

        Raises:
            UexError: there is no such dataset, it is empty, or an image cannot be decoded.
        """
        key = (uri, count, channels, size)
        if key not in self._read:
            found = source_of(self.registry, uri).samples(strict=False)
            if not found.samples:
                raise UexError(f"{uri}: no images to learn from.", hint="Name a folder or a dataset of clean images.")
            order = torch.randperm(len(found.samples), generator=seeding.generator(0, "clean images"))
            self._read[key] = samples.load(found.only(sorted(order[:count].tolist())), size, channels).images
        return self._read[key]
