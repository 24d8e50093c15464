"""Surrogates: nets that noise is fitted against, or images grouped by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin.base import Plugin

if TYPE_CHECKING:
    from torch import nn


class Surrogate(Plugin, ABC):
    """The net the noise is fitted against, and whose features tell which images are alike.

    One that is `pretrained` can build on `uexcli.plugin.encoder`, imported inside `build`.
    """

    pretrained: ClassVar[bool] = False  # its features mean something before it is trained
    # False: it can group images, but noise cannot be fitted against it. Where ONNX Runtime runs it, the module has
    # `onnx_model`, the bytes of the model, and `shown(x)`, what of images that model takes.
    has_gradient: ClassVar[bool] = True
    native: ClassVar[int | None] = None  # side in px at which its weights were trained; `eval` shows it photos so
    test_options: ClassVar[Mapping[str, Any]] = {}  # options with which it is built without weights

    @abstractmethod
    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net: float images `(B, C, S, S)` in [0, 1] to logits `(B, K)`.

        The module also has `features(x)`, float `(B, F)`: the input of its last linear layer.
        """
