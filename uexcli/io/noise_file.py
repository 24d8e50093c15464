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

from uexcli.core.patch import Patch
from uexcli.errors import UexError, UsageError
from uexcli.io.tensors import Made
from uexcli.io.tensors import write as write_tensors

FORMAT = 1
LARGEST = 8192  # px; the side of a noise
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
        return int(self.recipe["size"])

    @property
    def channels(self) -> int:
        """The number of its colour channels."""
        return int(self.recipe["channels"])

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


def _delta(stored: Tensor) -> Tensor:
    return stored.float() / 255 if stored.dtype == torch.int8 else stored.float()


def _inconsistent(noise: Noise) -> str:
    """Say what does not fit together, or nothing."""
    count = len(noise.keys)
    if noise.rows.shape != (count,) or len(noise.digests) != count or len(set(noise.keys)) != count:
        return f"{count} keys, {len(noise.rows)} rows and {len(noise.digests)} digests"
    wanted: dict[str, type | tuple[type, ...]] = {
        "eps": (int, float),
        "eps_text": str,
        "recipe": dict,
        "seed": int,
        "dataset": dict,
        "measured": dict,
    }
    for key, kinds in wanted.items():
        if not isinstance(noise.header.get(key), kinds):
            return f"the header lacks '{key}'"
    for part in ("method", "norm", "granularity"):
        if not isinstance(noise.recipe.get(part), dict) or not isinstance(noise.recipe[part].get("name"), str):
            return f"the recipe lacks the {part}"
    size, channels = noise.recipe.get("size"), noise.recipe.get("channels")
    if type(size) is not int or not 0 < size <= LARGEST or type(channels) is not int or channels not in (1, 3):
        return f"the recipe says {size} px and {channels} channels"
    if not 0 < noise.eps < float("inf"):
        return "the bound is no positive number"
    try:
        assert noise.patch is None or noise.patch.size < size
    except (UexError, ValueError, AttributeError, AssertionError):
        return "the recipe's patch is none"
    return _wrong_noise(noise)


def _wrong_noise(noise: Noise) -> str:
    banks = () if noise.delta is None or noise.delta.dtype == torch.int8 else noise.delta.split(ROWS)
    if not all(bool(tensor.isfinite().all()) for tensor in (*banks, *noise.network.values())):
        return "the noise is not finite"
    if int(noise.rows.min()) < 0:
        return "rows point outside the bank"
    delta = noise.delta
    if delta is None:
        return "" if noise.network else "there is neither a bank nor a network"
    if delta.dim() != 4 or 0 in delta.shape or delta.shape[1] not in (1, 3) or delta.shape[2] != delta.shape[3]:
        return f"delta has the shape {tuple(delta.shape)}"
    side = noise.size if noise.patch is None else noise.patch.size
    if delta.shape[1] != noise.channels or delta.shape[2] != side or side > noise.size:
        return f"delta has the shape {tuple(delta.shape)}, the recipe another"
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
    try:
        header = json.loads(text) if text is not None else None
    except (json.JSONDecodeError, RecursionError):
        header = None
    if not isinstance(header, dict) or "format" not in header:
        raise UexError(f"{path}: a safetensors file, but no uex noise.", hint="Write one with: uex fit PHOTOS")
    if header.get("format") != FORMAT:
        version = header.get("uexcli", "unknown")
        raise UexError(
            f"{path}: noise format {header.get('format')}, written by uexcli {version}.", hint=f"Use uexcli {version}."
        )
    if not isinstance(header.get("classes"), list):
        raise UexError(f"{path}: damaged noise file (the header lacks 'classes').", hint="Fit again.")
    return header


def _is_pickle(path: Path) -> bool:
    """Whether a file that is no safetensors file starts like a pickle, or like torch's zip of one."""
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or (start[:1] == b"\x80" and start[1:] <= b"\x05")
