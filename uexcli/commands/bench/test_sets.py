"""What a set of photos is tested on: what its recipe says, the dataset's own test split, or some that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uexcli.commands.bench.recipes import Photos
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.io.sources import Source, source_of
from uexcli.messages import Listener
from uexcli.plugin import Sample, split_folder
from uexcli.registry import Registry, load


@dataclass(frozen=True)
class Test:
    """The test images of a set."""

    uri: str | None  # None: photos are held out
    own_split: bool = False
    beyond: str | None = None  # how an evaluation begins to say that photos beyond the limit are not in a release

    def words(self, source: str) -> str:
        """Say what was tested on, where an evaluation calls it `source`."""
        return f"the test split of {source}" if self.own_split else source


def find(photos: Photos, listener: Listener) -> Test:
    """Say what a set is tested on.

    Raises:
        UexError: the photos cannot be listed.
    """
    registry = load()
    source = source_of(registry, photos.photos)
    listed = source.samples(labels=photos.labels, strict=False)
    kept = samples.limited(listed, photos.limit, ordered=source.dataset.ordered)
    every, some = len(listed.samples), len(kept.samples)
    beyond = f"{every - some:,} of {every:,} photos are not in the release" if some < every else None
    if isinstance(photos.test, str):
        return Test(photos.test, beyond=beyond)
    found = Test(None, beyond=beyond)
    if photos.test is None and photos.labels is None:
        own = _has_test_split(source)
        uri = photos.photos if own else _beside(photos.photos)
        if uri is not None and _fits(registry, uri, kept):
            found = Test(uri, own, beyond)
    where = "some of the photos, held out" if found.uri is None else found.words(found.uri)
    listener.say(f"Test images{f' of {photos.name}' if photos.name else ''}: {where}.")
    return found


def _has_test_split(source: Source) -> bool:
    """Whether a dataset lists other images when asked for its test split."""
    try:
        train, test = (_names(source.read(split)) for split in ("train", "test"))
    except UexError:  # it has none, and says so
        return False
    return train != test


def _names(found: Sequence[Sample]) -> list[tuple[str, Path | None]]:
    return [(sample.key, sample.path) for sample in found]


def _beside(uri: str) -> str | None:
    """The folder of test images beside a folder of training images, where both are called so."""
    root = Path(uri.removeprefix("folder:"))
    if not root.is_dir() or split_folder(root.name) != "train":
        return None
    folders = sorted(path for path in root.absolute().parent.iterdir() if path.is_dir())
    for kind in ("test", "validation"):
        found = [path for path in folders if split_folder(path.name) == kind]
        if found:
            return str(root.parent / found[0].name)
    return None


def _fits(registry: Registry, uri: str, trained: samples.Labelled) -> bool:
    """Whether all test images are of classes that are trained on."""
    try:
        classes = source_of(registry, uri).samples(split="test").classes
    except UexError:
        return False
    return bool(classes) and set(classes) <= set(trained.classes)
