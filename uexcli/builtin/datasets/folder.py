"""Folders of images: class folders, flat, or flat with a CSV of labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from uexcli.api import IMAGE_SUFFIXES, Dataset, Sample, UexError, UsageError, hookimpl, is_safe

EXTENSIONS = IMAGE_SUFFIXES


@dataclass(frozen=True)
class Folder(Dataset):
    """Image files below a folder. The first folder of the relative path is the class; files at the top have none."""

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "a folder of image files; its sub-folders are the classes"
    can_write: ClassVar[bool] = True

    def accepts(self, uri: str) -> bool:
        """Anything that is a path: `folder:PATH` where the path could be taken for something else."""
        return uri.startswith("folder:") or Path(uri).exists() or ":" not in uri

    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """List the image files, sorted by key; hidden files and folders are left out."""
        root = Path(uri.removeprefix("folder:"))
        if not root.exists():
            raise UsageError(f"{root}: no such folder.", hint="Give the path of a folder of images.")
        if not root.is_dir():
            raise UsageError(f"{root}: not a folder.", hint="Give the path of a folder of images.")
        samples = [Sample(key, _label(key), path=root / key) for key in _walk(root)[0]]
        if not samples:
            raise UexError(f"{root}: no image in this folder.", hint="uex reads JPEG, PNG, WebP, TIFF, BMP and more.")
        return samples

    def ignored(self, uri: str) -> int:
        """Files whose names are not those of images; hidden ones are not counted."""
        return _walk(Path(uri.removeprefix("folder:")))[1]

    def write(self, uri: str, samples: Sequence[Sample]) -> None:
        """Write files as they are, and arrays as PNG files.

        Raises:
            UexError: a key leads out of the folder, or a file is where another key wants a folder.
        """
        root = Path(uri.removeprefix("folder:"))
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


def _walk(root: Path) -> tuple[list[str], int]:
    """Relative paths of image files, with forward slashes, sorted; and how many other files there are."""
    found: list[str] = []
    others = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise UexError(
                    f"{Path(folder) / name} is a link to a folder, which uex does not follow.",
                    hint="Put the folder itself there.",
                )
        for name in files:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122
                found.append((Path(folder) / name).relative_to(root).as_posix())
            else:
                others += 1
    return sorted(found), others


def _label(key: str) -> str | None:
    first, slash, _ = key.partition("/")
    return first if slash else None


@hookimpl
def uex_datasets() -> list[type[Dataset]]:
    """Register."""
    return [Folder]
