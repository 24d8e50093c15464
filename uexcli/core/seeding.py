"""Random numbers that depend on what they are for, never on the order of calls or on global state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Generator, Tensor


def derive(seed: int, purpose: str) -> int:
    """Make a 63-bit seed from a seed and a purpose."""
    digest = hashlib.blake2b(f"{seed}:{purpose}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str) -> Generator:
    """Make a CPU generator of its own for `purpose`."""
    return Generator().manual_seed(derive(seed, purpose))


@contextmanager
def global_seed(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's global generator for code that knows no other (module initialisers), and put it back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, purpose))
        yield


def keyed_uniform(keys: Sequence[str], shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw uniform float32 in [-1, 1), `(len(keys), *shape)`, each row from (seed, its key) alone."""
    bank = np.empty((len(keys), *shape), dtype=np.float32)
    for row, key in zip(bank, keys, strict=True):
        np.random.Generator(np.random.Philox(derive(seed, f"start:{key}"))).random(out=row, dtype=np.float32)
    return torch.from_numpy(bank).mul_(2).sub_(1)
