"""Purification by a net that learns from clean images which the user names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import bright
from torch import Tensor

from uexcli import plugin
from uexcli.builtin.countermeasures._purifier import Autoencoder
from uexcli.commands.evaluate.clean_images import CleanImages
from uexcli.commands.evaluate.jobs import against_of
from uexcli.core.seeding import generator
from uexcli.errors import UexError
from uexcli.registry import load
from uexcli.testing import pictures

Uex = Callable[..., object]


def purifier(epochs: int = 8) -> plugin.Countermeasure:
    return load().make(plugin.Countermeasure, "countermeasure", f"purify:somewhere,5000,{epochs}")  # type: ignore[type-abstract]


def error(made: Tensor, wanted: Tensor) -> float:
    return float((made.float() - wanted.float()).abs().mean())


def test_a_purifier_takes_out_noise_it_has_not_seen_and_leaves_the_photo() -> None:
    everything = pictures(360)
    clean, photos = everything[:320], everything[320:]
    stripes = (torch.arange(16) // 2 % 2 * 16 - 8).view(1, 1, 1, 16)
    noisy = (photos.int() + stripes).clamp(0, 255).to(torch.uint8)
    made = purifier().purify(noisy, clean, generator(0, "test"))
    assert made.shape == noisy.shape and made.dtype == torch.uint8
    again = purifier().purify(photos, clean, generator(0, "test"))
    assert error(made, photos) < 0.7 * float(photos.float().std())  # after 40 steps
    assert error(made, again) < 0.4 * error(noisy, photos)  # with the noise and without: almost the same


def test_the_net_depends_on_the_clean_images_and_the_generator() -> None:
    photos, clean = pictures(4), pictures(32)
    once = purifier(1).purify(photos, clean, generator(0, "test"))
    other = purifier(1).purify(photos, clean.flip(3), generator(0, "test"))
    assert torch.equal(purifier(1).purify(photos, clean, generator(0, "test")), once)
    assert not torch.equal(other, once)
    assert not torch.equal(purifier(1).purify(photos, clean, generator(1, "test")), once)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 1, 10, 13), (1, 3, 1, 1)])
def test_the_autoencoder_takes_any_size(shape: tuple[int, ...]) -> None:
    assert Autoencoder(shape[1])(torch.rand(shape)).shape == shape


def test_clean_images_are_read_at_the_size_that_is_trained_on(tmp_path: Path) -> None:
    root = bright(tmp_path / "others", ["a", "b"], 5)
    read = CleanImages(load())
    assert read(str(root), 5000, 3, 8).shape == (10, 3, 8, 8)
    few = read(str(root), 4, 1, 16)
    assert few.shape == (4, 1, 16, 16) and read(str(root), 4, 1, 16) is few
    against = against_of(load(), f"purify:{root},6,1")
    images = pictures(5)
    assert not torch.equal(against.prepare(images, torch.arange(5)), images)
    assert [clean.shape for clean in against.clean(3, 16)] == [(6, 3, 16, 16)]


def test_a_purifier_without_clean_images_is_told() -> None:
    with pytest.raises(UexError, match="names no clean images"):
        against_of(load(), "purify")
    with pytest.raises(UexError):
        CleanImages(load())("nowhere", 10, 3, 16)


def test_trainings_are_told_apart_by_the_clean_images(tmp_path: Path, photos: Path, release: Path, uex: Uex) -> None:
    others = bright(tmp_path / "others", ["a"], 6)
    words = ("eval", photos, release, "--target", "small:width=4", "--folds", 1, "--epochs", 1,
             "--against", f"purify:{others},6,1", "--cells", tmp_path / "cells", "--json")  # fmt: skip

    def trained() -> set[str]:
        uex(*words)  # so short a training says nothing, but it is kept
        return {path.name for path in (tmp_path / "cells").glob("*.json")}

    first = trained()
    assert len(first) >= 4 and trained() == first
    bright(tmp_path / "others", ["a"], 6, invert=True)
    assert len(trained() - first) == 2
