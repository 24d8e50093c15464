"""The noise file: one safetensors file, written whole or not at all, read without trusting it. Secret."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from uexcli.core.fit.patch import Patch
from uexcli.errors import UexError, UsageError
from uexcli.io import documents, schema
from uexcli.io.noise.tensors import NAMES, Made
from uexcli.io.noise.tensors import write as write_tensors

FORMAT = 1
ROWS = 1024  # of the bank, at once
SUFFIX = ".noise.safetensors"
MEMORY = "memory."  # prefix of a granularity's own tensors
NETWORK = "network."  # prefix of the weights of a network that makes the noise


@dataclass(frozen=True)
class Noise:
    """A fitted bank, or network, and what it was fitted on.

    `delta` is `(R, C, S, S)`, patches being smaller: float32 in units of the [0, 1] range, or as it lies in a file,
    int8 levels or float16, of which `bank` gives the numbers; None where `network`, the weights of one, makes the
    noise; `rows` int64 `(N,)`; `keys` and `digests` (SHA-256, hex) have one entry an image; `classes`
    are the names behind the labels (empty without); `memory` is what the granularity needs for new images; `header` is
    the rest: recipe, eps, seed, measurements, versions.
    """

    delta: Tensor | None
    rows: Tensor
    keys: tuple[str, ...]
    digests: tuple[str, ...]
    classes: tuple[str, ...]
    header: dict[str, Any]
    memory: dict[str, Tensor] = field(default_factory=dict)
    network: dict[str, Tensor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The side the noise was fitted at."""
        side: int = self.recipe["size"]
        return side

    @property
    def channels(self) -> int:
        """The number of its colour channels."""
        count: int = self.recipe["channels"]
        return count

    @property
    def seed(self) -> int:
        """What it was drawn with; 0 where the file does not say."""
        return self.header.get("seed") or 0

    def bank(self, first: int = 0, last: int | None = None) -> Tensor:
        """Some rows of the bank, or all: float32, in units of the [0, 1] range."""
        assert self.delta is not None
        return _delta(self.delta[first:last])

    @property
    def patch(self) -> Patch | None:
        """Where on an image the noise lies, if not everywhere."""
        text = self.recipe.get("patch")
        return None if text is None else Patch.parse(text)

    @property
    def num_rows(self) -> int:
        """How many rows images are shared out to."""
        return int(self.rows.max()) + 1 if self.delta is None else len(self.delta)

    @property
    def recipe(self) -> dict[str, Any]:
        """Which parts, with which options, made it."""
        recipe: dict[str, Any] = self.header["recipe"]
        return recipe

    @property
    def eps(self) -> float:
        """The bound, in the norm's units at the fitted size."""
        return float(self.header["eps"])

    def facts(self) -> dict[str, Any]:
        """What whoever runs a model of this noise must know."""
        norm = self.recipe["norm"]
        return {
            "method": self.recipe["method"]["name"],
            "mode": self.recipe["granularity"]["name"],
            "norm": {"name": norm["name"], "options": norm.get("options", {})},
            "eps": self.eps,
            "channels": self.channels,
            "size": self.size,
        }


