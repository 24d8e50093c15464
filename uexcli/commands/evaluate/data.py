"""The images of an evaluation: clean and protected pairs, and clean test images neither side is trained on."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uexcli import plugin
from uexcli.commands.evaluate import folds
from uexcli.core.eval.scores import Pairs
from uexcli.errors import UexError, UsageError
from uexcli.io import samples
from uexcli.io.images import crops, photo_files
from uexcli.io.pool import parallel
from uexcli.io.release import layout
from uexcli.io.sources import Source, source_of
from uexcli.messages import Listener, tell_notes
from uexcli.registry import load, remake

CLASSES_SHOWN = 3
LARGEST, RESIZED = 96, 64  # px: photos up to here are shown as they are, others at this size


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
    side: int = 0  # of the photos as they are, in px; typical
    levels: int | None = None  # most 8-bit levels that the release says a value may differ by; None: it says nothing
    clean_views: crops.Views | None = None  # fresh crops for each epoch, where the trainer takes some from the photos
    protected_views: crops.Views | None = None


@dataclass(frozen=True)
class Sources:
    """Where the images are, and how to read them."""

    photos: str | Source
    release: str | Source
    test: str | Source | None
    labels: Path | None
    size: int | None
    on_error: str
    view: str = crops.SQUASH
    folds: int | None = 1  # of a cross-validation where no test set is given; None: by the number of photos


@dataclass(frozen=True)
class Paired:
    """The photos and what was made of them, loaded at one size."""

    clean: samples.Loaded
    protected: samples.Loaded
    size: int
    channels: int
    side: int  # of the photos as they are, in px; typical
    levels: int | None


def read(request: Sources, device: torch.device, listener: Listener) -> tuple[Data, ...]:
    """Pair photos and release, and load everything at one size; one Data a fold.

    Where no test set is given a fifth is held out, or with several folds each photo is held out in one of them.
    """
    paired = _pair(request, listener)
    clean = paired.clean
    whole = (clean.images.to(device), paired.protected.images.to(device), clean.labels.to(device))
    digests = frozenset(clean.digests)

    def data(train: Three, places: Sequence[int], test: Tensor, test_labels: Tensor, source: str) -> Data:
        return Data(
            *train, test, test_labels, clean.found.classes, source, keys=tuple(clean.found.keys[at] for at in places),
            digests=digests, side=paired.side, levels=paired.levels, **_views(request, paired, places),
        )  # fmt: skip

    if request.test is not None:
        listed = source_of(load(), request.test).samples(split="test")
        tell_notes(listed.notes, listener)
        test = _load(request, listed, paired.size, paired.channels, "read test", listener)
        digests = frozenset((*digests, *test.digests))
        tests, test_labels = _tested(request, test, clean, listener)
        every = range(len(clean.labels))
        return (data(whole, every, tests.to(device), test_labels.to(device), str(request.test)),)
    count = folds.number(request.folds, len(clean.labels))
    if count == 1:
        held = folds.held_out(clean.found)
        tested = {digest for digest, out in zip(clean.digests, held.tolist(), strict=True) if out}
        kept = ~_among(clean.digests, tested)
        places = kept.nonzero().flatten().tolist()
        return (data(_of(whole, kept), places, whole[0][held], whole[2][held], "held out"),)
    order, parts = folds.slices(folds.shared_out(clean.found, clean.digests, count))
    whole = _of(whole, order)
    source = f"each image held out in one of {count} folds"
    return tuple(
        data(_of(whole, train), order[train].tolist(), whole[0][test_at], whole[2][test_at], source)
        for train, test_at in parts
    )


Three = tuple[Tensor, Tensor, Tensor]  # clean and protected images, and labels


def _of(whole: Three, places: Tensor | slice) -> Three:
    return whole[0][places], whole[1][places], whole[2][places]


def _pair(request: Sources, listener: Listener) -> Paired:
    """Find each photo's partner in the release, and load both."""
    registry = load()
    source = source_of(registry, request.photos).samples(labels=request.labels)
    if not source.labels:
        raise UsageError(
            f"{request.photos}: no labels.", hint="Sort the photos into class folders, or give `labels=FILE.csv`."
        )
    tell_notes(source.notes, listener)
    released = source_of(registry, request.release).read()
    root = Path(str(request.release))
    facts = layout.read_facts(root) if root.is_dir() else None
    partner = layout.pair(source.keys, [sample.key for sample in released], (facts or {}).get("suffix", ".png"))
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
    common = seen.common if seen.common is not None and seen.common <= LARGEST else RESIZED
    size = request.size or (facts or {}).get("size") or common
    clean = _load(request, source, size, seen.channels, "read clean", listener)
    pairs = samples.Labelled(tuple(by_key[partner[key]] for key in clean.found.keys), (), ())
    protected = _load(request, pairs, size, seen.channels, "read protected", listener)
    if protected.skipped:
        raise UexError(f"{request.release}: {protected.skipped[0].reason}", hint="Apply again, or see: uex verify")
    if len(clean.found.classes) < 2:
        raise UexError(
            f"{request.photos}: all images are of one class.", hint="Learnability needs two classes or more."
        )
    return Paired(clean, protected, size, seen.channels, seen.side, _levels(facts or {}))


def _load(
    request: Sources, found: samples.Labelled, size: int, channels: int, stage: str, listener: Listener
) -> samples.Loaded:
    loaded = samples.load(
        found,
        size,
        channels,
        on_error=request.on_error,
        on_done=lambda done, total: listener.step(plugin.Progress(done, total, stage=stage)),
        shown=photo_files.squash if request.view == crops.SQUASH else crops.centre,
    )
    for lost in loaded.skipped:
        listener.warn(f"skipped {lost.reason}")
    return loaded


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
    images, labels = without_trained(str(request.test or ""), test, clean)
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
        raise UsageError(f"`pairs={path}`: no such file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UexError(f"`pairs={path}`: cannot be read ({error}).") from None
    if not rows or not {"a", "b", "same"} <= set(rows[0]):
        raise UexError(f"`pairs={path}`: no CSV with the header a,b,same.")
    same = torch.tensor([str(row["same"]).strip().lower() in {"1", "true", "yes"} for row in rows])
    if bool(same.all()) or not bool(same.any()):
        raise UexError(f"`pairs={path}`: pairs of the same face and of others are both needed.")

    def shown(column: str, row: dict[str, str]) -> np.ndarray:
        name = row[column] or ""
        found = next(
            (root / name for root in (path.parent, path.parent / "images") if name and (root / name).is_file()), None
        )
        if found is None:
            raise UexError(f"`pairs={path}`: there is no {name}.", hint="Names are relative to the CSV.")
        return crops.middle(photo_files.open_photo(plugin.Sample(name, None, path=found)), middle, size, channels)

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
    assert isinstance(norm, plugin.Norm)
    return norm.levels(facts["eps"])


def _views(request: Sources, paired: Paired, places: Sequence[int]) -> dict[str, Any]:
    """Give what draws the crops of the images that are trained on, for each side; nothing where they are squashed."""
    if request.view == crops.SQUASH:
        return {}
    sides = {"clean_views": paired.clean, "protected_views": paired.protected}
    return {
        name: crops.Views([loaded.found.samples[place] for place in places], request.view, paired.size, paired.channels)
        for name, loaded in sides.items()
    }


def _among(digests: Sequence[str], others: set[str]) -> Tensor:
    """Which images are, byte for byte, among others. Bool `(N,)`."""
    return torch.tensor([digest in others for digest in digests])
