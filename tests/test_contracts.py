"""Every registered thing keeps its contract; a new file is tested with no edit here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from uexcli import plugin, registry, testing

EVERYTHING = [(kind, name) for kind, entries in registry.load().entries.items() for name in entries]


@pytest.mark.parametrize(("kind", "name"), EVERYTHING, ids=[f"{kind}-{name}" for kind, name in EVERYTHING])
@pytest.mark.usefixtures("lpips_weights")
def test_contract(kind: str, name: str, onnx_encoder: Path) -> None:
    cls = registry.load().find(kind, name).cls
    given: dict[tuple[str, str], dict[str, str]] = {
        ("surrogate", "onnx"): {"weights": str(onnx_encoder)},
        ("countermeasure", "purify"): {"photos": "given by the contract"},
    }
    testing.check(cls(**given[kind, name]) if (kind, name) in given else cls)


PROMISED = {
    "norm": "linf l2 l1 l0 unbounded ssim lpips",
    "granularity": "samplewise classwise universal clusterwise",
    "method": "em pil lsp ar ops cuda random emax advpoison sep rem sem gue deepconfuse uc band shield shift",
    "surrogate": "small resnet18 efficientnet_lite0 efficientnet_lite1 efficientnet_lite2 resnet50 efficientnet_b1 "
    "regnet_x_1_6gf vit_b_16 torchvision mobilefacenet clip timm onnx",
    "dataset": "folder cifar10 cifar100 mnist",
    "countermeasure": "jpeg webp grayscale bdr gaussian median resize crop uniform-noise cutout cutmix mixup "
    "randaugment autoaugment ueraser orthogonal-projection class-mean dead-pixel spectrum coin randsharp jpeg-crop sda "
    "purify adversarial adversarial-fast",
    "target": "small airbench resnet18 resnet34 resnet50 vgg11 densenet121 efficientnet_b1 regnet_x_1_6gf mobilenet_v2 "
    "inception_resnet_v1 vit simclr probe finetune onnx linear mobilefacenet",
}


@pytest.mark.parametrize("kind", registry.KINDS)
def test_what_is_promised_is_there(kind: str) -> None:
    assert set(PROMISED[kind].split()) <= {name for other, name in EVERYTHING if other == kind}


LINF = registry.load().find("norm", "linf").cls


@dataclasses.dataclass(frozen=True)
class Leaky(LINF):  # type: ignore[misc, valid-type]
    name: ClassVar[str] = "leaky"

    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        return delta.clamp(-2 * eps, 2 * eps)


@dataclasses.dataclass(frozen=True)
class Idle(plugin.Countermeasure):
    name: ClassVar[str] = "idle"
    summary: ClassVar[str] = "does nothing"

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images


@dataclasses.dataclass(frozen=True)
class Gap(plugin.Granularity):
    name: ClassVar[str] = "gap"
    summary: ClassVar[str] = "leaves row 1 out"

    def rows(self, labels: Tensor, features: object, generator: torch.Generator, *, keys: Sequence[str]) -> Tensor:
        return labels * 2


@pytest.mark.parametrize(
    ("cls", "complaint"),
    [(Leaky, "ball"), (Idle, "changes nothing"), (Gap, "dense")],
)
def test_a_broken_plugin_fails_its_contract(cls: type[plugin.Plugin], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        testing.check(cls)
