"""The net around a pretrained backbone, and its weights, for surrogate plugins; import it inside `build`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.plugin import UexError, UsageError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation that torchvision's nets were taught with


class Encoder(nn.Module):
    """Images of any size to the features of a backbone, and to logits through a last layer of their own.

    `body` takes images `(B, 3, side, side)`, `mean` and `std` of each channel taken out, and gives `(B, F)`. Images are
    `(B, C, size, size)`: grey ones go in as colour, other sizes are resized, smoothly where that makes them smaller.

    Raises:
        UsageError: the body gives no features of such images.
    """

    mean: Tensor
    std: Tensor
    shrink: Tensor | None

    def __init__(
        self,
        body: nn.Module,
        *,
        num_classes: int,
        size: int,
        side: int,
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
    ) -> None:
        super().__init__()
        self.body = body
        self.side = side
        # by a matrix (side, size), which ONNX has, unlike torch's smooth resizing
        self.register_buffer("shrink", triangles(size, side) if size > side else None, persistent=False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.head = nn.Linear(_outputs(body, side), num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1], C 1 or 3, to `(B, F)`."""
        shown = images.expand(-1, 3, -1, -1)
        if self.shrink is None:
            shown = functional.interpolate(shown, size=(self.side, self.side), mode="bilinear")
        else:
            shown = self.shrink @ shown @ self.shrink.T
        features: Tensor = self.body((shown - self.mean) / self.std)
        return features.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1] to logits `(B, K)`."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _outputs(body: nn.Module, side: int) -> int:
    """How many features a body gives."""
    training = body.training
    try:
        with torch.inference_mode():
            made = body.eval()(torch.zeros(1, 3, side, side))
        return int(made.flatten(1).shape[1])
    except (RuntimeError, AssertionError, AttributeError, ValueError) as error:
        raise UsageError(
            f"the net gives no features of images of {side} px ({reason(error)}).",
            hint="Use another net, or `options[side]=224`.",
        ) from None
    finally:
        body.train(training)


def triangles(before: int, after: int) -> Tensor:
    """Give the matrix `(after, before)` of torch's smooth bilinear resizing, for one axis."""
    scale = before / after
    places, centres = torch.arange(before) + 0.5, (torch.arange(after) + 0.5) * scale
    weights = (1 - (places - centres.unsqueeze(1)).abs() / max(scale, 1.0)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Let libraries that fetch weights log nothing: what goes wrong is told by the error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def reason(error: Exception) -> str:
    """Give the first line of what an error of another library says, short and without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(". ")


def load_weights(net: nn.Module, path: str, *, prefix: str = "") -> None:
    """Load a net's weights from a safetensors file, whose names may begin with `prefix`.

    What the file has besides, such as another last layer, is left out.

    Raises:
        UsageError: there is no such file.
        UexError: it is no safetensors file, or lacks weights of the net, or has them in another shape.
    """
    if not Path(path).is_file():
        raise UsageError(f"`weights={path}`: no such file.")
    try:
        found = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UexError(
            f"`weights={path}`: no safetensors file ({error}).",
            hint="Pickles (.pth, .pt) are not read: convert them with safetensors.torch.save_file.",
        ) from None
    if any(name.startswith(prefix) for name in found):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    wanted = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, tensor in wanted.items():
        if name not in found or found[name].shape != tensor.shape:
            there = f"{name} is {tuple(found[name].shape)} there" if name in found else f"{name} is not there"
            raise UexError(f"`weights={path}`: not the weights of this net ({there}).")
    net.load_state_dict({name: found[name] for name in wanted}, strict=False)
