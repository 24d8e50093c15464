"""How much memory a fit will take, and what goes to files where that is too much."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uexcli.commands.fit.request import Request
from uexcli.commands.fit.setup import Setup
from uexcli.commands.protect.features import PIXELS, Encoding
from uexcli.core.fit.bank import chunk_of
from uexcli.core.fit.store import Store
from uexcli.errors import UexError, UsageError
from uexcli.io.noise.mapped import Mapped
from uexcli.runtime import machine

FEATURES = 4 + 8 + 8  # bytes of a feature: float32, float64, and the copy of k-means
COPIES = 8  # float32 copies of a chunk of images that brushing noise onto the 8-bit grid takes, at most
HOLES = 1.75  # what libraries rearrange, and what a heap that keeps its memory has no use for
SHARE = 0.7  # of the memory that is free, without --memory
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class Memory:
    """Where images and banks lie; `most` bytes of memory, and `in_files` bytes on the disk."""

    store: Store
    most: int
    in_files: int

    @property
    def mapped(self) -> Mapped | None:
        """The store, where it keeps things in files."""
        return self.store if isinstance(self.store, Mapped) else None


def parse(text: str) -> int:
    """Read `4GiB`, `500M` or a number of bytes.

    Raises:
        UsageError: it is none of these.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise UsageError(f"`memory={text}`: not a size.", hint="Write 4GiB, or 0 for as little as possible.")
    return int(float(found[1]) * UNITS[found[2]])


def settle(request: Request, setup: Setup) -> Memory:
    """Choose between memory and files.

    Raises:
        UsageError: `--memory` is no size.
        UexError: it is less than a fit of these photos takes at the least.
    """
    count, one = len(setup.found.samples), setup.channels * setup.size**2
    own = setup.parts.granularity.per_sample
    data = count * one * (1 + (4 * setup.parts.method.banks if own else 0))
    work = _work(setup, one) + _looking(setup)
    host = machine.resident() + (work if setup.device.type == "cpu" else chunk_of(one) * one * 4)
    if request.memory is not None:
        limit = parse(request.memory)
        if 0 < limit < host:
            raise UexError(
                f"`memory={request.memory}`: this fit takes at least {told(host)}.",
                hint="Use a smaller `options[batch]` or `size`, or `memory=0` for as little as possible.",
            )
        keep = host + data <= limit
    else:
        free = machine.free_memory(setup.device)
        keep = free is None or data + work <= SHARE * free
    if keep:
        return Memory(Store(), host + data, 0)
    return Memory(Mapped(setup.output.parent), host, data)


def _work(setup: Setup, one: int) -> int:
    """Give the bytes that steps take besides images and banks: activations, gradients, and chunks of images."""
    chunks = chunk_of(one) * one * 4 * COPIES
    surrogate = setup.parts.surrogate
    if surrogate is None:
        return chunks
    classes = max(2, len(setup.found.classes))
    images = torch.zeros(2, setup.channels, setup.size, setup.size)
    each = weights = 0
    for net in (surrogate, *setup.parts.ensemble):  # one of them learns or moves the noise at a time
        model = net.build(num_classes=classes, channels=setup.channels, size=setup.size)
        each = max(each, activations(model.train(), model, images, setup.autocast))
        weights = max(weights, sum(parameter.numel() * 4 for parameter in model.parameters()))
    method = setup.parts.method
    batch = method.largest_batch(len(setup.found.samples))
    if method.gives_network:  # learns beside the surrogate, through which its gradients go twice
        network = method.network(channels=setup.channels, size=setup.size, num_rows=1)
        rows = torch.zeros(len(images), dtype=torch.int64)
        each = 2 * each + activations(lambda shown: network.train()(shown, rows), network, images, setup.autocast)
        weights += sum(parameter.numel() * 4 for parameter in network.parameters())
    return int(HOLES * (chunks + 2 * batch * (each + 4 * one) + (5 + method.spare_nets) * weights))


def _looking(setup: Setup) -> int:
    """Give the bytes that grouping photos takes: the features of all, with their copies in k-means, and the net."""
    parts = setup.parts
    grouped = parts.granularity.encoder != PIXELS
    encoder = parts.encoder if grouped else None if setup.found.classes else parts.grouper
    if encoder is None:
        return 0
    encoding = Encoding(encoder, channels=setup.channels, size=setup.size, seed=0, device=torch.device("cpu"))
    few = torch.zeros(1, setup.channels, setup.size, setup.size, dtype=torch.uint8)
    weights = sum(parameter.numel() * 4 for parameter in encoding.net.parameters())
    return FEATURES * encoding(few).shape[1] * len(setup.found.samples) + weights


def activations(
    forward: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor, autocast: torch.dtype | None
) -> int:
    """Measure the bytes that one image of a training step of a model keeps for the way back."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=autocast, enabled=autocast is not None),
    ):
        logits = forward(images)
    total = sum(size for pointer, size in kept.items() if pointer not in weights)
    del logits
    return math.ceil(total / len(images))


def told(size: float) -> str:
    """Put a number of bytes in words."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20):,} MiB"
