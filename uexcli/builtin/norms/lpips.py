"""LPIPS: the image stays close to itself in the features of a trained net.

The net is AlexNet with the linear weights of LPIPS 0.1. Neither comes with uex: `UEX_LPIPS_WEIGHTS` names a safetensors
file of both, made once where torchvision and `pip install lpips` are (lpips is not needed afterwards):

    lins = torch.load(f"{lpips.__path__[0]}/weights/v0.1/alex.pth", "cpu", weights_only=True)
    save_file({**alexnet(weights="DEFAULT").features.state_dict(prefix="features."), **lins}, "lpips.safetensors")

with `alexnet` of torchvision.models and `save_file` of safetensors.torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.builtin.norms._perceptual import Perceptual
from uexcli.plugin import Norm, UexError, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import Tensor

VARIABLE = "UEX_LPIPS_WEIGHTS"
HINT = f"Set {VARIABLE} to a safetensors file of AlexNet's features and LPIPS's linear weights."
SMALLEST = 64  # px; of less, too little is left after two poolings
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
# torchvision's AlexNet: number among `features`, (outputs, inputs, side), stride, padding, pooled before.
CONVOLUTIONS = (
    (0, (64, 3, 11), 4, 2, False),
    (3, (192, 64, 5), 1, 2, True),
    (6, (384, 192, 3), 1, 1, True),
    (8, (256, 384, 3), 1, 1, False),
    (10, (256, 256, 3), 1, 1, False),
)


@dataclass(frozen=True)
class Lpips(Perceptual):
    """The learned distance between the image and its changed self; grey images are seen as colour ones."""

    name: ClassVar[str] = "lpips"
    summary: ClassVar[str] = f"the learned perceptual distance (LPIPS) is at most eps; weights: {VARIABLE}"
    paper: ClassVar[str] = (
        "Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric, CVPR 2018"
    )

    def missing_requirement(self) -> UexError | None:
        """Say what is wrong with the file of weights, from its header alone."""
        try:
            _names(_file())
        except UexError as error:
            return error
        return None

    def against(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """LPIPS: the weighted squared difference of unit-length features, mean over places, sum over five layers.

        Raises:
            UexError: the weights are missing or damaged.
        """
        path = _file()
        weights = _load(path, path.stat().st_mtime_ns, images.device)
        before = _features(images, weights)

        def distance(changed: Tensor) -> Tensor:
            after = _features(changed, weights)
            layers = zip(before, after, weights.lins, strict=True)
            each = [((one - other).square() * lin).sum(1).mean((1, 2)) for one, other, lin in layers]
            return sum(each[1:], each[0])

        return distance


@dataclass(frozen=True)
class Weights:
    """The weight `(O, I, K, K)` and bias `(O,)` of each convolution, and the lins `(1, O, 1, 1)`, all float32."""

    convolutions: tuple[tuple[Tensor, Tensor], ...]
    lins: tuple[Tensor, ...]


def _features(images: Tensor, weights: Weights) -> list[Tensor]:
    """Float images `(N, C, H, W)` in [0, 1] to unit-length features of five layers, each `(N, O, h, w)`."""
    from torch.nn import functional

    height, width = images.shape[2:]
    images = images.float().expand(-1, 3, -1, -1)
    if (smaller := min(height, width)) < SMALLEST:
        wanted = (round(height * SMALLEST / smaller), round(width * SMALLEST / smaller))
        images = functional.interpolate(images, wanted, mode="bilinear", align_corners=False)
    signal = (2 * images - 1 - images.new_tensor(SHIFT).view(3, 1, 1)) / images.new_tensor(SCALE).view(3, 1, 1)
    found = []
    for (_, _, stride, padding, pooled), (weight, bias) in zip(CONVOLUTIONS, weights.convolutions, strict=True):
        signal = functional.max_pool2d(signal, 3, 2) if pooled else signal
        signal = functional.conv2d(signal, weight, bias, stride=stride, padding=padding).relu()
        found.append(functional.normalize(signal, dim=1, eps=1e-10))
    return found


def _file() -> Path:
    """Find the file of weights.

    Raises:
        UexError: none is named, or it is not there.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise UexError(f"norm 'lpips' needs weights, and {VARIABLE} is not set.", hint=HINT)
    path = Path(named).absolute()
    if not path.is_file():
        raise UexError(f"norm 'lpips': {path}, which {VARIABLE} names, is no file.", hint=HINT)
    return path


def _names(path: Path) -> dict[str, str]:
    """Say which tensor of a file is which of ours, without importing torch.

    Raises:
        UexError: it is no whole safetensors file, or tensors are missing or have another shape.
    """
    try:
        header = _header(path)
        names = {}
        for ours, shape in _wanted().items():
            theirs = next((name for name in _aliases(ours) if name in header), "")
            if not theirs:
                raise UexError(f"norm 'lpips': {path} has no tensor '{ours}'.", hint=HINT)
            if tuple(header[theirs]["shape"]) != shape:
                raise UexError(f"norm 'lpips': in {path} '{theirs}' has another shape than {shape}.", hint=HINT)
            names[ours] = theirs
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UexError(f"norm 'lpips': {path} is no whole safetensors file.", hint=HINT) from None
    return names


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:  # a pickle, say: its first bytes are no length
            raise ValueError
        header = json.loads(file.read(size))
    found = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if 8 + size + max(entry["data_offsets"][1] for entry in found.values()) != path.stat().st_size:
        raise ValueError
    return found


def _wanted() -> dict[str, tuple[int, ...]]:
    wanted: dict[str, tuple[int, ...]] = {}
    for number, (layer, (outputs, inputs, side), _, _, _) in enumerate(CONVOLUTIONS):
        wanted[f"features.{layer}.weight"] = (outputs, inputs, side, side)
        wanted[f"features.{layer}.bias"] = (outputs,)
        wanted[f"lin{number}.weight"] = (1, outputs, 1, 1)
    return wanted


def _aliases(name: str) -> tuple[str, str]:
    return name, name.replace(".weight", ".model.1.weight")  # as the lpips package names its lins


@cache
def _load(path: Path, changed: int, device: torch.device) -> Weights:
    """Read the weights onto a device, once for each state of the file, which `changed` tells."""
    import safetensors
    import torch

    names = _names(path)
    try:
        # Kept for later calls, some of which want gradients of the images: never made as inference tensors.
        with torch.inference_mode(False), safetensors.safe_open(path, "pt") as opened:
            read = {ours: opened.get_tensor(theirs).to(device, torch.float32) for ours, theirs in names.items()}
    except (OSError, safetensors.SafetensorError):
        raise UexError(f"norm 'lpips': {path} is no whole safetensors file.", hint=HINT) from None
    lins = tuple(read[f"lin{number}.weight"] for number in range(len(CONVOLUTIONS)))
    # A distance below 0, or one that is no number, would let any noise pass as small.
    if not all(bool(tensor.isfinite().all()) for tensor in read.values()) or any(bool((lin < 0).any()) for lin in lins):
        raise UexError(f"norm 'lpips': {path} has weights that are not finite, or linear ones below 0.", hint=HINT)
    layers = [f"features.{layer}" for layer, *_ in CONVOLUTIONS]
    return Weights(tuple((read[f"{layer}.weight"], read[f"{layer}.bias"]) for layer in layers), lins)


@hookimpl
def uex_norms() -> list[type[Norm]]:
    """Register."""
    return [Lpips]
