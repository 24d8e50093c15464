"""Where the noise of a photo comes from: a row of a bank, a patch, or a network that sees the photo."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from uexcli import plugin
from uexcli.commands.protect.features import Encoding
from uexcli.core.fit.noise import Forward, computed
from uexcli.core.fit.patch import paste
from uexcli.errors import UexError
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.registry import Registry, remake
from uexcli.runtime import network as network_of

ENCODER, ENCODER_WEIGHTS = "encoder", "encoder_weights"  # in a noise file's recipe and header
Source = Callable[[photo_files.Photo, str, int], Tensor]  # a photo, its key and its row to noise, float (1, C, S, S)


def make(noise: noise_file.Noise, norm: plugin.Norm, forward: Forward | None) -> Source:
    """Give the source of a noise file's noise; `forward` runs its network, where it holds one."""
    if noise.delta is None:
        assert forward is not None
        return _computed(noise, norm, forward)
    patch, seed = noise.patch, noise.seed
    if patch is None:
        return lambda _photo, _key, row: noise.bank(row, row + 1)
    return lambda _photo, key, row: paste(noise.bank(row, row + 1), patch.places([key], noise.size, seed), noise.size)


def _computed(noise: noise_file.Noise, norm: plugin.Norm, forward: Forward) -> Source:
    def source(photo: photo_files.Photo, _key: str, row: int) -> Tensor:
        pixels = photo_files.squash(photo, noise.size, noise.channels)
        small = torch.tensor(pixels)[None].float() / 255  # a copy: those of a grey photo are read-only
        return computed(forward, small, torch.tensor([row]), norm, noise.eps)

    return source


def part(
    registry: Registry, noise: noise_file.Noise, kind: str, options: Mapping[str, Any] | None = None
) -> plugin.Plugin:
    """Make a part that a noise file was fitted with: its norm, granularity, method or encoder.

    `options` go before those of the file.

    Raises:
        UexError: it is not installed, or takes other options here.
    """
    described = noise.recipe[kind]
    registered = "surrogate" if kind == ENCODER else kind
    try:
        cls = registry.find(registered, described["name"]).cls
        return remake(cls, {**described.get("options", {}), **(options or {})})
    except UexError as error:
        raise UexError(
            f"the noise file needs the {kind} '{described['name']}', which is not installed.",
            hint=f"It came from {described.get('from')}.",
        ) from error
    except ValueError:
        raise UexError(
            f"the {kind} '{described['name']}' here does not take the noise file's options.",
            hint=f"Use {described.get('from')}.",
        ) from None


def encoding(registry: Registry, noise: noise_file.Noise, weights: Path | None) -> Encoding:
    """Build what tells images that are alike, as the fit did; `weights` says where those of its net are now.

    A noise file downloads nothing by itself, as it may be a stranger's; `weights` that are called `auto` do.

    Raises:
        UexError: its plugin or its weights are not here, or are others.
    """
    shape = {"channels": noise.channels, "size": noise.size, "seed": noise.seed}
    if noise.recipe.get(ENCODER) is None:
        return Encoding(None, device=torch.device("cpu"), **shape)
    elsewhere = None if weights is None else {"weights": str(weights)}
    encoder = cast(plugin.Surrogate, part(registry, noise, ENCODER, elsewhere))
    where = "where its weights are now: `weights=FILE`, or `weights=auto` to download them"
    try:
        missing = encoder.missing_requirement()
        if missing is not None:
            raise missing
        with network_of.cut() if weights is None else contextlib.nullcontext():
            made = Encoding(encoder, device=torch.device("cpu"), **shape)
    except UexError as error:
        install = f"{error.hint} Or say" if error.hint and error.hint.startswith("Run:") else "Say"
        raise UexError(
            f"new photos need the encoder of the fit, '{encoder.name}': {error.message}",
            hint=f"{install} {where}",
        ) from None
    if noise.header.get(ENCODER_WEIGHTS, made.digest) != made.digest:
        raise UexError(f"the weights of '{encoder.name}' are not those the noise was fitted with.", hint=f"Say {where}")
    return made


def network(registry: Registry, noise: noise_file.Noise) -> nn.Module:
    """Build the network of a noise file, in eval mode on the CPU.

    Raises:
        UexError: its method is not installed, or builds another network.
    """
    method = cast(plugin.Method, part(registry, noise, "method"))
    try:
        shape = {"channels": noise.channels, "size": noise.size, "num_rows": noise.num_rows}
        with torch.device("meta"):  # takes no memory: a stranger's options may ask for any amount
            wanted = method.network(**shape).state_dict()
        if {name: tensor.shape for name, tensor in wanted.items()} != {
            name: tensor.shape for name, tensor in noise.network.items()
        }:
            raise ValueError
        made = method.network(**shape)
        made.load_state_dict(noise.network)
    except (RuntimeError, TypeError, ValueError, OverflowError, UexError):
        raise UexError(
            f"the weights in the noise file do not fit the method '{method.name}' here.",
            hint=f"It was made by {noise.recipe['method'].get('from')}. Use that, or fit again.",
        ) from None
    return made.eval().requires_grad_(False)
