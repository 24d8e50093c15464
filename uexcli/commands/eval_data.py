"""The images of an evaluation: clean and protected pairs, and clean test images neither side is trained on."""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uexcli import api
from uexcli.commands.listener import Listener, tell_notes
from uexcli.core.scores import Pairs
from uexcli.errors import UexError, UsageError
from uexcli.io import images, release, samples, views
from uexcli.io.pool import parallel
from uexcli.registry import load, remake

HELD_OUT = 0.2
CLASSES_SHOWN = 3


@dataclass(frozen=True)
class Data:
    """What both sides are trained and tested on."""

    clean: Tensor
    protected: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    test_source: str
    keys: tuple[str, ...] = ()  # names of the training images
    digests: frozenset[str] = frozenset()  # of all photos, those that are tested on included
    stays: Tensor | None = None  # bool (N,): training images of a host set, which stay clean
    levels: int | None = None  # most 8-bit levels that the release says a value may differ by; None: it says nothing
    clean_views: views.Views | None = None  # fresh crops for each epoch, where the trainer takes some from the photos
    protected_views: views.Views | None = None


@dataclass(frozen=True)
class Sources:
    """Where the images are, and how to read them."""

    photos: str
    release: str
    test: str | None
    labels: Path | None
    size: int | None
    on_error: str
    view: str = views.SQUASH


def read(request: Sources, device: torch.device, listener: Listener) -> Data:
    """Pair photos and release, hold out test images where no test set is given, and load everything at one size."""
    registry = load()
    source = samples.list_samples(registry, request.photos, labels=request.labels)
    if not source.labels:
        raise UsageError(
            f"{request.photos}: no labels.", hint="Sort the photos into class folders, or give --labels FILE.csv."
        )
    tell_notes(source.notes, listener)
    released = samples.find_dataset(registry, request.release).read(request.release)
    root = Path(request.release)
    facts = release.read_facts(root) if root.is_dir() else None
    partner = release.pair(source.keys, [sample.key for sample in released], (facts or {}).get("suffix", ".png"))
    by_key = {sample.key: sample for sample in released}
    listed = len(source.samples)
    source = source.only(position for position, key in enumerate(source.keys) if key in partner)
    if 0 < len(source.samples) < listed:
        listener.warn(f"{listed - len(source.samples):,} of {listed:,} photos are not in the release, and are not used")
    if not source.samples:
        raise UexError(
            f"{request.release}: none of {request.photos} is in it.", hint="Give the release made from these photos."
        )
    if len(partner) < len(released):
        listener.warn(f"{len(released) - len(partner):,} released images have no source and are not trained on")
    seen = samples.survey(source, on_error=request.on_error)
    common = seen.common if seen.common is not None and seen.common <= 96 else 64
    size = request.size or (facts or {}).get("size") or common

    def get(found: samples.Labelled, stage: str) -> samples.Loaded:
        loaded = samples.load(
            found,
            size,
            seen.channels,
            on_error=request.on_error,
            on_done=lambda done, total: listener.step(api.Progress(done, total, stage=stage)),
            shown=images.squash if request.view == views.SQUASH else views.centre,
        )
        for lost in loaded.skipped:
            listener.warn(f"skipped {lost.reason}")
        return loaded

    clean = get(source, "read clean")
    pairs = [by_key[partner[key]] for key in clean.found.keys]
    protected = get(samples.Labelled(tuple(pairs), (), ()), "read protected")
    if protected.skipped:
        raise UexError(f"{request.release}: {protected.skipped[0].reason}", hint="Apply again, or see: uex verify")
    labels, classes = clean.labels.to(device), clean.found.classes
    if len(classes) < 2:
        raise UexError(
            f"{request.photos}: all images are of one class.", hint="Learnability needs two classes or more."
        )
    before, written = clean.images.to(device), protected.images.to(device)
    levels = _levels(facts or {})

    def drawn(kept: Tensor) -> dict[str, Any]:
        return _views(request, size, seen.channels, {"clean_views": clean, "protected_views": protected}, kept)

    if request.test is None:
        held = held_out(clean.found)
        tested = {digest for digest, out in zip(clean.digests, held.tolist(), strict=True) if out}
        kept = ~_among(clean.digests, tested)
        keys = tuple(key for key, stays in zip(clean.found.keys, kept.tolist(), strict=True) if stays)
        return Data(
            before[kept], written[kept], labels[kept], before[held], labels[held], classes, "held out",
            keys=keys, digests=frozenset(clean.digests), levels=levels, **drawn(kept),
        )  # fmt: skip
    listed_test = samples.list_samples(registry, request.test, split="test")
    tell_notes(listed_test.notes, listener)
    test = get(listed_test, "read test")
    tests, test_labels = _tested(request, test, clean, listener)
    every = torch.ones(len(labels), dtype=torch.bool)
    return Data(
        before, written, labels, tests.to(device), test_labels.to(device), classes, request.test,
        keys=tuple(clean.found.keys), digests=frozenset((*clean.digests, *test.digests)), levels=levels,
        **drawn(every),
    )  # fmt: skip


