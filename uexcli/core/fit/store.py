"""Storage of noise banks."""

from __future__ import annotations

import torch
from torch import Tensor


class Store:
    """Keeps banks on the device. Others keep them in files, for what is bigger than memory."""

    in_files = False

    def bank(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Make an empty float32 bank."""
        return torch.empty(shape, device=device)

    def release(self) -> None:
        """Say that a chunk of a bank, or of the images, is done with for now."""
