"""torchvision's classifiers as encoders."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import torch
from torch import nn
from torchvision import models

from uexcli.core.nets import take_head
from uexcli.plugin import UexError, UsageError
from uexcli.plugin.encoder import IMAGENET, Encoder, load_weights, reason

LEAST = 128  # px
AUXILIARY: dict[str, dict[str, Any]] = {  # classifiers halfway up, which are of no use here
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def build(name: str, weights: str, side: int | None, *, num_classes: int, size: int) -> nn.Module:
    """Build one of torchvision's classifiers, by its name there, with a fresh last layer.

    `weights` is `auto` (torchvision's own, downloaded once), `random`, or a safetensors file. Of weights that come in
    versions the first is taken, which the papers used. Nets that take one size only are shown that.

    Raises:
        UsageError: torchvision has no such classifier, or it gives no features at this side.
        UexError: the weights are not there.
    """
    try:
        net, known = models.get_model(name, weights=None, **AUXILIARY.get(name, {})), models.get_model_weights(name)
    except ValueError:
        raise UsageError(f"torchvision has no classifier '{name}'.", hint="Write it as torchvision does.") from None
    published: Any = getattr(known, "IMAGENET1K_V1", None) or known.DEFAULT
    seen = published.transforms()
    native = seen.crop_size[0] if hasattr(seen, "crop_size") else 224
    shown = side or (native if hasattr(net, "image_size") else min(native, max(LEAST, 2 * size)))
    if take_head(net) is None:
        raise UsageError(f"torchvision's '{name}' has no linear layer at its end.", hint="Use another one.")
    if weights == "auto":
        tensors = _published(published, name)
        try:
            net.load_state_dict({key: tensors[key] for key in net.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise UsageError(f"torchvision's weights do not fit its '{name}' ({reason(error)}).") from None
    elif weights != "random":
        load_weights(net, weights)
    mean, std = getattr(seen, "mean", IMAGENET[0]), getattr(seen, "std", IMAGENET[1])
    return Encoder(net, num_classes=num_classes, size=size, side=shown, mean=mean, std=std)


def _published(weights: Any, name: str) -> dict[str, torch.Tensor]:
    """Download the weights once; the file's name holds the start of its SHA-256, which is checked."""
    try:
        tensors: dict[str, torch.Tensor] = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:
        raise UexError(
            f"the weights of torchvision's '{name}' are not here, and cannot be downloaded ({reason(error)}).",
            hint="Give `weights=FILE.safetensors`, or use `surrogate=efficientnet_lite0`.",
        ) from None
    return tensors
