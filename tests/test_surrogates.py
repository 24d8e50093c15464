"""Pretrained surrogates: their weights, their normalisation, what happens where the weights are not there."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import Ran
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from uexcli import registry
from uexcli.builtin.surrogates.efficientnet_lite import (
    EfficientnetLite0,
    EfficientnetLite1,
    EfficientnetLite2,
    _Lite,
)
from uexcli.builtin.surrogates.torchvision import Torchvision
from uexcli.core.seeding import global_seed
from uexcli.errors import UexError, UsageError
from uexcli.plugin import Surrogate
from uexcli.plugin.encoder import Encoder, load_weights


def make(name: str, **options: Any) -> Surrogate:
    made = registry.load().find("surrogate", name).cls(**options)
    assert isinstance(made, Surrogate)
    return made


# ---------------------------------------------------------------------------------------- the encoder


def test_an_encoder_shows_its_body_what_it_was_taught_with() -> None:
    seen: list[torch.Tensor] = []

    class Body(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.mean((2, 3))

    net = Encoder(Body(), num_classes=2, size=20, side=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.1))
    seen.clear()  # the probe that counts features
    net.features(torch.full((2, 1, 20, 20), 0.6))
    assert seen[0].shape == (2, 3, 32, 32)
    torch.testing.assert_close(seen[0][0, :, 5, 5], torch.tensor([1.0, 1.6, 3.0]))
    assert net(torch.rand(2, 3, 20, 20)).shape == (2, 2)


def test_weights_come_from_safetensors_and_must_fit(tmp_path: Path) -> None:
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / "w.safetensors"
    save_file({**{f"tower.{name}": value for name, value in net.state_dict().items()}, "text": torch.zeros(1)}, path)
    load_weights(other, str(path), prefix="tower.")
    assert torch.equal(net.weight, other.weight) and torch.equal(net.bias, other.bias)
    with pytest.raises(UexError, match="weight is not there"):
        load_weights(other, str(path))
    with pytest.raises(UexError, match=r"weight is \(2, 3\) there"):
        load_weights(nn.Linear(4, 2), str(path), prefix="tower.")
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UexError, match="no safetensors file") as caught:
        load_weights(other, str(tmp_path / "w.pth"))
    assert "not read" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no such file"):
        load_weights(other, str(tmp_path / "none"))


# ------------------------------------------------------------------------------------------ its owners

LITE = (EfficientnetLite0, EfficientnetLite1, EfficientnetLite2)
each_lite = pytest.mark.parametrize("cls", LITE, ids=[cls.name for cls in LITE])


@each_lite
def test_lite_classifies_real_photos(cls: type[_Lite], real_data: Path) -> None:
    """The published top-1 is 75 % or more; one that is put together wrongly is right about one photo in a thousand."""
    numbers = {"tench": 0, "english_springer": 217, "church": 497, "golf_ball": 574, "parachute": 701}
    surrogate, side = cls(), cls.native
    if (missing := surrogate.missing_requirement()) is not None:
        pytest.skip(f"{missing} {missing.hint}")
    path = surrogate._path()
    assert path is not None
    published = torch.load(path, map_location="cpu", weights_only=True)
    net = surrogate.build(num_classes=1000, channels=3, size=side).eval()
    assert isinstance(net, Encoder)
    net.head.load_state_dict({"weight": published["_fc.weight"], "bias": published["_fc.bias"]})
    right = 0
    with zipfile.ZipFile(real_data / "imagenette224_mini.zip") as archive:
        for label, number in numbers.items():
            names = [name for name in archive.namelist() if name.startswith(f"val/{label}/") and "." in name][:6]
            assert len(names) == 6
            photos = [Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((side, side)) for name in names]
            images = (
                torch.from_numpy(np.stack([np.asarray(photo) for photo in photos])).permute(0, 3, 1, 2).float() / 255
            )
            with torch.inference_mode():
                right += int((net(images).argmax(1) == number).sum())
    assert right >= 18, f"{right} of 30"


def test_lite0_takes_its_weights_from_a_file_with_the_published_bytes_only(tmp_path: Path) -> None:
    path = EfficientnetLite0()._path()
    assert path is not None
    same = EfficientnetLite0(weights=str(path)).build(num_classes=2, channels=3, size=32)
    auto = EfficientnetLite0().build(num_classes=2, channels=3, size=32)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(same.eval().features(images), auto.eval().features(images))  # type: ignore[operator]
    changed = tmp_path / "changed.pth"
    changed.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(UexError, match="SHA-256"):
        EfficientnetLite0(weights=str(changed)).build(num_classes=2, channels=3, size=32)
    missing = EfficientnetLite0(weights=str(tmp_path / "none.pth")).missing_requirement()
    assert missing is not None and "no such file" in str(missing)


def test_lite0_sees_small_images_at_twice_their_size() -> None:
    sides = {
        size: EfficientnetLite0(weights="random").build(num_classes=2, channels=3, size=size).side
        for size in (16, 64, 224)
    }
    assert sides == {16: 128, 64: 128, 224: 224}
    assert EfficientnetLite0(weights="random", side=96).build(num_classes=2, channels=3, size=64).side == 96
    with pytest.raises(ValueError, match="at least 32"):
        EfficientnetLite0(side=16)


@pytest.mark.parametrize(
    ("cls", "weights", "blocks"),
    [(EfficientnetLite0, 3_371_008, 16), (EfficientnetLite1, 4_135_680, 21), (EfficientnetLite2, 4_811_072, 21)],
)
def test_the_larger_lites_are_wider_and_deeper_as_published(cls: type[_Lite], weights: int, blocks: int) -> None:
    net = cls(weights="random").build(num_classes=2, channels=3, size=224).eval()
    assert isinstance(net, Encoder) and net.side == cls.native
    body = net.body
    assert len(body.blocks) == blocks  # type: ignore[arg-type]
    assert sum(tensor.numel() for tensor in body.parameters()) == weights
    assert [tensor.shape[0] for tensor in (body.stem[1].weight, net.head.weight.T)] == [32, 1280]  # type: ignore[index]


@each_lite
def test_without_its_package_a_lite_says_what_to_install(cls: type[_Lite], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cls, "package", "no_such_package")
    missing = cls().missing_requirement()
    wanted = "photos" if cls is EfficientnetLite0 else "lite"
    assert missing is not None and cls.name in str(missing) and f"uexcli[{wanted}]" in (missing.hint or "")
    with pytest.raises(UexError, match="needs its weights"):
        cls().build(num_classes=2, channels=3, size=32)


def test_torchvisions_features_are_the_input_of_the_last_layer(tmp_path: Path) -> None:
    with global_seed(1, "net"):
        whole = resnet18(weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    made = Torchvision(model="resnet18", weights=str(tmp_path / "w.safetensors"))
    net = made.build(num_classes=4, channels=3, size=224).eval()
    images = torch.rand(2, 3, 224, 224)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        features = net.features(images)  # type: ignore[operator]
        torch.testing.assert_close(whole.fc(features), whole((images - mean) / std), rtol=1e-4, atol=1e-4)
        assert net(images).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "outputs"), [("resnet50", 2048), ("efficientnet_b1", 1280), ("regnet_x_1_6gf", 912), ("vit_b_16", 768)]
)
def test_the_named_classifiers_have_their_features(name: str, outputs: int) -> None:
    net = make(name, weights="random").build(num_classes=2, channels=3, size=64).eval()
    with torch.inference_mode():
        assert net.features(torch.rand(1, 3, 64, 64)).shape == (1, outputs)  # type: ignore[operator]


def test_without_a_network_torchvisions_weights_have_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def refuse(url: str, **options: Any) -> None:
        asked.update(options, url=url)
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(UexError, match="cannot be downloaded") as caught:
        make("resnet50").build(num_classes=2, channels=3, size=64)
    assert "`weights=" in (caught.value.hint or "") and "efficientnet_lite0" in (caught.value.hint or "")
    assert asked["weights_only"] and asked["check_hash"] and "resnet50-0676ba61" in asked["url"]
    with pytest.raises(UsageError, match="no classifier 'resnet5'"):
        Torchvision(model="resnet5").build(num_classes=2, channels=3, size=64)


# ---------------------------------------------------------------------------------------------- CLIP


def test_clips_tower_gives_what_clip_embeds_images_to(tmp_path: Path) -> None:
    import open_clip

    with global_seed(1, "clip"):
        whole = open_clip.create_model("RN50", pretrained=None).eval()
    path = tmp_path / "open_clip_model.safetensors"
    save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, path)
    net = make("clip", model="RN50", weights=str(path)).build(num_classes=2, channels=3, size=64).eval()
    images = torch.rand(2, 3, 64, 64)
    wide = nn.functional.interpolate(images, (224, 224), mode="bilinear")
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    with torch.inference_mode():
        features = net.features(images)  # type: ignore[operator]
        assert features.shape == (2, 1024)
        torch.testing.assert_close(features, whole.encode_image((wide - mean) / std), rtol=1e-4, atol=1e-5)
    shown = images.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(net.features(shown).square().sum(), shown)  # type: ignore[operator]
    assert bool(grad.isfinite().all()) and float(grad.abs().amax()) > 0
    with pytest.raises(UexError, match="not the weights of this net"):
        make("clip", model="ViT-B-32", weights=str(path)).build(num_classes=2, channels=3, size=64)
    with pytest.raises(UsageError, match="knows no model"):
        make("clip", model="RN51", weights="random").build(num_classes=2, channels=3, size=64)


@pytest.mark.parametrize(("name", "package", "extra"), [("clip", "open_clip", "clip"), ("timm", "timm", "timm")])
def test_without_its_package_a_surrogate_says_what_to_install(
    name: str, package: str, extra: str, photos: Path, uex: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *rest: None if each == package else real(each, *rest))
    ran: Ran = uex("fit", photos, "--method", "uc", "--surrogate", name)
    assert ran.code == 3 and f"pip install 'uexcli[{extra}]'" in ran.err


@pytest.mark.parametrize("name", ["clip", "timm"])
def test_without_a_network_their_weights_have_a_way_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **options: Any) -> None:
        raise OSError("no network")

    module = pytest.importorskip("open_clip" if name == "clip" else "timm")
    monkeypatch.setattr(module, "create_model", refuse)
    with pytest.raises(UexError, match="cannot be downloaded") as caught:
        make(name).build(num_classes=2, channels=3, size=64)
    assert "`weights=" in (caught.value.hint or "")


def test_timms_weights_come_from_a_file(tmp_path: Path) -> None:
    import timm

    with global_seed(1, "net"):
        whole = timm.create_model("resnet18", pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    net = make("timm", model="resnet18", weights=str(tmp_path / "w.safetensors"))
    built = net.build(num_classes=2, channels=3, size=64).eval()
    images = torch.rand(1, 3, 64, 64)
    assert isinstance(built, Encoder)
    with torch.inference_mode():
        wide = nn.functional.interpolate(images, (built.side, built.side), mode="bilinear")
        wanted = whole.forward_head(whole.forward_features((wide - built.mean) / built.std), pre_logits=True)
        torch.testing.assert_close(built.features(images), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="knows no model"):
        make("timm", model="nothing").build(num_classes=2, channels=3, size=64)


def test_looking_at_plugins_imports_none_of_their_packages() -> None:
    import subprocess

    code = (
        "import sys; from uexcli.registry import load; load(); print({'open_clip', 'timm', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@each_lite
def test_the_published_hash_is_in_the_files_name(cls: type[_Lite]) -> None:
    assert cls.sha256[:8] in cls.file
