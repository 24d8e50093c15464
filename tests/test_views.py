"""Views of photos: what a trainer's Resize, RandomCrop and RandomResizedCrop would show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran
from PIL import Image

from uexcli.io.images import crops, photo_files
from uexcli.io.images.crops import CROP, RESIZED, Views, centre
from uexcli.plugin import Sample


def ramp(height: int, width: int) -> Sample:
    """Red grows to the right, green downwards, each from 0 to 255."""
    red = np.linspace(0, 255, width)[None].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Sample("ramp.png", None, array=np.stack([red, green, red * 0], 2).astype(np.uint8))


def seen(kind: str, height: int, width: int, count: int = 200) -> np.ndarray:
    """For so many views: how much of the ramp each spans to the right and down, and where its middle lies."""
    view = Views([ramp(height, width)] * count, kind, 32, 3)
    shown = view(torch.Generator().manual_seed(1)).numpy().astype(float)
    right, down = np.abs(shown[:, 0, 16, -1] - shown[:, 0, 16, 0]), shown[:, 1, -1, 16] - shown[:, 1, 0, 16]
    return np.stack([right, down, shown[:, 0].mean((1, 2)), shown[:, 1].mean((1, 2))], 1) / 255


def test_a_crop_is_a_square_of_224_256_of_the_shorter_side_anywhere() -> None:
    right, down, across, along = seen(CROP, 300, 600).T
    assert np.allclose(down, 0.875, atol=0.04) and np.allclose(right, 0.4375, atol=0.04)
    assert across.min() < 0.26 and across.max() > 0.74  # to both ends of the longer side
    assert 0.42 < along.min() < 0.46 and 0.54 < along.max() < 0.58


def test_a_resized_crop_has_8_to_100_percent_of_the_area() -> None:
    right, down, across, _ = seen(RESIZED, 300, 300).T
    areas = right * down
    assert areas.min() < 0.15 and areas.max() > 0.85 and 0.4 < areas.mean() < 0.6
    ratios = right / down
    assert 0.7 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.45
    assert across.std() > 0.05


@pytest.mark.parametrize("shape", [(40, 900), (900, 40), (8, 8)])
@pytest.mark.parametrize("kind", [CROP, RESIZED])
def test_photos_of_any_shape(kind: str, shape: tuple[int, int]) -> None:
    assert np.isfinite(seen(kind, *shape, count=30)).all()


@pytest.mark.parametrize("kind", [CROP, RESIZED])
def test_views_repeat_by_generator_and_half_are_mirrored(kind: str) -> None:
    view = Views([ramp(50, 50)] * 100, kind, 16, 3)
    first = view(torch.Generator().manual_seed(1))
    assert torch.equal(first, view(torch.Generator().manual_seed(1)))
    assert not torch.equal(first, view(torch.Generator().manual_seed(2)))
    mirrored = (first[:, 0, 8, 0] > first[:, 0, 8, -1]).float().mean()
    assert 0.3 < float(mirrored) < 0.7


def test_the_centre_is_torchvisions() -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    sample = ramp(120, 200)
    assert sample.array is not None
    wanted = Compose([Resize(64), CenterCrop(56)])(Image.fromarray(sample.array))
    made = centre(photo_files.open_photo(sample), 56, 3).transpose(1, 2, 0)
    assert np.abs(made.astype(int) - np.asarray(wanted).astype(int)).max() <= 3


def test_grey_photos_in_colour_and_back() -> None:
    grey = Sample("grey.png", None, array=np.full((20, 30), 100, np.uint8))
    assert Views([grey], CROP, 8, 3)(torch.Generator()).unique().tolist() == [100]
    assert Views([ramp(20, 30)], RESIZED, 8, 1)(torch.Generator()).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("kind", crops.VIEWS)
def test_eval_trains_on_views(kind: str, photos: Path, release: Path, uex: Callable[..., Ran]) -> None:
    ran = uex("eval", photos, release, "--view", kind, "--epochs", 4, "--size", 16, "--test", photos, "--json")
    if ran.code == 3:  # sixteen pictures may teach nothing; but then both sides were trained
        assert "above chance" in ran.err or "among the training images" in ran.err
        return
    assert ran.code == 0, ran.err
    assert ran.json["view"] == kind


def test_views_are_of_the_training_images_and_differ_from_epoch_to_epoch(
    photos: Path, release: Path, monkeypatch: pytest.MonkeyPatch, uex: Callable[..., Ran]
) -> None:
    drawn: list[tuple[list[str], bytes]] = []
    real = Views.__call__

    def spy(self: Views, generator: torch.Generator) -> torch.Tensor:
        made = real(self, generator)
        drawn.append(([sample.key for sample in self.samples], made.numpy().tobytes()))
        return made

    monkeypatch.setattr(Views, "__call__", spy)
    uex("eval", photos, release, "--view", "crop", "--epochs", 2, "--size", 16, "--folds", 1)
    assert len(drawn) >= 2 and len({pixels for _, pixels in drawn}) == len(drawn)
    keys = drawn[0][0]
    assert 0 < len(keys) < 16, "held-out photos are not trained on"


def test_an_unknown_view_is_refused(photos: Path, release: Path, uex: Callable[..., Ran]) -> None:
    ran = uex("eval", photos, release, "--view", "crops")
    assert ran.code == 2 and "crop, " in ran.err
