"""safetensors files, written a piece at a time and read without loading them: what is bigger than memory fits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from torch import Tensor

from uexcli.io import atomic

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
TYPES = {name: dtype for dtype, name in NAMES.items()}
PIECE = 2**24  # values written at once


@dataclass(frozen=True)
class Made:
    """A tensor that is made while it is written: `pieces` gives it in order, each of the stated type."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: Callable[[], Iterable[Tensor]]


def write(
    path: Path,
    tensors: Mapping[str, Tensor | Made],
    metadata: Mapping[str, str],
    release: Callable[[], None] = lambda: None,
) -> None:
    """Write a safetensors file, whole or not at all; `release` is called after every piece.

    Raises:
        UexError: the disk is full, read-only and the like.
    """
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # every offset is aligned
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in ordered:
        tensor = tensors[name]
        end = offset + math.prod(tensor.shape) * tensor.dtype.itemsize
        entry = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        header[name] = entry
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def data() -> Iterator[bytes]:
        yield len(text).to_bytes(8, "little") + text
        for name in ordered:
            for piece in _pieces(tensors[name]):
                yield piece.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                release()

    atomic.write(path, data(), private=True)


def _pieces(tensor: Tensor | Made) -> Iterable[Tensor]:
    if isinstance(tensor, Made):
        return tensor.pieces()
    if tensor.dim() == 0 or tensor.numel() <= PIECE:
        return [tensor]
    rows = max(1, PIECE // max(1, math.prod(tensor.shape[1:])))
    return [tensor[begin : begin + rows] for begin in range(0, len(tensor), rows)]


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Map a safetensors file: its tensors, read when they are used and private to this process, and its metadata.

    Raises:
        safetensors.SafetensorError: it is no whole safetensors file.
    """
    with safetensors.safe_open(path, "pt") as opened:  # checks the header, offsets and length
        metadata = dict(opened.metadata() or {})
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = TYPES[entry["dtype"]]
        if end == begin:
            found[name] = torch.empty(entry["shape"], dtype=dtype)
            continue
        raw = np.memmap(path, dtype=np.uint8, mode="c", offset=start + begin, shape=(end - begin,))
        found[name] = torch.from_numpy(raw).view(dtype).view(entry["shape"])
    return found, metadata
