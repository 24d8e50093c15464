"""Writing shards: the same samples give the same bytes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from uex_webdataset._read import CLASSES, KEY, is_key
from uexcli.plugin import Sample, UexError

MOST = 1000  # samples in a shard


def write(root: Path, samples: Sequence[Sample]) -> None:
    """Write all samples below `root`, in the order of their keys.

    Raises:
        UexError: a key is no plain relative path of an image, or there twice; or an image cannot be read.
    """
    names = stems([sample.key for sample in samples])
    ordered = sorted(samples, key=lambda sample: sample.key)
    numbers = numbered({sample.label for sample in samples if sample.label and _is_line(sample.label)})
    root.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(ordered), MOST)):
        with (
            _whole(root / f"shard-{number:06d}.tar") as file,
            tarfile.TarFile(
                fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
            ) as tar,
        ):
            for sample in ordered[start : start + MOST]:
                for name, data in _members(sample, names[sample.key], numbers):
                    tar.addfile(_header(name, len(data)), io.BytesIO(data))
    if any(name != number for name, number in numbers.items()):
        with _whole(root / CLASSES) as file:
            file.write("".join(f"{name}\n" for name in numbers).encode())


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file that gets its name once it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def numbered(labels: set[str]) -> dict[str, str]:
    """Give each class the number that a .cls holds, which readers take for one; classes that are numbers are their own.

    In the order of the numbers.
    """
    if all(name.isascii() and name.isdigit() for name in labels):
        return {name: name for name in sorted(labels)}
    return {name: str(number) for number, name in enumerate(sorted(labels))}


def stems(keys: Sequence[str]) -> dict[str, str]:
    """Give each key what its members are called up to the first dot: no two the same.

    That is the key without its suffix. A sample's name ends at its first dot, so further dots become `_`; and of keys
    that differ in their suffix only, all but the first get a number.

    Raises:
        UexError: a key is no plain relative path of an image, or there twice.
    """
    for key in keys:
        if not is_key(key):
            raise UexError(f"{key}: is no plain relative path of an image, or hidden.")
    if len(set(keys)) < len(keys):
        raise UexError("two images have the same key.")
    named: dict[str, str] = {}
    taken: set[str] = set()
    for key in sorted(keys, key=lambda key: ("." in PurePosixPath(key).stem, key)):  # names that can stay come first
        path = PurePosixPath(key)
        plain = str(path.with_name(path.stem.replace(".", "_")))
        stem, number = plain, 1
        while stem in taken:
            number += 1
            stem = f"{plain}-{number}"
        taken.add(stem)
        named[key] = stem
    return named


def _members(sample: Sample, stem: str, numbers: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """The name and bytes of each member of a sample: the image, and what its name does not say."""
    image = stem + PurePosixPath(sample.key).suffix
    yield image, sample.encoded()
    said: dict[str, str | None] = {} if image == sample.key else {KEY: sample.key}
    if sample.label is not None and sample.label in numbers:
        yield f"{stem}.cls", numbers[sample.label].encode()
    elif sample.label or "/" in sample.key:  # without a word, the folder would be the class
        said["label"] = sample.label
    if said:
        yield f"{stem}.json", json.dumps(said).encode()


def _is_line(label: str) -> bool:
    """Whether a line of text can hold a label as it is."""
    return label.strip().splitlines() == [label] and label.encode("utf-8", "replace").decode() == label


def _header(name: str, size: int) -> tarfile.TarInfo:
    """A member's header, without time and owner: the same at any time, and private."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info
