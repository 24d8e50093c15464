"""Apply: the pixel promise on the written files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import Ran
from PIL import Image


def test_release_holds_protected_files_within_the_bound(photos: Path, release: Path) -> None:
    sources = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    assert sorted(path.relative_to(release) for path in release.rglob("*.png")) == sources
    for name in sources:
        clean = np.asarray(Image.open(photos / name)).astype(int)
        change = np.asarray(Image.open(release / name)).astype(int) - clean
        assert np.abs(change).max() == 8
        assert change.min() < 0 < change.max()


def test_a_second_apply_does_nothing(photos: Path, noise: Path, release: Path, uex: Callable[..., Ran]) -> None:
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    ran = uex("apply", noise, photos, "-o", release)
    assert ran.code == 0
    assert "nothing to do" in ran.out
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


def test_limit_protects_some_of_each_class_and_lists_the_rest(photos: Path, uex: Callable[..., Ran]) -> None:
    assert uex("fit", photos, "--method", "random", "--mode", "classwise", "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "few", "--limit", 6, "--json")
    assert ran.code == 0, ran.err
    assert sorted(path.parent.name for path in Path("few").rglob("*.png")) == ["cat"] * 3 + ["dog"] * 3
    assert len(ran.json["skipped"]) == 10
    assert uex("verify", "few", "--source", photos, "--allow-missing").code == 0
    assert uex("verify", "few", "--source", photos).code == 1


def test_a_fit_with_limit_is_applied_to_what_it_fitted(photos: Path, uex: Callable[..., Ran]) -> None:
    assert uex("fit", photos, "--method", "random", "--limit", 4, "-o", "n").code == 0
    ran = uex("apply", "n", photos, "-o", "few", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["written"] == 4


def test_small_photos_get_noise_at_the_bound(photos: Path, uex: Callable[..., Ran]) -> None:
    assert uex("fit", photos, "--method", "random", "--size", 64, "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "small").code == 0
    for path in photos.rglob("*.png"):
        with Image.open(path) as clean, Image.open(Path("small") / path.relative_to(photos)) as protected:
            change = np.asarray(protected).astype(int) - np.asarray(clean)
        assert np.abs(change).max() == 8
