"""Info: what a noise file holds, without its noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uexcli.io import noise_file


@dataclass(frozen=True)
class Result:
    """The facts of a noise file."""

    path: Path
    bytes: int
    shape: tuple[int, ...]
    images: int
    classes: tuple[str, ...]
    header: dict[str, Any]


def run(path: Path) -> Result:
    """Read and check a noise file."""
    noise = noise_file.read(path)
    header = {key: value for key, value in noise.header.items() if key != "classes"}
    return Result(path, path.stat().st_size, tuple(noise.delta.shape), len(noise.keys), noise.classes, header)
