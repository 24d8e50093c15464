"""What an earlier run left: a finished release, or a part of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uexcli import plugin
from uexcli.commands.protect.protector import Written
from uexcli.errors import UexError, UsageError
from uexcli.io.images import photo_files
from uexcli.io.release import layout, part, receipt, shards, staging
from uexcli.io.release.write_log import Journal


def is_done(
    output: Path, header: Mapping[str, Any], job: Mapping[str, Any], chosen: Sequence[plugin.Sample], *, force: bool
) -> bool:
    """Whether what this job would write lies there, whole.

    Raises:
        UsageError: something else does, which is not to be replaced.
    """
    if not output.exists() or staging.is_free(output):
        return False
    whole = header["on_error"] == "fail"
    if "shard" not in job:
        same = receipt.matches(Path(header["receipt"]), output, job, chosen, whole=whole)
    elif (output / shards.FILE).is_file():
        same = is_intact(output, header["job"], chosen, whole=whole)
    else:
        same = False
    if same:
        return True
    if not force:
        raise UsageError(
            f"{output} exists, and is not this release.",
            hint="Use `output` for another folder, or `force=True` to replace it.",
        )
    staging.check_replaceable(output)
    return False


def written_before(journal: Journal) -> Iterator[Written]:
    """What an interrupted run wrote."""
    for line in journal.lines():
        with contextlib.suppress(TypeError):  # of another version: written anew
            yield Written.of(line)


def is_intact(folder: Path, job: Mapping[str, Any], chosen: Sequence[plugin.Sample], *, whole: bool) -> bool:
    """Whether a part is of this job, and holds what its file says, of the photos as they are.

    `whole`: the job fails where an image has to be left out.
    """
    try:
        there = part.read(folder)
    except UexError:
        return False
    if there.header.get("job") != job or (whole and any("skipped" in item for item in there.items)):
        return False
    known: dict[str, Mapping[str, Any]] = {}
    for item in there.items:
        for kind in ("written", "skipped"):
            if kind in item:
                known[item[kind]["key"]] = item
    try:
        for sample in chosen:
            item = known[sample.key]
            if "written" in item:
                written = Written.of(item["written"])
                if photo_files.digest_of(sample) != written.source:
                    return False
                if layout.digest_file(folder / written.name) != written.protected:
                    return False
            elif receipt.try_digest(sample) != item["skipped"]["digest"]:
                return False
    except (KeyError, TypeError):
        return False
    return True
