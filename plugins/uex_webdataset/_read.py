"""Reading a shard: headers only, and with distrust. Images are read where they lie, when they are asked for."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from uexcli.plugin import HIDDEN, IMAGE_SUFFIXES, NO_IMAGE, Sample, UexError, Unread, is_safe

CLASSES = "classnames.txt"  # beside the shards: the name of each class, in the order of their numbers
KEY = "uex_key"  # in a sample's .json: its key, where that could be no name of a member
MOST_HEADER = 2**16  # bytes of a long name or an extended header
MOST_DIGITS = 2**10  # in a row, in a header
MOST_TEXT = 2**20  # bytes of a .cls or .json
MOST_IMAGE = 2**30
AGAIN = "Copy or download it again."


@dataclass(frozen=True)
class _Member:
    """A file in a tar: its path, that up to the name's first dot, what follows, and where its bytes lie."""

    name: str
    stem: str
    extension: str
    offset: int
    size: int


@dataclass
class _Group:
    """The members that are called alike up to the first dot."""

    images: list[_Member] = field(default_factory=list)
    texts: dict[str, _Member] = field(default_factory=dict)  # by extension: `cls`, `json`
    others: list[_Member] = field(default_factory=list)


def scan(path: Path, classes: Sequence[str] = ()) -> tuple[list[Sample], list[Unread]]:
    """List the samples of a shard; and the other files that are in it. `classes` are the names of its numbers.

    Raises:
        UexError: it is damaged, or not to be trusted.
    """
    groups: dict[str, _Group] = {}
    others: list[Unread] = []
    for member in _members(path):
        if _is_hidden(member.name):
            others.append(Unread(f"{path.name}: {member.name}", HIDDEN))
            continue
        group = groups.setdefault(member.stem, _Group())
        if PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
            group.images.append(member)
        elif member.extension in {"cls", "json"}:
            if member.extension in group.texts:
                raise UexError(f"{path}: holds {member.name} twice.", hint=AGAIN)
            group.texts[member.extension] = member
        else:
            group.others.append(member)
    samples: dict[str, Sample] = {}
    for stem, group in groups.items():
        chosen = _images(path, stem, group)
        beside = [member for member in group.images if member not in chosen]
        none = [*group.others, *(() if chosen else group.texts.values())]
        others += [Unread(f"{path.name}: {member.name}", "as beside the image of their sample") for member in beside]
        others += [Unread(f"{path.name}: {member.name}", NO_IMAGE) for member in none]
        for sample in _samples(path, chosen, group.texts, classes):
            if sample.key in samples:
                raise UexError(f"{path}: holds {sample.key} twice.")
            samples[sample.key] = sample
    return list(samples.values()), others


def _images(path: Path, stem: str, group: _Group) -> list[_Member]:
    """Choose the images of a sample: `x.jpg` before `x.mask.png`, which may be something else."""
    plain = [member for member in group.images if "." not in member.extension]
    if plain or len(group.images) < 2:
        return plain or group.images
    first, second = group.images[0].name, group.images[1].name
    raise UexError(
        f"{path}: {first} and {second} are of one sample, {stem}, and neither is its image.",
        hint="A sample is what is called alike up to the first dot. Unpack the tar and give the folder.",
    )


def _samples(path: Path, images: list[_Member], texts: dict[str, _Member], classes: Sequence[str]) -> Iterator[Sample]:
    if not images:
        return
    said = _json(path, texts["json"]) if "json" in texts else {}
    named = _text(path, texts["cls"]).strip() if "cls" in texts else ""
    if classes and named.isascii() and named.isdigit():
        if len(named) > 9 or int(named) >= len(classes):
            raise UexError(f"{path}: {texts['cls'].name} states a class {named}, of {len(classes)}.", hint=AGAIN)
        named = classes[int(named)]
    for image in images:
        key = said.get(KEY, image.name) if len(images) == 1 else image.name
        if not is_key(key):
            raise UexError(f"{path}: the key of {image.name} is no plain relative path of an image.")
        if image.size > MOST_IMAGE:
            raise UexError(f"{path}: {image.name} has {image.size:,} bytes, more than any image.")
        label = named or _label(said, key)
        yield Sample(key, label, data=partial(read_range, path, image.offset, image.size))


