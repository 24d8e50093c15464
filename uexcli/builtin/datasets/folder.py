"""Folders of images: class folders, flat, or flat with a CSV of labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from uexcli.plugin import (
    HIDDEN,
    IMAGE_SUFFIXES,
    NO_IMAGE,
    Dataset,
    Sample,
    UexError,
    Unread,
    UsageError,
    hookimpl,
    is_safe,
)

LINKS = "links:"
MOST_FOLDERS = 1_000_000  # that links may lead to: a few that cross lead to any number


@dataclass(frozen=True)
class Folder(Dataset):
    """Image files below a folder. The first folder of the relative path is the class; files at the top have none."""

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "a folder of image files; its sub-folders are the classes"
    can_write: ClassVar[bool] = True

    def accepts(self, uri: str) -> bool:
        """Anything that is a path: `folder:PATH` where the path could be taken for something else.

        `links:PATH` also follows links, to files and folders, wherever they lead.
        """
        return uri.startswith(("folder:", LINKS)) or Path(uri).exists() or ":" not in uri

    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """List the image files, sorted by key; hidden files and folders are left out."""
        root = _root(uri)
        if not root.exists():
            raise UsageError(f"{root}: no such folder.", hint="Give the path of a folder of images.")
        if not root.is_dir():
            raise UsageError(f"{root}: not a folder.", hint="Give the path of a folder of images.")
        samples = [Sample(key, _label(key), path=root / key) for key in _walk(uri)[0]]
        if not samples:
            raise UexError(f"{root}: no image in this folder.", hint="uex reads JPEG, PNG, WebP, TIFF, BMP and more.")
        return samples

    def unread(self, uri: str, *, split: str = "train") -> list[Unread]:
        """Files whose names are not those of images, what is hidden, and folders in which no image is."""
        return _walk(uri)[1]

    def write(self, uri: str, samples: Sequence[Sample]) -> None:
        """Write files as they are, and arrays as PNG files.

        Raises:
            UexError: a key leads out of the folder, or a file is where another key wants a folder.
        """
        root = _root(uri)
        for sample in samples:
            if not is_safe(sample.key):
                raise UexError(f"{sample.key}: leads out of the folder {root}, or is no plain path.")
        for sample in samples:
            target = root / sample.key
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(sample.encoded())
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise UexError(f"{sample.key}: one image is called like the folder of another.") from None


def _root(uri: str) -> Path:
    return Path(uri.removeprefix("folder:").removeprefix(LINKS))


def _walk(uri: str) -> tuple[list[str], list[Unread]]:
    """Relative paths of image files, with forward slashes, sorted; and what else is there.

    Raises:
        UexError: a link leads out of the folder, where it may lead anywhere; or a pipe or device is called an image.
    """
    root, found, others = _root(uri), list[str](), list[Unread]()
    follow = uri.startswith(LINKS)
    inside = None if follow else root.resolve()
    folders: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]  # each with those it lies in
    below = list[str]()
    seen = 0
    while folders:
        folder, above = folders.pop()
        seen += 1
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            here = above | {_identity(folder)} if follow else above
        except OSError as error:
            raise UexError(f"{folder}: cannot be read ({error.strerror}).") from None
        if follow and seen > MOST_FOLDERS:
            raise UexError(f"{root}: links lead to more than {MOST_FOLDERS:,} folders.", hint="Remove some of them.")
        for entry in entries:
            name = Path(entry.path).relative_to(root).as_posix()
            if entry.name.startswith("."):
                others.append(Unread(f"{name}/" if _is_folder(entry) else name, HIDDEN))
            elif _is_folder(entry):
                if entry.is_symlink() and not follow:
                    raise UexError(
                        f"{entry.path} is a link to a folder, which uex does not follow.",
                        hint=f"Put the folder itself there, or say {LINKS}FOLDER if all of its links may be followed.",
                    )
                if follow and _identity(Path(entry.path)) in here:
                    others.append(Unread(f"{name}/", "as a link back to a folder that it lies in"))
                    continue
                folders.append((Path(entry.path), here))
                below.append(name)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
                _check(entry, inside)
                found.append(name)
            else:
                others.append(Unread(name, NO_IMAGE))
    filled = {above for name in found for above in _above(name)}
    empty = {name for name in below if name not in filled}
    tops = [name for name in empty if not empty.intersection(_above(name))]
    others += [Unread(f"{name}/", "without an image in them") for name in tops]
    return sorted(found), sorted(others, key=lambda item: item.path)


def _above(name: str) -> list[str]:
    """The folders that a relative path lies in, without the root."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: length + 1]) for length in range(len(parts))]


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _check(entry: os.DirEntry[str], inside: Path | None) -> None:
    """Refuse what would be read from elsewhere, or never end."""
    try:
        if entry.is_symlink() and inside is not None and not Path(entry.path).resolve().is_relative_to(inside):
            raise UexError(
                f"{entry.path} is a link out of the folder.",
                hint=f"Put the file itself there, or say {LINKS}FOLDER if all of its links may be followed.",
            )
        there = entry.is_file() or not Path(entry.path).exists()  # a link to nothing is told where it is read
    except (OSError, RuntimeError):  # as is one to itself
        return
    if not there:
        raise UexError(f"{entry.path} is no file, but a pipe or a device.", hint="Remove it.")


def _label(key: str) -> str | None:
    first, slash, _ = key.partition("/")
    return first if slash else None


@hookimpl
def uex_datasets() -> list[type[Dataset]]:
    """Register."""
    return [Folder]
