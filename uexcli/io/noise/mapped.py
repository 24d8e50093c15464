"""Images and banks in unnamed files, mapped into memory: what is bigger than memory."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uexcli.core.fit.store import Store
from uexcli.io import atomic, leftovers


class Mapped(Store):
    """Keeps arrays in files in `folder`, which the system forgets when the process ends, however it does."""

    in_files = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: list[weakref.ref[np.memmap]] = []  # a file goes when its array does

    def array(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Make an array of zeros in a file.

        Raises:
            UexError: there is no room for it.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        atomic.check_room(self._folder / "images and noise", size)
        # The mapping keeps the file when its handle is closed.
        with atomic.told(self._folder), leftovers.unnamed(self._folder) as file:
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later would end the process without a word
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            made = np.memmap(file, dtype=dtype, mode="r+", shape=shape)
        self._maps.append(weakref.ref(made))
        return made

    def bank(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Make a bank in a file, whatever the device."""
        return torch.from_numpy(self.array(shape, np.float32))

    def release(self) -> None:
        """Give back the memory of what was read and written; the files keep it."""
        for made in (reference() for reference in self._maps):
            mapping = None if made is None else made._mmap  # type: ignore[attr-defined]
            if mapping is not None and hasattr(mapping, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
                mapping.madvise(mmap.MADV_DONTNEED)
