"""Which photos are tested on: a fifth that is held out, or all in turns, none by a net that was trained on it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from uexcli.errors import UexError, UsageError
from uexcli.io import samples

HELD_OUT = 0.2
FEW, FOLDS = 1000, 5  # below so many photos each is tested on once, in so many folds


def number(asked: int | None, count: int) -> int:
    """Give the number of folds for so many photos, 1 for a fifth that is held out.

    Raises:
        UsageError: more are asked for than there are photos.
    """
    if asked is None:
        return FOLDS if FOLDS < count < FEW else 1
    if asked > count:
        raise UsageError(f"`folds={asked}`: there are only {count} photos.")
    return asked


def check(asked: int | None, *, together: bool, tested: bool) -> None:
    """Refuse what cannot be asked; `together` says whether all photos are of one set, `tested` if there is a test set.

    Raises:
        UsageError: less than one fold, or several of photos within another set or beside a test set.
    """
    if asked is not None and asked < 1:
        raise UsageError(f"`folds={asked}`: at least 1.")
    if asked not in {None, 1} and not together:
        raise UsageError("`folds`: not with `into`.", hint="Leave one of them out.")
    if asked not in {None, 1} and tested:
        raise UsageError("`folds`: there is `test`.", hint="Leave one of them out.")


def slices(folds: Tensor) -> tuple[Tensor, list[tuple[slice, slice]]]:
    """Put photos into an order in which all that a fold trains on lies in a row; `folds` is int64 `(N,)`.

    Gives the order, int64 `(2N,)`: fold by fold, twice; and for each fold what is trained on, and what is tested. So
    no fold needs a copy of its own.
    """
    order = folds.argsort(stable=True).repeat(2)
    ends = [0, *folds.bincount().cumsum(0).tolist()]
    return order, [(slice(end, start + len(folds)), slice(start, end)) for start, end in itertools.pairwise(ends)]


def held_out(found: samples.Labelled) -> Tensor:
    """Pick a fifth of each class, by a hash of the key: the same images whatever the seed. Bool `(N,)`."""
    held = torch.zeros(len(found.samples), dtype=torch.bool)
    for number in range(len(found.classes)):
        mine = [position for position, label in enumerate(found.labels) if label == number]
        mine.sort(key=lambda position: _hash(found.samples[position].key))
        held[mine[: max(1, round(HELD_OUT * len(mine)))] if len(mine) > 1 else []] = True
    if not bool(held.any()):
        raise UexError("every class has a single image: none can be held out.", hint="Give `test=DIR`.")
    return held


def shared_out(found: samples.Labelled, digests: Sequence[str], count: int) -> Tensor:
    """Share out each class over so many folds, by a hash of the key: the fold of each photo, int64 `(N,)`.

    Photos with the same bytes are in one fold, whatever they are called.
    """
    places: dict[str, int] = {}
    for number in range(len(found.classes)):
        mine = [position for position, label in enumerate(found.labels) if label == number]
        mine.sort(key=lambda position: _hash(found.samples[position].key))
        for position in mine:  # each class goes on where the one before ended, so that no fold stays empty
            places.setdefault(digests[position], len(places) % count)
    if len(places) < count:
        raise UexError("most of the photos are copies of one another: no folds can be made.", hint="Give `test=DIR`.")
    return torch.tensor([places[digest] for digest in digests])


def _hash(key: str) -> bytes:
    return hashlib.sha256(f"held out {key}".encode("utf-8", "surrogateescape")).digest()
