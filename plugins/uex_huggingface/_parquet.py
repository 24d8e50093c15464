"""Reading parquet files with images inside: names and classes at first, the images when they are asked for."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from uexcli.plugin import IMAGE_SUFFIXES, Sample, UexError, is_safe

IMAGES = ("image", "img")
LABELS = ("label", "labels")
AT_ONCE = 16  # images of a row group that are in memory
LISTED = 4096  # names and classes that are
AGAIN = "Copy or download it again."
MAGIC = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tiff"),
    (b"MM\0*", ".tiff"),
)


@dataclass(frozen=True)
class _Row:
    """An image in a file: the path that is stated, its class, and where it lies."""

    stated: str | None
    label: str | None
    file: str
    number: int  # in the file
    group: int
    place: int  # in the row group


def read(root: Path, files: Sequence[str]) -> list[Sample]:
    """List the images of these files below a folder, sorted by key.

    The key is the stated path, where it is one of an image, stays in its folder and is there once; else it is made of
    the file and the number of the row.

    Raises:
        UexError: a file is damaged, or has no images as the hub has them.
    """
    rows: list[tuple[_Row, str]] = []
    suffixes: dict[str, str] = {}
    for file in files:
        column, found = _listed(root, file)
        rows += [(row, column) for row in found]
    often = Counter(row.stated for row, _ in rows)
    samples: dict[str, Sample] = {}
    for row, column in rows:
        data = partial(image_bytes, root / row.file, column, row.group, row.place)
        stated = row.stated
        if stated is not None and often[stated] == 1 and _is_key(stated):
            key = stated
        else:
            if row.file not in suffixes:
                suffixes[row.file] = _suffix(data)
            suffix = PurePosixPath(stated or "").suffix.lower()
            suffix = suffix if suffix in IMAGE_SUFFIXES else suffixes[row.file]
            key = f"{PurePosixPath(row.file).with_suffix('')}/row-{row.number:06d}{suffix}"
        if key in samples:
            raise UexError(f"{root / row.file}: two images would be called {key}.")
        samples[key] = Sample(key, row.label, data=data)
    if not samples:
        raise UexError(f"{root}: no image in {', '.join(files)}.")
    return [samples[key] for key in sorted(samples)]


def _is_key(stated: str) -> bool:
    hidden = any(part.startswith(".") for part in stated.split("/"))
    return is_safe(stated) and not hidden and PurePosixPath(stated).suffix.lower() in IMAGE_SUFFIXES


def _suffix(data: Any) -> str:
    """What a file's images without a name end in: what its first image is."""
    try:
        head = data()[:16]
    except UexError:  # said when it is asked for
        return ".png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in MAGIC if head.startswith(magic)), ".png")


def _listed(root: Path, name: str) -> tuple[str, list[_Row]]:
    """The column of the images of a file, and its rows."""
    path = root / name
    try:
        with _open(path) as file:
            column, names_path, label, classes = _columns(path, file.schema_arrow)
            wanted = [*([f"{column}.path"] if names_path else []), *([label] if label else [])]
            counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            if sum(counts) > path.stat().st_size:  # or a few bytes could stand for any number of rows
                raise ValueError("more rows than bytes")
            where = ((group, place) for group, count in enumerate(counts) for place in range(count))
            rows = []
            values = _values(file, wanted, column, label) if wanted else ((None, None) for _ in range(sum(counts)))
            for number, ((group, place), (stated, value)) in enumerate(zip(where, values, strict=True)):
                rows.append(_Row(stated, _label(path, value, classes), name, number, group, place))
    except UexError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None
    return column, rows


def _values(file: Any, wanted: list[str], column: str, label: str | None) -> Iterator[tuple[Any, Any]]:
    """The stated path and the class of each row."""
    for batch in file.iter_batches(batch_size=LISTED, columns=wanted, use_threads=False):
        nothing = [None] * batch.num_rows
        images = batch.column(column).to_pylist() if column in batch.schema.names else nothing
        labels = batch.column(label).to_pylist() if label else nothing
        for image, value in zip(images, labels, strict=True):
            yield (image or {}).get("path"), value


