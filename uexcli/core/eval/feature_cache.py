"""Features of frozen nets, kept while an evaluation runs: each image is encoded once, however many runs show it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from uexcli.core.nets import as_input

MOST = 1 << 29  # bytes: 100,000 images of 1,280 features
# images; EfficientNet-Lite0 on one core takes 18 ms for one of 224 px among 8 and 48 ms among 48, which fill no cache
AT_ONCE_CPU, AT_ONCE_GPU = 8, 128


class FeatureCache:
    """What frozen nets made of images, by the images' bytes and the nets' weights.

    The features of an image are the same to the bit whether they were kept or not, and whatever it is encoded with:
    a net always sees the same number of images at once, the last ones filled up, so that the same kernels run. Those
    not asked for the longest go where more than `most` bytes would be kept; 0 keeps none.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[bytes, bytes], Tensor] = OrderedDict()
        self._bytes = 0

    def encoder(self, net: nn.Module, name: str, autocast: torch.dtype | None = None) -> Callable[[Tensor], Tensor]:
        """Give what encodes images by a net: uint8 `(N, C, S, S)`, 1 or more, to float32 `(N, F)` on their device.

        `net` has `features`, and is put into eval mode; it must not be trained while the encoder is used. `name` tells
        it from others with the same weights that see images otherwise.
        """
        net.eval()
        which = _digest_of(net, f"{name} {autocast}")

        def encode(images: Tensor) -> Tensor:
            keys = [(which, _digest(image)) for image in images]
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
            new = {key: place for place, key in enumerate(keys) if key not in found}
            made = _encode(net, images[list(new.values())], autocast) if new else ()
            for key, features in zip(new, made, strict=True):
                found[key] = features
                self._keep(key, features)
            return torch.stack([found[key] for key in keys]).to(images.device)

        return encode

    def _keep(self, key: tuple[bytes, bytes], features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if size > self._most:
            return
        self._kept[key] = features
        self._bytes += size
        while self._bytes > self._most:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.numel() * gone.element_size()


def _encode(net: nn.Module, images: Tensor, autocast: torch.dtype | None) -> Iterable[Tensor]:
    """Give the features of each image, on the CPU, in memory of their own."""
    at_once = AT_ONCE_CPU if images.device.type == "cpu" else AT_ONCE_GPU
    for part in images.split(at_once):
        full = torch.cat([part, part[:1].expand(at_once - len(part), -1, -1, -1)])
        with torch.inference_mode(), torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
            features = net.features(as_input(full))[: len(part)].float().cpu()  # type: ignore[operator]
        yield from (each.clone() for each in features)  # out of inference mode: tensors like any other


def _digest(image: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{tuple(image.shape)};".encode(), digest_size=16)
    digest.update(image.cpu().contiguous().numpy().tobytes())
    return digest.digest()


def _digest_of(net: nn.Module, name: str) -> bytes:
    """Tell a net by its weights, but for those of its last layer."""
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    for key, tensor in net.state_dict().items():
        if not key.startswith("head."):
            digest.update(f"{key} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
