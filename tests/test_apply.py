"""Apply: the pixel promise on the written files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran
from PIL import Image

from uexcli.io.release import layout


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


def test_force_deletes_nothing_but_a_release(photos: Path, noise: Path, release: Path, uex: Callable[..., Ran]) -> None:
    (release / "notes.txt").write_text("mine")
    other = ("apply", noise, photos, "-o", release, "--limit", 4, "--force")
    ran = uex(*other)
    assert ran.code == 2
    assert "also holds notes.txt" in ran.err
    assert (release / "notes.txt").read_text() == "mine"
    (release / "notes.txt").unlink()
    assert uex(*other).code == 0
    assert len(list(release.rglob("*.png"))) == 4
    assert not [path for path in release.parent.iterdir() if path.name not in {"photos", noise.name, release.name}
                and "receipt" not in path.name]  # fmt: skip


def test_the_noise_file_cannot_end_up_in_the_release(photos: Path, noise: Path, uex: Callable[..., Ran]) -> None:
    out = photos.parent / "out"
    out.mkdir()
    noise.rename(out / noise.name)
    ran = uex("apply", out / noise.name, photos, "-o", out)
    assert ran.code == 2
    assert "secret" in ran.err


def test_a_link_to_an_old_release_is_followed(
    photos: Path, noise: Path, release: Path, uex: Callable[..., Ran]
) -> None:
    Path("link").symlink_to(release)
    assert uex("apply", noise, photos, "-o", "link", "--limit", 4, "--force").code == 0
    assert Path("link").is_symlink()
    assert len(list(release.rglob("*.png"))) == 4


def test_the_working_folder_can_be_filled(
    photos: Path, noise: Path, uex: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = photos.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert uex("apply", noise, photos, "-o", ".").code == 0
    assert sorted(path.name for path in here.iterdir()) == ["SHA256SUMS", "cat", "dog", "uex-release.json"]
    assert uex("verify", ".", "--source", photos).code == 0


def test_a_skipped_photo_that_was_repaired_is_no_longer_already_done(photos: Path, uex: Callable[..., Ran]) -> None:
    good = (photos / "cat" / "0.png").read_bytes()
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "-o", "n").code == 0
    (photos / "cat" / "0.png").write_bytes(good[:40])
    again = ("apply", "n", photos, "-o", "out", "--on-error", "skip")
    assert uex(*again).code == 0
    assert "nothing to do" in uex(*again).out
    (photos / "cat" / "0.png").write_bytes(good)
    assert uex(*again).code == 2
    assert uex(*again, "--force").code == 0
    assert Path("out/cat/0.png").exists()


def test_a_damaged_receipt_is_no_obstacle(photos: Path, noise: Path, release: Path, uex: Callable[..., Ran]) -> None:
    receipt = next(photos.parent.glob("*.receipt.json"))
    receipt.write_text('{"releases": {"' + str(release.resolve()) + '": {}}}')
    assert uex("apply", noise, photos, "-o", release).code == 2
    assert uex("apply", noise, photos, "-o", release, "--force").code == 0


@pytest.mark.parametrize("here", [False, True], ids=["another folder", "the working folder"])
def test_what_comes_into_the_output_meanwhile_is_left_alone(
    here: bool, photos: Path, noise: Path, release: Path, uex: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_facts = layout.write_facts

    def meanwhile(*arguments: Any) -> str:
        (release / "notes.txt").write_text("mine")
        return write_facts(*arguments)

    monkeypatch.setattr(layout, "write_facts", meanwhile)
    if here:
        monkeypatch.chdir(release)
    ran = uex("apply", noise, photos, "-o", release, "--limit", 4, "--force")
    assert ran.code == (0 if here else 2), ran.err
    assert (release / "notes.txt").read_text() == "mine"
    assert len(list(release.rglob("*.png"))) == (4 if here else 16)
