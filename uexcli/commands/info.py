"""Info: what a noise file holds, without its noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from uexcli import plugin
from uexcli.core import seeding
from uexcli.io.noise import noise_file
from uexcli.registry import load


@dataclass(frozen=True)
class Result:
    """The facts of a noise file."""

    path: Path
    bytes: int
    shape: tuple[int, ...]  # of the bank, or where there is none, of what the network gives for each of its rows
    network: int  # weights of a network that makes the noise; 0: the noise is a bank
    bounded: bool  # False: the norm promises nothing
    images: int
    classes: tuple[str, ...]
    header: dict[str, Any]
    guessable: bool  # whether the seed can be found by trying


def run(path: Path) -> Result:
    """Read and check a noise file."""
    noise = noise_file.read(path)
    header = {key: value for key, value in noise.header.items() if key != "classes"}
    whole = (noise.num_rows, noise.channels, noise.size, noise.size)
    return Result(
        path=path,
        bytes=path.stat().st_size,
        shape=whole if noise.delta is None else tuple(noise.delta.shape),
        network=sum(tensor.numel() for tensor in noise.network.values()),
        bounded=_bounded(noise),
        images=len(noise.keys),
        classes=noise.classes,
        header=header,
        guessable=seeding.can_be_guessed(header.get("seed")),
    )


def _bounded(noise: noise_file.Noise) -> bool:
    """Whether the norm is one that promises something; one that is not installed did, as far as is known."""
    entry = load().entries["norm"].get(noise.recipe["norm"]["name"])
    return entry is None or cast(type[plugin.Norm], entry.cls).bounded
