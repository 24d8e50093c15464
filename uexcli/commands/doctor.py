"""Doctor: what this installation can do, and what is missing."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uexcli import __version__
from uexcli.io.onnx import networks
from uexcli.registry import PLURALS, load
from uexcli.runtime import machine

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "scikit-learn", "typer", "rich", "pluggy")
LOW_SPACE = 2**30


@dataclass(frozen=True)
class Check:
    """One thing looked at: `ok`, `warn` or `bad`, and what was seen."""

    name: str
    state: str
    text: str


@dataclass(frozen=True)
class Result:
    """All checks, and the machine in figures."""

    checks: tuple[Check, ...]
    machine: dict[str, Any]

    @property
    def healthy(self) -> bool:
        """Whether nothing is bad."""
        return all(check.state != "bad" for check in self.checks)


def run(folder: Path) -> Result:
    """Look at versions, devices, ONNX Runtime, plugins and the space in `folder`."""
    checks = [Check("uexcli", "ok", __version__)]
    for package in PACKAGES:
        try:
            checks.append(Check(package, "ok", importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(package, "bad", "not installed; run: pip install uexcli"))
    found = machine.describe()
    if found["cuda"]:
        checks.append(Check("GPU", "ok", ", ".join(found["cuda"])))
    else:
        checks.append(Check("GPU", "warn", "no CUDA device visible: `device=auto` takes the CPU"))
    checks += [_onnxruntime(), _export()]
    registry = load()
    names = {plural: len(registry.names(kind)) for kind, plural in PLURALS.items()}
    checks.append(Check("plugins", "ok", ", ".join(f"{count} {plural}" for plural, count in names.items())))
    checks += [Check(f"plugin {broken.plugin}", "bad", broken.reason) for broken in registry.broken]
    free = shutil.disk_usage(folder).free
    checks.append(
        Check("disk", "ok" if free > LOW_SPACE else "warn", f"{free / 2**30:.1f} GiB free in {folder.resolve()}")
    )
    return Result(tuple(checks), found)


def _onnxruntime() -> Check:
    try:
        import onnxruntime
    except ImportError as error:
        return Check("onnxruntime", "warn", f"not usable ({error})")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    return Check("onnxruntime", "ok", f"{onnxruntime.__version__}, built for {providers}; a session may take fewer")


def _export() -> Check:
    """Whether networks can be written as ONNX; the packages are optional."""
    found = []
    for package in networks.NEEDED:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            return Check(
                "uex export", "warn", f"{package} is not installed; to export networks, run: {networks.INSTALL}"
            )
    return Check("uex export", "ok", ", ".join(found))