def _tested(request: Sources, test: samples.Loaded, clean: samples.Loaded, listener: Listener) -> tuple[Tensor, Tensor]:
    """Give the test images that are not among the training images, and their labels, numbered as those are."""
    classes = clean.found.classes
    strangers = sorted(set(test.found.classes) - set(classes))
    if strangers or not test.found.classes:
        shown = ", ".join(strangers[:CLASSES_SHOWN]) or "none at all"
        raise UexError(
            f"{request.test}: its classes are not those of {request.photos}: {shown}.", hint="Use the same class names."
        )
    left = int(_among(test.digests, set(clean.digests)).sum())
    if left:
        listener.warn(f"{left} test images are also among the training images, and are left out")
    images, labels = without_trained(request.test or "", test, clean)
    renumber = torch.tensor([classes.index(name) for name in test.found.classes])
    return images, renumber[labels]


def without_trained(name: str, test: samples.Loaded, trained: samples.Loaded) -> tuple[Tensor, Tensor]:
    """Give the test images that are not, byte for byte, among those that are trained on, and their labels.

    Raises:
        UexError: all of them are.
    """
    fresh = ~_among(test.digests, set(trained.digests))
    if not bool(fresh.any()):
        raise UexError(f"{name}: all of its images are among the training images.", hint="Test on others.")
    return test.images[fresh], test.labels[fresh]


def read_pairs(path: Path, size: int, channels: int, middle: float, device: torch.device) -> Pairs:
    """Read pairs of faces: a CSV with the header a,b,same; names are relative to it, or to `images` beside it.

    `middle` is the share of each photo's side that is shown.

    Raises:
        UsageError: there is no such file.
        UexError: it is no such CSV, a photo cannot be read, or all pairs are of one kind.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UsageError(f"--pairs {path}: no such file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UexError(f"--pairs {path}: cannot be read ({error}).") from None
    if not rows or not {"a", "b", "same"} <= set(rows[0]):
        raise UexError(f"--pairs {path}: no CSV with the header a,b,same.")
    same = torch.tensor([str(row["same"]).strip().lower() in {"1", "true", "yes"} for row in rows])
    if bool(same.all()) or not bool(same.any()):
        raise UexError(f"--pairs {path}: pairs of the same face and of others are both needed.")

    def shown(column: str, row: dict[str, str]) -> np.ndarray:
        name = row[column] or ""
        found = next(
            (root / name for root in (path.parent, path.parent / "images") if name and (root / name).is_file()), None
        )
        if found is None:
            raise UexError(f"--pairs {path}: there is no {name}.", hint="Names are relative to the CSV.")
        return views.middle(images.open_photo(api.Sample(name, None, path=found)), middle, size, channels)

    sides = [
        torch.from_numpy(np.stack(list(parallel(functools.partial(shown, column), rows)))).to(device)
        for column in ("a", "b")
    ]
    return Pairs(sides[0], sides[1], same.to(device))


def _levels(facts: Mapping[str, Any]) -> int | None:
    """Give the most levels a value may differ by, as a release says, where its norm limits single values."""
    if not {"norm", "eps"} <= set(facts):
        return None
    try:
        norm = remake(load().find("norm", facts["norm"]["name"]).cls, facts["norm"]["options"])
    except (ValueError, UsageError):  # of a plugin that is not here
        return None
    assert isinstance(norm, api.Norm)
    return norm.levels(facts["eps"])


def _views(
    request: Sources, size: int, channels: int, sides: Mapping[str, samples.Loaded], kept: Tensor
) -> dict[str, views.Views]:
    """Give what draws the crops of the images that are trained on, for each side; nothing where they are squashed."""
    if request.view == views.SQUASH:
        return {}
    chosen = kept.nonzero().flatten().tolist()
    return {
        name: views.Views([loaded.found.samples[position] for position in chosen], request.view, size, channels)
        for name, loaded in sides.items()
    }


def held_out(found: samples.Labelled) -> Tensor:
    """Pick a fifth of each class, by a hash of the key: the same images whatever the seed. Bool `(N,)`."""
    held = torch.zeros(len(found.samples), dtype=torch.bool)
    for number in range(len(found.classes)):
        mine = [position for position, label in enumerate(found.labels) if label == number]
        mine.sort(key=lambda position: _hash(found.samples[position].key))
        held[mine[: max(1, round(HELD_OUT * len(mine)))] if len(mine) > 1 else []] = True
    if not bool(held.any()):
        raise UexError("every class has a single image: none can be held out.", hint="Give --test DIR.")
    return held


def _among(digests: Sequence[str], others: set[str]) -> Tensor:
    """Which images are, byte for byte, among others. Bool `(N,)`."""
    return torch.tensor([digest in others for digest in digests])


def _hash(key: str) -> bytes:
    return hashlib.sha256(f"held out {key}".encode("utf-8", "surrogateescape")).digest()
