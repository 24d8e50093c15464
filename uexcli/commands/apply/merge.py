"""Merge: the parts of a release that shards wrote become the release that one run would have written."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uexcli import plugin
from uexcli.commands.apply import merge_parts
from uexcli.commands.apply.assemble import LeftOut, assemble
from uexcli.commands.apply.merge_parts import AGAIN
from uexcli.commands.protect.protector import Written
from uexcli.core.quality import psnr, usual_rms
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, leftovers
from uexcli.io.claims import claim
from uexcli.io.pool import parallel
from uexcli.io.release import layout, part, receipt, shards, staging
from uexcli.messages import Listener
from uexcli.wording import pasted


@dataclass(frozen=True)
class Request:
    """Which release, the parts of which lie beside it."""

    output: Path
    receipt: Path | None = None
    jobs: int | None = None
    force: bool = False
    resume: bool = False


@dataclass(frozen=True)
class Result:
    """What was merged; or what lies there `already`, with as many parts as were left of it, and no more said."""

    output: Path
    parts: int
    images: int
    psnr: float
    skipped: tuple[LeftOut, ...]
    receipt: Path | None
    already: bool = False


def run(request: Request, listener: Listener | None = None) -> Result:
    """Put the parts together; they go once the release is there, and where it is there already.

    Raises:
        UsageError: there are no parts, some are missing, or the release exists.
        UexError: they are not of one job, or a file in them is not what was written.
    """
    with claim(request.output):
        return _run(request, listener or Listener())


def _run(request: Request, listener: Listener) -> Result:
    output = request.output.resolve()
    staging.recover(output)
    already = None if request.force else _already(output, request.receipt, listener)
    if already is not None:
        return already
    found = _complete(output)
    parts = [part.read(folder) for _, folder in found]
    header = _common(found, parts)
    beside = request.receipt or merge_parts.receipt_of(output, header["job"])
    if beside is None:
        raise UsageError(
            f"the noise file of these parts lies neither here nor beside {output}, and its receipt belongs beside it.",
            hint="Say `receipt=FILE`, beside the noise.",
        )
    receipt.check(beside)
    if not beside.parent.is_dir():
        raise UsageError(f"`receipt={beside}`: there is no such folder.", hint="Say `receipt=FILE`, beside the noise.")
    leftovers.sweep(beside.parent)
    header = {**header, "receipt": str(beside)}
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file.", hint="Give RELEASE another name.")
    if output.exists() and not staging.is_free(output):
        if not request.force:
            raise UsageError(f"{output} exists.", hint="Use `force=True` to replace it.")
        staging.check_replaceable(output)
    items = sorted(
        ((item, folder) for (_, folder), one in zip(found, parts, strict=True) for item in one.items),
        key=lambda pair: int(pair[0]["position"]),
    )
    if [item["position"] for item, _ in items] != list(range(header["images"])):
        raise UexError(f"the parts of {output} do not have each image once.", hint=AGAIN)
    try:
        written = [(Written.of(item["written"]), folder) for item, folder in items if "written" in item]
        skipped, unwanted = ([LeftOut(**item[kind]) for item, _ in items if kind in item] for kind in _KINDS)
        merge_parts.check_names(header, written, (*skipped, *unwanted))
    except TypeError as error:  # fields of another version
        raise UexError(f"the parts of {output} are damaged ({error}).", hint=AGAIN) from None
    if not written:
        raise UexError("not one of the images could be protected.")
    with staging.growing(output, header["job"], resume=request.resume, force=request.force) as folder:

        def bring(pair: tuple[Written, Path]) -> None:
            _bring(pair[1], pair[0].name, folder, pair[0].protected)

        for count, _ in enumerate(parallel(bring, written, request.jobs), 1):
            listener.step(plugin.Progress(count, len(written), stage="merge"))
        done = [item for item, _ in written]
        made = assemble(folder, output, header, done, skipped, unwanted, listener)
        staging.finish(folder, output, force=request.force)
    _clear([spent for _, spent in found], listener)
    strength = psnr(usual_rms([item.rms for item in made.done]))
    return Result(output, len(found), len(made.done), strength, made.left_out, beside)


def _already(output: Path, given: Path | None, listener: Listener) -> Result | None:
    """Say that a release is there with all that is left of its parts, which go: a kill came while they did."""
    with atomic.told(output):
        left = [path for _, path in shards.parts_of(output)]
    try:
        parts = [part.read(folder) for folder in left if (folder / shards.FILE).is_file()]
        facts = layout.read_facts(output) if output.is_dir() else None
        if not parts or facts is None:
            if facts is not None:  # a kill came before the last of them was gone, but after all it held
                _clear([folder for folder in left if not any(folder.iterdir())], listener)
            return None
        header = parts[0].header
        place = given or merge_parts.receipt_of(output, header["job"])
        known = None if place is None else receipt.intact(place, output, header["job"])
        if known is None or not all(_is_within(one, known) for one in parts):
            return None
        strength = psnr(float(facts["rms_levels"]))
        made = Result(output, len(parts), int(facts["images"]), strength, (), None, already=True)
    except (UexError, KeyError):  # damaged: said by those who need it
        return None
    _clear([folder for folder in left if (folder / shards.FILE).is_file() or not any(folder.iterdir())], listener)
    return made


def _clear(spent: Sequence[Path], listener: Listener) -> None:
    """Remove parts whose release is in its place; one that cannot be is no reason to fail."""
    for folder in spent:
        try:
            staging.discard(folder)
        except OSError as error:
            listener.warn(f"{folder} could not be removed ({error.strerror}); it is private")


def _is_within(one: part.Part, known: Mapping[str, Any]) -> bool:
    """Whether a release, of which this is recorded, came of the same job and has all that a part holds."""
    files, lost = known["files"], known["skipped"]
    if one.header["job"] != known["job"]:
        return False
    for item in one.items:
        if "written" in item:
            key = item["written"]["key"]
            there = files[key]["protected"] == item["written"]["protected"] if key in files else False
            if not there and lost.get(key) != item["written"]["source"]:  # it may have been too weak for the whole
                return False
        elif "skipped" in item and lost.get(item["skipped"]["key"]) != item["skipped"]["digest"]:
            return False
    return True


_KINDS = ("skipped", "unwanted")


def _complete(output: Path) -> list[tuple[shards.Shard, Path]]:
    """All parts of a release."""
    hint = f"Write them with: {pasted('uex', 'apply', 'NOISE', 'PHOTOS', '-o', output, '--shard', '1/2')}, and 2/2"
    with atomic.told(output):
        found = [(shard, path) for shard, path in shards.parts_of(output) if (path / shards.FILE).is_file()]
    if not found:
        if output.is_dir() and layout.read_facts(output) is not None:
            hint = "The release itself is there: if it was merged from them, all is done."
        raise UsageError(f"{output}: no parts of it lie beside it.", hint=hint)
    counts = {shard.count for shard, _ in found}
    if len(counts) > 1:
        shown = " and ".join(f"of {count}" for count in sorted(counts))
        raise UsageError(f"{output}: there are parts {shown}.", hint="Remove those that do not belong to it.")
    missing = sorted(set(range(1, counts.pop() + 1)) - {shard.number for shard, _ in found})
    if missing:
        one = shards.Shard(missing[0], found[0][0].count)
        more = f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        again = pasted("uex", "apply", "NOISE", "PHOTOS", "-o", output, "--shard", f"{one.number}/{one.count}")
        raise UsageError(
            f"{output}: part {one.number} of {one.count} is missing{more}.", hint=f"Write it with: {again}"
        )
    return found


def _common(found: Sequence[tuple[shards.Shard, Path]], parts: Sequence[part.Part]) -> dict[str, Any]:
    """What the parts say of the whole; all must say the same."""

    def told(one: part.Part) -> dict[str, Any]:
        return {key: value for key, value in one.header.items() if key != "receipt"}  # older parts named its place

    for (_, folder), one in zip(found, parts, strict=True):
        if told(one) != told(parts[0]) or one.header.get("shards") != found[0][0].count:
            raise UexError(f"{folder} is a part of another release than {found[0][1]}.", hint=AGAIN)
    return told(parts[0])


def _bring(folder: Path, name: str, release_folder: Path, digest: str) -> None:
    """Link a file into the release, or copy it where that cannot be, if it is what was written."""
    source, target = folder / name, release_folder / name
    within = layout.inside(name) and source.resolve().is_relative_to(folder.resolve())
    if not within or source.is_symlink() or layout.digest_file(source) != digest:
        raise UexError(f"{source} is not the file that was written.", hint=AGAIN)
    with atomic.told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
        shutil.copyfile(source, target)
