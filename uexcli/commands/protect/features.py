"""What tells images that are alike: thumbnails, or the features of a pretrained net."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from uexcli import plugin
from uexcli.core import clusters, seeding
from uexcli.core.fit.bank import chunk_of
from uexcli.core.fit.frozen import Features
from uexcli.core.nets import as_input
from uexcli.core.pixels import squash
from uexcli.errors import UexError
from uexcli.io.onnx import networks
from uexcli.runtime import machine

AUTO, PIXELS = "auto", "pixels"  # what a granularity may ask for besides a net's name
AT_ONCE = 32  # images


class Encoding:
    """Uint8 images `(N, C, S, S)` to features, float32 `(N, F)`, on the CPU; in full precision, wherever it runs.

    `net` takes float images `(B, C, S, S)` in [0, 1]; `digest` tells its weights, None for thumbnails.
    """

    net: nn.Module
    digest: str | None

    def __init__(
        self, encoder: plugin.Surrogate | None, *, channels: int, size: int, seed: int, device: torch.device
    ) -> None:
        """Build the net of an encoder; None stands for thumbnails."""
        self.device = device
        if encoder is None:
            self.net, self.digest = clusters.Thumbnails(), None
            return
        with seeding.global_seed(seed, "surrogate"):  # as the fit's surrogate, where it is the same net
            made = encoder.build(num_classes=2, channels=channels, size=size)
        self.net = Features(made.eval().requires_grad_(False)).to(device)
        body = {name: tensor for name, tensor in made.state_dict().items() if not name.startswith("head.")}
        self.digest = networks.digest(body)

    def __call__(self, images: Tensor, on_done: Callable[[int], None] = lambda _: None) -> Tensor:
        """Give the features; `on_done` hears how many images are done.

        Raises:
            UexError: they are not finite.
        """
        parts = []
        for part in images.split(AT_ONCE if self.digest else chunk_of(images[0].numel())):
            parts.append(self._features(as_input(part.to(self.device))))
            on_done(sum(map(len, parts)))
        return torch.cat(parts)

    def of_photo(self, pixels: Tensor, size: int, channels: int) -> Tensor:
        """Give the features, float32 `(1, F)`, of a photo of any size, uint8 `(1, C, H, W)`."""
        return self._features(squash(pixels, size, channels).to(self.device))

    def _features(self, images: Tensor) -> Tensor:
        with torch.inference_mode(), machine.full_precision():
            found = self.net(images).float().cpu()
        features: Tensor = found.clone()  # outside of inference mode: a tensor like any other
        if not bool(features.isfinite().all()):
            raise UexError("the features of the images are not finite.", hint="Use other weights, or another encoder.")
        return features
