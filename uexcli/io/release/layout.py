"""The release folder: names, checksums, public facts."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from uexcli.errors import UexError
from uexcli.io import atomic, documents, schema

FACTS = "uex-release.json"
SUMS = "SHA256SUMS"
SCHEMA = "uex.release/1"
RESTORE = "Take it from where the release came from, or remove it and give `eps`."
JOB = ".uex-job.json"  # while it grows
JOURNAL = ".uex-journal.jsonl"  # while it grows; private
CROISSANT = "croissant.json"
COPIED = ".uex-convert.json"  # says that `uex convert` wrote the folder
OWN_FILES = frozenset({FACTS, SUMS, JOB, CROISSANT, COPIED})


def names(keys: Iterable[str], suffix: str = ".png") -> dict[str, str]:
    """Give every source key the relative path its protected file has.

    `a.jpg` becomes `a.png`; where two sources would meet, also on a disk that does not tell cases or ways to write an
    accent apart, both keep their suffix: `a.jpg.png`; where they meet even so, as `A.jpg` and `a.jpg` do, a part of
    the key's checksum comes in between.
    """
    named = {key: str(PurePosixPath(key).with_suffix(suffix)) for key in keys}
    length = dict.fromkeys(named, 0)
    while True:  # a longer name may meet a third source's
        meeting = Counter(map(_folded, named.values()))
        clashes = [key for key, name in named.items() if meeting[_folded(name)] > 1 and length[key] < 2]
        if not clashes:
            return named
        for key in clashes:
            length[key] += 1
            named[key] = f"{key}{suffix}" if length[key] == 1 else f"{key}.{_mark(key)}{suffix}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _mark(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def sums_text(digests: Mapping[str, str]) -> str:
    """Checksums in coreutils form, sorted by path; odd names are escaped as coreutils does."""
    lines = []
    for path, digest in sorted(digests.items()):
        escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "\\" if escaped != path else ""
        lines.append(f"{mark}{digest}  {escaped}\n")
    return "".join(lines)


def read_sums(path: Path) -> dict[str, str]:
    """Read checksums in coreutils form.

    Raises:
        UexError: a line is none, or names a path outside the folder.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8", "surrogateescape").split("\n"), 1):
        if not line:
            continue
        escaped = line.startswith("\\")
        digest, gap, name = line.removeprefix("\\")[:64], line.removeprefix("\\")[64:66], line.removeprefix("\\")[66:]
        if escaped:
            name = name.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
        if gap not in {"  ", " *"} or any(c not in "0123456789abcdef" for c in digest) or not inside(name):
            raise UexError(f"{path}: line {number} is no checksum of a file in this folder.")
        found[name] = digest
    return found


def inside(name: str) -> bool:
    """Whether a relative path stays in its folder."""
    parts = PurePosixPath(name)
    if not name or "\0" in name or (os.name == "nt" and ":" in name):  # a drive, or a stream of another file
        return False
    return not parts.is_absolute() and ".." not in parts.parts


def irregular(root: Path, names: Iterable[str]) -> list[str]:
    """Those of the names that are links, pipes or devices: not read, as they may lead anywhere, or never end."""
    return [name for name in names if not stat.S_ISREG((root / name).lstat().st_mode)]


def files(root: Path) -> list[str]:
    """All files below a release, as relative paths with forward slashes, sorted; its own files left out."""
    found = []
    for folder, folders, members in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]  # not descended into, but there
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in (*members, *links)]
    return sorted(name for name in found if name not in OWN_FILES)


def write_facts(root: Path, facts: Mapping[str, Any]) -> str:
    """Write the public facts; returns their digest."""
    data = (json.dumps({"schema": SCHEMA, **facts}, indent=2) + "\n").encode()
    atomic.write(root / FACTS, data)
    return hashlib.sha256(data).hexdigest()


def read_facts(root: Path) -> dict[str, Any] | None:
    """Read the public facts of a release, or None where it has none.

    Raises:
        UexError: the file is damaged, or of another format.
    """
    path = root / FACTS
    if not path.is_file():
        return None
    try:
        facts: dict[str, Any] = schema.read_json(path.read_bytes(), schema.record({}))
    except (OSError, schema.Mismatch) as error:
        raise UexError(f"{path}: cannot be read ({error}).", hint=RESTORE) from None
    if facts.get("schema") != SCHEMA:
        raise UexError(f"{path}: not of the format {SCHEMA}.", hint="Use the uexcli that wrote it.")
    try:
        documents.FACTS(facts, "")
    except schema.Mismatch as error:
        raise UexError(f"{path}: damaged, {error}.", hint=RESTORE) from None
    return facts


def digest_file(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        UexError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UexError(f"{path}: cannot be read ({error.strerror}).") from None


def pair(keys: Iterable[str], found: Iterable[str], suffix: str) -> dict[str, str]:
    """Give each source key the released file that belongs to it, where there is one.

    That is the name uex gives it, else (a release made elsewhere) the key itself, or its stem with any one suffix.
    """
    keys, there = list(keys), set(found)
    wanted = names(keys, suffix)
    stems: dict[str, list[str]] = {}
    for name in there:
        stems.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for key in keys:
        same_stem = stems.get(str(PurePosixPath(key).with_suffix("")), [])
        only = same_stem[0] if len(same_stem) == 1 and wanted[key] != key + suffix else None
        partner = next((name for name in (wanted[key], key, only) if name in there), None)
        if partner is not None and partner not in taken:
            pairs[key] = partner
            taken.add(partner)
    return pairs
