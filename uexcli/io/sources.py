"""Where images come from: a URI, resolved once, with its dataset and its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from uexcli.errors import Terminated, UexError, UsageError
from uexcli.io import labels as csv_labels
from uexcli.io import unread
from uexcli.io.samples import Labelled, label
from uexcli.plugin import NO_IMAGE, Dataset, Sample, Unread
from uexcli.registry import Broken, Registry


@dataclass(frozen=True)
class Source:
    """Images that a URI names, and the dataset plugin that reads them."""

    uri: str
    dataset: Dataset

    def __str__(self) -> str:
        return self.uri

    @property
    def root(self) -> Path:
        """Where the data lies: the path after the URI's scheme."""
        path = self.uri.removeprefix(f"{self.dataset.name}:")
        return Path(path.removeprefix("links:") if self.dataset.name == "folder" else path)

    @property
    def ignored(self) -> int:
        """How many files there are no images."""
        return self.dataset.ignored(self.uri)

    def read(self, split: str = "train") -> Sequence[Sample]:
        """List the images of a split, as the dataset has them."""
        return self.dataset.read(self.uri, split=split)

    def unread(self, split: str = "train") -> list[Unread]:
        """List what the dataset does not read; of one that only counts, so many files without names."""
        found = self.dataset.unread(self.uri, split=split)
        if not found and type(self.dataset).ignored is not Dataset.ignored:
            return [Unread("?", NO_IMAGE)] * self.ignored
        return found

    def samples(self, *, split: str = "train", labels: Path | None = None, strict: bool = True) -> Labelled:
        """List the images of a split, with labels from their folders or from a CSV `path,label`.

        Labels are for all or for none: where some lack one, that is an error, or not `strict` none has any. So are
        folders that are no classes, but splits.

        Raises:
            UexError: there is no such data, or labels that do not fit it.
        """
        samples = self.read(split)
        notes = unread.words(self.unread(split))
        if labels is not None:
            given = csv_labels.given(labels, [sample.key for sample in samples], self.root)
            samples = [replace(sample, label=given.labels.get(sample.key)) for sample in samples]
            strangers = [row.path for row in given.strangers]
            _all_labelled(samples, f"{labels} has no label for", strangers)
            if strangers:
                notes.append(f"{labels} also has {len(strangers):,} that are not here: {unread.listed(strangers)}")
        elif not strict and any(not sample.label for sample in samples):
            samples = [replace(sample, label=None) for sample in samples]
        elif any(sample.label for sample in samples):
            if strict:
                unread.check_splits(self.uri, self.root, samples, split)
            _all_labelled(samples, "images in class folders have a label, but there is none for")
        return replace(label(samples), notes=tuple(notes))


@dataclass(frozen=True)
class Held(Dataset):
    """Images that a program holds in memory."""

    name: ClassVar[str] = "arrays"
    summary: ClassVar[str] = "images in memory"
    ordered: ClassVar[bool] = True
    held: tuple[Sample, ...] = ()

    def accepts(self, uri: str) -> bool:
        """None: they are handed over, not named."""
        return False

    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """Give them, whichever split is asked for."""
        return list(self.held)


def source_in_memory(images: Iterable[np.ndarray], labels: Sequence[str] | None, keys: Sequence[str]) -> Source:
    """Make a source of uint8 images `(H, W, 3)` or `(H, W)`, named by `keys`; labels are class names."""
    named = labels if labels is not None else [None] * len(keys)
    held = [Sample(key, label, array=image) for key, label, image in zip(keys, named, images, strict=True)]
    return Source(f"{len(held):,} images in memory", Held(tuple(held)))


def source_of(registry: Registry, uri: str | Source) -> Source:
    """Find the dataset plugin that a URI is for; a plain path is a folder. A source stays what it is.

    Raises:
        UsageError: there is no such plugin.
    """
    if isinstance(uri, Source):
        return uri
    makers = [registry.find("dataset", name).cls for name in registry.names("dataset") if name != "folder"]
    for cls in [*makers, registry.find("dataset", "folder").cls]:
        dataset = cls()
        if isinstance(dataset, Dataset) and _accepts(registry, dataset, uri):
            return Source(uri, dataset)
    scheme = uri.partition(":")[0]
    raise UsageError(f"{uri}: no dataset '{scheme}'.", hint=f"Known: {', '.join(registry.names('dataset'))}.")


def _accepts(registry: Registry, dataset: Dataset, uri: str) -> bool:
    """Ask a dataset; one that fails is broken, and must not take the others with it."""
    try:
        return dataset.accepts(uri)
    except (UexError, KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:
        entry = registry.find("dataset", dataset.name)
        registry.note(Broken(entry.plugin, f"dataset '{dataset.name}': {type(error).__name__}: {error}"))
        return False


def _all_labelled(samples: Sequence[Sample], complaint: str, strangers: Sequence[str] = ()) -> None:
    """Refuse images without a label; `strangers` are the paths in a CSV that are of no image."""
    bare = [sample.key for sample in samples if not sample.label]
    if not bare:
        return
    more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
    hint = "Label every image, with `labels=FILE.csv` or class folders."
    if strangers:
        hint = f"Paths are relative to the photos, such as {bare[0]}; it has {strangers[0]}, which is not there."
    raise UexError(f"{complaint} {bare[0]}{more}.", hint=hint)
