"""Where the noise of a photo comes from: a row of a bank, a patch, or a network that sees the photo."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from uexcli import api
from uexcli.core.noise import Forward, computed
from uexcli.core.patch import paste
from uexcli.errors import UexError
from uexcli.io import images, noise_file
from uexcli.registry import Registry

Source = Callable[[images.Photo, str, int], Tensor]  # a photo, its key and its row to noise, float (1, C, S, S)


def make(noise: noise_file.Noise, norm: api.Norm, forward: Forward | None) -> Source:
    """Give the source of a noise file's noise; `forward` runs its network, where it holds one."""
    if noise.delta is None:
        assert forward is not None
        return _computed(noise, norm, forward)
    delta, patch, seed = noise.delta, noise.patch, int(noise.header["seed"])
    if patch is None:
        return lambda _photo, _key, row: delta[row : row + 1]
    return lambda _photo, key, row: paste(delta[row : row + 1], patch.places([key], noise.size, seed), noise.size)


def _computed(noise: noise_file.Noise, norm: api.Norm, forward: Forward) -> Source:
    def source(photo: images.Photo, _key: str, row: int) -> Tensor:
        small = torch.from_numpy(images.squash(photo, noise.size, noise.channels))[None].float() / 255
        return computed(forward, small, torch.tensor([row]), norm, noise.eps)

    return source


def part(registry: Registry, noise: noise_file.Noise, kind: str) -> api.Plugin:
    """Make a part that a noise file was fitted with: its norm, granularity or method.

    Raises:
        UexError: it is not installed, or takes other options here.
    """
    described = noise.recipe[kind]
    try:
        return registry.find(kind, described["name"]).cls(**described.get("options", {}))
    except UexError as error:
        raise UexError(
            f"the noise file needs the {kind} '{described['name']}', which is not installed.",
            hint=f"It came from {described.get('from')}.",
        ) from error
    except (TypeError, ValueError):
        raise UexError(
            f"the {kind} '{described['name']}' here does not take the noise file's options.",
            hint=f"Use {described.get('from')}.",
        ) from None


def network(registry: Registry, noise: noise_file.Noise) -> nn.Module:
    """Build the network of a noise file, in eval mode on the CPU.

    Raises:
        UexError: its method is not installed, or builds another network.
    """
    method = cast(api.Method, part(registry, noise, "method"))
    try:
        made = method.network(channels=noise.channels, size=noise.size, num_rows=noise.num_rows)
        made.load_state_dict(noise.network)
    except (RuntimeError, TypeError, ValueError, UexError) as error:
        raise UexError(
            f"the weights in the noise file do not fit the method '{method.name}' here ({error}).",
            hint=f"Use {noise.recipe['method'].get('from')}.",
        ) from None
    return made.eval().requires_grad_(False)
