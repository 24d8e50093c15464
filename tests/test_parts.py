"""Parts of a release: empty ones, and what a stranger's part cannot reach."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from PIL import Image

Uex = Callable[..., Ran]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards(noise: Path, photos: Path, uex: Uex, count: int, *words: object) -> list[Ran]:
    ran = [
        uex("apply", noise, photos, "-o", "out", "--shard", f"{number}/{count}", *words)
        for number in range(1, count + 1)
    ]
    assert all(one.code == 0 for one in ran), [one.err for one in ran]
    return ran


def change(path: Path, by: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    by(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("words", [(), ("--limit", 3)])
def test_shards_without_an_image_are_parts_all_the_same(
    words: tuple[object, ...], photos: Path, noise: Path, uex: Uex
) -> None:
    shutil.rmtree(photos / "dog")
    ran = shards(noise, photos, uex, 12, *words)
    empty = [number for number, one in enumerate(ran, 1) if "no image is in this shard" in one.out]
    assert len(empty) >= 4
    for more in ((), ("--json",), ("--dry-run",), ("--near",)):
        again = uex("apply", noise, photos, "-o", "out", "--shard", f"{empty[0]}/12", *words, *more)
        assert again.code == 0 and "already" in again.out
    assert uex("merge", "out").code == 0
    assert uex("apply", noise, photos, "-o", "whole", *words).code == 0
    assert tree(Path("out")) == tree(Path("whole"))


def test_more_shards_than_images_are_merged(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "-o", "n").code == 0
    shards(Path("n"), photos, uex, 17)
    ran = uex("merge", "out", "--json")
    assert ran.code == 0 and (ran.json["parts"], ran.json["images"]) == (17, 16)


@pytest.mark.parametrize("place", ["beside", "elsewhere", "relative"])
def test_a_part_cannot_say_where_the_receipt_goes(place: str, photos: Path, noise: Path, uex: Uex) -> None:
    shards(noise, photos, uex, 1)
    victim = Path("other.noise.receipt.json" if place == "beside" else "secret/other.noise.receipt.json")
    victim.parent.mkdir(exist_ok=True)
    victim.write_text('{"schema": "uex.receipt/1", "releases": {"mine": 1}}')
    said = str(victim) if place == "relative" else str(victim.resolve())
    assert "receipt" not in json.loads(Path("out.part-1-of-1/uex-part.json").read_text())["header"]
    change(Path("out.part-1-of-1/uex-part.json"), lambda document: document["header"].update(receipt=said))
    before = victim.read_bytes()
    assert uex("merge", "out").code == 0  # as an older uex wrote it: not looked at
    assert victim.read_bytes() == before
    assert str(Path("out").resolve()) in json.loads(Path("photos.noise.receipt.json").read_text())["releases"]


def test_without_the_noise_the_receipt_has_no_place(photos: Path, noise: Path, uex: Uex) -> None:
    shards(noise, photos, uex, 1)
    Path("away").mkdir()
    noise.rename("away/n")
    ran = uex("merge", "out")
    assert ran.code == 2 and "Say --receipt FILE, beside the noise" in ran.err
    assert not list(Path().rglob("*.receipt.json")) and not Path("out").exists()
    ran = uex("merge", "out", "--receipt", "nowhere/n.noise.receipt.json")
    assert ran.code == 2 and "no such folder" in ran.err
    assert uex("merge", "out", "--receipt", "away/n.noise.receipt.json").code == 0
    assert Path("away/n.noise.receipt.json").exists()


def test_a_noise_of_any_name_is_found(photos: Path, noise: Path, uex: Uex) -> None:
    noise.rename("odd name")
    shards(Path("odd name"), photos, uex, 1)
    shutil.copy("odd name", "another.noise.safetensors")
    Path("another.noise.safetensors").write_bytes(Path("odd name").read_bytes() + b"x")
    assert uex("merge", "out").code == 0
    assert Path("odd name.noise.receipt.json").exists() and not Path("another.noise.receipt.json").exists()


@pytest.mark.parametrize(
    "name",
    [".uex-job.json", "SHA256SUMS", "uex-release.json", "croissant.json", ".uex-journal.jsonl", "cat/1.png", "x.png"],
)
def test_a_file_of_a_part_is_called_as_apply_calls_it(name: str, photos: Path, noise: Path, uex: Uex) -> None:
    shards(noise, photos, uex, 1)
    folder = Path("out.part-1-of-1")
    if not (folder / name).exists():
        shutil.copy(folder / "cat" / "0.png", folder / name)
    change(folder / "uex-part.json", lambda document: document["items"][0]["written"].update(name=name))
    before = tree(Path())
    ran = uex("merge", "out")
    assert ran.code == 3 and "is not the file that was written" in ran.err
    assert tree(Path()) == before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda document: document["header"]["facts"].update(suffix="/../../x"), "does not belong there"),
        (lambda document: document["header"]["facts"].update(suffix=".exe"), "are damaged"),
        (lambda document: document["items"][0]["written"].update(key="../../x.png", name="../../x.png"), "are damaged"),
        (
            lambda document: document["items"][0]["written"].update(key=document["items"][1]["written"]["key"]),
            "are damaged",
        ),
    ],
    ids=["a path as a suffix", "another suffix", "a key that leads out", "a key twice"],
)
def test_a_part_that_says_what_no_apply_says_is_damaged(
    spoil: Callable[[Any], None], words: str, photos: Path, noise: Path, uex: Uex
) -> None:
    shards(noise, photos, uex, 1)
    change(Path("out.part-1-of-1/uex-part.json"), spoil)
    before = tree(Path())
    ran = uex("merge", "out")
    assert ran.code == 3 and words in ran.err
    assert tree(Path()) == before


def test_an_empty_part_beside_its_release_goes(release: Path, uex: Uex) -> None:
    Path("release.part-2-of-2").mkdir()
    ran = uex("merge", release)
    assert ran.code == 2 and "The release itself is there" in ran.err
    assert not Path("release.part-2-of-2").exists()


def test_a_link_in_a_part_is_not_followed(photos: Path, noise: Path, uex: Uex) -> None:
    shards(noise, photos, uex, 1)
    cat = Path("out.part-1-of-1/cat").resolve()
    shutil.copytree(cat, "private")
    shutil.rmtree(cat)
    cat.symlink_to(Path("private").resolve())
    ran = uex("merge", "out")
    assert ran.code == 3 and not Path("out").exists() and len(list(Path("private").iterdir())) == 8
    with Image.open("private/0.png") as image:
        assert image.size == (16, 16)
