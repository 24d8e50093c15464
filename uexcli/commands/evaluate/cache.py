"""The trainings that were done: each in a file of its own, named by all it depends on, so that none is done twice."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import PIL
import torch
import torchvision

from uexcli import __version__, plugin
from uexcli.core.eval.trial import MemoryTrial
from uexcli.io import atomic, documents, leftovers, schema
from uexcli.io.release.layout import digest_file as digest_of
from uexcli.registry import Registry, describe, options_of
from uexcli.runtime import machine

FORMAT = 2  # of the files, and of the trainings: raised where the same training would end differently


def default_folder() -> Path:
    """Where cells are kept where --cells does not say: in the user's cache."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uex" / "eval"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / "uex-eval"


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


T = TypeVar("T")


class Cells:
    """A folder of outcomes."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh
        self.used = 0  # outcomes that were there

    def key(self, facts: Mapping[str, Any]) -> str:
        """Name a training by what it depends on."""
        versions = {"uexcli": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
        whole = {"format": FORMAT, **versions, "pillow": PIL.__version__, **facts}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()

    def load(self, key: str) -> plugin.Outcome | None:
        """Give an outcome, if it is there and whole."""
        if self.fresh:
            return None
        try:
            found = schema.read_json((self.folder / f"{key[:40]}.json").read_bytes(), documents.CELL)
            outcome = plugin.Outcome(**_as_tuples(found["outcome"]))
        except (OSError, ValueError, TypeError):  # not there, damaged; with fields of another version
            return None
        if found["key"] != key:
            return None
        self.used += 1
        return outcome

    def remember(self, key: str, make: Callable[[], Any], read: Callable[[Any], T]) -> T:
        """Return the cached JSON value for a key, computing and storing it on a miss; then read it."""
        path = self.folder / f"{key[:40]}.json"
        if not self.fresh:
            with contextlib.suppress(OSError, ValueError, TypeError):
                found = schema.read_json(path.read_bytes(), documents.MADE)
                if found["key"] == key:
                    return read(found["made"])
        made = make()
        self._write(path, {"key": key, "made": made})
        return read(made)

    def save(self, key: str, facts: Mapping[str, Any], outcome: plugin.Outcome, device: torch.device) -> None:
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
        self._write(path, document)

    def prepare(self) -> None:
        """Find out that outcomes can be kept, before there are any.

        Raises:
            WriteError: they cannot.
        """
        try:
            atomic.private_folder(self.folder)
            with atomic.told(self.folder):
                leftovers.sweep(self.folder)
                leftovers.unnamed(self.folder).close()
        except atomic.WriteError as error:
            raise atomic.WriteError(error.message, hint="Keep the trainings elsewhere, with `cells=DIR`.") from None

    def _write(self, path: Path, document: Mapping[str, Any]) -> None:
        atomic.write(path, json.dumps(document, default=str).encode(), private=True)


def _as_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    table = tuple(tuple(row) for row in fields.get("confusion", ()))
    curves = {name: tuple(curve) for name, curve in fields.get("part_curves", {}).items()}
    lists = {name: tuple(fields.get(name, ())) for name in ("right", "right_images")}
    curve = tuple(float(value) for value in fields["curve"])
    return {**fields, **lists, "curve": curve, "confusion": table, "part_curves": curves}


def facts_of(
    registry: Registry, target: plugin.Target, trial: MemoryTrial, images: str, view: str | None
) -> dict[str, Any]:
    """Say all that a training depends on; `images` tells its images and labels, `view` the photos crops are cut of."""
    options = [getattr(target, name) for name in options_of(type(target))]
    named = getattr(target, "surrogate", None)
    clean = trial.against.clean(trial.channels, trial.size)
    return {
        **({"clean": fingerprint(*clean)} if clean else {}),
        "target": describe(target, registry.find("target", target.name)),
        "files": [digest_of(Path(value)) for value in options if isinstance(value, str) and Path(value).is_file()],
        "surrogate": registry.find("surrogate", named).provenance if isinstance(named, str) else None,
        "classes": trial.num_classes,
        "against": [describe(part, registry.find("countermeasure", part.name)) for part in trial.against.parts],
        "images": images,
        "view": view,
        "epochs": trial.epochs,
        "seed": trial.seed,
        "device": trial.device.type,
        "precision": str(trial.autocast),
    }
