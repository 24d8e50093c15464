"""The trainings that were done: each in a file of its own, named by all it depends on, so that none is done twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from uexcli import __version__, api
from uexcli.core.trial import MemoryTrial
from uexcli.errors import UsageError
from uexcli.io import atomic
from uexcli.registry import Registry, describe
from uexcli.runtime import machine

FORMAT = 1  # of the files, and of the trainings: raised where the same training would end differently


def default_folder() -> Path:
    """Where cells are kept where --cells does not say: in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uex" / "eval"


def fingerprint(*tensors: torch.Tensor | None) -> str:
    """Tell tensors, their shapes and which are there."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none;")
            continue
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().cpu().numpy().data)
    return digest.hexdigest()


class Cells:
    """A folder of outcomes."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh
        self.used = 0  # outcomes that were there

    def key(self, facts: Mapping[str, Any]) -> str:
        """Name a training by what it depends on."""
        whole = {"format": FORMAT, "uexcli": __version__, "torch": torch.__version__, **facts}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()

    def load(self, key: str) -> api.Outcome | None:
        """Give an outcome, if it is there and whole."""
        if self.fresh:
            return None
        try:
            found = json.loads((self.folder / f"{key[:40]}.json").read_text())
            outcome = api.Outcome(**_as_tuples(found["outcome"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if found.get("key") != key or not outcome.curve:
            return None
        self.used += 1
        return outcome

    def save(self, key: str, facts: Mapping[str, Any], outcome: api.Outcome, device: torch.device) -> None:
        """Write an outcome, whole or not at all.

        Raises:
            WriteError: it cannot be written.
        """
        path = self.folder / f"{key[:40]}.json"
        document = {
            "key": key,
            "facts": facts,
            "outcome": dataclasses.asdict(outcome),
            "machine": {**machine.describe(), "device": machine.name_of(device)},
        }
        with atomic.told(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            part.write_text(json.dumps(document, default=str))
            part.replace(path)


def _as_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    table = tuple(tuple(row) for row in fields.get("confusion", ()))
    return {**fields, "curve": tuple(float(value) for value in fields["curve"]), "confusion": table}


def facts_of(
    registry: Registry, target: api.Target, trial: MemoryTrial, images: str, view: str | None
) -> dict[str, Any]:
    """Say all that a training depends on; `images` tells its images and labels, `view` the photos crops are cut of."""
    return {
        "target": describe(target, registry.find("target", target.name)),
        "against": [describe(part, registry.find("countermeasure", part.name)) for part in trial.against.parts],
        "images": images,
        "view": view,
        "epochs": trial.epochs,
        "seed": trial.seed,
        "device": trial.device.type,
        "precision": str(trial.autocast),
    }


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several parts of the trainings."""

    number: int = 1
    of: int = 1

    def holds(self, key: str) -> bool:
        """Whether a training is to be done here."""
        return int(key[:12], 16) % self.of == self.number - 1


def shard(text: str | None) -> Shard:
    """Read `--shard i/n`.

    Raises:
        UsageError: it is no such thing.
    """
    if text is None:
        return Shard()
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text}: not of the form i/n.", hint="For example --shard 1/4, and 2/4, 3/4, 4/4.")
    return Shard(int(found[1]), int(found[2]))
