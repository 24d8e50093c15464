"""WebDataset: images in tar shards, with their classes beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from uexcli.plugin import HIDDEN, NO_IMAGE, Dataset, Sample, UexError, Unread, UsageError, hookimpl, split_of

SCHEME = "webdataset:"
OWN_FILES = ("SHA256SUMS", "uex-release.json", "croissant.json", "labels.csv", ".uex-convert.json")  # of a copy


@dataclass(frozen=True)
class WebDataset(Dataset):
    """The .tar files below a folder, or one of them. Members that are called alike up to the first dot are a sample."""

    name: ClassVar[str] = "webdataset"
    summary: ClassVar[str] = "webdataset:FOLDER of .tar shards, or one .tar: images, and classes as .cls or .json"
    paper: ClassVar[str] = "Aizman et al., High performance I/O for large scale deep learning, 2019"
    can_write: ClassVar[bool] = True

    def accepts(self, uri: str) -> bool:
        """Whether it starts with the scheme."""
        return uri.startswith(SCHEME)

    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """List the images of all shards of the split, sorted by key, which is the member's path.

        Where the names of the shards tell no split, all of them are of both.

        Raises:
            UsageError: there is no such folder or file.
            UexError: a shard is damaged or not to be trusted, or two hold the same key.
        """
        from uex_webdataset._read import classes_of, scan

        root = Path(uri.removeprefix(SCHEME))
        found: dict[str, tuple[Path, Sample]] = {}
        for shard in _of_split(root, _shards(root), split):
            for sample in scan(shard, classes_of(shard.parent))[0]:
                if sample.key in found:
                    raise UexError(
                        f"{sample.key} is in {found[sample.key][0]} and in {shard}.", hint="Give shards of one dataset."
                    )
                found[sample.key] = (shard, sample)
        if not found:
            raise UexError(f"{root}: no image in these shards.")
        return [found[key][1] for key in sorted(found)]

    def unread(self, uri: str, *, split: str = "train") -> list[Unread]:
        """Members that are neither an image nor say its class, or are hidden; other shards, and what is none."""
        from uex_webdataset._read import CLASSES, scan

        root = Path(uri.removeprefix(SCHEME))
        shards = _shards(root)
        chosen = _of_split(root, shards, split)
        found = [item for shard in chosen for item in scan(shard)[1]]
        if root.is_file():
            return found
        kinds = {shard: split_of(shard.relative_to(root).as_posix()) for shard in shards}
        others = [shard for shard in shards if shard not in set(chosen)]
        found += [Unread(_named(root, shard), f"as of the split {kinds[shard] or 'train'}") for shard in others]
        for path in _walk(root):
            name = _named(root, path)
            if path.name in {CLASSES, *OWN_FILES}:
                continue
            if path.name.startswith("."):
                found.append(Unread(name, HIDDEN))
            elif not _is_shard(path):
                packed = ".tar." in path.name.lower() or path.suffix.lower() == ".tgz"
                found.append(Unread(name, "as a compressed shard: unpack it to .tar" if packed else NO_IMAGE))
        return found

    def ignored(self, uri: str) -> int:
        """Count the members that are neither an image nor say its class; hidden ones are not counted."""
        from uex_webdataset._read import scan

        root = Path(uri.removeprefix(SCHEME))
        shards = _of_split(root, _shards(root), "train")
        return sum(item.reason != HIDDEN for shard in shards for item in scan(shard)[1])

    def write(self, uri: str, samples: Sequence[Sample]) -> None:
        """Write shards of 1,000 samples: files as they are, arrays as PNG; and the names of the classes beside them.

        Raises:
            UsageError: there are shards already.
            UexError: a key is no plain relative path of an image, or there twice.
        """
        from uex_webdataset._write import write

        root = Path(uri.removeprefix(SCHEME))
        if root.is_dir() and any(map(_is_shard, _walk(root))):
            raise UsageError(f"{root} holds shards already.", hint="Write to a new folder.")
        write(root, samples)


def _shards(root: Path) -> list[Path]:
    """The .tar files at or below a path, sorted; hidden ones are left out."""
    if root.is_file():
        return [root]
    if not root.is_dir():  # also a pipe, which would never end
        raise UsageError(f"{root}: no such file or folder.", hint="Give a .tar file, or a folder of them.")
    found = sorted(filter(_is_shard, _walk(root)))
    if not found:
        raise UexError(f"{root}: no .tar file in this folder.", hint="Compressed shards must be unpacked to .tar.")
    odd = next((shard for shard in found if shard.exists() and not shard.is_file()), None)
    if odd is not None:
        raise UexError(f"{odd} is no file, but a pipe or a device.", hint="Remove it.")
    return found


def _walk(root: Path) -> Iterator[Path]:
    """All files below a folder, and hidden folders, which are not looked into.

    Raises:
        UexError: a link leads to a folder.
    """
    for folder, folders, files in os.walk(root):
        for name in folders:
            if (Path(folder) / name).is_symlink() and not name.startswith("."):
                raise UexError(
                    f"{Path(folder) / name} is a link to a folder, which uex does not follow.",
                    hint="Put the folder itself there.",
                )
        yield from (Path(folder) / name for name in folders if name.startswith("."))
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder) / name for name in files)


def _is_shard(path: Path) -> bool:
    return path.name.lower().endswith(".tar") and not path.name.startswith(".")


def _named(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() + ("/" if path.is_dir() else "")


def _of_split(root: Path, shards: list[Path], split: str) -> list[Path]:
    """Keep the shards of a split; what is called neither `test` nor `validation` is for training."""
    if root.is_file():
        return shards
    kinds = {shard: split_of(shard.relative_to(root).as_posix()) for shard in shards}
    if not any(kinds.values()):
        return shards
    if split == "train":
        return [shard for shard in shards if kinds[shard] in {"train", ""}] or shards
    for kind in ("test", "validation"):
        chosen = [shard for shard in shards if kinds[shard] == kind]
        if chosen:
            return chosen
    raise UexError(f"{root}: no shard here is called {split}.", hint="Give the test images their own folder.")


@hookimpl
def uex_datasets() -> list[type[Dataset]]:
    """Register."""
    return [WebDataset]
