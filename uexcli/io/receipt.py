"""The private receipt beside a noise file: which source became which protected file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uexcli.api import Sample
from uexcli.errors import UexError
from uexcli.io import atomic, images, release


def path_for(noise: Path) -> Path:
    """Where the receipt of a noise file lies."""
    return noise.with_name(noise.name.removesuffix(".safetensors").removesuffix(".noise") + ".noise.receipt.json")


def matches(path: Path, output: Path, job: Mapping[str, Any], chosen: Sequence[Sample]) -> bool:
    """Whether the release there is what this job would write, and intact."""
    recorded = _read(path)["releases"].get(str(output.resolve()))
    if recorded is None or recorded["job"] != job:
        return False
    try:
        sums = release.read_sums(output / release.SUMS)
        for sample in chosen:
            item = recorded["files"].get(sample.key)
            if item is not None and item["source"] != images.digest_of(sample):
                return False
        return all(release.digest_file(output / name) == digest for name, digest in sums.items()) and {
            item["name"] for item in recorded["files"].values()
        } <= set(sums)
    except (UexError, OSError):
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        receipt = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        receipt = None
    if isinstance(receipt, dict) and isinstance(receipt.get("releases"), dict):
        return receipt
    return {"schema": "uex.receipt/1", "releases": {}}


def record(path: Path, output: Path, job: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> None:
    """Add a release, or replace what was recorded of it: per key its `name`, and SHA-256 `source` and `protected`."""
    whole = _read(path)
    whole["releases"][str(output.resolve())] = {"job": dict(job), "files": files}
    atomic.write(path, (json.dumps(whole, indent=1) + "\n").encode())
