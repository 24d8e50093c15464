"""The image models of timm as surrogates."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Surrogate, UexError, UsageError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn

INSTALL = "pip install 'uexcli[timm]'"


@dataclass(frozen=True)
class Timm(Surrogate):
    """Any model of timm, by its name there; features are the input of its classifier."""

    name: ClassVar[str] = "timm"
    summary: ClassVar[str] = "any model of timm with its weights: -O model=resnet50.a1_in1k, ..."
    paper: ClassVar[str] = "Wightman, PyTorch Image Models, 2019"
    pretrained: ClassVar[bool] = True
    test_options: ClassVar[dict[str, str]] = {"weights": "random", "model": "resnet18"}

    model: str = option("resnet50.a1_in1k", "the model, as timm calls it")
    weights: str = option("auto", "auto: timm's, downloaded once; a safetensors file; random: none")

    def missing_requirement(self) -> UexError | None:
        """The package."""
        if importlib.util.find_spec("timm") is None:
            return UexError(f"surrogate '{self.name}' needs timm.", hint=f"Run: {INSTALL}")
        return None

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the model, its weights loaded, and a fresh last layer on it; it sees images at its own size.

        Raises:
            UsageError: timm knows no such model.
            UexError: timm is missing, or the weights are neither here nor can be downloaded.
        """
        missing = self.missing_requirement()
        if missing is not None:
            raise missing
        import timm
        from timm.data.config import resolve_model_data_config

        from uexcli.plugin.encoder import Encoder, load_weights, reason, unlogged

        if not timm.is_model(self.model):
            raise UsageError(f"timm knows no model '{self.model}'.", hint="Such as resnet50.a1_in1k.")
        try:
            with unlogged():
                body = timm.create_model(self.model, pretrained=self.weights == "auto", num_classes=0)
        except Exception as error:  # of timm, the hub and the network, in as many kinds
            raise UexError(
                f"the weights of timm's {self.model} are not here, and cannot be downloaded ({reason(error)}).",
                hint="Give `weights=FILE.safetensors`, or use `surrogate=efficientnet_lite0`.",
            ) from None
        if self.weights not in ("auto", "random"):
            load_weights(body, self.weights)
        seen = resolve_model_data_config(body)  # type: ignore[no-untyped-call]
        side = int(seen["input_size"][1])
        return Encoder(
            body,
            num_classes=num_classes,
            size=size,
            side=side,
            mean=seen["mean"],
            std=seen["std"],
        )


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [Timm]
