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

from uexcli.commands.protect.protector import protector_of
from uexcli.errors import UexError
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.onnx import photo_graph
from uexcli.registry import load

pytest.importorskip("onnxscript")
Uex = Callable[..., Ran]
SHAPES = [(16, 16, 3), (50, 21, 3), (13, 40, 3), (9, 10, 3), (33, 18, 1), (12, 12, 1), (200, 150, 3)]
CLASSES = ("--mode", "classwise")
CLUSTERS = ("--mode", "clusterwise", "-O", "clusters=3", "-O", "encoder=pixels", "--no-labels")


def fitted(photos: Path, uex: Uex, *words: object) -> Path:
    ran = uex("fit", photos, "--method", "random", "--seed", 1, "--eps", "16/255", "-o", "n", *words)
    assert ran.code == 0, ran.err
    return Path("n")


def shown(height: int, width: int, channels: int, seed: int) -> photo_files.Photo:
    pixels = picture(seed, max(height, width))[:height, :width]
    pixels = pixels if channels == 3 else pixels[:, :, :1]
    return photo_files.Photo(np.ascontiguousarray(pixels), None, "RGB", None, "")


@pytest.mark.parametrize(
    "words", [CLUSTERS, ("--mode", "classwise"), ("--mode", "universal")], ids=lambda words: words[1]
)
def test_the_graph_does_what_torch_does(words: tuple[str, ...], photos: Path, uex: Uex) -> None:
    path = fitted(photos, uex, *words)
    ran = uex("export", path, "m.onnx", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["takes"] == "photos" and ran.json["difference"] <= 1
    session = photo_graph.PhotoSession(Path("m.onnx").read_bytes(), cuda=False)
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
    session = photo_graph.PhotoSession(Path("m.onnx").read_bytes(), cuda=False)
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


def test_a_graph_that_cannot_choose_has_to_be_told(photos: Path, uex: Uex) -> None:
    assert uex("export", fitted(photos, uex, *CLASSES), "m.onnx").code == 0
    session = photo_graph.PhotoSession(Path("m.onnx").read_bytes(), cuda=False)
    with pytest.raises(UexError, match="cannot run the model"):
        session(picture(1), -1)


@pytest.mark.parametrize("size", [255, 8])
def test_a_side_that_is_the_name_of_a_number(size: int, photos: Path, uex: Uex) -> None:
    assert uex("export", fitted(photos, uex, *CLASSES, "--size", size), "m.onnx").code == 0


def test_an_encoder_that_shrinks_its_images_is_exported_as_it_is(photos: Path, uex: Uex) -> None:
    words = ("--mode", "clusterwise", "--no-labels", "-O", "clusters=3", "--size", 72)
    path = fitted(photos, uex, *words, "-O", "encoder=efficientnet_lite0:auto,64")
    ran = uex("export", path, "m.onnx", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["chooses"] and ran.json["difference"] <= 1


def test_a_graph_says_what_it_is_and_nothing_of_this_machine(photos: Path, uex: Uex) -> None:
    path = fitted(photos, uex, "--mode", "classwise")
    assert uex("export", path, "m.onnx").code == 0
    data = Path("m.onnx").read_bytes()
    facts = photo_graph.PhotoSession(data, cuda=False).facts
    assert facts["classes"] == ["cat", "dog"] and facts["rows"] == 2 and facts["eps"] == pytest.approx(16 / 255)
    assert facts["norm"]["name"] == "linf" and facts["mode"] == "classwise"
    assert str(Path(__file__).parent).encode() not in data and b"site-packages" not in data


@pytest.mark.parametrize("opset", [18, 20])
def test_an_onnx_encoder_groups_photos_chooses_for_new_ones_and_becomes_part_of_the_graph(
    opset: int, onnx_encoder: Path, photos: Path, uex: Uex
) -> None:
    import onnx

    model = onnx.version_converter.convert_version(onnx.load(onnx_encoder), opset)
    onnx.save(model, "eye.onnx")
    words = ("--mode", "clusterwise", "-O", "clusters=3", "-O", "encoder=onnx:eye.onnx", "--no-labels")
    path = fitted(photos, uex, *words)
    assert noise_file.read(path).memory["centres"].shape == (3, 6)
    Image.fromarray(picture(77, 40)).save(photos / "cat" / "new.png")
    Path("eye.onnx").rename("moved.onnx")
    ran = uex("apply", path, photos, "-o", "r")
    assert ran.code == 3 and "--weights" in ran.err and not Path("r").exists()
    assert uex("apply", path, photos, "-o", "by-torch", "--weights", "moved.onnx").code == 0
    assert uex("export", path, "m.onnx", "--weights", "moved.onnx").code == 0
    assert uex("apply", path, photos, "-o", "by-onnx", "--engine", "onnx:m.onnx", "--weights", "moved.onnx").code == 0
    for one in Path("by-torch").rglob("*.png"):
        other = Path("by-onnx") / one.relative_to("by-torch")
        pair = [np.asarray(opened(each)).astype(int) for each in (one, other)]
        assert np.abs(pair[0] - pair[1]).max() <= 1


def test_an_onnx_file_that_is_no_encoder_is_refused(photos: Path, uex: Uex) -> None:
    Path("bad.onnx").write_bytes(b"none")
    ran = uex("fit", photos, "--method", "random", "--mode", "clusterwise", "-O", "encoder=onnx:bad.onnx")
    assert ran.code == 3 and "no ONNX model" in ran.err


def test_a_real_detector_is_no_encoder(real_data: Path, photos: Path, uex: Uex) -> None:
    """Its outputs have a line for each place in the image, not one for each image."""
    path = real_data / "weights" / "scrfd_2.5g_bnkps.onnx"
    ran = uex("fit", photos, "--method", "random", "--seed", 1, "--mode", "clusterwise", "-O", f"encoder=onnx:{path}")
    assert ran.code == 3 and "no features of each" in ran.err


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
    real = photo_graph.PhotoSession.__call__
    for change, complaint in (
        (lambda made, taken, near: (made, (taken + 1) % 3, near), "chooses noise"),
        (lambda made, taken, near: (np.roll(made, 1, 0), taken, near), "differ by"),
    ):
        monkeypatch.setattr(photo_graph.PhotoSession, "__call__", lambda self, *given, c=change: c(*real(self, *given)))
        ran = uex("apply", path, photos, "-o", "r", "--engine", "onnx")
        assert ran.code == 3 and complaint in ran.err
    assert not Path("r").exists()
