"""On a CUDA device: the same commands, and results close to the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran

from uexcli import registry
from uexcli.io.noise import noise_file

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible"),
]


def test_fit_apply_eval_and_verify_run_on_the_gpu(photos: Path, uex: Callable[..., Ran]) -> None:
    ran = uex("fit", photos, "--size", 32, "-O", "rounds=2", "-O", "theta_steps=3", "-o", "n", "--json", "-q")
    assert ran.code == 0, ran.err
    assert ran.json["plan"]["device"].startswith("cuda")
    assert ran.json["plan"]["surrogate"] == "resnet18"
    assert uex("apply", "n", photos, "-o", "release", "-q").code == 0
    assert uex("verify", "release", "--source", photos).code == 0
    ran = uex("eval", photos, "release", "--epochs", 6, "--target", "small:6,16,0.1,8", "--json", "-q")
    assert ran.code in (0, 3), ran.err


@pytest.mark.parametrize("mode", ["samplewise", "classwise", "clusterwise", "universal"])
def test_one_step_agrees_with_the_cpu(mode: str, photos: Path, uex: Callable[..., Ran]) -> None:
    quick: tuple[Any, ...] = ("-O", "rounds=1", "-O", "theta_steps=1", "-O", "steps=1", "--surrogate", "small")
    for device in ("cpu", "cuda"):
        settings = ("--mode", mode, "--seed", 1, "--precision", "float32", "--device", device, "-o", device)
        assert uex("fit", photos, *quick, *settings, "-q").code == 0
    cpu, cuda = (noise_file.read(Path(device)).bank() for device in ("cpu", "cuda"))
    assert float((cpu == cuda).float().mean()) > 0.98


@pytest.mark.parametrize("name", registry.load().names("method"))
def test_every_method_goes_all_the_way_and_repeats_itself(name: str, photos: Path, uex: Callable[..., Ran]) -> None:
    least: dict[str, Any] = registry.load().find("method", name).cls.test_options  # type: ignore[attr-defined]
    options = [word for key, value in least.items() for word in ("-O", f"{key}={value}")]
    words = ("--method", name, "--seed", 1, "--device", "cuda", "-q", *options)
    for output in ("one", "two"):
        ran = uex("fit", photos, *words, "-o", output)
        assert ran.code == 0, ran.err
    one, two = (noise_file.read(Path(output)) for output in ("one", "two"))
    assert torch.equal(one.rows, two.rows)
    if one.delta is not None and two.delta is not None:
        assert float((one.delta == two.delta).float().mean()) > 0.98
    assert uex("apply", "one", photos, "-o", "release", "-q").code == 0
    assert uex("verify", "release", "--source", photos).code == 0


def test_surrogates_give_the_same_features_on_both() -> None:
    torch.manual_seed(0)
    for name in registry.load().names("surrogate"):
        surrogate: Any = registry.load().find("surrogate", name).cls()
        model = surrogate.build(num_classes=3, channels=3, size=32).eval()
        images = torch.rand(2, 3, 32, 32)
        with torch.inference_mode():
            here, there = model.features(images), model.cuda().features(images.cuda()).cpu()
        torch.testing.assert_close(here, there, rtol=1e-2, atol=1e-3)
