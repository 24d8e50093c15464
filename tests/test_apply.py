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