def classes_of(folder: Path) -> list[str]:
    """The names of the classes that lie beside shards; empty where they do not."""
    path = folder / CLASSES
    if not path.is_file():
        return []
    try:
        found = read_range(path, 0, path.stat().st_size).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UexError(f"{path}: cannot be read ({error}).") from None
    twice = next((name for name, count in Counter(found).items() if name and count > 1), None)
    if twice is not None:
        raise UexError(f"{path}: two classes are called '{twice}'.", hint="Give each a name of its own.")
    return found


def is_key(key: Any) -> bool:
    """Whether it is a plain relative path of an image, and not hidden."""
    if not isinstance(key, str) or not is_safe(key) or _is_hidden(key):
        return False
    return PurePosixPath(key).suffix.lower() in IMAGE_SUFFIXES


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _label(said: dict[str, Any], key: str) -> str | None:
    """The class that a sample's .json states (null: none), else the first folder of its key."""
    for name in ("label", "cls"):
        value = said.get(name, ...)
        if value is None:
            return None
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value) or None
    first, slash, _ = key.partition("/")
    return first if slash else None


def _json(path: Path, member: _Member) -> dict[str, Any]:
    try:
        said = json.loads(_text(path, member))
    except (ValueError, RecursionError):
        raise UexError(f"{path}: {member.name} is no JSON document.", hint=AGAIN) from None
    return said if isinstance(said, dict) else {}


def _text(path: Path, member: _Member) -> str:
    if member.size > MOST_TEXT:
        raise UexError(f"{path}: {member.name} has {member.size:,} bytes, too many to say a class.")
    try:
        return read_range(path, member.offset, member.size).decode()
    except UnicodeDecodeError:
        raise UexError(f"{path}: {member.name} is no UTF-8 text.", hint=AGAIN) from None
    except OSError as error:
        raise UexError(f"{path}: cannot be read ({error.strerror}).") from None


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Read a part of a file, which is opened anew, so that threads and forked processes do not share a position.

    Raises:
        UexError: the file has become shorter.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise UexError(f"{path} has become shorter while it was read.", hint=AGAIN)
    return data


class _Headers:
    """A file as `tarfile` sees it: it gives headers only, so that none can fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        data = self._file.read(size)
        if any(
            len(digits) > MOST_DIGITS for digits in re.findall(rb"\d+", data)
        ):  # tarfile's search takes their square
            raise tarfile.ReadError("a header that is none")
        return data

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def _members(path: Path) -> Iterator[_Member]:
    """The files in a tar, in its order."""
    for info in _infos(path):
        name = str(PurePosixPath(info.name))
        if not is_safe(name) and not (info.isdir() and name == "."):
            raise UexError(f"{path}: holds {info.name}, which leads out of it.", hint="Do not trust this file.")
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            kind = "a link" if info.issym() or info.islnk() else "no plain file"
            raise UexError(f"{path}: {name} is {kind}, which uex does not follow.", hint="Put the files themselves in.")
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        yield _Member(name, folder + slash + stem, extension.lower(), info.offset_data, info.size)


def _infos(path: Path) -> Iterator[tarfile.TarInfo]:
    """The headers of a tar, which must be whole to its end mark."""
    try:
        with path.open("rb") as file:
            headers: Any = _Headers(file)
            tar = tarfile.TarFile(fileobj=headers, mode="r", encoding="utf-8", errors="surrogateescape")
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or it keeps them all
                if info.size < 0 or tar.offset < info.offset_data:  # it would go round for ever
                    raise tarfile.ReadError("a member of less than no bytes")
                yield info
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes damage for the end
                whole = tar.offset < os.fstat(file.fileno()).st_size
                raise tarfile.ReadError("a damaged header" if whole else "cut short")
    except UexError:
        raise
    except Exception as error:  # tarfile fails in many ways on what is no tar
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise UexError(f"{path}: no intact tar file ({reason}).", hint=AGAIN) from None
