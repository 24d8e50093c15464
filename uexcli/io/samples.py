"""From a dataset's URI to samples with labels, and from samples to a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch import Tensor

from uexcli.errors import UexError, UsageError
from uexcli.io.images import photo_files
from uexcli.io.noise.mapped import Mapped
from uexcli.io.pool import parallel
from uexcli.plugin import Sample

RELEASED = 256  # images after which memory is given back
ON_ERROR = ("fail", "skip")
SKIP = "Repair or remove it, or go on without it with `on_error=skip`."


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Labelled:
    """Samples with their classes: `labels` index into `classes`; both empty where the photos have no labels."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()  # what lies there and is not among the samples, in words

    @property
    def keys(self) -> list[str]:
        """The names of the samples."""
        return [sample.key for sample in self.samples]

    def only(self, keep: Iterable[int]) -> Labelled:
        """The samples at these positions, with the classes they have."""
        return replace(label([self.samples[position] for position in keep]), notes=self.notes)

    def bare(self) -> Labelled:
        """The same samples without labels."""
        return replace(label([replace(sample, label=None) for sample in self.samples]), notes=self.notes)


def label(samples: Sequence[Sample]) -> Labelled:
    """Number the classes in the order of their names (numbers by value)."""
    names = sorted({sample.label for sample in samples if sample.label}, key=_natural)
    index = {name: number for number, name in enumerate(names)}
    return Labelled(tuple(samples), tuple(names), tuple(index[s.label] for s in samples if s.label))


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name)


def check_options(on_error: str, jobs: int | None = None) -> None:
    """Refuse values that `--on-error` and `--jobs` cannot have."""
    if on_error not in ON_ERROR:
        raise UsageError(f"`on_error={on_error}`: unknown.", hint=f"Known: {', '.join(ON_ERROR)}.")
    if jobs is not None and jobs < 1:
        raise UsageError(f"`jobs={jobs}`: at least 1.")


def limited(found: Labelled, limit: int | None, *, ordered: bool) -> Labelled:
    """Keep the first `limit` samples; of a dataset without an order of its own, in turn from each class."""
    if limit is None or limit >= len(found.samples):
        return found
    if ordered or not found.labels:
        return found.only(range(limit))
    turns: dict[int, int] = {}
    rank = []
    for position, number in enumerate(found.labels):
        turns[number] = turns.get(number, -1) + 1
        rank.append((turns[number], position))
    return found.only(sorted(position for _, position in sorted(rank)[:limit]))


@dataclass(frozen=True)
class Loaded:
    """A dataset in memory: uint8 `(N, C, S, S)`, labels int64 `(N,)` (empty without), a digest per image."""

    found: Labelled
    images: Tensor
    labels: Tensor
    digests: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def or_skip(error: UexError) -> UexError:
    """Say of an image that cannot be used that it may be left out, beside what else would help."""
    if not error.hint:
        return UexError(error.message, hint=SKIP)
    more = "" if "`on_error" in error.hint else " Or go on without it with `on_error=skip`."
    return UexError(error.message, hint=error.hint + more)


def load(
    found: Labelled,
    size: int,
    channels: int,
    *,
    on_error: str = "fail",
    on_done: Callable[[int, int], None] = lambda _done, _total: None,
    mapped: Mapped | None = None,
    shown: Callable[[photo_files.Photo, int, int], np.ndarray] = photo_files.squash,
) -> Loaded:
    """Decode all samples and show them at `size` x `size`, squashed unless told otherwise; into a file if one is given.

    Raises:
        UexError: an image cannot be decoded and `on_error` is `fail`; or none is left.
    """
    total = len(found.samples)
    shape = (total, channels, size, size)
    bank = np.empty(shape, dtype=np.uint8) if mapped is None else mapped.array(shape, np.uint8)

    def decode(position: int) -> tuple[int, str, Skipped | None]:
        sample = found.samples[position]
        try:
            photo = photo_files.open_photo(sample)
        except UexError as error:
            if on_error == "fail":
                raise or_skip(error) from None
            return position, "", Skipped(sample.key, error.message)
        bank[position] = shown(photo, size, channels)
        return position, photo.digest, None

    kept, digests, skipped = [], [], []
    for done, (position, digest, lost) in enumerate(parallel(decode, range(total)), 1):
        if lost is None:
            kept.append(position)
            digests.append(digest)
        else:
            skipped.append(lost)
        on_done(done, total)
        if mapped is not None and done % RELEASED == 0:
            mapped.release()
    if not kept:
        raise UexError("not one of the images can be decoded.", hint="See the reasons above.")
    rest = found.only(kept)
    if skipped:
        for place, position in enumerate(kept):
            bank[place] = bank[position]
    pixels = torch.from_numpy(bank[: len(kept)])
    return Loaded(rest, pixels, torch.tensor(rest.labels, dtype=torch.int64), tuple(digests), tuple(skipped))


@dataclass(frozen=True)
class Survey:
    """What the headers of all images say."""

    common: int | None  # the side where all are equal in size, the longer one
    channels: int  # 1 where all are grey, else 3
    side: int  # of the median image: the root of its pixel count


def survey(found: Labelled, *, on_error: str = "fail") -> Survey:
    """Read the headers of all images."""

    def header(sample: Sample) -> tuple[int, int, bool] | None:
        try:
            return photo_files.size_and_grey(sample)
        except UexError:
            if on_error == "fail":
                try:
                    photo_files.open_photo(sample)  # says why
                except UexError as error:
                    raise or_skip(error) from None
            return None

    headers = [item for item in parallel(header, found.samples) if item is not None]
    if not headers:
        raise UexError("not one of the images can be decoded.")
    sides = {(height, width) for height, width, _ in headers}
    common = max(next(iter(sides))) if len(sides) == 1 else None
    side = round(median(math.sqrt(height * width) for height, width, _ in headers))
    return Survey(common, 1 if all(grey for _, _, grey in headers) else 3, side)
