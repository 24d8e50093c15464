"""From protected images to a release: what is too weak goes, then the public facts, checksums, and the receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uexcli.commands.protect.protector import Written
from uexcli.core.quality import leak_limit, usual_rms
from uexcli.errors import UexError
from uexcli.io import atomic, samples
from uexcli.io.release import croissant, layout, receipt
from uexcli.messages import Listener


@dataclass(frozen=True)
class LeftOut(samples.Skipped):
    """An image that is not in the release; `digest` is the SHA-256 of its bytes, "" where they cannot be read."""

    digest: str | None = None  # None: it was not wanted, so that it does not matter whether it changes


@dataclass(frozen=True)
class Assembled:
    """A release, as it was put together."""

    done: tuple[Written, ...]
    left_out: tuple[LeftOut, ...]
    facts: Mapping[str, Any]


def assemble(
    folder: Path,
    output: Path,
    header: Mapping[str, Any],
    done: Sequence[Written],
    skipped: Sequence[LeftOut],
    unwanted: Sequence[LeftOut],
    listener: Listener,
) -> Assembled:
    """Make the folder that the images were written to a release of `output`, all but in its place.

    `header` says which job it is, how to go on with weak images, what the facts are, and where the receipt lies.

    Raises:
        UexError: the noise leaves no trace on an image, and the job is to fail then; or on none.
    """
    kept, weak = _without_weak(list(done), folder, header, listener)
    left_out = (*skipped, *weak, *unwanted)
    facts = _facts(header, kept, left_out)
    sums = {item.name: item.protected for item in kept}
    sums[layout.FACTS] = layout.write_facts(folder, facts)
    usage = header.get("usage")
    (folder / layout.CROISSANT).unlink(missing_ok=True)
    if usage is not None:
        made = croissant.encode(output.resolve().name, sums, header["facts"]["suffix"], usage)
        atomic.write(folder / layout.CROISSANT, made)
        sums[layout.CROISSANT] = hashlib.sha256(made).hexdigest()
    for name in set(layout.files(folder)) - set(sums) - {layout.JOURNAL}:
        (folder / name).unlink()  # of a photo that was usable before an interruption
    atomic.write(folder / layout.SUMS, layout.sums_text(sums).encode("utf-8", "surrogateescape"))
    files = {item.key: {"name": item.name, "source": item.source, "protected": item.protected} for item in kept}
    lost = {item.key: item.digest for item in left_out if item.digest is not None}
    receipt.record(Path(header["receipt"]), output, header["job"], files, lost)
    if header.get("loses_labels"):
        listener.warn(
            "the classes of these images are not in the release, as its folders are not the classes: "
            "publish a CSV of its files (path,label) with it"
        )
    return Assembled(tuple(kept), left_out, facts)


def _without_weak(
    done: list[Written], folder: Path, header: Mapping[str, Any], listener: Listener
) -> tuple[list[Written], list[LeftOut]]:
    """Take out images that the noise left (nearly) clean, being tiny or saturated: `verify` calls them leaks."""
    skipped: list[LeftOut] = []
    while True:
        limit = leak_limit(usual_rms([item.rms for item in done]))
        weak = [item for item in done if item.rms <= limit and not item.visible]
        if not weak:
            return done, skipped
        reason = f"{weak[0].key}: the noise leaves almost no trace on it (RMS {weak[0].rms:.2f} levels)."
        if header["on_error"] == "fail" or len(weak) == len(done):
            raise UexError(reason, hint=samples.SKIP)
        for item in weak:
            (folder / item.name).unlink()
            reason = f"{item.key}: the noise leaves almost no trace on it."
            skipped.append(LeftOut(item.key, reason, item.source))
            listener.warn(f"skipped {reason}")
        gone = {item.key for item in weak}
        done = [item for item in done if item.key not in gone]


def _facts(header: Mapping[str, Any], done: Sequence[Written], left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """The public facts: enough to verify the release, nothing that helps to undo it."""
    worst = max(item.size / item.allowed for item in done)
    return {
        **header["facts"],
        "images": len(done),
        "largest_share_of_bound": round(min(1.0, worst) if header["facts"]["lossless"] else worst, 6),
        "rms_levels": round(usual_rms([item.rms for item in done]), 4),
        "skipped": [{"path": item.key, "reason": item.reason} for item in left_out],
        "mode_changes": [{"path": item.name, "change": change} for item in done for change in item.changes],
    }
