"""Random numbers that depend on what they are for, never on the order of calls or on global state.

Two kinds. `Secret` is for noise, and for whatever decides it: it is keyed by every bit of a fit's seed. torch's own
generators are for what is no secret, such as the order of batches and the first weights of a net: of any seed they
keep the low 32 bits, so what one of them drew can be found by trying them all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Generator, Tensor

from uexcli import plugin

BITS = 128  # of a seed that is drawn
MOST_BITS = 256  # of a seed that is given
KEY_BYTES = 16  # of Philox
GUESSABLE = 1 << 64  # seeds below it can be tried, or come to mind; those of earlier versions had 48 bits


def new_seed() -> int:
    """Draw a seed that cannot be guessed, from the system."""
    return secrets.randbits(BITS)


def can_be_guessed(seed: int | None) -> bool:
    """Whether a fit of this seed can be made again by trying; `None` is that of a file that does not say it."""
    return seed is not None and abs(seed) < GUESSABLE


def derive(seed: int, purpose: str) -> int:
    """Make a 63-bit seed, for what is no secret, from a seed and a purpose."""
    digest = hashlib.blake2b(f"{seed}:{purpose}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str) -> Generator:
    """Make a CPU generator of its own for `purpose`, for what is no secret."""
    return Generator().manual_seed(derive(seed, purpose))


@contextmanager
def global_seed(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's global generator for code that knows no other (module initialisers), and put it back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, purpose))
        yield


class Secret(plugin.Secret):
    """A stream of Philox 4x64 (Salmon et al., SC 2011), whose key is BLAKE2b of the seed and the purpose.

    All bits of the seed count, and streams of two purposes tell nothing of each other.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        key = (seed % (1 << MOST_BITS)).to_bytes(MOST_BITS // 8, "little")
        name = purpose.encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(name, digest_size=KEY_BYTES, key=key, person=b"uex secret").digest()
        self._drawn = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

    def uniform(self, *shape: int) -> Tensor:
        """Float32 in [-1, 1), of this shape."""
        return torch.from_numpy(self._drawn.random(shape, dtype=np.float32)).mul_(2).sub_(1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal float32, of this shape."""
        return torch.from_numpy(self._drawn.standard_normal(shape, dtype=np.float32))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Int64 from 0 to `high` - 1, of this shape."""
        return torch.from_numpy(np.asarray(self._drawn.integers(high, size=shape, dtype=np.int64)))

    def permutation(self, count: int) -> Tensor:
        """0 to `count` - 1, shuffled: int64 `(count,)`."""
        return torch.from_numpy(self._drawn.permutation(count))


def keyed_uniform(keys: Sequence[str], shape: tuple[int, ...], seed: int, purpose: str = "start") -> Tensor:
    """Draw uniform float32 in [-1, 1), `(len(keys), *shape)`, each row from (seed, purpose, its key) alone."""
    bank = torch.empty(len(keys), *shape)
    for row, key in zip(bank, keys, strict=True):
        row.copy_(Secret(seed, f"{purpose}:{key}").uniform(*shape))
    return bank
