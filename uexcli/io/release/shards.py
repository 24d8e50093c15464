"""Cutting a job into shards by a stable hash of the key, so that each file is in one and the cut never moves."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from uexcli.errors import UsageError

FILE = "uex-part.json"  # what makes a folder a part of a release; private


@dataclass(frozen=True)
class Shard:
    """One of `count`, from 1; the only one if nothing else is said."""

    number: int = 1
    count: int = 1

    def holds(self, key: str) -> bool:
        """Whether a key belongs to it."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1

    def folder(self, release: Path) -> Path:
        """Where its part of a release lies, beside it."""
        whole = release.resolve()
        return whole.with_name(f"{whole.name}.part-{self.number}-of-{self.count}")


def parse(text: str | None) -> Shard:
    """Read `--shard i/n`; all there is where it is None.

    Raises:
        UsageError: it is no such thing.
    """
    if text is None:
        return Shard()
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"`shard={text}`: not of the form i/n.", hint="For example `shard=1/4`, and 2/4, 3/4, 4/4.")
    return Shard(int(found[1]), int(found[2]))


def parts_of(release: Path) -> list[tuple[Shard, Path]]:
    """List the parts that lie beside a release, by number."""
    found = []
    release = release.resolve()
    for path in release.parent.glob("*"):
        match = re.fullmatch(re.escape(release.name) + r"\.part-([0-9]{1,6})-of-([0-9]{1,6})", path.name)
        if match and path.is_dir():
            found.append((Shard(int(match[1]), int(match[2])), path))
    return sorted(found, key=lambda item: (item[0].count, item[0].number))
