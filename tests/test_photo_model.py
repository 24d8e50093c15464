"""Shared noise as one ONNX graph: photos in, protected photos out, as `apply` makes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran, opened, picture
from PIL import Image
from torch import nn

from uexcli.commands.protect import protector_of
from uexcli.io import images, noise_file, onnx_photo
from uexcli.registry import load

pytest.importorskip("onnxscript")
Uex = Callable[..., Ran]
SHAPES = [(16, 16, 3), (50, 21, 3), (13, 40, 3), (9, 10, 3), (33, 18, 1), (12, 12, 1), (200, 150, 3)]
CLUSTERS = ("--mode", "clusterwise", "-O", "clusters=3", "-O", "encoder=pixels", "--no-labels")


def fitted(photos: Path, uex: Uex, *words: object) -> Path:
    ran = uex("fit", photos, "--method", "random", "--seed", 1, "--eps", "16/255", "-o", "n", *words)
    assert ran.code == 0, ran.err
    return Path("n")


def shown(height: int, width: int, channels: int, seed: int) -> images.Photo:
    pixels = picture(seed, max(height, width))[:height, :width]
    pixels = pixels if channels == 3 else pixels[:, :, :1]
    return images.Photo(np.ascontiguousarray(pixels), None, "RGB", None, "")


@pytest.mark.parametrize(
    "words", [CLUSTERS, ("--mode", "classwise"), ("--mode", "universal")], ids=lambda words: words[1]
)
def test_the_graph_does_what_torch_does(words: tuple[str, ...], photos: Path, uex: Uex) -> None:
    path = fitted(photos, uex, *words)
    ran = uex("export", path, "m.onnx", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["takes"] == "photos" and ran.json["difference"] <= 1
    session = onnx_photo.PhotoSession(Path("m.onnx").read_bytes(), cuda=False)
    assert session.chooses == (words is CLUSTERS)
    noise = noise_file.read(path)
    protector = protector_of(load(), noise, None)
    for seed, shape in enumerate(SHAPES):
        photo = shown(*shape, seed)
        for row in range(noise.num_rows):
            made, taken, _ = session(photo.pixels, row)
            wanted = protector.protect(photo, "", row)
            assert taken == row and made.shape == photo.pixels.shape
            assert np.abs(made.astype(int) - wanted.astype(int)).max() <= 1
            assert np.abs(made.astype(int) - photo.pixels.astype(int)).max() <= 16
        if session.chooses:
            row, place = protector.assigned(photo, torch.zeros(1, dtype=torch.int64), "")
            _, taken, near = session(photo.pixels, -1)
            assert taken == row and near == pytest.approx(place.near, rel=1e-3)


def test_noise_of_one_channel_for_grey_and_coloured_photos(tmp_path: Path, uex: Uex) -> None:
    root = tmp_path / "grey"
    root.mkdir()
    for index in range(8):
        Image.fromarray(picture(index, grey=True)).save(root / f"{index}.png")
    path = fitted(root, uex, *CLUSTERS[:-1])
    assert uex("export", path, "m.onnx").code == 0
    session = onnx_photo.PhotoSession(Path("m.onnx").read_bytes(), cuda=False)
    protector = protector_of(load(), noise_file.read(path), None)
    for seed, shape in enumerate(SHAPES):
        photo = shown(*shape, seed)
        row, _ = protector.assigned(photo, torch.zeros(1, dtype=torch.int64), "")
        made, taken, _ = session(photo.pixels, -1)
        assert taken == row
        assert np.abs(made.astype(int) - protector.protect(photo, "", row).astype(int)).max() <= 1


@pytest.mark.parametrize("words", [CLUSTERS, ("--mode", "classwise")], ids=["clusterwise", "classwise"])
@pytest.mark.parametrize("engine", ["onnx", "onnx:m.onnx"])
def test_apply_by_onnx_writes_the_same_within_a_level(
    words: tuple[str, ...], engine: str, photos: Path, uex: Uex
) -> None:
    path = fitted(photos, uex, *words)
    assert uex("export", path, "m.onnx").code == 0
    Image.fromarray(picture(77, 40)).save(photos / "cat" / "new.png")
    assert uex("apply", path, photos, "-o", "by-torch").code == 0
    ran = uex("apply", path, photos, "-o", "by-onnx", "--engine", engine, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["new"] == 1 and ran.json["engine"] == "onnx (CPUExecutionProvider)"
    assert "CPUExecutionProvider" in ran.err
    for one in Path("by-torch").rglob("*.png"):
        other = Path("by-onnx") / one.relative_to("by-torch")
        pair = [np.asarray(opened(each)).astype(int) for each in (one, other)]
        assert np.abs(pair[0] - pair[1]).max() <= 1
    assert uex("verify", "by-onnx", "--source", photos).code == 0


def test_onnx_runtime_alone_protects_a_photo(photos: Path, uex: Uex) -> None:
    assert uex("export", fitted(photos, uex, *CLUSTERS), "m.onnx").code == 0
    code = (
        "import sys, numpy as np, onnxruntime; from PIL import Image\n"
        "session = onnxruntime.InferenceSession('m.onnx', providers=['CPUExecutionProvider'])\n"
        "photo = np.asarray(Image.open(sys.argv[1]).convert('RGB'))\n"
        "made, row, near = session.run(None, {'photo': photo, 'row': np.array([-1])})\n"
        "Image.fromarray(made).save('alone.png'); assert 'torch' not in sys.modules and 'uexcli' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, photos / "cat" / "3.png"], check=True)
    assert uex("apply", "n", photos, "-o", "release").code == 0
    pair = [np.asarray(opened(path)).astype(int) for path in (Path("alone.png"), Path("release/cat/3.png"))]
    assert np.abs(pair[0] - pair[1]).max() <= 1 and np.abs(pair[0] - np.asarray(opened(photos / "cat/3.png"))).max() > 4


def test_a_graph_says_what_it_is_and_nothing_of_this_machine(photos: Path, uex: Uex) -> None:
    path = fitted(photos, uex, "--mode", "classwise")
    assert uex("export", path, "m.onnx").code == 0
    data = Path("m.onnx").read_bytes()
    facts = onnx_photo.PhotoSession(data, cuda=False).facts
    assert facts["classes"] == ["cat", "dog"] and facts["rows"] == 2 and facts["eps"] == pytest.approx(16 / 255)
    assert facts["norm"]["name"] == "linf" and facts["mode"] == "classwise"
    assert str(Path(__file__).parent).encode() not in data and b"site-packages" not in data


class Eye(nn.Module):
    """A tiny encoder of 24 px."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, stride=3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images).relu().mean((2, 3))


