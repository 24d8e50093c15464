"""torchvision's classifiers as encoders."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import torch
from torch import nn
from torchvision import models

from uexcli.api import UexError, UsageError
from uexcli.encoder import IMAGENET, Encoder, load_weights

LEAST = 128  # px


def build(name: str, weights: str, side: int | None, *, fixed: bool, num_classes: int, size: int) -> nn.Module:
    """Build one of torchvision's classifiers, by its name there, with a fresh last layer.

    `weights` is `auto` (torchvision's own, downloaded once), `random`, or a safetensors file. Of weights that come in
    versions the first is taken, which the papers used.

    Raises:
        UsageError: torchvision has no such classifier.
        UexError: the weights are not there.
    """
    try:
        net, known = models.get_model(name, weights=None), models.get_model_weights(name)
    except ValueError:
        raise UsageError(f"torchvision has no classifier '{name}'.", hint="Write it as torchvision does.") from None
    published: Any = getattr(known, "IMAGENET1K_V1", None) or known.DEFAULT
    seen = published.transforms()
    native = seen.crop_size[0] if hasattr(seen, "crop_size") else 224
    last, outputs = _take_head(net, name)
    if weights == "auto":
        tensors = _published(published, name)
        net.load_state_dict({key: value for key, value in tensors.items() if not key.startswith(f"{last}.")})
    elif weights != "random":
        load_weights(net, weights)
    mean, std = getattr(seen, "mean", IMAGENET[0]), getattr(seen, "std", IMAGENET[1])
    shown = side or (native if fixed else min(native, max(LEAST, 2 * size)))
    return Encoder(net, outputs=outputs, num_classes=num_classes, size=size, side=shown, mean=mean, std=std)


def _take_head(net: nn.Module, name: str) -> tuple[str, int]:
    """Take the last linear layer out, so that the net gives its input; give its name and the number of features."""
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"torchvision's '{name}' has no linear layer at its end.", hint="Use another one.")
    head = net.get_submodule(linear[-1])
    assert isinstance(head, nn.Linear)
    parent, _, child = linear[-1].rpartition(".")
    setattr(net.get_submodule(parent), child, nn.Identity())
    return linear[-1], head.in_features


def _published(weights: Any, name: str) -> dict[str, torch.Tensor]:
    """Download the weights once; the file's name holds the start of its SHA-256, which is checked."""
    try:
        tensors: dict[str, torch.Tensor] = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:
        raise UexError(
            f"the weights of torchvision's '{name}' are not here, and cannot be downloaded ({error}).",
            hint="Give --weights FILE.safetensors, or use --surrogate efficientnet_lite0.",
        ) from None
    return tensors
