"""The images of an evaluation: clean and protected pairs, and clean test images neither side is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uexcli import api
from uexcli.commands.listener import Listener
from uexcli.errors import UexError, UsageError
from uexcli.io import images, release, samples, views
from uexcli.registry import load

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

    def drawn(kept: Tensor) -> dict[str, views.Views]:
        return _views(request, size, seen.channels, {"clean_views": clean, "protected_views": protected}, kept)

    if request.test is None:
        held = _held_out(clean.found)
        tested = {digest for digest, out in zip(clean.digests, held.tolist(), strict=True) if out}
        kept = ~_among(clean.digests, tested)
        return Data(
            before[kept], written[kept], labels[kept], before[held], labels[held], classes, "held out", **drawn(kept)
        )
    test = get(samples.list_samples(registry, request.test, split="test"), "read test")
    tests, test_labels = _tested(request, test, clean, listener)
    every = torch.ones(len(labels), dtype=torch.bool)
    return Data(
        before, written, labels, tests.to(device), test_labels.to(device), classes, request.test, **drawn(every)
    )


def _tested(request: Sources, test: samples.Loaded, clean: samples.Loaded, listener: Listener) -> tuple[Tensor, Tensor]:
    """Give the test images that are not among the training images, and their labels, numbered as those are."""
    classes = clean.found.classes
    strangers = sorted(set(test.found.classes) - set(classes))
    if strangers or not test.found.classes:
        shown = ", ".join(strangers[:CLASSES_SHOWN]) or "none at all"
        raise UexError(
            f"{request.test}: its classes are not those of {request.photos}: {shown}.", hint="Use the same class names."
        )
    fresh = ~_among(test.digests, set(clean.digests))
    if not bool(fresh.all()):
        if not bool(fresh.any()):
            raise UexError(f"{request.test}: all of its images are among the training images.", hint="Test on others.")
        listener.warn(f"{int((~fresh).sum())} test images are also among the training images, and are left out")
    renumber = torch.tensor([classes.index(name) for name in test.found.classes])
    return test.images[fresh], renumber[test.labels[fresh]]


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


def _held_out(found: samples.Labelled) -> Tensor:
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