def _columns(path: Path, schema: Any) -> tuple[str, bool, str | None, list[str]]:
    """Find the column of the images, whether it states paths, that of the classes, and the names of these.

    Raises:
        UexError: there are no images as the hub has them.
    """
    from pyarrow import types

    features = _features(schema)
    column = next((name for name in IMAGES if name in schema.names), None)
    kind = schema.field(column).type if column else None
    inside = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)} if kind else {}
    binary = inside.get("bytes")
    if not column or not types.is_struct(kind) or not (types.is_binary(binary) or types.is_large_binary(binary)):
        raise UexError(
            f"{path}: no column of images, image or img with bytes and path, as the Hugging Face hub has them.",
            hint=f"Its columns are {', '.join(schema.names)}.",
        )
    stated = inside.get("path")
    names_path = stated is not None and (types.is_string(stated) or types.is_large_string(stated))
    label = next((name for name in LABELS if name in schema.names and _is_label(schema.field(name).type)), None)
    feature = features.get(label or "")
    classes = feature.get("names") if isinstance(feature, dict) else None
    listed = [str(name) for name in classes] if isinstance(classes, list) else []
    twice = next((name for name, count in Counter(listed).items() if count > 1), None)
    if twice is not None:
        raise UexError(f"{path}: two classes are called '{twice}'.", hint="Give each a name of its own.")
    return column, names_path, label, listed


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` wrote about the columns, by name; empty where it did not."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_label(kind: Any) -> bool:
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_integer(value) or types.is_string(value) or types.is_large_string(value))


def _label(path: Path, value: Any, classes: list[str]) -> str | None:
    """The name of a class; the hub writes -1 where it is not told."""
    if value is None or value in {"", -1}:
        return None
    if isinstance(value, int) and classes:
        if not 0 <= value < len(classes):
            raise UexError(f"{path}: states a class {value}, of {len(classes)}.", hint=AGAIN)
        return classes[value]
    return str(value)


def image_bytes(path: Path, column: str, group: int, place: int) -> bytes:
    """Read one image. Each thread reads a row group forwards, a few images at a time, and begins anew to go back.

    Raises:
        UexError: the file is damaged, or has a path instead of the image.
    """
    try:
        status = path.stat()
        # the process is a part of it: what a forked one inherits is another's
        mark = (os.getpid(), path, column, group, status.st_ino, status.st_mtime_ns, status.st_size)
        reader = getattr(_own, "reader", None)
        if reader is None or reader.mark != mark or place < reader.start:
            reader = _own.reader = _Reader(mark, path, column, group)
        data = reader.at(place)
    except Exception as error:
        _own.reader = None
        if isinstance(error, OSError) and error.strerror:  # not of pyarrow
            raise
        raise _damaged(path, error) from None
    if data is None:
        raise UexError("there are no bytes of it in the file; a path to elsewhere is not followed.")
    return data


class _Reader:
    """The images of a row group, from its beginning on."""

    def __init__(self, mark: tuple[Any, ...], path: Path, column: str, group: int) -> None:
        self.mark = mark
        self.start = 0
        self._column = column
        self._batch: Any = None
        self._batches = _open(path).iter_batches(
            batch_size=AT_ONCE, row_groups=[group], columns=[f"{column}.bytes"], use_threads=False
        )

    def at(self, place: int) -> bytes | None:
        """The bytes of one image, at or after `start`; None: there are none."""
        while self._batch is None or place >= self.start + self._batch.num_rows:
            self.start += self._batch.num_rows if self._batch is not None else 0
            self._batch = next(self._batches, None)
            if self._batch is None:
                raise EOFError("rows are missing")
        image = self._batch.column(self._column)[place - self.start].as_py()
        data = (image or {}).get("bytes")
        return data if isinstance(data, bytes) else None


_own = threading.local()  # each thread's reader


def _open(path: Path) -> Any:
    """Open a parquet file so that only what is asked for is read, without threads, as forked processes need it."""
    from pyarrow import parquet

    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20, page_checksum_verification=True)


def _damaged(path: Path, error: Exception) -> UexError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return UexError(f"{path}: no intact parquet file ({reason}).", hint=AGAIN)
