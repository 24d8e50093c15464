"""band: what its noise is, for whom, and from where it can be had."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import picture
from tests.test_methods import problem
from uexcli.builtin.methods._noticeable import Noticeable, luma_of
from uexcli.builtin.methods._textures import regions
from uexcli.builtin.methods.band import TEN, TINTS, Band, dealt, textures_of
from uexcli.core.pixels import LUMA
from uexcli.errors import UexError
from uexcli.io.noise import noise_file
from uexcli.testing import pictures

Uex = Callable[..., Any]
EPS, SIDE = 8 / 255, 32


def network(classes: int = 10, *, size: int = SIDE, **options: Any) -> Any:
    """The textures of classes in their own order, as loud as `fit` makes them."""
    made: Any = Band(**options).network(channels=3, size=size, num_rows=classes)
    made.places.copy_(torch.tensor(TEN[:classes])[:, None] / 16)
    made.tints.copy_(torch.tensor(TINTS[:classes])[:, None] / 16)
    made.bound.fill_(EPS)
    return made


def photos_of(count: int = 10, side: int = SIDE) -> Tensor:
    return pictures(count, side=side).float() / 255


def test_each_class_is_loud_at_its_own_place_of_the_spectrum() -> None:
    rows = torch.arange(10)
    noise = network()(photos_of(), rows)
    assert float(noise.abs().max()) <= EPS * (1 + 1e-6)
    power = torch.fft.fft2(noise[:, 0]).abs().square()
    frequencies = torch.fft.fftfreq(SIDE).abs()
    for row, (down, across) in enumerate(TEN):
        off = (frequencies[:, None] - down / 16) ** 2 + (frequencies - across / 16) ** 2
        assert float(power[row][off < 0.06**2].sum() / power[row].sum()) > 0.7  # clipping spreads the rest
    blue = torch.fft.fft2(noise[:, 2]).abs().square()
    for row, (down, across) in enumerate(TINTS):
        off = (frequencies[:, None] - down / 16) ** 2 + (frequencies - across / 16) ** 2
        assert float(blue[row][off < 0.06**2].sum() / blue[row].sum()) > 0.7


def test_it_is_the_photos_own_texture_amplified() -> None:
    images, rows = torch.rand(10, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    with torch.no_grad():
        loud = network(gain=0.01)  # not clipped
    noise = loud(images, rows)
    luma = (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1)
    assert torch.equal(noise[:, 0], noise[:, 1])
    both = torch.fft.fft2(noise[:, 0]) * torch.fft.fft2(luma).conj()  # no phase but the photo's own
    frequencies = torch.fft.fftfreq(SIDE).abs()
    for each, (down, across) in zip(both, TEN, strict=True):
        here = (frequencies[:, None] - down / 16) ** 2 + (frequencies - across / 16) ** 2 < 0.03**2
        assert float(each[here].real.sum()) > 0.99 * float(each[here].abs().sum())
    rms = network()(images, rows)[:, 0].square().mean((1, 2)).sqrt()
    assert float(rms.min()) > 0.8 * EPS


def test_its_mean_over_photos_is_nothing() -> None:
    images = photos_of(400)
    noise = network()(images, torch.zeros(400, dtype=torch.int64))
    mean = noise.mean(0).square().mean().sqrt()
    assert float(mean) < 3 * EPS / math.sqrt(400)


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_no_photo_is_left_without_noise(level: float) -> None:
    noise = network()(torch.full((10, 3, SIDE, SIDE), level), torch.arange(10))
    assert float(noise[:, 0].square().mean((1, 2)).sqrt().min()) > 0.8 * EPS


@pytest.mark.parametrize(
    ("classes", "textures"), [(1, 1), (10, 1), (11, 2), (91, 2), (92, 3), (364, 3), (1000, 4), (1002, 5), (2002, 5)]
)
def test_many_classes_have_several_textures_each_in_regions_of_its_own(classes: int, textures: int) -> None:
    assert textures_of(classes) == textures


@pytest.mark.parametrize("several", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [8, 32, 33, 40, 47, 64, 224])
def test_every_texture_has_a_region(size: int, several: int) -> None:
    found = regions(size, several)
    assert torch.equal(found.sum(0), torch.ones(size, size))
    assert float(found.mean((1, 2)).min()) > 0.25 / several


def test_a_region_shows_its_own_texture() -> None:
    made: Any = Band().network(channels=3, size=64, num_rows=12)
    dealt(problem(torch.arange(24) % 12, side=64), made)
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = made(images, torch.arange(12))[:, 0]
    near = torch.fft.fftfreq(64).abs()
    for row, places in enumerate(made.places):
        for place, region in zip(places.tolist(), made.regions, strict=True):
            power = torch.fft.fft2(noise[row] * region).abs().square()
            here = (near[:, None] - place[0]) ** 2 + (near - place[1]) ** 2 < 0.05**2
            assert float(power[here].sum() / power.sum()) > 0.5


def test_grey_photos_in_three_channels_share_nothing_in_blue() -> None:
    grey = torch.rand(10, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    blue = network()(grey, torch.zeros(10, dtype=torch.int64))[:, 2]
    assert float(torch.corrcoef(blue.flatten(1)).abs().mean()) < 0.5


def test_beyond_two_thousand_classes_it_says_so() -> None:
    with pytest.raises(UexError, match="2,003 classes"):
        textures_of(2003)


def test_classes_differ_and_the_key_deals_them_out(photos: Path, uex: Uex) -> None:
    del photos
    for number in range(12):
        for index in range(2):
            path = Path("many") / f"c{number:02}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = pictures(1, side=48, seed=20 * number + index)[0].permute(1, 2, 0).numpy()
            Image.fromarray(image).save(path)
    dealt = []
    for seed in (1, 2):
        assert uex("fit", "many", "--method", "band", "--seed", seed, "-o", "n", "--force").code == 0
        dealt.append(noise_file.read(Path("n")).network["places"])
    assert dealt[0].shape == (12, 2, 2)
    assert len({tuple(sorted(map(tuple, row))) for row in dealt[0].tolist()}) == 12
    assert not torch.equal(*dealt)


def test_new_photos_of_any_kind_get_it_without_a_fit(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "--method", "band", "--size", 32, "--seed", 1, "-o", "n").code == 0
    assert sum(tensor.numel() for tensor in noise_file.read(Path("n")).network.values()) < 100
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 255, (90, 61), np.uint8)).save(photos / "cat" / "gray.png")
    Image.new("RGB", (70, 40), (90, 120, 40)).save(photos / "dog" / "flat.png")
    ran = uex("apply", "n", photos, "-o", "out", "--json")
    assert (ran.code, ran.json["new"]) == (0, 2), ran.err
    assert uex("verify", "out", "--source", photos).code == 0
    for name in ("cat/gray.png", "dog/flat.png"):
        before, after = (np.asarray(Image.open(root / name)).astype(int) for root in (photos, Path("out")))
        assert np.abs(after - before).max() == 8
        assert np.abs(after - before).std() > 1
        assert (after - before).std() > 4


def test_lengths_bound_it_too(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "--method", "band", "--norm", "l2", "--eps", "1", "--seed", 1, "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "out").code == 0
    checked = uex("verify", "out", "--source", photos, "--json")
    assert checked.code == 0, checked.out


def test_gray_photos_carry_it_in_luma_alone() -> None:
    made: Any = Band().network(channels=1, size=SIDE, num_rows=10)
    made.load_state_dict(network().state_dict())
    images, rows = photos_of()[:, :1], torch.arange(10)
    torch.testing.assert_close(made(images, rows)[:, 0], network()(images.expand(-1, 3, -1, -1), rows)[:, 0])


def test_groups_stand_in_for_classes(photos: Path, uex: Uex) -> None:
    words = ("--method", "band", "--mode", "clusterwise", "-O", "clusters=3", "-O", "encoder=pixels", "--seed", 1)
    assert uex("fit", photos, *words, "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "out")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("option", ["blue=1", "against=adversarial", "jnd=1"])
def test_onnx_gives_the_same_levels(photos: Path, uex: Uex, option: str) -> None:
    assert uex("fit", photos, "--method", "band", "-O", option, "--size", 32, "--seed", 1, "-o", "n").code == 0
    made = uex("export", "n", "m.onnx", "--json")
    assert made.code == 0, made.err
    assert made.json["difference"] < 0.05
    assert uex("apply", "n", photos, "-o", "torch").code == 0
    assert uex("apply", "n", photos, "-o", "onnx", "--engine", "onnx:m.onnx").code == 0
    for path in Path("torch").glob("*/*.png"):
        one, other = (
            np.asarray(Image.open(root / path.relative_to("torch"))).astype(int)
            for root in (Path("torch"), Path("onnx"))
        )
        assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("option", ["gain=0", "width=-1", "octaves=0", "octaves=9", "blue=2", "jnd=nan"])
def test_what_is_no_texture_is_refused(photos: Path, uex: Uex, option: str) -> None:
    ran = uex("fit", photos, "--method", "band", "-O", option, "-o", "n")
    assert ran.code == 2 and "must be" in ran.err


def test_grey_photos_have_no_red_to_put_against_blue(tmp_path: Path, uex: Uex) -> None:
    draw = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "grey" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (40, 40), np.uint8)).save(path)
    for method in ("band", "shield"):
        ran = uex("fit", tmp_path / "grey", "--method", method, "-O", "against=adversarial", "-o", "n")
        assert ran.code != 0 and "photos in colour" in ran.err and not Path("n").exists()


def test_it_is_for_shared_codes_only(photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "--method", "band", "--mode", "samplewise", "-o", "n")
    assert ran.code == 2, ran.err


def test_against_adversaries_red_is_the_opposite_of_blue_and_green_alone_has_lumas_texture() -> None:
    images, rows = torch.rand(10, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    usual, opposed = network()(images, rows), network(against="adversarial")(images, rows)
    assert torch.equal(opposed[:, 0], -opposed[:, 2])
    assert torch.equal(opposed[:, 1], usual[:, 1])
    assert float(opposed.abs().max()) <= EPS * (1 + 1e-6)
    power = torch.fft.fft2(opposed[:, 0]).abs().square()
    frequencies = torch.fft.fftfreq(SIDE).abs()
    for row, (down, across) in enumerate(TINTS):
        off = (frequencies[:, None] - down / 16) ** 2 + (frequencies - across / 16) ** 2
        assert float(power[row][off < 0.06**2].sum() / power[row].sum()) > 0.7


def test_what_is_just_noticeable_is_as_chou_and_li_have_it() -> None:
    flat = torch.tensor([0.0, 127.0, 255.0])[:, None, None].expand(3, 8, 8) / 255
    found = 255 * Noticeable()(flat)
    torch.testing.assert_close(found[:, 0], torch.tensor([20.0, 3.0, 6.0])[:, None, None].expand(3, 8, 8))
    edge = torch.full((1, 8, 8), 100 / 255)
    edge[..., 4:] = 200 / 255
    beside = 255 * Noticeable()(edge)[0, 0]
    assert float(beside[4, 3]) > 8 > float(beside[4, 0])  # an edge hides more than what is flat


def test_with_jnd_no_more_is_changed_than_is_noticeable() -> None:
    images, rows = photos_of(), torch.arange(10)
    limits = Noticeable()(luma_of(images))
    for times in (0.5, 1.0):
        noise = network(jnd=times)(images, rows)
        levels = (255 * noise).round()  # as they are published
        assert bool((levels.abs() <= times * 255 * limits + 1e-3).all())
        assert float(noise.abs().max()) <= EPS * (1 + 1e-6)
    assert torch.equal(network(jnd=1000)(images, rows), network()(images, rows))


def test_what_it_is_not_against_is_refused() -> None:
    with pytest.raises(ValueError, match="adversarial"):
        Band(against="jpeg")
    with pytest.raises(ValueError, match="blue must be 1"):
        Band(against="adversarial", blue=0.5)
    with pytest.raises(ValueError, match="jnd"):
        Band(jnd=-1)


def test_grey_photos_of_the_side_of_the_fit_are_protected(tmp_path: Path, uex: Uex) -> None:
    for index in range(4):
        path = tmp_path / "grey" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(index, 32, grey=True)).save(path)
    assert uex("fit", tmp_path / "grey", "--method", "band", "--seed", 1, "-o", "n").code == 0
    assert uex("apply", "n", tmp_path / "grey", "-o", "release", "--jobs", 1).code == 0
    assert uex("verify", "release", "--source", tmp_path / "grey").code == 0
