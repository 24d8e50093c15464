"""Whether a release is complete and intact: checksums, decodable files, and every photo covered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uexcli import plugin
from uexcli.commands.protect import memory
from uexcli.commands.verify.pair import Finding, hidden
from uexcli.commands.verify.result import Request
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.io.images import photo_files
from uexcli.io.pool import parallel
from uexcli.io.release import layout
from uexcli.messages import Listener


def checksums(
    root: Path, there: Sequence[str], checks: dict[str, str], request: Request, listener: Listener
) -> Iterator[Finding]:
    """Compare every file with SHA256SUMS, where there is one."""
    path = root / layout.SUMS
    if not path.is_file():
        checks["checksums"] = f"no {layout.SUMS}"
        if (root / layout.FACTS).is_file():
            yield Finding("checksum", layout.SUMS, "a list of checksums", "missing")
        return
    sums = layout.read_sums(path)
    members = [*there, *(name for name in (layout.FACTS, layout.CROISSANT) if (root / name).is_file())]
    for name in sorted(set(sums) - set(members)):
        yield Finding("missing", name, f"listed in {layout.SUMS}", "no such file")
    for name in sorted(set(members) - set(sums)):
        yield Finding("unlisted", name, f"a line in {layout.SUMS}", "none")
    if request.fast:
        checks["checksums"] = "names only: `fast=True` reads no file"
        return
    listed = sorted(set(sums) & set(members))
    digests = parallel(lambda name: layout.digest_file(root / name), listed, request.jobs)
    wrong = 0
    for done, (name, digest) in enumerate(zip(listed, digests, strict=True), 1):
        listener.step(plugin.Progress(done, len(listed), stage="checksums"))
        if digest != sums[name]:
            wrong += 1
            yield Finding("checksum", name, sums[name][:12], digest[:12])
    checks["checksums"] = f"{len(listed) - wrong:,} of {len(listed):,} match {layout.SUMS}"


def decodes(root: Path, pictures: Sequence[str], room: memory.Plan, listener: Listener) -> Iterator[Finding]:
    """Find the pictures that cannot be decoded."""

    def one(name: str) -> list[Finding]:
        try:
            with memory.enough(name):
                photo_files.open_photo(plugin.Sample(name, None, path=root / name))
        except UexError as error:
            return [Finding("unreadable", name, "an image", error.message)]
        return hidden(root, name)

    for done, found in enumerate(parallel(one, pictures, room.jobs, processes=True, apart=room.apart), 1):
        listener.step(plugin.Progress(done, len(pictures), stage="decode"))
        yield from found


def coverage(
    found: samples.Labelled,
    pairs: Mapping[str, str],
    pictures: Sequence[str],
    there: Sequence[str],
    facts: Mapping[str, Any],
    request: Request,
) -> Iterator[Finding]:
    """Sources without a released image, and released files without a source."""
    allowed = {item["path"] for item in facts.get("skipped", [])} if request.allow_missing else set()
    wanted = layout.names(found.keys, facts.get("suffix", ".png"))
    for key in found.keys:
        if key not in pairs and key not in allowed:
            yield Finding("missing", wanted[key], f"the protected image of {key}", "no such file")
    for name in sorted(set(pictures) - set(pairs.values())):
        yield Finding("unexpected", name, "a source of this name", "none")
    for name in sorted(set(there) - set(pictures)):
        yield Finding("unexpected", name, "images only", "another file")
