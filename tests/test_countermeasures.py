"""Countermeasures of attackers who know the method or the labels: each undoes what it was made for."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn
from torch import Tensor
from torch.nn import functional

from uexcli import plugin
from uexcli.core.seeding import generator
from uexcli.errors import UsageError
from uexcli.registry import load
from uexcli.testing import pictures

SIDE = 16
COUNT = 240
LABELS = torch.arange(COUNT) % 3


def make(spec: str) -> plugin.Countermeasure:
    return load().make(plugin.Countermeasure, "countermeasure", spec)  # type: ignore[type-abstract]


def prepared(spec: str, images: Tensor, labels: Tensor = LABELS) -> Tensor:
    return make(spec).prepare(images, labels, generator(0, "test"))


def batched(spec: str, images: Tensor, seed: int = 0) -> Tensor:
    return make(spec).batch(images, torch.ones(len(images), 1), generator(seed, "test"))[0]


def marked(noise: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures without and with the noise of their class."""
    images = pictures(COUNT)
    return images, (images.int() + noise[LABELS]).clamp(0, 255).to(torch.uint8)


def apart(images: Tensor) -> float:
    """How far the class means lie apart, in levels."""
    means = torch.stack([images[label == LABELS].float().mean(0) for label in range(3)])
    return float((means - means.mean(0)).abs().mean())


def test_coin_reads_each_pixel_within_reach() -> None:
    lines = torch.arange(64.0).view(1, 1, 64, 1).expand(4, 3, 64, 64) / 64
    made = batched("coin:2", lines)
    moved = ((made - lines) * 64)[:, :, 4:-4]  # beyond a border is the other one
    furthest = float(moved.abs().max())
    assert furthest > 1.9
    assert furthest <= 2 + 1e-3
    assert float(moved.std()) == pytest.approx(2 / 3**0.5, rel=0.03)
    assert torch.equal(made[:, 0], made[:, 1])
    assert correlation(moved[:, 0, 1:], moved[:, 0, :-1]) < 0.05
    torch.testing.assert_close(batched("coin:2", torch.full((2, 3, 8, 8), 0.3)), torch.full((2, 3, 8, 8), 0.3))


def correlation(one: Tensor, other: Tensor) -> float:
    return abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]))


def test_coin_beyond_a_border_is_the_other_side() -> None:
    image = torch.zeros(2000, 1, 4, 4)
    image[:, :, 0] = 1
    made = batched("coin:1", image).mean((0, 1, 3))
    assert float(made[3]) == pytest.approx(float(made[1]), abs=0.02) and float(made[3]) > 0.1


def test_spectrum_gives_all_classes_one_spectrum() -> None:
    waves = torch.arange(SIDE) * torch.tensor([[4.0], [5.0], [7.0]]) * 2 * torch.pi / SIDE
    noise = (12 * waves.cos()).round().int().view(3, 1, 1, SIDE).expand(3, 3, SIDE, SIDE)
    _, images = marked(noise)
    made = prepared("spectrum:30", images)

    def powers(shown: Tensor) -> Tensor:
        power = torch.fft.rfft2(shown.float()).abs().square()[:, :, 0, [4, 5, 7]]
        return torch.stack([power[label == LABELS].mean((0, 1)) for label in range(3)])

    for label in range(3):
        before, after = powers(images)[:, label], powers(made)[:, label]
        assert float(before[label]) > float(before.sum() - before[label])
        assert float(after.max() / after.min()) < 1.2
    milder = prepared("spectrum:1.2", images)
    assert float(powers(milder)[0, 0]) > 1.2 * float(powers(made)[0, 0])


def test_class_mean_takes_the_noise_of_a_class() -> None:
    noise = torch.randint(-8, 9, (3, 3, SIDE, SIDE), generator=generator(2, "noise")).int()
    clean, images = marked(noise)
    made = prepared("class-mean:0", images)
    assert apart(images) > 3 and apart(made) < 0.3
    assert apart(prepared("class-mean", images)) < 0.25 * apart(images)
    assert float((made.float() - clean.float()).abs().mean()) < float((images.float() - clean.float()).abs().mean())


def test_class_mean_can_leave_in_what_is_smooth() -> None:
    lighter = torch.tensor([-10, 0, 10]).view(3, 1, 1, 1).expand(3, 3, SIDE, SIDE).int()
    _, images = marked(lighter)
    assert apart(prepared("class-mean:0", images)) < 0.3
    assert apart(prepared("class-mean", images)) > 0.8 * apart(images)