def fingerprint(keys: Sequence[str], digests: Sequence[str]) -> str:
    """The SHA-256 over all (key, digest) pairs, whatever their order."""
    total = hashlib.sha256()
    for key, digest in sorted(zip(keys, digests, strict=True)):
        total.update(f"{digest}  {key}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def write(path: Path, noise: Noise, release: Callable[[], None] = lambda: None) -> None:
    """Write a noise file; `delta` as int8 levels where it lies on the 8-bit grid, else as float16.

    `release` is called after every part of `delta`, which may lie in a file.
    """
    tensors: dict[str, Tensor | Made] = {
        **({} if noise.delta is None else {"delta": _written(noise.delta, release)}),
        **{NETWORK + name: tensor for name, tensor in noise.network.items()},
        "rows": noise.rows.to(torch.int32),
        "keys": _pack("\0".join(noise.keys).encode("utf-8", "surrogateescape")),
        "digests": _pack(bytes.fromhex("".join(noise.digests))),
        **{MEMORY + name: tensor for name, tensor in noise.memory.items()},
    }
    header = {"format": FORMAT, "classes": noise.classes, **noise.header}
    write_tensors(path, tensors, {"uex": json.dumps(header)}, release)


def _written(delta: Tensor, release: Callable[[], None]) -> Made:
    def parts() -> Iterator[Tensor]:
        for part in delta.split(ROWS):
            yield part
            release()

    def pieces() -> Iterator[Tensor]:
        return ((255 * part).to(torch.int8) if whole else part.to(torch.float16) for part in parts())

    whole = all(_on_grid(part) for part in parts())
    return Made(tuple(delta.shape), torch.int8 if whole else torch.float16, pieces)


def _on_grid(delta: Tensor) -> bool:
    levels = 255 * delta
    return bool((levels == levels.round()).all()) and float(levels.abs().max()) <= 127


def _pack(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())


def read(path: Path) -> Noise:
    """Read a noise file.

    Raises:
        UsageError: there is no such file.
        UexError: it is cut short, of another program, a pickle, of a newer format, or its parts do not fit together.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such noise file.", hint="Write one with: uex fit PHOTOS")
    header = read_header(path)
    try:
        tensors = safetensors.torch.load_file(path)
        if not _are_typed(tensors):
            raise ValueError("tensors of types that uex does not write")
        keys = tuple(tensors["keys"].numpy().tobytes().decode("utf-8", "surrogateescape").split("\0"))
        digests = tensors["digests"].numpy().tobytes().hex()
        noise = Noise(
            delta=tensors.get("delta"),
            rows=tensors["rows"].long(),
            keys=keys,
            digests=tuple(digests[i : i + 64] for i in range(0, len(digests), 64)),
            classes=tuple(header["classes"]),
            header=header,
            memory=_under(MEMORY, tensors),
            network=_under(NETWORK, tensors),
        )
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, UnicodeDecodeError, OSError) as error:
        raise UexError(f"{path}: damaged noise file ({error}).", hint="Fit again, or take it from a backup.") from None
    problem = _inconsistent(noise)
    if problem:
        raise UexError(f"{path}: damaged noise file ({problem}).", hint="Fit again, or take it from a backup.")
    return noise


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _are_typed(tensors: Mapping[str, Tensor]) -> bool:
    wanted = {
        "delta": (torch.int8, torch.float16, torch.float32),
        "rows": (torch.int32, torch.int64),
        "keys": (torch.uint8,),
        "digests": (torch.uint8,),
    }
    return all(tensor.dtype in wanted.get(name, tuple(NAMES)) for name, tensor in tensors.items())


def _delta(stored: Tensor) -> Tensor:
    return stored.float() / 255 if stored.dtype == torch.int8 else stored.float()


def _inconsistent(noise: Noise) -> str:
    """Say what does not fit together, or nothing."""
    count = len(noise.keys)
    if noise.rows.shape != (count,) or len(noise.digests) != count or len(set(noise.keys)) != count:
        return f"{count} keys, {noise.rows.numel()} rows and {len(noise.digests)} digests"
    patch = noise.patch
    if patch is not None and patch.size >= noise.size:
        return "the recipe's patch is as big as the image"
    if patch is not None and patch.random and noise.header.get("seed") is None:
        return "patches at random places, and no seed"
    return _wrong_noise(noise)


def _wrong_noise(noise: Noise) -> str:
    delta, side = noise.delta, noise.size if noise.patch is None else noise.patch.size
    if delta is not None and (tuple(delta.shape[1:]) != (noise.channels, side, side) or not len(delta)):
        return f"delta has the shape {tuple(delta.shape)}, the recipe another"
    banks = () if noise.delta is None or noise.delta.dtype == torch.int8 else noise.delta.split(ROWS)
    if not all(bool(tensor.isfinite().all()) for tensor in (*banks, *noise.network.values())):
        return "the noise is not finite"
    if int(noise.rows.min()) < 0:
        return "rows point outside the bank"
    if delta is None:
        return "" if noise.network else "there is neither a bank nor a network"
    return "rows point outside the bank" if int(noise.rows.max()) >= len(delta) else ""


def read_header(path: Path) -> dict[str, Any]:
    """Read only the header of a noise file, checked to be one of ours."""
    try:
        with safetensors.safe_open(path, "pt") as opened:
            text = (opened.metadata() or {}).get("uex")
    except OSError as error:
        raise UexError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except safetensors.SafetensorError as error:
        if _is_pickle(path):
            raise UexError(
                f"{path}: a pickle, not a noise file.", hint="uex never reads pickles; fit with uex instead."
            ) from None
        raise UexError(
            f"{path}: no noise file, or cut short ({error}).", hint="Write one with: uex fit PHOTOS"
        ) from None
    if text is None:
        raise UexError(f"{path}: a safetensors file, but no uex noise.", hint="Write one with: uex fit PHOTOS")
    try:
        header: dict[str, Any] = schema.read_json(text, documents.VERSIONED)
        if header["format"] == FORMAT:
            documents.NOISE(header, "")
    except schema.Mismatch as error:
        raise UexError(
            f"{path}: damaged noise file (of its header, {error}).", hint="Fit again, or take it from a backup."
        ) from None
    if header["format"] != FORMAT:
        version = header.get("uexcli", "unknown")
        raise UexError(
            f"{path}: noise format {header['format']}, written by uexcli {version}.", hint=f"Use uexcli {version}."
        )
    return header


def _is_pickle(path: Path) -> bool:
    """Whether a file that is no safetensors file starts like a pickle, or like torch's zip of one."""
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or (start[:1] == b"\x80" and start[1:] <= b"\x05")
