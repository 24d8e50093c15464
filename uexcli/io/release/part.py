"""A part of a release, of one shard: a folder whose file says what merging it with the others needs. Private."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uexcli.errors import UexError
from uexcli.io import atomic, documents, schema
from uexcli.io.release.shards import FILE

SCHEMA = "uex.part/1"
HINT = "Apply that shard again."


@dataclass(frozen=True)
class Part:
    """What a shard came to.

    `header` is the same for all parts of a release; `items` are what became of its images, each with its `position`
    among all of them and `written`, `skipped` or `unwanted`.
    """

    header: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]


def write(folder: Path, part: Part) -> None:
    """Write it."""
    document = {"schema": SCHEMA, "header": dict(part.header), "items": list(part.items)}
    atomic.write(folder / FILE, (json.dumps(document) + "\n").encode(), private=True)


def read(folder: Path) -> Part:
    """Read it.

    Raises:
        UexError: it is damaged, or of another format.
    """
    try:
        found = schema.read_json((folder / FILE).read_bytes(), schema.record({"schema": schema.text()}))
        if found["schema"] != SCHEMA:
            raise UexError(f"{folder / FILE}: not of the format {SCHEMA}.", hint="Use the uexcli that wrote it.")
        documents.PIECE(found, "")
    except (OSError, schema.Mismatch) as error:
        raise UexError(f"{folder / FILE}: cannot be read ({error}).", hint=HINT) from None
    return Part(found["header"], found["items"])
