"""Datasets as the Hugging Face hub has them: parquet files with the images inside, or folders of images."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
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
    split_of,
)

SCHEME = "huggingface:"
INSTALL = "pip install 'uexcli[huggingface]'"
SUFFIX = ".parquet"
OWN_FILES = ("SHA256SUMS", "uex-release.json", "croissant.json", ".uex-convert.json")  # of a copy by uex


@dataclass(frozen=True)
class HuggingFace(Dataset):
    """The parquet files below a folder, or one of them; a folder without any is an imagefolder."""

    name: ClassVar[str] = "huggingface"
    summary: ClassVar[str] = "huggingface:FOLDER of parquet files with images, or one; or an imagefolder with splits"
    paper: ClassVar[str] = "Lhoest et al., Datasets: a community library for natural language processing, 2021"
    can_write: ClassVar[bool] = True

    def missing_requirement(self) -> UexError | None:
        """The package that reads and writes parquet."""
        if importlib.util.find_spec("pyarrow") is None:
            return UexError(f"dataset '{self.name}' needs pyarrow.", hint=f"Run: {INSTALL}")
        return None

    def accepts(self, uri: str) -> bool:
        """Whether it starts with the scheme."""
        return uri.startswith(SCHEME)

    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """List the images of a split, sorted by key; a file that is named is read whatever its split.

        Raises:
            UsageError: there is no such folder or file.
            UexError: pyarrow is missing, there is nothing of this split, or a file is damaged.
        """
        root = Path(uri.removeprefix(SCHEME))
        files = _parquets(root)
        if not files:
            from uex_huggingface._imagefolder import read as read_folder

            return read_folder(root, split)[0]
        self._check()
        from uex_huggingface._parquet import read

        if root.is_file():
            return read(root.parent, files)
        return read(root, _of_split(root, files, split))

    def unread(self, uri: str, *, split: str = "train") -> list[Unread]:
        """Files of other splits, those that are neither images nor metadata nor parquet, and hidden ones."""
        root = Path(uri.removeprefix(SCHEME))
        files = _parquets(root)
        if root.is_file():
            return []
        if not files:
            from uex_huggingface._imagefolder import read as read_folder

            return read_folder(root, split)[1]
        chosen = set(_of_split(root, files, split))
        found = [Unread(name, f"as of the split {split_of(name) or 'train'}") for name in files if name not in chosen]
        for path in _walk(root):
            name = path.relative_to(root).as_posix()
            if name in OWN_FILES:
                continue
            if path.name.startswith("."):
                found.append(Unread(name + ("/" if path.is_dir() else ""), HIDDEN))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(Unread(name, "as an image beside parquet files"))
            elif name not in files:
                found.append(Unread(name, NO_IMAGE))
        return found

    def write(self, uri: str, samples: Sequence[Sample]) -> None:
        """Write one parquet file, which `datasets` opens with images and classes: files as they are, arrays as PNG.

        Raises:
            UsageError: there is a parquet file already.
            UexError: pyarrow is missing, or a key or class is no text.
        """
        self._check()
        root = Path(uri.removeprefix(SCHEME))
        if root.exists() and _parquets(root):
            raise UsageError(f"{root} holds a parquet file already.", hint="Write to a new folder.")
        from uex_huggingface._write import write

        write(root, samples)

    def _check(self) -> None:
        missing = self.missing_requirement()
        if missing is not None:
            raise missing


def _parquets(root: Path) -> list[str]:
    """The parquet files at or below a path, relative to it (or by name), sorted; hidden ones are left out."""
    if root.is_file():
        if root.suffix.lower() != SUFFIX:
            raise UsageError(f"{root}: no parquet file.", hint="Give a .parquet file, or a folder.")
        return [root.name]
    if not root.is_dir():
        raise UsageError(f"{root}: no such file or folder.", hint="Give a .parquet file, or a folder.")
    found = []
    for path in _walk(root):
        if path.name.lower().endswith(SUFFIX) and not path.name.startswith("."):
            found.append(path.relative_to(root).as_posix())
    odd = next((root / name for name in found if (root / name).exists() and not (root / name).is_file()), None)
    if odd is not None:
        raise UexError(f"{odd} is no file, but a pipe or a device.", hint="Remove it.")
    return sorted(found)


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


def _of_split(root: Path, files: list[str], split: str) -> list[str]:
    """Keep the files of a split; what is called neither `test` nor `validation` is for training."""
    kinds = {name: split_of(name) for name in files}
    if split == "train":
        return [name for name in files if kinds[name] in {"train", ""}] or files
    for kind in ("test", "validation"):
        chosen = [name for name in files if kinds[name] == kind]
        if chosen:
            return chosen
    raise UexError(
        f"{root}: no file here is called {split}.", hint="Name the file itself, as huggingface:FOLDER/FILE.parquet."
    )


@hookimpl
def uex_datasets() -> list[type[Dataset]]:
    """Register."""
    return [HuggingFace]