@pytest.mark.parametrize("opset", [18, 20])
def test_an_onnx_encoder_groups_photos_chooses_for_new_ones_and_becomes_part_of_the_graph(
    opset: int, photos: Path, uex: Uex
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        program = torch.onnx.export(
            Eye().eval(), (torch.rand(2, 3, 24, 24),), dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True, verbose=False, opset_version=opset,
        )  # fmt: skip
    assert program is not None
    program.save("eye.onnx")
    words = ("--mode", "clusterwise", "-O", "clusters=3", "-O", "encoder=onnx:eye.onnx", "--no-labels")
    path = fitted(photos, uex, *words)
    noise = noise_file.read(path)
    assert noise.memory["centres"].shape == (3, 6)
    Image.fromarray(picture(77, 40)).save(photos / "cat" / "new.png")
    Path("eye.onnx").rename("moved.onnx")
    ran = uex("apply", path, photos, "-o", "r")
    assert ran.code == 3 and "--weights" in ran.err
    assert uex("apply", path, photos, "-o", "by-torch", "--weights", "moved.onnx").code == 0
    assert uex("export", path, "m.onnx", "--weights", "moved.onnx").code == 0
    assert uex("apply", path, photos, "-o", "by-onnx", "--engine", "onnx:m.onnx", "--weights", "moved.onnx").code == 0
    for one in Path("by-torch").rglob("*.png"):
        pair = [
            np.asarray(opened(Path(root) / one.relative_to("by-torch"))).astype(int) for root in ("by-torch", "by-onnx")
        ]
        assert np.abs(pair[0] - pair[1]).max() <= 1


def test_an_onnx_file_that_is_no_encoder_is_refused(photos: Path, uex: Uex) -> None:
    Path("bad.onnx").write_bytes(b"none")
    ran = uex("fit", photos, "--method", "random", "--mode", "clusterwise", "-O", "encoder=onnx:bad.onnx")
    assert ran.code == 3 and "no ONNX model" in ran.err


def test_a_detector_with_one_output_among_many_still_loads(real_data: Path, photos: Path, uex: Uex) -> None:
    """A real model from elsewhere: its first output, flattened, is what photos are grouped by."""
    path = real_data / "weights" / "scrfd_2.5g_bnkps.onnx"
    ran = uex("fit", photos, "--method", "random", "--seed", 1, "--mode", "clusterwise", "-O", f"encoder=onnx:{path}")
    assert ran.code == 0, ran.err
    assert "alike to onnx" in ran.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--mode", "samplewise"), "belongs to the photos it was fitted on"),
        (("--mode", "classwise", "--norm", "l2", "--eps", "1.0"), "judges whole images"),
        (("--mode", "classwise", "--patch", "8"), "patches"),
    ],
)
def test_noise_that_no_graph_can_give_is_refused(
    words: tuple[str, ...], complaint: str, photos: Path, uex: Uex
) -> None:
    path = fitted(photos, uex, *words)
    for ran in (uex("export", path, "m.onnx"), uex("apply", path, photos, "-o", "r", "--engine", "onnx")):
        assert ran.code == 3 and complaint in ran.err, ran.err
    assert not Path("m.onnx").exists() and not Path("r").exists()


def test_the_graph_of_another_noise_file_is_refused(photos: Path, uex: Uex) -> None:
    path = fitted(photos, uex, "--mode", "classwise")
    assert uex("export", path, "m.onnx").code == 0
    assert uex("fit", photos, "--method", "random", "--seed", 2, "--mode", "classwise", "-o", "other").code == 0
    ran = uex("apply", "other", photos, "-o", "r", "--engine", "onnx:m.onnx")
    assert ran.code == 3 and "exported from another noise file" in ran.err
    Path("m.onnx").write_bytes(Path("m.onnx").read_bytes()[:500])
    ran = uex("apply", path, photos, "-o", "r", "--engine", "onnx:m.onnx")
    assert ran.code == 3 and not Path("r").exists()


def test_a_graph_that_chooses_other_noise_or_paints_otherwise_is_found_out(
    photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fitted(photos, uex, *CLUSTERS)
    real = onnx_photo.PhotoSession.__call__
    for change, complaint in (
        (lambda made, taken, near: (made, (taken + 1) % 3, near), "chooses noise"),
        (lambda made, taken, near: (np.roll(made, 1, 0), taken, near), "differ by"),
    ):
        monkeypatch.setattr(onnx_photo.PhotoSession, "__call__", lambda self, *given, c=change: c(*real(self, *given)))
        ran = uex("apply", path, photos, "-o", "r", "--engine", "onnx")
        assert ran.code == 3 and complaint in ran.err
    assert not Path("r").exists()
