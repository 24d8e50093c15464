"""Unlearnable Clusters: groups without labels, the noise of each, and photos that come later."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran, picture
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from uex_clusters._chooser import Nearest
from uex_clusters._generator import Generator
from uex_clusters.clusterwise import Clusterwise
from uex_clusters.uc import UnlearnableClusters, centres_of

from tests import problems
from uexcli import registry
from uexcli.builtin.surrogates.efficientnet_lite import EfficientnetLite0
from uexcli.commands.protect.features import Encoding
from uexcli.core.clusters import Thumbnails
from uexcli.core.fit.problem import BankProblem
from uexcli.core.nets import SmallNet
from uexcli.core.pixels import squash, survival
from uexcli.core.seeding import Secret, generator
from uexcli.errors import UexError
from uexcli.io.noise import noise_file
from uexcli.plugin import Progress
from uexcli.testing import pictures

Uex = Callable[..., Ran]
LINF = registry.load().find("norm", "linf").cls
SIDE = 16


def make_problem(count: int = 30, rows: int = 3, side: int = SIDE, **changes: Any) -> BankProblem:
    """Pictures of as many brightnesses as rows, against an untrained net."""
    number = torch.arange(count) % rows
    images = (pictures(count, side=side).float() * (0.4 + 0.3 * number.view(-1, 1, 1, 1))).clamp(0, 255)
    problem = problems.make(
        images=images.to(torch.uint8),
        labels=torch.zeros(count, dtype=torch.int64),
        rows=number,
        keys=[f"{index}.png" for index in range(count)],
        num_rows=rows,
        num_classes=2,
        norm=LINF(),  # type: ignore[arg-type]
        eps=16 / 255,
        seed=3,
        device=torch.device("cpu"),
        make_surrogate=lambda: SmallNet(num_classes=2, channels=3, size=side, width=8),
    )
    return problems.changed(problem, **changes)


# -------------------------------------------------------------------------------------------- clusters


def blobs() -> Tensor:
    """Twelve points around each of three far places."""
    drawn = torch.randn(36, 5, generator=generator(1, "blobs"))
    return drawn * 0.1 + 10 * (torch.arange(36) % 3).unsqueeze(1)


def test_clusters_are_those_of_the_features_and_their_centres_the_means() -> None:
    points, mode = blobs(), Clusterwise(clusters=3)
    rows = mode.rows(torch.zeros(36), lambda: points, Secret(2, "rows"), keys=[])
    assert all(len(rows[torch.arange(36) % 3 == group].unique()) == 1 for group in range(3))
    memory = mode.memory(rows, lambda: points)
    for row in range(3):
        torch.testing.assert_close(memory["centres"][row], points[rows == row].mean(0))
        reach = (points[rows == row] - points[rows == row].mean(0)).norm(dim=1).max()
        torch.testing.assert_close(memory["farthest"][row], reach)


def test_nearness_is_one_at_the_farthest_fitted_image_and_more_beyond() -> None:
    points, mode = blobs(), Clusterwise(clusters=3)
    rows = mode.rows(torch.zeros(36), lambda: points, Secret(2, "rows"), keys=[])
    memory = mode.memory(rows, lambda: points)
    near = mode.near(rows, lambda: points, memory)
    assert near is not None and float(near.max()) == pytest.approx(1, abs=1e-5) and float(near.min()) < 1
    alone = mode.memory(torch.tensor([0] * 35 + [1]), lambda: points)
    assert torch.equal(alone["farthest"][0], alone["farthest"][1]), "one photo has no extent of its own"
    far = points[:1] + 3
    row = mode.assign(torch.zeros(1), lambda: far, memory, keys=[])
    beyond = mode.near(row, lambda: far, memory)
    assert beyond is not None and float(beyond) > 5


def test_the_module_for_onnx_chooses_as_assign_does() -> None:
    points, mode = blobs(), Clusterwise(clusters=3)
    rows = mode.rows(torch.zeros(36), lambda: points, Secret(2, "rows"), keys=[])
    memory = mode.memory(rows, lambda: points)
    chooser = mode.chooser(memory)
    assert isinstance(chooser, Nearest)
    near = mode.near(rows, lambda: points, memory)
    assert near is not None
    for index in range(36):
        row, distance = chooser(points[index : index + 1])
        assert int(row) == int(rows[index])
        assert float(distance) == pytest.approx(float(near[index]), abs=1e-4)


def test_thumbnails_are_means_over_a_grid() -> None:
    for side in (16, 24, 13):
        images = torch.rand(2, 3, side, side)
        wanted = functional.adaptive_avg_pool2d(images, 8).flatten(1)
        torch.testing.assert_close(Thumbnails()(images), wanted)


def test_a_photo_is_squashed_as_pillow_does() -> None:
    pixels = torch.from_numpy(picture(1, 40).copy()).permute(2, 0, 1)[None]
    wanted = Image.fromarray(picture(1, 40)).resize((16, 16), Image.Resampling.BILINEAR)
    made = squash(pixels, 16, 3)[0].permute(1, 2, 0) * 255
    assert float((made - torch.from_numpy(np.array(wanted))).abs().max()) < 1.5
    grey = squash(pixels, 16, 1)
    assert grey.shape == (1, 1, 16, 16)
    assert squash(grey.mul(255).to(torch.uint8), 16, 3).shape == (1, 3, 16, 16)


# ----------------------------------------------------------------------------------------------- uc


def divergence(problem: BankProblem, delta: Tensor) -> Tensor:
    """How far images with each noise are from the centre it aims at: `(R,)`."""
    model, centres = problem.build().eval(), centres_of(problem)
    every = torch.arange(len(problem.images))
    found = []
    for row in range(problem.num_rows):
        noise = delta[row : row + 1]
        if problem.survival is not None:
            noise = problem.survival @ noise @ problem.survival.T
        with torch.inference_mode():
            seen = model.features((problem.inputs(every) + noise).clamp(0, 1))  # type: ignore[operator]
        wanted = centres[(row + 1) % problem.num_rows].softmax(0).expand(len(every), -1)
        found.append(functional.kl_div(seen.log_softmax(1), wanted, reduction="batchmean"))
    return torch.stack(found)


def strong() -> SmallNet:
    """An untrained net with features large enough to differ."""
    net = SmallNet(num_classes=2, channels=3, size=SIDE, width=8)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 4)
    return net


@pytest.mark.parametrize("resized", [False, True], ids=["same-size", "resized"])
def test_each_noise_leads_all_images_to_the_next_centre(resized: bool) -> None:
    problem = make_problem(survival=survival(SIDE, 3 * SIDE) if resized else None, make_surrogate=strong)
    method = UnlearnableClusters(most_steps=60, width=8, blocks=1, augment=False)
    delta = method.fit(problem, lambda _: None)
    assert float(delta.abs().max()) <= problem.eps * (1 + 1e-6)
    none, other = divergence(problem, torch.zeros_like(delta)), divergence(problem, delta.roll(1, 0))
    reached = divergence(problem, delta)
    assert bool((reached < 0.95 * none).all()) and float(reached.sum()) < 0.75 * float(none.sum()), (reached, none)
    assert float(reached.mean()) < float(other.mean())


def test_centres_are_the_mean_features_of_each_row() -> None:
    problem = make_problem()
    with torch.no_grad():
        features = problem.build().eval().features(problem.inputs(torch.arange(30)))  # type: ignore[operator]
    for row, centre in enumerate(centres_of(problem)):
        torch.testing.assert_close(centre, features[problem.rows == row].mean(0), rtol=1e-4, atol=1e-5)
    known = torch.arange(30.0).unsqueeze(1)
    told = problems.changed(problem, known_features=lambda: known)
    assert centres_of(told).flatten().tolist() == [13.5, 14.5, 15.5]


def test_the_published_generator_has_its_size() -> None:
    """161 GFLOP for a step at 224 px, forward and back: three times 2 * 26.8 G multiplications."""
    net, seen = Generator(channels=3, width=64, blocks=6), []

    def count(module: nn.Module, given: Any, made: Tensor) -> None:
        side = made.shape[2] * made.shape[3]
        if isinstance(module, nn.ConvTranspose2d):
            side = given[0].shape[2] * given[0].shape[3]
        seen.append(module.weight.numel() * side)  # type: ignore[operator, union-attr]

    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        made = net(torch.rand(1, 3, 224, 224))
    assert made.shape == (1, 3, 224, 224) and float(made.abs().max()) <= 1
    assert 6 * sum(seen) / 1e9 == pytest.approx(161, rel=0.2)


@pytest.mark.parametrize("side", [17, 18, 19])
def test_sides_that_are_not_a_multiple_of_four(side: int) -> None:
    reports: list[Progress] = []
    method = UnlearnableClusters(**UnlearnableClusters.test_options)
    delta = method.fit(make_problem(side=side), reports.append)
    assert delta.shape == (3, 3, side, side)
    assert reports[-1].done == reports[-1].total == 3


def test_a_cap_in_steps_or_epochs_whichever_comes_first() -> None:
    assert UnlearnableClusters(epochs=2, most_steps=0, batch=10).steps(95) == 20
    assert UnlearnableClusters(epochs=2, most_steps=7, batch=10).steps(95) == 7
    assert UnlearnableClusters().work(1000, rows=20).most > 1.9 * UnlearnableClusters().work(1000, rows=10).most * 0.99


def test_one_cluster_is_none() -> None:
    with pytest.raises(UexError, match="two clusters"):
        UnlearnableClusters().fit(make_problem(rows=1), lambda _: None)


# ------------------------------------------------------------------------------------- command line


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Twelve photos without labels: six dark, six bright."""
    root = tmp_path / "flat"
    root.mkdir()
    for index in range(12):
        Image.fromarray(picture(index) // (1 + 3 * (index % 2))).save(root / f"{index}.png")
    return root


def test_photos_without_labels_get_unlearnable_clusters(flat: Path, uex: Uex) -> None:
    ran = uex("fit", flat, "-O", "clusters=2", "-O", "most_steps=2", "--seed", 1)
    assert ran.code == 0, ran.err
    assert "no labels" in ran.err and "Unlearnable Clusters" in ran.err and "efficientnet_lite0" in ran.err
    noise = noise_file.read(Path("flat.noise.safetensors"))
    assert noise.recipe["method"]["name"] == "uc" and noise.recipe["encoder"]["name"] == "efficientnet_lite0"
    assert noise.header["eps_text"] == "16/255" and noise.delta is not None and noise.delta.shape == (2, 3, 16, 16)
    assert uex("apply", "flat.noise.safetensors", flat, "-o", "release").code == 0
    assert uex("verify", "release", "--source", flat).code == 0


def test_without_pretrained_weights_the_default_is_em_and_the_way_out_is_told(
    flat: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    gone = EfficientnetLite0.package
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == gone else real(name, *rest))
    ran = uex("fit", flat, "-O", "rounds=1", "--seed", 1)
    assert ran.code == 0, ran.err
    assert "uexcli[photos]" in ran.err
    assert noise_file.read(Path("flat.noise.safetensors")).recipe["method"]["name"] == "em"
    ran = uex("fit", flat, "--method", "uc", "-o", "other")
    assert ran.code == 3 and "uexcli[photos]" in ran.err


def test_class_folders_can_be_fitted_as_if_nothing_was_known_of_them(photos: Path, uex: Uex) -> None:
    words = ("fit", photos, "--method", "random", "--seed", 1, "-O", "encoder=pixels", "--mode", "clusterwise")
    ran = uex(*words, "--no-labels", "-O", "clusters=3")
    assert ran.code == 0, ran.err
    noise = noise_file.read(Path("photos.noise.safetensors"))
    assert noise.classes == () and noise.num_rows == 3
    assert uex(*words, "--no-labels", "--labels", "labels.csv", "-o", "n").code == 2


def test_a_new_photo_gets_the_noise_of_the_nearest_cluster_and_a_strange_one_is_named(flat: Path, uex: Uex) -> None:
    words = ("--method", "random", "--seed", 1, "-O", "encoder=pixels", "-O", "clusters=2")
    assert uex("fit", flat, *words).code == 0
    new = flat.parent / "new"
    new.mkdir()
    (new / "same.png").write_bytes((flat / "3.png").read_bytes())
    Image.new("RGB", (30, 20), (255, 0, 255)).save(new / "strange.png")
    ran = uex("apply", "flat.noise.safetensors", new, "-o", "release", "--near")
    assert ran.code == 0, ran.err
    assert "unlike any photo that was fitted: strange.png" in ran.err
    assert "same.png" in ran.out and "unlike anything fitted" in ran.out
    told = uex("apply", "flat.noise.safetensors", new, "-o", "release2", "--json", "--quiet").json
    rows = {item["key"]: (item["row"], item["near"]) for item in told["assigned"]}
    noise = noise_file.read(Path("flat.noise.safetensors"))
    for again in (("release2",), ("release3", "--dry-run")):  # already there; and nothing to be written
        listed = uex("apply", "flat.noise.safetensors", new, "-o", *again, "--near", "--json", "--quiet").json
        assert listed["assigned"] == told["assigned"] and listed["written"] == 0
    assert told["new"] == 2 and rows["same.png"][0] == int(noise.rows[noise.keys.index("3.png")])
    assert rows["same.png"][1] <= 1 < rows["strange.png"][1]


def test_new_photos_need_the_encoder_of_the_fit(flat: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("fit", flat, "--method", "random", "--seed", 1, "-O", "clusters=2")
    assert uex(*words).code == 0
    monkeypatch.setattr(EfficientnetLite0, "package", "no_such_package")
    assert uex("apply", "flat.noise.safetensors", flat, "-o", "fitted").code == 0, "fitted photos need no encoder"
    new = flat.parent / "new"
    new.mkdir()
    (new / "new.png").write_bytes((flat / "3.png").read_bytes())
    ran = uex("apply", "flat.noise.safetensors", new, "-o", "release")
    assert ran.code == 3 and "new photos need the encoder of the fit" in ran.err and "uexcli[photos]" in ran.err
    assert not Path("release").exists()


def test_other_weights_than_the_fits_are_refused(flat: Path, uex: Uex) -> None:
    words = ("--method", "random", "--seed", 1, "--mode", "clusterwise", "-O", "clusters=2")
    assert uex("fit", flat, *words, "-O", "encoder=efficientnet_lite0:random").code == 0
    path = Path("flat.noise.safetensors")
    noise = noise_file.read(path)
    other = {**noise.header, "encoder_weights": "0" * 64}
    noise_file.write(path, dataclasses.replace(noise, header=other))
    (flat / "3.png").rename(flat / "new.png")
    ran = uex("apply", path, flat, "-o", "release")
    assert ran.code == 3 and "not those the noise was fitted with" in ran.err and "--weights" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "uc", "--surrogate", "small"), "is not pretrained"),
        (("--method", "uc", "--surrogate", "onnx"), "has no gradient"),
        (("--method", "em", "--surrogate", "onnx"), "Use one of"),
        (("--mode", "clusterwise", "--method", "random", "-O", "encoder=small"), "is not pretrained"),
        (("--mode", "clusterwise", "--method", "random", "-O", "encoder=nothing"), "nothing"),
        (("--mode", "clusterwise", "--method", "random", "-O", "encoder=onnx:no.onnx"), "no such ONNX model"),
        (("--mode", "samplewise", "--method", "uc"), "makes no samplewise noise"),
        (("--method", "uc", "--weights", "no.safetensors", "--surrogate", "resnet50"), "no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_work(words: tuple[str, ...], message: str, flat: Path, uex: Uex) -> None:
    ran = uex("fit", flat, *words)
    assert ran.code == 2, ran.err
    assert message in ran.err
    assert not Path("flat.noise.safetensors").exists()


@pytest.mark.parametrize("method", ["em", "advpoison", "lsp", "pil", "ar", "emax"])
def test_other_methods_run_cluster_by_cluster_without_labels(method: str, flat: Path, uex: Uex) -> None:
    cls = registry.load().find("method", method).cls
    options = [word for key, value in getattr(cls, "test_options", {}).items() for word in ("-O", f"{key}={value}")]
    words = ("--mode", "clusterwise", "-O", "clusters=2", "-O", "encoder=pixels", "--seed", 1)
    ran = uex("fit", flat, "--method", method, *words, *options)
    assert ran.code == 0, ran.err
    noise = noise_file.read(Path("flat.noise.safetensors"))
    assert noise.num_rows == 2 and "2 clusters stand in" in ran.err


def test_a_patch_or_an_option_of_em_on_photos_without_labels(flat: Path, uex: Uex) -> None:
    ran = uex("fit", flat, "--patch", 8, "-O", "rounds=1", "-O", "clusters=2")
    assert ran.code == 0, ran.err
    assert noise_file.read(Path("flat.noise.safetensors")).recipe["method"]["name"] == "em"
    ran = uex("fit", flat, "-O", "rounds=1", "-o", "other")
    assert ran.code == 2 and "the method is uc" in ran.err and "--method em" in ran.err
    ran = uex("fit", flat, "--method", "lsp", "--weights", "w.safetensors", "-o", "other")
    assert ran.code == 2 and "--weights" in ran.err


def test_a_fit_with_other_weights_does_not_count_as_done(flat: Path, uex: Uex) -> None:
    words = ("fit", flat, "--method", "random", "--seed", 1, "-O", "clusters=2")
    assert uex(*words).code == 0
    assert "nothing to do" in uex(*words).out
    path = Path("flat.noise.safetensors")
    noise = noise_file.read(path)
    noise_file.write(path, dataclasses.replace(noise, header={**noise.header, "encoder_weights": "0" * 64}))
    ran = uex(*words)
    assert ran.code == 2 and "other weights" in ran.err


def test_the_features_of_an_untrained_encoder_are_those_of_the_surrogate(flat: Path, uex: Uex) -> None:
    """uc aims at centres that its own surrogate sees, also where weights are random."""
    words = ("fit", flat, "--surrogate", "efficientnet_lite0", "-O", "weights=random", "-O", "most_steps=1")
    ran = uex(*words, "--method", "uc", "-O", "clusters=2", "--seed", 3, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["passes"]["moved"] > 0
    setup_seed = int(noise_file.read(Path("flat.noise.safetensors")).header["seed"])
    encoder = EfficientnetLite0(weights="random")
    encoding = Encoding(encoder, channels=3, size=16, seed=setup_seed, device=torch.device("cpu"))
    problem = make_problem(
        seed=setup_seed, make_surrogate=lambda: encoder.build(num_classes=7, channels=3, size=16), rows=2
    )
    torch.testing.assert_close(encoding(problem.images), problem.features(), rtol=1e-4, atol=1e-5)
