"""The private receipt beside a noise file: which source became which protected file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, documents, schema
from uexcli.io.images import photo_files
from uexcli.io.release import layout
from uexcli.plugin import Sample

SUFFIX = ".noise.receipt.json"


def path_for(noise: Path) -> Path:
    """Where the receipt of a noise file lies."""
    return noise.with_name(noise.name.removesuffix(".safetensors").removesuffix(".noise") + SUFFIX)


def matches(path: Path, output: Path, job: Mapping[str, Any], chosen: Sequence[Sample], *, whole: bool) -> bool:
    """Whether the release there is what this job would write from these photos as they are, and intact.

    `whole`: the job fails where an image has to be left out.
    """
    recorded = intact(path, output, job)
    if recorded is None or (whole and recorded["skipped"]):
        return False
    files, lost = recorded["files"], recorded["skipped"]
    if not all(sample.key in files or sample.key in lost for sample in chosen):
        return False
    known = {sample.key: files[sample.key]["source"] if sample.key in files else lost[sample.key] for sample in chosen}
    return all(known[sample.key] == try_digest(sample) for sample in chosen)


def intact(path: Path, output: Path, job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Give what is recorded of the release there, see `record`, if this job wrote it and it is as it was then."""
    try:
        recorded: Mapping[str, Any] = _read(path)["releases"][str(output.resolve())]
        documents.RELEASED(recorded, "")
        if recorded["job"] != job:
            return None
        sums = layout.read_sums(output / layout.SUMS)
        listed = all(sums[item["name"]] == item["protected"] for item in recorded["files"].values())
        same = listed and all(layout.digest_file(output / name) == digest for name, digest in sums.items())
    except (UexError, OSError, KeyError, schema.Mismatch):
        return None
    return recorded if same else None


def try_digest(sample: Sample) -> str:
    """The SHA-256 of a sample's bytes, empty where they cannot be read."""
    try:
        return photo_files.digest_of(sample)
    except UexError:
        return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        receipt: dict[str, Any] = schema.read_json(path.read_bytes(), documents.RECEIPT)
    except (OSError, schema.Mismatch):
        return {"schema": "uex.receipt/1", "releases": {}}
    return receipt


def record(
    path: Path,
    output: Path,
    job: Mapping[str, Any],
    files: Mapping[str, Mapping[str, str]],
    skipped: Mapping[str, str],
) -> None:
    """Add a release, or replace what was recorded of it.

    `files` has per key its `name`, and SHA-256 `source` and `protected`; `skipped` the digest of what was left out.
    """
    with atomic.locked_folder(path.parent):  # another apply may end now, too
        check(path)
        whole = _read(path)
        whole["releases"][str(output.resolve())] = {"job": dict(job), "files": files, "skipped": skipped}
        atomic.write(path, (json.dumps(whole, indent=1) + "\n").encode(), private=True)


def check(path: Path) -> None:
    """Refuse to write over what is no receipt; what is called like one is uex's, damaged or not.

    Raises:
        UsageError: something else is there.
    """
    if path.name.endswith(SUFFIX) or not path.exists():
        return
    try:
        schema.read_json(path.read_bytes(), schema.record({"schema": schema.one_of("uex.receipt/1")}))
    except (OSError, schema.Mismatch):
        raise UsageError(f"{path} is no receipt.", hint=f"Give a name that ends in {SUFFIX}.") from None
