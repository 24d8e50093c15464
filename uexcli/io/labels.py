"""A CSV of labels: each image once, or at least the same each time."""

from __future__ import annotations

import csv
import os
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uexcli.errors import UexError, UsageError

COLUMNS = ("path", "label")


@dataclass(frozen=True)
class Row:
    """A line that says a label."""

    line: int
    path: str
    label: str


@dataclass(frozen=True)
class Given:
    """The label of each image that has one, by key; and the rows that are of no image here."""

    labels: Mapping[str, str]
    strangers: tuple[Row, ...]


def given(table: Path, keys: Sequence[str], root: Path) -> Given:
    """Read a CSV with the header `path,label`, and give each image its label.

    Paths are relative to the photos, as keys are; written `./a.png`, with backslashes, whole from the root of the disk,
    or with accents in another form they are the same.

    Raises:
        UsageError: there is no such file.
        UexError: it is no such CSV, or says two labels of one image.
    """
    known = _Keys(keys, root)
    found: dict[str, Row] = {}
    strangers = []
    for row in _rows(table):
        key = known.find(row.path)
        if key is None:
            strangers.append(row)
            continue
        before = found.setdefault(key, row)
        if before.label != row.label:
            raise UexError(
                f"{table}: {key} is '{before.label}' in line {before.line}, and '{row.label}' in line {row.line}.",
                hint="Leave one of them.",
            )
    return Given({key: row.label for key, row in found.items()}, tuple(strangers))


def _rows(table: Path) -> Iterator[Row]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            if not set(COLUMNS) <= set(reader.fieldnames):
                raise UexError(f"{table}: the first line must be 'path,label'.")
            for row in reader:
                if any(value.strip() for value in row.get(None) or ()):
                    raise UexError(
                        f"{table}: line {reader.line_num} has more fields than the first line.",
                        hint='Write a path or label with a comma in it in quotes: "a,b.png",cat',
                    )
                label = (row["label"] or "").strip()
                if row["path"] and label:
                    yield Row(reader.line_num, row["path"], label)
    except FileNotFoundError:
        raise UsageError(f"`labels={table}`: no such file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UexError(f"{table}: cannot be read as a CSV file ({error}).") from None


class _Keys:
    """The keys of all images, found by the ways to write them."""

    def __init__(self, keys: Sequence[str], root: Path) -> None:
        self._keys = set(keys)
        self._composed: dict[str, list[str]] = {}
        for key in keys:
            self._composed.setdefault(unicodedata.normalize("NFC", key), []).append(key)
        self._roots = dict.fromkeys((os.path.abspath(root), os.path.realpath(root)))  # noqa: PTH100

    def find(self, path: str) -> str | None:
        """The key that a path means; None where it means none."""
        ways = (path, path.strip(), path.strip().replace("\\", "/"))
        for way in dict.fromkeys(ways):
            key = way if way in self._keys else self._composed_key(self._relative(way))
            if key is not None:
                return key
        return None

    def _relative(self, path: str) -> str:
        plain = posixpath.normpath(path)
        if not posixpath.isabs(plain):
            return plain
        inside = (plain.removeprefix(f"{root}/") for root in self._roots if plain.startswith(f"{root}/"))
        return next(inside, plain)

    def _composed_key(self, path: str) -> str | None:
        if path in self._keys:
            return path
        alike = self._composed.get(unicodedata.normalize("NFC", path), [])
        return alike[0] if len(alike) == 1 else None