def test_dead_pixel_repairs_the_pixel_of_ops_and_no_other() -> None:
    clean, places = pictures(COUNT), [(0, 0), (5, 15), (9, 4)]
    images = clean.clone()
    for label, (line, column) in enumerate(places):
        images[label == LABELS, :, line, column] = torch.tensor([255, 0, 255], dtype=torch.uint8)
    made = prepared("dead-pixel", images)
    for label, (line, column) in enumerate(places):
        own = label == LABELS
        changed = (made[own] != images[own]).any(0).any(0)
        assert changed.nonzero().tolist() == [[line, column]]
        assert float((made[own].float() - clean[own].float()).abs().mean((0, 1))[line, column]) < 25
    assert int((prepared("dead-pixel:2", images) != images).any(1).flatten(1).sum(1).max()) == 2


def test_dead_pixel_is_the_median_of_the_neighbours() -> None:
    images = torch.randint(0, 256, (COUNT, 1, 5, 5), generator=generator(3, "noise"), dtype=torch.uint8)
    images[:, :, 2, 2] = 0
    labels = torch.zeros(COUNT, dtype=torch.long)
    around = torch.cat([images[:, :, 1:4, 1:4].flatten(2)[..., :4], images[:, :, 1:4, 1:4].flatten(2)[..., 5:]], 2)
    assert torch.equal(prepared("dead-pixel", images, labels)[:, :, 2, 2], around.median(2).values)


@pytest.mark.parametrize("channels", [3, 1])
def test_jpeg_crop_is_jpeg_of_the_batch(channels: int) -> None:
    images = pictures(3, channels, side=32)
    made = (batched("jpeg-crop:20", images.float() / 255) * 255).round().to(torch.uint8)
    for one, wanted in zip(made, images, strict=True):
        buffer = io.BytesIO()
        array = wanted[0].numpy() if channels == 1 else wanted.permute(1, 2, 0).numpy()
        Image.fromarray(array).save(buffer, "JPEG", quality=20)
        back = torch.from_numpy(np.array(Image.open(buffer)))
        assert torch.equal(one, back.unsqueeze(0) if channels == 1 else back.permute(2, 0, 1))
    assert torch.equal(prepared("jpeg-crop", images), images)


def test_randsharp_sharpens_and_keeps_low_frequencies() -> None:
    flat = torch.full((400, 3, SIDE, SIDE), 0.4)
    made = batched("randsharp:2.5,1", flat)[..., SIDE // 2, SIDE // 2]
    assert torch.equal(made[:, 0], made[:, 1])
    assert float(made.mean()) == pytest.approx(0.4, abs=0.02)  # kernels that sum to 1 on average,
    assert float(made.std()) == pytest.approx(0.4 * 0.1 * 4**0.5, rel=0.2)  # their arms random
    edge = torch.zeros(64, 1, SIDE, SIDE)
    edge[..., SIDE // 2 :] = 0.2
    edge += 0.4
    step = batched("randsharp:2.5,1", edge)[..., SIDE // 2 - 1 : SIDE // 2 + 1].diff(dim=-1).mean()
    assert float(step) == pytest.approx(0.2 * (1 + 2 * 0.375), abs=0.03)
    rough = 0.5 + 0.05 * torch.rand(8, 1, 20, 20, generator=generator(0, "rough"))
    kept = dctn(batched("randsharp", rough).numpy(), axes=(2, 3), norm="ortho")
    low = kept[:, :, :6, :6].copy()
    kept[:, :, :6, :6] = 0
    assert abs(kept).max() < 1e-5 and abs(low).min((0, 1)).min() > 1e-5


@pytest.mark.parametrize("hidden", [64, 0])
def test_sda_hides_what_a_shallow_net_reads(hidden: int) -> None:
    noise = torch.randint(-6, 7, (3, 3, SIDE, SIDE), generator=generator(2, "noise")).int()
    _, images = marked(noise)
    made = prepared(f"sda:{hidden},10", images)
    change = (made.int() - images.int()).abs()
    assert int(change.max()) == 8

    def agreement(shown: Tensor) -> float:
        mark = (noise - noise.float().mean(0)).flatten(1)
        means = torch.stack([shown[label == LABELS].float().mean(0) for label in range(3)])
        return float(functional.cosine_similarity((means - means.mean(0)).flatten(1), mark).mean())

    assert agreement(images) > 0.6 and agreement(made) < agreement(images) - 0.35


def test_sda_augments_strongly() -> None:
    images = pictures(1, side=32).float().expand(200, -1, -1, -1) / 255
    made = batched("sda", images)
    assert len({one.numpy().tobytes() for one in made}) == 200
    grey = (made - made.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5
    assert 0.1 < float(grey.float().mean()) < 0.3


@pytest.mark.parametrize(
    "spec",
    ["coin:0", "spectrum:1", "class-mean:2", "dead-pixel:0", "jpeg-crop:96", "randsharp:1", "randsharp:2,0",
     "sda:-1", "sda:8,0", "sda:8,1,9"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        make(spec)
