"""Protected classes inside another set of images: whoever collects from several sources meets them there."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from uexcli import plugin
from uexcli.commands.evaluate.data import Data, Sources, without_trained
from uexcli.commands.evaluate.folds import held_out
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.io.sources import source_of
from uexcli.messages import Listener
from uexcli.registry import load


def into(data: Data, host: str, test: str | None, sources: Sources, listener: Listener) -> Data:
    """Put the images of all classes into a host set, whose own images stay clean.

    A class of the same name becomes one with the host's. No class that is put in has more images than the host's
    largest one, in the order of its listing: it would be learnt by its number alone.

    Raises:
        UsageError: there is no such set.
        UexError: it has no labels, or an image cannot be read.
    """
    registry = load()
    size, channels = int(data.clean.shape[2]), int(data.clean.shape[1])

    def get(found: samples.Labelled, stage: str) -> samples.Loaded:
        return samples.load(
            found, size, channels, on_error=sources.on_error,
            on_done=lambda done, total: listener.step(plugin.Progress(done, total, stage=stage)),
        )  # fmt: skip

    found = source_of(registry, host).samples()
    if not found.labels:
        raise UexError(f"`into={host}`: no labels.", hint="Give a set of class folders.")
    loaded = get(found, "read host")
    device = data.labels.device
    classes = tuple(dict.fromkeys((*loaded.found.classes, *data.classes)))
    loaded = _others(loaded, data.digests, listener)

    def theirs(names: tuple[str, ...], labels: Tensor) -> Tensor:
        return torch.tensor([classes.index(name) for name in names])[labels]

    ours = torch.tensor([classes.index(name) for name in data.classes], device=device)
    host_labels = theirs(loaded.found.classes, loaded.labels)
    if test is None:
        held = held_out(loaded.found)
        tests, test_labels = loaded.images[held], host_labels[held]
        images, host_labels = loaded.images[~held], host_labels[~held]
    else:
        shown = get(source_of(registry, test).samples(split="test"), "read host's test")
        tests, test_labels = without_trained(test, shown, loaded)
        strangers = sorted(set(shown.found.classes) - set(loaded.found.classes))
        if strangers or not shown.found.classes:
            raise UexError(f"`into_test={test}`: its classes are not those of {host}: {', '.join(strangers[:3])}.")
        images, test_labels = loaded.images, theirs(shown.found.classes, test_labels)
    most = int(host_labels.bincount().max())
    kept = _first(data.labels, most)

    def both(own: Tensor, other: Tensor) -> Tensor:
        return torch.cat([other.to(device), own])

    keys = [key for key, stays in zip(data.keys, kept.tolist(), strict=True) if stays]
    return dataclasses.replace(
        data,
        clean=both(data.clean[kept], images),
        protected=both(data.protected[kept], images),
        labels=both(ours[data.labels[kept]], host_labels),
        test=both(data.test, tests),
        test_labels=both(ours[data.test_labels], test_labels),
        classes=classes,
        test_source=f"{data.test_source}, {test or 'held out of the host'}",
        keys=(*(f"host/{number}" for number in range(len(images))), *keys),
        stays=both(torch.zeros(len(keys), dtype=torch.bool, device=device), torch.ones(len(images), dtype=torch.bool)),
    )


def _others(loaded: samples.Loaded, ours: frozenset[str], listener: Listener) -> samples.Loaded:
    """Leave out what is, byte for byte, among our own photos: clean copies of what is protected, or tested on."""
    kept = [position for position, digest in enumerate(loaded.digests) if digest not in ours]
    if len(kept) == len(loaded.digests):
        return loaded
    listener.warn(f"{len(loaded.digests) - len(kept)} images of the host are among the photos, and are left out")
    if not kept:
        raise UexError("`into`: all of its images are among the photos.", hint="Give another set.")
    return samples.Loaded(
        loaded.found.only(kept),
        loaded.images[kept],
        loaded.labels[kept],
        tuple(loaded.digests[position] for position in kept),
        loaded.skipped,
    )


def _first(labels: Tensor, most: int) -> Tensor:
    """Mark the first so many images of each class: bool `(N,)`."""
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for number in labels.unique().tolist():
        kept[(labels == number).nonzero().flatten()[:most].cpu()] = True
    return kept.to(labels.device)
