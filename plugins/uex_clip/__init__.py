"""The image towers of CLIP, through open_clip, as surrogates: with them, `uc` is the paper's UC-CLIP."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Surrogate, UexError, UsageError, hookimpl, option

if TYPE_CHECKING:
    from torch import nn

INSTALL = "pip install 'uexcli[clip]'"
PUBLISHED = "openai"  # what open_clip calls the first published weights


@dataclass(frozen=True)
class Clip(Surrogate):
    """The image tower of a CLIP; features are what it embeds images to, not normalised.

    `RN50` has 1,024 features after its attention pooling, `ViT-B-32` 512. OpenAI's weights of ViTs in a file want the
    models whose names end in `-quickgelu`. The text tower is never used.
    """

    name: ClassVar[str] = "clip"
    summary: ClassVar[str] = "the image tower of a CLIP, by open_clip: -O model=RN50, ViT-B-32, ..."
    paper: ClassVar[str] = "Radford et al., Learning transferable visual models from natural language, ICML 2021"
    pretrained: ClassVar[bool] = True
    test_options: ClassVar[dict[str, str]] = {"weights": "random"}

    model: str = option("RN50", "the model, as open_clip calls it")
    weights: str = option("auto", "auto: OpenAI's, downloaded once; a safetensors file; a name of open_clip's; random")

    def missing_requirement(self) -> UexError | None:
        """The package."""
        if importlib.util.find_spec("open_clip") is None:
            return UexError(f"surrogate '{self.name}' needs open_clip.", hint=f"Run: {INSTALL}")
        return None

    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the tower, its weights loaded, and a fresh last layer on it; it sees images at its own size.

        Raises:
            UsageError: open_clip knows no such model.
            UexError: open_clip is missing, or the weights are neither here nor can be downloaded.
        """
        missing = self.missing_requirement()
        if missing is not None:
            raise missing
        import open_clip

        from uexcli.plugin.encoder import Encoder, load_weights, reason, unlogged

        if self.model not in open_clip.list_models():
            raise UsageError(f"open_clip knows no model '{self.model}'.", hint="Such as RN50 or ViT-B-32.")
        tag = self._published()
        known = open_clip.list_pretrained_tags_by_model(self.model)
        if tag is not None and tag not in known:  # a path of another suffix would be read as a pickle
            raise UsageError(
                f"open_clip knows no weights '{tag}' of {self.model}.",
                hint=f"Give a .safetensors file, random, or one of {', '.join(known)}.",
            )
        try:
            with unlogged():
                whole = open_clip.create_model(
                    self.model, pretrained=tag, pretrained_text=False, force_quick_gelu=tag == PUBLISHED
                )
        except Exception as error:  # of open_clip, the hub and the network, in as many kinds
            raise UexError(
                f"the weights of CLIP {self.model} are not here, and cannot be downloaded ({reason(error)}).",
                hint="Give `weights=FILE.safetensors`, such as that of timm/resnet50_clip.openai on the hub.",
            ) from None
        seen = open_clip.get_model_preprocess_cfg(whole)
        tower = whole.visual
        if self._file():
            load_weights(tower, self.weights, prefix="visual.")
        side = seen["size"] if isinstance(seen["size"], int) else seen["size"][0]
        return Encoder(
            tower.float(),
            num_classes=num_classes,
            size=size,
            side=side,
            mean=seen["mean"],
            std=seen["std"],
        )

    def _file(self) -> bool:
        return self.weights.endswith(".safetensors")

    def _published(self) -> str | None:
        """What open_clip is to download."""
        if self.weights == "random" or self._file():
            return None
        return PUBLISHED if self.weights == "auto" else self.weights


@hookimpl
def uex_surrogates() -> list[type[Surrogate]]:
    """Register."""
    return [Clip]
