"""Verify: every way in which a release can be wrong is found, and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, picture
from PIL import Image, ImageCms

from uexcli.io.release import layout as release_io

Uex = Callable[..., Ran]
Codes = set[tuple[str, str]]


def codes(ran: Ran) -> Codes:
    """The findings of `verify --json`, as pairs of code and path; the verdict must go with them."""
    document = ran.json
    assert document["schema"] == "uex.verify/1"
    assert document["passed"] is (not document["findings"])
    assert ran.code == (0 if document["passed"] else 1)
    return {(item["code"], item["path"]) for item in document["findings"]}


def resum(root: Path) -> None:
    """Bring SHA256SUMS up to date, as a careful forger would."""
    names = [name for name in release_io.files(root) if Path(name).name != "SHA256SUMS"] + ["uex-release.json"]
    digests = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names}
    (root / "SHA256SUMS").write_text(release_io.sums_text(digests))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


def save(path: Path, values: np.ndarray, **extra: Any) -> None:
    Image.fromarray(values).save(path, **extra)


def elsewhere(photos: Path, root: Path, *, levels: int = 8, suffix: str = ".png") -> Path:
    """A release that was not made by uex: images only."""
    generator = np.random.default_rng(3)
    for path in sorted(photos.rglob("*.png")):
        clean = pixels(path).astype(int)
        noise = generator.choice([-levels, levels], clean.shape)
        target = (root / path.relative_to(photos)).with_suffix(suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        save(target, (clean + noise).clip(0, 255).astype(np.uint8), **({"lossless": True} if suffix == ".webp" else {}))
    return root


def test_a_clean_release_passes(photos: Path, release: Path, uex: Uex) -> None:
    ran = uex("verify", release, "--source", photos, "--json")
    assert codes(ran) == set()
    document = ran.json
    assert (document["sources"], document["images"], document["decoded"]) == (16, 16, 16)
    assert (document["norm"], document["eps"], document["most_levels"]) == ("linf", "8/255", 8)
    assert 0.99 < document["largest_share"] <= 1 + 1e-6
    assert 30 < document["psnr"]["min"] <= document["psnr"]["median"] < 50
    assert 0 < document["ssim"]["min"] <= document["ssim"]["median"] <= 1
    assert set(document["checks"]) == {"bound", "checksums", "coverage", "leaks"}
    assert "17 of 17" in document["checks"]["checksums"]
    for_people = uex("verify", release, "--source", photos)
    assert for_people.code == 0
    assert for_people.out.splitlines()[-1].startswith("OK")


def test_three_things_wrong_are_all_named(photos: Path, release: Path, uex: Uex) -> None:
    values, clean = pixels(release / "cat" / "0.png"), pixels(photos / "cat" / "0.png")
    values[5, 6, 1] = clean[5, 6, 1] + 9
    save(release / "cat" / "0.png", values)
    (release / "dog" / "1.png").unlink()
    shutil.copy(photos / "dog" / "2.png", release / "dog" / "copy.png")
    found = codes(uex("verify", release, "--source", photos, "--json"))
    assert found == {
        ("over-bound", "cat/0.png"),
        ("checksum", "cat/0.png"),
        ("missing", "dog/1.png"),
        ("leak", "dog/copy.png"),
        ("unexpected", "dog/copy.png"),
        ("unlisted", "dog/copy.png"),
    }
    for_people = uex("verify", release, "--source", photos)
    assert for_people.code == 1
    assert for_people.out.splitlines()[-1].startswith("FAILED")
    for word in ("cat/0.png", "9 levels", "dog/1.png", "dog/copy.png", "dog/2.png"):
        assert word in for_people.out


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("levels", "within"), [(8, True), (9, False)])
def test_the_bound_is_exact_to_one_level_of_one_value(
    sign: int, levels: int, within: bool, photos: Path, release: Path, uex: Uex
) -> None:
    values, clean = pixels(release / "cat" / "0.png"), pixels(photos / "cat" / "0.png")
    values[0, 15, 2] = int(clean[0, 15, 2]) + sign * levels
    save(release / "cat" / "0.png", values)
    resum(release)
    found = codes(uex("verify", release, "--source", photos, "--json"))
    assert found == (set() if within else {("over-bound", "cat/0.png")})


# ------------------------------------------------------------------------------------ one thing wrong


def turned(path: Path) -> None:
    save(path, pixels(path).transpose(1, 0, 2))


def shrunk(path: Path) -> None:
    save(path, pixels(path)[:-1])


def grey(path: Path) -> None:
    save(path, pixels(path)[:, :, 0])


def see_through(path: Path) -> None:
    Image.open(path).convert("RGBA").save(path)


def profiled(path: Path) -> None:
    image = Image.open(path)
    image.load()
    image.save(path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def animated(path: Path) -> None:
    image = Image.open(path)
    image.load()
    image.save(path, save_all=True, append_images=[Image.fromarray(picture(1, 24))])


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "changed-size": (shrunk, "changed-size"),
    "changed-mode": (grey, "changed-mode"),
    "alpha-added": (see_through, "changed-alpha"),
    "profile-added": (profiled, "changed-profile"),
    "unreadable": (cut, "unreadable"),
    "empty": (lambda path: path.write_bytes(b""), "unreadable"),
    "second-frame": (animated, "unreadable"),
}


@pytest.mark.parametrize(("spoil", "code"), SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_file_is_found(spoil: Callable[[Path], Any], code: str, photos: Path, release: Path, uex: Uex) -> None:
    spoil(release / "cat" / "3.png")
    found = codes(uex("verify", release, "--source", photos, "--json"))
    assert found == {(code, "cat/3.png"), ("checksum", "cat/3.png")}
    resum(release)
    assert codes(uex("verify", release, "--source", photos, "--json")) == {(code, "cat/3.png")}


def oblong(root: Path, **extra: Any) -> Path:
    """Two photos of 16 x 24 px, the first with what is given."""
    (root / "in").mkdir()
    for index in range(2):
        save(root / "in" / f"{index}.png", picture(40 + index, 24)[:16], **({} if index else extra))
    return root / "in"


def protect(photos: Path, uex: Uex, *more: str) -> Path:
    noise, out = photos.parent / "in.noise.safetensors", photos.parent / "out"
    words = ("fit", photos, "--method", "random", "--mode", "samplewise", "--seed", 1, "-o", noise, "--size", 16)
    assert uex(*words).code == 0
    ran = uex("apply", noise, photos, "-o", out, *more)
    assert ran.code == 0, ran.err
    return out


def test_a_turned_file_is_found(tmp_path: Path, uex: Uex) -> None:
    photos = oblong(tmp_path)
    out = protect(photos, uex)
    turned(out / "0.png")
    resum(out)
    assert codes(uex("verify", out, "--source", photos, "--json")) == {("orientation", "0.png")}


def test_a_file_that_a_viewer_would_turn_is_found(tmp_path: Path, uex: Uex) -> None:
    photos = oblong(tmp_path)
    out = protect(photos, uex)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(out / "0.png", pixels(out / "0.png"), exif=exif)
    resum(out)
    assert codes(uex("verify", out, "--source", photos, "--json")) == {("orientation", "0.png")}


def test_a_lost_profile_is_found(tmp_path: Path, uex: Uex) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photos = oblong(tmp_path, icc_profile=profile)
    out = protect(photos, uex)
    assert codes(uex("verify", out, "--source", photos, "--json")) == set()
    save(out / "0.png", pixels(out / "0.png"))
    resum(out)
    assert codes(uex("verify", out, "--source", photos, "--json")) == {("changed-profile", "0.png")}


@pytest.mark.parametrize("mode", ["RGBA", "PA"], ids=["rgba", "palette"])
@pytest.mark.parametrize("how", ["changed", "dropped"])
def test_changed_alpha_is_found(mode: str, how: str, tmp_path: Path, uex: Uex) -> None:
    photos = oblong(tmp_path)
    alpha = np.full((16, 24), 255, np.uint8)
    alpha[:8] = 0
    if mode == "RGBA":
        save(photos / "0.png", np.dstack([pixels(photos / "0.png"), alpha]))
    else:
        indexed = np.tile(np.arange(24, dtype=np.uint8), (16, 1))
        image = Image.frombytes("P", (24, 16), indexed.tobytes())
        image.putpalette([value for index in range(24) for value in (10 * index, 200, 255 - 10 * index)])
        image.save(photos / "0.png", transparency=0)
    out = protect(photos, uex)
    assert codes(uex("verify", out, "--source", photos, "--json")) == set()
    values = pixels(out / "0.png")
    assert values.shape[2] == 4
    if how == "changed":
        values[10, 10, 3] ^= 255
    save(out / "0.png", values if how == "changed" else values[:, :, :3])
    resum(out)
    assert codes(uex("verify", out, "--source", photos, "--json")) == {("changed-alpha", "0.png")}


def test_a_file_of_another_kind_is_found(photos: Path, release: Path, uex: Uex) -> None:
    (release / "notes.txt").write_text("the seed is 1")
    expected = {("unexpected", "notes.txt"), ("unlisted", "notes.txt")}
    assert codes(uex("verify", release, "--source", photos, "--json")) == expected
    assert codes(uex("verify", release, "--json")) == {("unlisted", "notes.txt")}


def test_a_protected_file_that_stands_in_for_another_is_found(photos: Path, release: Path, uex: Uex) -> None:
    shutil.copy(release / "cat" / "1.png", release / "cat" / "0.png")
    resum(release)
    assert codes(uex("verify", release, "--source", photos, "--json")) == {("over-bound", "cat/0.png")}


# ----------------------------------------------------------------------------------------------- leaks


def one_value(values: np.ndarray) -> np.ndarray:
    values[3, 3, 1] += 1
    return values


def one_level(values: np.ndarray) -> np.ndarray:
    return values + (np.indices(values.shape).sum(0) % 2).astype(np.uint8)


@pytest.mark.parametrize("change", [lambda values: values, one_value, one_level], ids=["exact", "one-value", "faint"])
@pytest.mark.parametrize("place", ["cat/0.png", "cat/new.png", "new.png"], ids=["in-place", "beside", "top"])
def test_a_clean_copy_is_a_leak(
    place: str, change: Callable[[np.ndarray], np.ndarray], photos: Path, release: Path, uex: Uex
) -> None:
    save(release / place, change(pixels(photos / "cat" / "0.png")))
    resum(release)
    found = codes(uex("verify", release, "--source", photos, "--json"))
    assert found == {("leak", place)} | (set() if place == "cat/0.png" else {("unexpected", place)})


def test_a_clean_copy_in_place_of_another_photo_is_a_leak(photos: Path, release: Path, uex: Uex) -> None:
    shutil.copy(photos / "dog" / "4.png", release / "cat" / "0.png")
    resum(release)
    found = codes(uex("verify", release, "--source", photos, "--json"))
    assert found == {("leak", "cat/0.png"), ("over-bound", "cat/0.png")}


def test_a_clean_copy_in_another_format_is_a_leak(photos: Path, release: Path, uex: Uex) -> None:
    save(release / "cat" / "0.bmp", pixels(photos / "cat" / "0.png"))
    resum(release)
    found = codes(uex("verify", release, "--source", photos, "--json"))
    assert found == {("leak", "cat/0.bmp"), ("unexpected", "cat/0.bmp")}


def test_a_clean_copy_with_alpha_is_a_leak(photos: Path, release: Path, uex: Uex) -> None:
    Image.open(photos / "cat" / "0.png").convert("RGBA").save(release / "cat" / "new.png")
    resum(release)
    found = codes(uex("verify", release, "--source", photos, "--json"))
    assert found == {("leak", "cat/new.png"), ("unexpected", "cat/new.png")}


def test_weak_noise_is_no_leak(photos: Path, uex: Uex, tmp_path: Path) -> None:
    assert uex("fit", photos, "--method", "random", "--eps", "1/255", "-o", "weak.safetensors").code == 0
    assert uex("apply", "weak.safetensors", photos, "-o", "weak").code == 0
    assert codes(uex("verify", "weak", "--source", photos, "--json")) == set()
    shutil.copy(photos / "cat" / "0.png", tmp_path / "weak" / "cat" / "0.png")
    resum(tmp_path / "weak")
    assert codes(uex("verify", "weak", "--source", photos, "--json")) == {("leak", "cat/0.png")}


def forge(root: Path, **facts: Any) -> None:
    """Change what a release states about itself, and its checksums with it."""
    path = root / "uex-release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    resum(root)


def test_what_a_release_states_does_not_hide_a_leak(photos: Path, release: Path, uex: Uex) -> None:
    save(release / "cat" / "0.png", one_value(pixels(photos / "cat" / "0.png")))
    forge(release, rms_levels=0.01)
    assert codes(uex("verify", release, "--source", photos, "--json")) == {("leak", "cat/0.png")}


@pytest.mark.parametrize("eps", [float("nan"), float("inf"), 1e9, -1.0])
def test_what_a_release_states_is_no_bound_if_it_bounds_nothing(
    eps: float, photos: Path, release: Path, uex: Uex
) -> None:
    save(release / "cat" / "0.png", 255 - pixels(photos / "cat" / "0.png"))
    forge(release, eps=eps, eps_text=None)
    assert uex("verify", release, "--source", photos).code != 0


def test_a_release_that_is_clean_throughout_is_found(photos: Path, tmp_path: Path, uex: Uex) -> None:
    shutil.copytree(photos, tmp_path / "out")
    found = codes(uex("verify", "out", "--source", photos, "--eps", "8/255", "--json"))
    assert {path for code, path in found if code == "leak"} == {
        path.relative_to(photos).as_posix() for path in photos.rglob("*.png")
    }


def test_a_stray_image_is_named_although_a_skipped_source_is_broken(
    photos: Path, noise: Path, tmp_path: Path, uex: Uex
) -> None:
    (photos / "cat" / "broken.png").write_bytes(b"")
    assert uex("apply", noise, photos, "-o", "out", "--on-error", "skip").code == 0
    shutil.copy(photos / "dog" / "2.png", tmp_path / "out" / "dog" / "copy.png")
    resum(tmp_path / "out")
    ran = uex("verify", "out", "--source", photos, "--allow-missing", "--json")
    assert codes(ran) == {("leak", "dog/copy.png"), ("unexpected", "dog/copy.png")}


# ------------------------------------------------------------------------------------------ integrity


def test_without_source_integrity_is_checked_only(release: Path, uex: Uex) -> None:
    ran = uex("verify", release, "--json")
    assert codes(ran) == set()
    assert ran.json["sources"] is ran.json["eps"] is ran.json["psnr"] is None
    for what in ("bound", "coverage"):
        assert "not checked" in ran.json["checks"][what]


INTACT: dict[str, tuple[Callable[[Path], Any], Codes]] = {
    "changed": (lambda root: see_through(root / "cat" / "3.png"), {("checksum", "cat/3.png")}),
    "gone": (lambda root: (root / "cat" / "3.png").unlink(), {("missing", "cat/3.png")}),
    "added": (lambda root: save(root / "a.png", picture(3)), {("unlisted", "a.png")}),
    "cut": (lambda root: cut(root / "cat" / "3.png"), {("checksum", "cat/3.png"), ("unreadable", "cat/3.png")}),
    "facts-changed": (
        lambda root: (root / "uex-release.json").write_text((root / "uex-release.json").read_text() + "\n"),
        {("checksum", "uex-release.json")},
    ),
    "facts-gone": (lambda root: (root / "uex-release.json").unlink(), {("missing", "uex-release.json")}),
}


@pytest.mark.parametrize(("spoil", "expected"), INTACT.values(), ids=INTACT.keys())
def test_integrity_without_source(spoil: Callable[[Path], Any], expected: Codes, release: Path, uex: Uex) -> None:
    spoil(release)
    assert codes(uex("verify", release, "--json")) == expected


def test_fast_looks_at_names_only(photos: Path, release: Path, uex: Uex) -> None:
    cut(release / "cat" / "3.png")
    shutil.copy(photos / "cat" / "4.png", release / "cat" / "4.png")
    ran = uex("verify", release, "--source", photos, "--fast", "--json")
    assert codes(ran) == set()
    assert ran.json["decoded"] == 0
    for what in ("bound", "checksums"):
        assert "--fast" in ran.json["checks"][what]
    (release / "cat" / "0.png").unlink()
    save(release / "extra.png", picture(3))
    assert codes(uex("verify", release, "--source", photos, "--fast", "--json")) >= {
        ("missing", "cat/0.png"),
        ("unlisted", "extra.png"),
        ("unexpected", "extra.png"),
    }
    assert codes(uex("verify", release, "--fast", "--json")) == {("missing", "cat/0.png"), ("unlisted", "extra.png")}


def test_allow_missing_accepts_exactly_what_apply_listed(photos: Path, noise: Path, tmp_path: Path, uex: Uex) -> None:
    (photos / "cat" / "broken.png").write_bytes(b"")
    assert uex("apply", noise, photos, "-o", "out", "--on-error", "skip").code == 0
    words = ("verify", "out", "--source", photos, "--json")
    assert codes(uex(*words)) == {("missing", "cat/broken.png")}
    assert codes(uex(*words, "--allow-missing")) == set()
    (tmp_path / "out" / "dog" / "1.png").unlink()
    assert codes(uex(*words, "--allow-missing")) == {("missing", "dog/1.png")}


# ------------------------------------------------------------------------------------ made elsewhere


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_release_made_elsewhere(suffix: str, photos: Path, tmp_path: Path, uex: Uex) -> None:
    out = elsewhere(photos, tmp_path / "out", suffix=suffix)
    ran = uex("verify", out, "--source", photos, "--eps", "8/255", "--json")
    assert codes(ran) == set()
    assert (ran.json["decoded"], ran.json["most_levels"]) == (16, 8)
    assert "no SHA256SUMS" in ran.json["checks"]["checksums"]
    assert len(codes(uex("verify", out, "--source", photos, "--eps", "7/255", "--json"))) == 16


def test_the_bound_must_be_known(photos: Path, tmp_path: Path, uex: Uex) -> None:
    ran = uex("verify", elsewhere(photos, tmp_path / "out"), "--source", photos)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: ")
    assert "--eps 8/255" in ran.err


def test_eps_on_the_command_line_goes_first(photos: Path, release: Path, uex: Uex) -> None:
    found = codes(uex("verify", release, "--source", photos, "--eps", "4/255", "--json"))
    assert len(found) == 16
    assert {code for code, _ in found} == {"over-bound"}


@pytest.mark.parametrize(("eps", "within"), [("6.0", False), ("7.0", True)])
def test_another_norm_on_the_command_line(eps: str, within: bool, photos: Path, tmp_path: Path, uex: Uex) -> None:
    out = elsewhere(photos, tmp_path / "out", levels=60)
    ran = uex("verify", out, "--source", photos, "--norm", "l2", "--eps", eps, "--json")
    length = 60 / 255 * np.sqrt(3 * 16 * 16)
    assert 6 < length < 7
    assert (codes(ran) == set()) is within


# -------------------------------------------------------------------------------- cannot be verified


def refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, ran.err
    assert ran.out == ""
    assert ran.err.startswith("Error: ")
    assert len(ran.err.splitlines()) == 1
    for word in words:
        assert word in ran.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere",), 2, "no such folder"),
        (("photos/cat/0.png",), 2, "no such folder"),
        (("release", "--source", "nowhere"), 2, "no such folder"),
        (("release", "--source", "release"), 2, "--source lies inside"),
        (("release", "--source", "photos", "--eps", "8"), 2, "8/255"),
        (("release", "--source", "photos", "--norm", "lnf"), 2, "Did you mean 'linf'?"),
        (("release", "--jobs", "-1"), 2, "--jobs"),
        (("empty",), 3, "no image"),
        (("release", "--source", "empty"), 3, "no image"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_verified(
    words: tuple[str, ...], code: int, said: str, release: Path, tmp_path: Path, uex: Uex
) -> None:
    (tmp_path / "empty").mkdir()
    refused(uex("verify", *words), code, said)


def test_an_empty_release_cannot_be_verified_against_photos_either(photos: Path, tmp_path: Path, uex: Uex) -> None:
    (tmp_path / "empty").mkdir()
    refused(uex("verify", "empty", "--source", photos, "--eps", "8/255"), 3, "no image")


def test_a_list_of_checksums_that_was_taken_away(photos: Path, release: Path, uex: Uex) -> None:
    (release / "SHA256SUMS").unlink()
    refused(uex("verify", release), 3, "SHA256SUMS", "--source")
    assert codes(uex("verify", release, "--source", photos, "--json")) == {("checksum", "SHA256SUMS")}


def test_an_unreadable_source_is_named(photos: Path, release: Path, uex: Uex) -> None:
    (photos / "cat" / "0.png").write_bytes(b"")
    refused(uex("verify", release, "--source", photos), 3, "cat/0.png")


@pytest.mark.parametrize(
    "line",
    [
        "no checksum at all",
        "0" * 63 + "  cat/0.png",
        "g" * 64 + "  cat/0.png",
        "0" * 64 + " cat/0.png",
        "0" * 64 + "  ",
        "0" * 64 + "  ../photos/cat/0.png",
        "0" * 64 + "  cat/../../photos/cat/0.png",
        "0" * 64 + "  /etc/passwd",
    ],
    ids=["words", "short", "no-hex", "one-space", "no-name", "above", "up-and-above", "absolute"],
)
def test_damaged_checksums(line: str, release: Path, uex: Uex) -> None:
    sums = release / "SHA256SUMS"
    sums.write_text(sums.read_text() + line + "\n")
    refused(uex("verify", release), 3, "SHA256SUMS: line 18")


def test_checksums_that_are_no_text(release: Path, uex: Uex) -> None:
    (release / "SHA256SUMS").write_bytes(bytes(range(128, 256)))
    refused(uex("verify", release), 3, "SHA256SUMS")


FACTS: dict[str, Any] = {
    "no-json": "{",
    "no-utf-8": "\udcff",
    "a-list": [],
    "other-schema": {"schema": "uex.release/9"},
    "eps-no-number": {"eps": "a lot", "eps_text": None},
    "eps-text-no-number": {"eps_text": "a lot"},
    "eps-nan": {"eps": float("nan"), "eps_text": None},
    "suffix-a-number": {"suffix": 5},
    "suffix-no-suffix": {"suffix": "png/"},
    "size-text": {"size": "large", "norm": {"name": "l2", "options": {}}, "eps_text": "1.0"},
    "skipped-null": {"skipped": None},
    "skipped-no-path": {"skipped": [{}]},
    "changes-null": {"mode_changes": None},
    "changes-no-path": {"mode_changes": [{}]},
    "norm-unknown": {"norm": {"name": "exotic", "options": {}}},
    "norm-a-number": {"norm": {"name": 5, "options": {}}},
    "norm-options": {"norm": {"name": "linf", "options": {"radius": 3}}},
    "norm-options-list": {"norm": {"name": "linf", "options": [1]}},
}


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS.keys())
def test_damaged_facts_never_end_in_a_traceback(facts: Any, photos: Path, release: Path, uex: Uex) -> None:
    path = release / "uex-release.json"
    if isinstance(facts, dict):
        facts = json.dumps({**json.loads(path.read_text()), **facts})
    elif isinstance(facts, list):
        facts = json.dumps(facts)
    path.write_bytes(facts.encode("utf-8", "surrogateescape"))
    ran = uex("verify", release, "--source", photos, "--allow-missing")
    if ran.code != 1:
        refused(ran, 2 if ran.code == 2 else 3)
    else:
        assert "uex-release.json" in ran.out


def test_odd_names_are_shown_on_one_line(photos: Path, release: Path, uex: Uex) -> None:
    odd = os.fsdecode(b"caf\xe9\nOK.png")
    save(release / odd, picture(3))
    ran = uex("verify", release, "--source", photos)
    assert ran.code == 1
    assert [line for line in ran.out.splitlines() if "caf" in line and "OK.png" in line]
    assert ("unlisted", odd) in codes(uex("verify", release, "--source", photos, "--json"))


def test_a_link_to_a_folder_is_unexpected(photos: Path, release: Path, uex: Callable[..., Ran]) -> None:
    (release / "extra").symlink_to(photos)
    ran = uex("verify", release, "--source", photos, "--json")
    assert ran.code == 1
    assert "extra" in {finding["path"] for finding in ran.json["findings"]}


def test_another_norm_needs_its_own_bound(photos: Path, release: Path, uex: Callable[..., Ran]) -> None:
    assert uex("verify", release, "--source", photos, "--norm", "l2").code == 2
    assert uex("verify", release, "--source", photos, "--norm", "l2", "--eps", "1").code == 0


def test_a_bound_that_would_take_for_ever_is_refused_at_once(
    photos: Path, release: Path, uex: Callable[..., Ran]
) -> None:
    assert uex("verify", release, "--source", photos, "--eps", "1e99999999").code == 2


# ------------------------------------------------------------------------------------------------- in depth


def test_figures_of_the_bound_are_those_of_the_pixels(photos: Path, release: Path, uex: Uex) -> None:
    change = np.concatenate(
        [
            np.abs(pixels(release / key).astype(int) - pixels(photos / key)).ravel()
            for key in (path.relative_to(photos) for path in sorted(photos.rglob("*.png")))
        ]
    )
    found = uex("verify", release, "--source", photos, "--json").json
    assert found["most_levels"] == change.max() == 8
    assert found["p999_levels"] == np.sort(change)[int(np.ceil(0.999 * len(change))) - 1]
    assert found["values_over"] == 0
    tight = uex("verify", release, "--source", photos, "--eps", "5/255", "--json")
    assert tight.code == 1 and tight.json["values_over"] == int((change > 5).sum())


def test_the_fitted_noise_is_looked_for(photos: Path, noise: Path, release: Path, uex: Uex) -> None:
    words = ("verify", release, "--source", photos, "--noise", noise)
    ran = uex(*words, "--json")
    assert ran.code == 0 and ran.json["present"] == {"min": pytest.approx(1), "median": pytest.approx(1)}
    assert "agrees with the fitted one by 1.00" in uex(*words).out
    source, target = pixels(photos / "cat/0.png").astype(int), release / "cat/0.png"
    change = pixels(target) - source
    save(target, (source - change).clip(0, 255).astype(np.uint8))
    save(release / "cat/1.png", pixels(photos / "cat/1.png") // 2 + pixels(release / "cat/1.png") // 2)
    ran = uex(*words, "--json")
    assert ("noise-missing", "cat/0.png") in codes(ran) and ("noise-missing", "cat/1.png") not in codes(ran)
    assert ran.json["present"]["min"] < -0.9
    assert uex("verify", release, "--noise", noise).code == 2
    assert uex("verify", release, "--source", photos, "--noise", "nothing").code == 2


def test_noise_that_jpeg_took_away_is_missing(tmp_path: Path, uex: Uex) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        Image.fromarray(picture(index, 96)).save(photos / f"{index}.png")
    assert uex("fit", photos, "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "out").code == 0
    left = uex("verify", "out", "--source", photos, "--json").json
    assert left["survived"] == 3
    kept = left["survival"]
    assert kept["JPEG 95"] < 1
    assert kept["JPEG 95"] > kept["JPEG 75"] > kept["JPEG 50"]
    assert kept["JPEG 50"] > 0
    half = kept["half size and back"]
    assert half > 0 and half < 0.9
    for path in Path("out").glob("*.png"):
        with Image.open(path) as image:
            image.save(tmp_path / "x.jpg", quality=30)
        with Image.open(tmp_path / "x.jpg") as image:
            image.save(path)
    ran = uex("verify", "out", "--source", photos, "--noise", "n", "--eps", "200/255", "--json")
    assert {code for code, _ in codes(ran)} == {"noise-missing", "checksum"}


def hidden_exif(kind: str) -> Image.Exif:
    exif = Image.Exif()
    if kind == "gps":
        exif.get_ifd(0x8825)[1] = "N"
    elif kind == "serial":
        exif.get_ifd(0x8769)[0xA431] = "123456"
    elif kind == "owner":
        exif.get_ifd(0x8769)[0xA430] = "somebody"
    elif kind == "text":
        exif[0x010E] = "a cat"
    return exif


@pytest.mark.parametrize("source", [True, False], ids=["with-source", "without"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gps", "GPS"), ("serial", "serial"), ("owner", "owner"), ("text", None), ("xmp", "thumbnail"),
        ("behind", "after"), ("second", "more than one"),
    ],
)  # fmt: skip
def test_metadata_that_tells_too_much_is_found(
    kind: str, said: str | None, source: bool, photos: Path, release: Path, uex: Uex
) -> None:
    target = release / "cat/0.png"
    with Image.open(target) as image:
        image.load()
        extra: dict[str, Any] = {"exif": hidden_exif(kind).tobytes()}
        if kind == "xmp":
            from PIL.PngImagePlugin import PngInfo

            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta><xmp:Thumbnails/></x:xmpmeta>")
            extra = {"pnginfo": info}
        if kind == "second":
            image.save(target, save_all=True, append_images=[image.rotate(90)])
        else:
            image.save(target, **extra)
    if kind == "behind":
        target.write_bytes(target.read_bytes() + (photos / "cat/0.png").read_bytes())
    ran = uex("verify", release, *(("--source", photos) if source else ()), "--json")
    told = [item["found"] for item in ran.json["findings"] if item["code"] == "metadata"]
    if kind == "second":
        assert "unreadable" in {code for code, _ in codes(ran)}
    else:
        assert any(said in one for one in told) if said else not told


def test_a_line_for_each_finding(photos: Path, release: Path, uex: Uex) -> None:
    (release / "cat/0.png").unlink()
    ran = uex("verify", release, "--source", photos, "--jsonl")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    whole = uex("verify", release, "--source", photos, "--json").json
    assert ran.code == 1 and {line["schema"] for line in lines} == {"uex.verify-lines/1"}
    assert [line["finding"] for line in lines[:-1]] == whole["findings"]
    left = {"schema", "findings", "memory"}  # what this process takes already counts, and grows
    assert {**lines[-1]["result"], "memory": 0} == {**{k: v for k, v in whole.items() if k not in left}, "memory": 0}


def test_a_junit_report(photos: Path, release: Path, uex: Uex, tmp_path: Path) -> None:
    from xml.etree import ElementTree

    assert uex("verify", release, "--source", photos, "--junit", "good.xml").code == 0
    suite = ElementTree.parse("good.xml").getroot()[0]
    assert suite.get("failures") == "0" and int(suite.get("tests", "0")) == len(suite) >= 6
    (release / "cat/0.png").write_bytes((photos / "cat/0.png").read_bytes())
    shutil.copy(photos / "dog/0.png", release / "dog/a\x07b\udcff.png")
    ran = uex("verify", release, "--source", photos, "--junit", "bad.xml")
    assert ran.code == 1
    suite = ElementTree.parse("bad.xml").getroot()[0]
    failed = {case.get("name"): case[0].text for case in suite if len(case) and case[0].tag == "failure"}
    assert [case.get("name") for case in suite if len(case) and case[0].tag == "skipped"] == ["noise"]
    assert set(failed) == {"leaks", "integrity", "coverage"} and "cat/0.png" in (failed["leaks"] or "")
    for path in ("bad.xml", release / "r.xml"):
        assert uex("verify", release, "--source", photos, "--junit", path).code == 2
    assert uex("verify", release, "--source", photos, "--junit", "bad.xml", "--force").code == 1
