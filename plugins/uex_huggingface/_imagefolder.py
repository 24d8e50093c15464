"""An imagefolder: images below folders of splits, with classes from their folders or from a metadata file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from uexcli.plugin import HIDDEN, IMAGE_SUFFIXES, NO_IMAGE, Sample, UexError, Unread, is_safe, split_folder

METADATA = ("metadata.csv", "metadata.jsonl")


def read(root: Path, split: str) -> tuple[list[Sample], list[Unread]]:
    """List the images of a split, with keys relative to its folder; and what else is there.

    Where the folders at the top are not all splits, they are classes, and everything is for training.

    Raises:
        UexError: there is no image of the split, or a metadata file is damaged or names files that are not there.
    """
    every = sorted(_walk(root))
    files = [name for name in every if not _is_hidden(name)]
    folders = _split_folders(root, files, split)
    labels = _labels(root, "", files)
    samples: dict[str, Sample] = {}
    others = [Unread(name, HIDDEN) for name in every if _is_hidden(name)]
    for name in files:
        top = name.partition("/")[0] + "/"
        if not any(name.startswith(folder) for folder in folders) and name not in METADATA:
            image = PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
            others.append(Unread(name, f"as of the split {split_folder(top[:-1])}" if image else NO_IMAGE))
    for folder in folders:
        inside = [name for name in files if name.startswith(folder)]
        own = {**labels, **(_labels(root, folder, inside) if folder else {})}
        differ = next((name for name in own if labels.get(name, own[name]) != own[name]), None)
        if differ is not None:
            raise UexError(f"{root}: {differ} is '{labels[differ]}' by one metadata file, '{own[differ]}' by another.")
        for name in inside:
            key = name.removeprefix(folder)
            if PurePosixPath(name).suffix.lower() not in IMAGE_SUFFIXES:
                others += [] if key in METADATA else [Unread(name, NO_IMAGE)]
            elif key in samples:
                raise UexError(f"{root}: {key} is there twice, below {' and '.join(folders)}.")
            else:
                label = own.get(name) if own else _folder_of(key)
                samples[key] = Sample(key, label, path=root / name)
    if not samples:
        raise UexError(f"{root}: no image and no parquet file of the split {split}.")
    return [samples[key] for key in sorted(samples)], others


def _walk(root: Path) -> Iterator[str]:
    """The paths of all files below a folder, with forward slashes; hidden folders, with a slash, are not looked into.

    Raises:
        UexError: a link leads out of it, or to a folder; or something is a pipe or a device.
    """
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        yield from ((Path(folder) / name).relative_to(root).as_posix() + "/" for name in folders if name[0] == ".")
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise UexError(
                    f"{Path(folder) / name} is a link to a folder, which uex does not follow.",
                    hint="Put the folder itself there.",
                )
        yield from ((Path(folder) / name).relative_to(root).as_posix() for name in files if name[0] == ".")
        for path in (Path(folder) / name for name in files if name[0] != "."):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise UexError(f"{path} is a link out of the folder.", hint="Put the file itself there.")
            if path.exists() and not path.is_file():
                raise UexError(f"{path} is no file, but a pipe or a device.", hint="Remove it.")
            yield path.relative_to(root).as_posix()


def _is_hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".")


def _split_folders(root: Path, files: list[str], split: str) -> list[str]:
    """The folders of a split, each with a slash at its end; "" where the whole is one."""
    images = [name for name in files if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    tops = sorted({name.partition("/")[0] + "/" for name in images if "/" in name})
    kinds = {top: split_folder(top[:-1]) for top in tops}
    if not tops or not all(kinds.values()) or any("/" not in name for name in images):
        kinds = {"": "train"}
    if split == "train":
        return [top for top, kind in kinds.items() if kind == "train"] or list(kinds)
    for kind in ("test", "validation"):
        chosen = [top for top in kinds if kinds[top] == kind]
        if chosen:
            return chosen
    raise UexError(f"{root}: no folder here is called {split}.", hint="Give the folder of the test images itself.")


def _folder_of(key: str) -> str | None:
    first, slash, _ = key.partition("/")
    return first if slash else None


def _labels(root: Path, folder: str, files: list[str]) -> dict[str, str]:
    """The classes that a folder's metadata file states, by path below the root; empty where it states none."""
    there = set(files)
    found: dict[str, str] = {}
    for name in METADATA:
        path = root / (folder + name)
        if folder + name not in there:
            continue
        for row in _rows(path):
            file = row.get("file_name")
            plain = str(PurePosixPath(file)) if isinstance(file, str) and file else ""
            if not is_safe(plain):
                raise UexError(f"{path}: the file_name {file!r} leads out of the folder, or is none.")
            if folder + plain not in there:
                raise UexError(f"{path}: {plain} is not there.", hint="Download it again.")
            label = row.get("label")
            if isinstance(label, (str, int)) and not isinstance(label, bool) and label != "":
                before = found.setdefault(folder + plain, str(label))
                if before != str(label):
                    raise UexError(f"{path}: {plain} is '{before}' and '{label}'.", hint="Leave one of them.")
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file)
                return
            for line in file:
                row = json.loads(line) if line.strip() else None
                if isinstance(row, dict):
                    yield row
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UexError(f"{path}: cannot be read ({error}).", hint="Download it again.") from None
