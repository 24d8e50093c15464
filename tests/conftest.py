"""Shared fixtures: a tiny folder of photos, the command line in this process, and the real data where it is."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import alexnet
from typer.testing import CliRunner

from uexcli.builtin.norms.lpips import VARIABLE
from uexcli.cli.app import app
from uexcli.core.seeding import global_seed

CLASSES = ("cat", "dog")
SIDE = 16


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has a working folder of its own, no colour, 100 columns, and one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    torch.set_num_threads(1)


@pytest.fixture
def uex() -> Callable[..., Ran]:
    """Run a command line in this process: `uex("fit", "photos")`."""

    def run(*words: object) -> Ran:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


def picture(seed: int, side: int = SIDE, *, grey: bool = False) -> np.ndarray:
    """A smooth random picture, uint8, that no two seeds share."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(40, 216, (4, 4) if grey else (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def bright(root: Path, labels: Sequence[str], count: int, *, invert: bool = False, first: int = 0) -> Path:
    """Class folders of pictures whose class is how light they are, or inverted, how dark."""
    for number, label in enumerate(labels):
        for index in range(first, first + count):
            pixels = picture(1000 * number + index) // len(labels) + 40 * number
            path = root / label / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - pixels if invert else pixels).save(path)
    return root


def opened(path: Path) -> Image.Image:
    """An image, decoded, its file closed again."""
    with Image.open(path) as image:
        image.load()
        return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A class folder: two classes of eight PNG photos of 16 px, `photos/cat/0.png` and so on."""
    root = tmp_path / "photos"
    for number, label in enumerate(CLASSES):
        (root / label).mkdir(parents=True)
        for index in range(8):
            Image.fromarray(picture(100 * number + index)).save(root / label / f"{index}.png")
    return root


@pytest.fixture
def noise(photos: Path, uex: Callable[..., Ran]) -> Path:
    """Random sample-wise noise, eps 8/255, for `photos`."""
    path = photos.parent / "photos.noise.safetensors"
    ran = uex("fit", photos, "--method", "random", "--seed", 1 << 100, "-o", path)
    assert ran.code == 0, ran.err
    return path


@pytest.fixture
def release(photos: Path, noise: Path, uex: Callable[..., Ran]) -> Path:
    """The protected release of `photos` with `noise`."""
    path = photos.parent / "release"
    ran = uex("apply", noise, photos, "-o", path)
    assert ran.code == 0, ran.err
    return path


@pytest.fixture(scope="session")
def lpips_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights for the norm `lpips`, named to it: AlexNet as it is before training, and linear ones that reach 0.05."""
    with global_seed(0, "alexnet"):
        tensors = alexnet(weights=None).features.state_dict(prefix="features.")
        for number, outputs in enumerate((64, 192, 384, 256, 256)):
            tensors[f"lin{number}.weight"] = torch.rand(1, outputs, 1, 1) * 4
    path = tmp_path_factory.mktemp("lpips") / "weights.safetensors"
    save_file(tensors, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(path))
        yield path


@pytest.fixture(scope="session")
def onnx_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image encoder as an ONNX file: 24 px, six features."""
    with global_seed(1, "onnx encoder"):
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 5, stride=3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
    whole = torch.nn.Sequential(net, torch.nn.Flatten()).eval()
    path = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            whole, (torch.rand(2, 3, 24, 24),), dynamic_shapes=(batch,), dynamo=True, verbose=False, opset_version=18
        )
    assert program is not None
    program.save(path)
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or a skip that says why."""
    where = os.environ.get("UEX_TEST_DATA")
    if not where or not Path(where).is_dir():
        pytest.skip("UEX_TEST_DATA names no folder of real data")
    return Path(where)
