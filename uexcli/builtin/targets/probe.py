"""Linear probes: what can be read off the features of a net that never saw the protection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from uexcli.plugin import Outcome, Target, Trial, UexError, UsageError, hookimpl, option


@dataclass(frozen=True)
class Probe(Target):
    """A linear layer over the features of a frozen, pretrained surrogate."""

    name: ClassVar[str] = "probe"
    summary: ClassVar[str] = "a linear layer over a frozen pretrained net; probe:NAME or probe:NAME,WEIGHTS"
    batches: ClassVar[bool] = False
    crops: ClassVar[bool] = False

    surrogate: str = option("efficientnet_lite0", "name of the surrogate")
    weights: str = option("auto", "file of its weights")

    def evaluate(self, trial: Trial) -> Outcome:
        """Encode all images once, and fit the layer."""
        from uexcli.builtin.targets._probe import probe

        return probe(trial, trial.encoder(self.surrogate, self.weights))

    def work(self, trial: Trial) -> float:
        """Forward passes of all images."""
        return 0.4 * len(trial.train_images)


@dataclass(frozen=True)
class OnnxProbe(Target):
    """A linear layer over what an ONNX image encoder gives, run by ONNX Runtime."""

    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "a linear layer over an ONNX encoder; onnx:FILE.onnx"
    batches: ClassVar[bool] = False
    crops: ClassVar[bool] = False

    model: str = option("", "the ONNX file")

    test_options: ClassVar[dict[str, Any]] = {"model": "any.onnx"}

    def missing_requirement(self) -> UexError | None:
        """The file."""
        if self.model:
            return None
        return UsageError("target 'onnx' needs a model.", hint="Write onnx:FILE.onnx.")

    def evaluate(self, trial: Trial) -> Outcome:
        """Encode all images once, and fit the layer."""
        from uexcli.builtin.targets._probe import probe

        return probe(trial, trial.encoder("onnx", self.model))

    def work(self, trial: Trial) -> float:
        """Forward passes of all images."""
        return 0.4 * len(trial.train_images)


@hookimpl
def uex_targets() -> list[type[Target]]:
    """Register."""
    return [Probe, OnnxProbe]
