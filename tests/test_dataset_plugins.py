"""Tar shards, parquet and `uex convert`: what goes in comes out, and nothing hostile gets through."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran
from PIL import Image

from uexcli import registry
from uexcli.errors import UexError, UsageError
from uexcli.io.images import photo_files
from uexcli.io.pool import WORTH_IT, parallel
from uexcli.io.release import layout
from uexcli.io.sources import source_of
from uexcli.plugin import Dataset, Sample, is_safe, split_of

PYARROW = "pyarrow is not installed: pip install 'uexcli[huggingface]'"
FORMS = ["webdataset", "huggingface"]
OWN = {layout.SUMS, layout.COPIED}


def needs(form: str) -> None:
    """Skip where the form's package is missing."""
    if form == "huggingface":
        pytest.importorskip("pyarrow", reason=PYARROW)


def dataset(name: str) -> Dataset:
    made = source_of(registry.load(), f"{name}:x").dataset
    assert made.name == name
    return made


def listed(uri: str, **options: str) -> dict[str, Sample]:
    found = source_of(registry.load(), uri).dataset.read(uri, **options)
    assert [sample.key for sample in found] == sorted(sample.key for sample in found)
    return {sample.key: sample for sample in found}


def files(root: Path) -> dict[str, bytes]:
    """The files of a folder, but for what `uex convert` adds."""
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name not in OWN}


def png(value: int = 7, side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """Write a tar; a member may be a header, for what is no plain file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, data in members.items():
            if isinstance(data, tarfile.TarInfo):
                data.name = name
                made.addfile(data)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
    return path


def special(kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, linkname
    return info


@pytest.fixture
def mixed(photos: Path) -> Path:
    """The class folder with what is hard to keep: formats, dots, one stem twice, EXIF, odd letters."""
    first = photos / "cat" / "0.png"
    Image.open(first).save(photos / "cat" / "0.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", quality=90)
    Image.open(first).save(photos / "dog" / "0.webp")
    for name in ("a.b.c.jpg", "a.b.JPG", "a_b.jpg", "über 1.jpeg", "x'\n.jpg", "-.png"):
        shutil.copy(photos / "cat" / "0.jpg", photos / "dog" / name)
    return photos


# -------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_comes_back_byte_for_byte(form: str, mixed: Path, uex: Callable[..., Ran]) -> None:
    needs(form)
    ran = uex("convert", mixed, f"{form}:copy", "--json", "--quiet")
    assert ran.code == 0, ran.err
    assert (ran.json["images"], ran.json["classes"], ran.json["facts"]) == (24, 2, False)
    assert uex("convert", f"{form}:copy", "back").code == 0
    assert files(Path("back")) == files(mixed)
    there = listed(str(mixed))
    for key, sample in listed(f"{form}:copy").items():
        assert sample.label == there[key].label
        assert photo_files.digest_of(sample) == photo_files.digest_of(there[key])
        assert photo_files.size_and_grey(sample) == photo_files.size_and_grey(there[key])
        assert np.array_equal(photo_files.open_photo(sample).pixels, photo_files.open_photo(there[key]).pixels)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_photos_give_the_same_files(form: str, photos: Path, uex: Callable[..., Ran]) -> None:
    needs(form)
    uex("convert", photos, f"{form}:one")
    for path in photos.rglob("*.png"):
        os.utime(path, (1, 1))
    uex("convert", photos, f"{form}:two")
    assert files(Path("one")) == files(Path("two"))
    assert (Path("one") / layout.SUMS).read_bytes() == (Path("two") / layout.SUMS).read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_noise_is_fitted_applied_and_verified_in_any_form(form: str, photos: Path, uex: Callable[..., Ran]) -> None:
    needs(form)
    uex("convert", photos, f"{form}:copy")
    uri = f"{form}:copy"
    assert uex("fit", uri, "--method", "random", "--seed", 1, "-o", "n.noise.safetensors").code == 0
    ran = uex("apply", "n.noise.safetensors", uri, "-o", "release", "--json")
    assert ran.code == 0, ran.err
    assert uex("verify", "release", "--source", uri).code == 0
    assert uex("verify", "release", "--source", photos, "--noise", "n.noise.safetensors").code == 0
    again = uex("apply", "n.noise.safetensors", photos, "-o", "release", "--json")
    assert again.json["already"], "the photos are the same in each form"


@pytest.mark.parametrize("form", FORMS)
def test_a_release_goes_there_and_back(form: str, photos: Path, release: Path, uex: Callable[..., Ran]) -> None:
    needs(form)
    ran = uex("convert", release, f"{form}:public", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["facts"]
    assert (Path("public") / "uex-release.json").read_bytes() == (release / "uex-release.json").read_bytes()
    assert uex("convert", f"{form}:public", "back").code == 0
    assert files(Path("back")) == files(release)
    assert (Path("back") / "SHA256SUMS").read_bytes() == (release / "SHA256SUMS").read_bytes()
    assert uex("verify", "back", "--source", photos).code == 0


def test_a_damaged_release_is_not_given_new_checksums(release: Path, uex: Callable[..., Ran]) -> None:
    (release / "cat" / "0.png").write_bytes(png())
    ran = uex("convert", release, "webdataset:public")
    assert ran.code == 3
    assert "is not what SHA256SUMS says" in ran.err
    assert not Path("public").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["folder", *FORMS])
def test_a_croissant_comes_along(
    form: str, photos: Path, uex: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(form)
    shutil.copy(photos / "cat/0.png", photos / "flat.png")  # beside the folders
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "--no-labels", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "out", "--usage-info", "No training, please.").code == 0
    assert uex("convert", "out", f"{form}:copy").code == 0
    document = json.loads(Path("copy/croissant.json").read_text())
    assert (document["name"], document["usageInfo"]) == ("copy", "No training, please.")
    sums = layout.read_sums(Path("copy/SHA256SUMS"))
    assert sums["croissant.json"] == hashlib.sha256(Path("copy/croissant.json").read_bytes()).hexdigest()
    listed = {item["name"]: item["sha256"] for item in document["distribution"] if item["@type"] == "cr:FileObject"}
    assert listed == {name: digest for name, digest in sums.items() if name.endswith((".png", ".tar", ".parquet"))}
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    # it unpacks by the archive's name alone, also over what another run unpacked
    unpacked = importlib.import_module("etils.epath").Path(tmp_path / "unpacked")
    monkeypatch.setattr("mlcroissant._src.operation_graph.operations.extract.EXTRACT_PATH", unpacked)
    dataset = mlcroissant.Dataset(Path("copy/croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records("records"))
    assert len(records) == 17
    first = next(record for record in records if record["records/path"].decode().endswith("cat/0.png"))
    assert np.array_equal(np.asarray(first["records/image"]), np.asarray(Image.open("out/cat/0.png")))
    assert uex("convert", f"{form}:copy", "back").code == 0
    assert files(Path("back")).keys() == files(Path("out")).keys()
    assert json.loads(Path("back/croissant.json").read_text())["usageInfo"] == "No training, please."
    assert uex("verify", "back", "--source", photos).code == 0


@pytest.mark.parametrize("what", ["[1]", "null", "{"])
def test_a_croissant_that_says_nothing_is_left_out_aloud(
    what: str, photos: Path, noise: Path, uex: Callable[..., Ran]
) -> None:
    assert uex("apply", noise, photos, "-o", "out", "--croissant").code == 0
    text = f'{{"usageInfo": {what}}}' if what != "{" else what
    Path("out/croissant.json").write_text(text)
    sums = layout.read_sums(Path("out/SHA256SUMS"))
    sums["croissant.json"] = hashlib.sha256(text.encode()).hexdigest()
    Path("out/SHA256SUMS").write_text(layout.sums_text(sums))
    ran = uex("convert", "out", "copy")
    assert ran.code == 0 and "is left out" in ran.err
    assert not Path("copy/croissant.json").exists()


@pytest.mark.parametrize("form", FORMS)
def test_images_in_memory_are_written_as_png(form: str, tmp_path: Path) -> None:
    needs(form)
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    dataset(form).write(f"{form}:{tmp_path / 'a'}", [Sample("x/1.png", "x", array=grey)])
    sample = listed(f"{form}:{tmp_path / 'a'}")["x/1.png"]
    assert sample.encoded().startswith(b"\x89PNG")
    assert np.array_equal(photo_files.open_photo(sample).pixels[:, :, 0], grey)


@pytest.mark.parametrize("form", FORMS)
def test_labels_need_not_be_folders(form: str, tmp_path: Path) -> None:
    needs(form)
    odd = {"a/1.png": "b", "a/2.png": " b\n", "3.png": "c,d", "a/4.png": "12"}
    for labels in (odd, dict.fromkeys(odd), {"a/1.png": "007", "2.png": "10"}):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        given = [Sample(key, label, data=png) for key, label in labels.items()]
        dataset(form).write(f"{form}:{root}", given)
        assert {key: sample.label for key, sample in listed(f"{form}:{root}").items()} == labels


@pytest.mark.parametrize("form", FORMS)
def test_samples_are_read_by_threads_and_forked_processes_in_any_order(form: str, tmp_path: Path) -> None:
    needs(form)
    count = max(250, WORTH_IT)
    given = [Sample(f"{n:03d}.png", str(n % 2), data=lambda n=n: png(n, 2 + n % 40)) for n in range(count)]  # type: ignore[misc]
    dataset(form).write(f"{form}:{tmp_path / 'a'}", given)
    found = list(listed(f"{form}:{tmp_path / 'a'}").values())
    wanted = [sample.encoded() for sample in given]
    assert [sample.encoded() for sample in found] == wanted  # this thread has a reader, which workers must not use
    work = [found[n * 7 % count] for n in range(count)]
    right = [wanted[n * 7 % count] for n in range(count)]
    assert list(parallel(lambda sample: sample.encoded(), work, 4, processes=True)) == right
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda sample: sample.encoded(), work)) == right


# ------------------------------------------------------------------------------------------ convert


def test_convert_refuses_what_would_be_lost(photos: Path, uex: Callable[..., Ran]) -> None:
    def refused(code: int, words: str, *command: object) -> None:
        ran = uex("convert", *command)
        assert (ran.code, words in ran.err) == (code, True), ran.err

    stranger = Path("stranger")
    stranger.mkdir()
    (stranger / "novel.txt").write_text("x")
    refused(2, "stranger exists", photos, "webdataset:stranger")
    refused(2, "was not written by uex convert", photos, "webdataset:stranger", "--force")
    refused(2, "lies in or around", photos, photos, "--force")
    refused(2, "lies in or around", photos, f"webdataset:{photos}/shards")
    refused(2, "lies in or around", photos, ".", "--force")
    refused(2, "is called like a file", photos, "webdataset:x.tar")
    refused(2, "cannot be written", photos, "mnist:x")
    refused(2, "--split val", photos, "webdataset:x", "--split", "val")
    refused(2, "no such folder", "nowhere", "webdataset:x")
    assert uex("convert", photos, "webdataset:copy").code == 0
    before = files(Path("copy"))
    refused(2, "copy exists", photos, "webdataset:copy")
    refused(2, "lies in or around", "webdataset:copy/shard-000000.tar", "copy", "--force")
    (Path("copy") / "novel.txt").write_text("x")
    refused(2, "also holds novel.txt", photos, "webdataset:copy", "--force")
    assert files(Path("copy")) == {**before, "novel.txt": b"x"}
    (Path("copy") / "novel.txt").unlink()
    (photos / "cat" / "0.png").unlink()
    assert uex("convert", photos, "webdataset:copy", "--force").code == 0
    assert len(listed("webdataset:copy")) == 15
    assert (stranger / "novel.txt").exists()
    assert not list(Path().glob("*.partial")) and not list(Path().glob("*.uex-old"))


def test_a_release_of_apply_is_not_replaced_by_a_copy(photos: Path, release: Path, uex: Callable[..., Ran]) -> None:
    before = files(release)
    assert uex("convert", photos, release, "--force").code == 2
    assert files(release) == before


def test_an_interrupted_convert_leaves_nothing(
    photos: Path, uex: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Sample) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sample, "encoded", stop)
    assert uex("convert", photos, "webdataset:copy").code == 130
    assert {path.name for path in Path().iterdir()} == {"photos"}


def test_what_a_killed_convert_left_is_made_anew(photos: Path, uex: Callable[..., Ran]) -> None:
    left = Path("copy.partial")
    left.mkdir()
    (left / layout.JOB).write_text('{"convert": "0"}')
    (left / "half.tar").write_bytes(b"half")
    assert uex("convert", photos, "webdataset:copy").code == 0
    assert not left.exists() and not Path("copy/half.tar").exists()


def test_a_convert_does_not_delete_what_an_apply_left(photos: Path, uex: Callable[..., Ran]) -> None:
    left = Path("copy.partial")
    left.mkdir()
    (left / layout.JOB).write_text('{"noise": "0"}')
    ran = uex("convert", photos, "webdataset:copy")
    assert ran.code == 2 and "of another job" in ran.err and "--force" in ran.err
    assert left.exists()
    assert uex("convert", photos, "webdataset:copy", "--force").code == 0
    assert not left.exists()


def test_what_a_convert_left_is_called_so(photos: Path, noise: Path, uex: Callable[..., Ran]) -> None:
    left = Path("out.partial")
    left.mkdir()
    (left / layout.JOB).write_text('{"convert": "0"}')
    ran = uex("apply", noise, photos, "-o", "out", "--resume")
    assert ran.code == 2 and "left from an interrupted uex convert" in ran.err
    assert uex("apply", noise, photos, "-o", "out", "--force").code == 0


def test_the_working_folder_can_be_the_target(
    photos: Path, uex: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert uex("convert", photos, "webdataset:.").code == 0
    (photos / "cat" / "0.png").unlink()
    assert uex("convert", photos, "webdataset:.").code == 2
    assert uex("convert", photos, ".", "--force").code == 0
    assert files(Path()) == files(photos)


def test_classes_that_folders_do_not_tell_come_as_a_csv(photos: Path, uex: Callable[..., Ran]) -> None:
    table = Path("labels.csv")
    keys = sorted(listed(str(photos)))
    table.write_text("path,label\n" + "".join(f"{key},{n % 3}\n" for n, key in enumerate(keys)))
    assert uex("convert", photos, "webdataset:shards", "--labels", table).code == 0
    assert {sample.label for sample in listed("webdataset:shards").values()} == {"0", "1", "2"}
    ran = uex("convert", "webdataset:shards", "plain", "--json")
    assert ran.code == 0
    assert "give --labels plain/labels.csv" in ran.err
    assert ran.json["labels"] == "plain/labels.csv"
    with Path("plain/labels.csv").open() as file:
        assert {row["path"]: row["label"] for row in csv.DictReader(file)} == {
            key: str(n % 3) for n, key in enumerate(keys)
        }
    assert uex("convert", "plain", "webdataset:again", "--labels", "plain/labels.csv").code == 0
    assert files(Path("again")) == files(Path("shards"))


def test_a_folder_takes_no_key_that_leaves_it(tmp_path: Path) -> None:
    folder = dataset("folder")
    for key in ("../x.png", "/x.png", "a/../../x.png", "a//b.png", "a\0b.png", "", "."):
        assert not is_safe(key)
        with pytest.raises(UexError, match="leads out of the folder"):
            folder.write(str(tmp_path / "out"), [Sample("ok.png", None, data=png), Sample(key, None, data=png)])
    assert not (tmp_path / "out").exists()
    twice = [Sample("a.png", None, data=png), Sample("a.png/b.png", None, data=png)]
    for given in (twice, twice[::-1]):
        with pytest.raises(UexError, match="like the folder of another"):
            folder.write(str(tmp_path / str(len(given[0].key))), given)


def test_a_release_is_not_written_among_shards(photos: Path, uex: Callable[..., Ran]) -> None:
    uex("convert", photos, "webdataset:shards")
    uri, shard = "webdataset:shards", "shards/shard-000000.tar"
    assert "a file among the photos" in uex("fit", uri, "--method", "random", "-o", shard, "--force").err
    assert uex("fit", uri, "--method", "random", "-o", "n").code == 0
    for output in ("shards", "shards/release"):
        ran = uex("apply", "n", uri, "-o", output, "--force")
        assert ran.code == 2
        assert "in or around" in ran.err


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("imagenet1k-validation-07.tar", "validation"),
        ("train/test-1.tar", "test"),
        ("mnist/test/0000.parquet", "test"),
        ("training/cat.png", "train"),
        ("Val.tar", "validation"),
        ("latest.tar", ""),
        ("evaluate/trained.tar", ""),
    ],
)
def test_names_tell_the_split(name: str, split: str) -> None:
    assert split_of(name) == split


# --------------------------------------------------------------------------------------- webdataset


def test_classes_come_from_cls_json_or_the_folder(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar",
        {
            "x/1.jpg": png(), "x/1.cls": b"3\n", "x/1.json": b'{"label": 4}',
            "x/2.jpg": png(), "x/2.json": b'{"label": "bird", "caption": "x"}', "x/2.txt": b"a bird",
            "x/3.PNG": png(), "x/3.json": b'{"cls": 5}',
            "./x/4.png": png(), "x/4.json": b'[1]',
            "x/5.png": png(), "x/5.json": b'{"label": null}',
            "6.png": png(),
            "x/7.png": png(), "x/7.mask.png": png(), "x/7.txt": b"x",
            "x/8.rgb.jpg": png(),
            "x/.9.png": png(), ".hidden/1.png": png(),
            "x/10.txt": b"no image", "x/10.cls": b"1",
        },
    )  # fmt: skip
    found = {key: sample.label for key, sample in listed(f"webdataset:{path}").items()}
    assert found == {
        "x/1.jpg": "3", "x/2.jpg": "bird", "x/3.PNG": "5", "x/4.png": "x", "x/5.png": None, "6.png": None,
        "x/7.png": "x", "x/8.rgb.jpg": "x",
    }  # fmt: skip
    assert dataset("webdataset").ignored(f"webdataset:{path}") == 5


def test_class_numbers_have_names_beside_the_shards(photos: Path, uex: Callable[..., Ran]) -> None:
    uex("convert", photos, "webdataset:shards")
    with tarfile.open("shards/shard-000000.tar") as made:
        assert made.getnames()[:4] == ["cat/0.png", "cat/0.cls", "cat/1.png", "cat/1.cls"]
        numbers = {made.extractfile(name).read() for name in made.getnames() if name.endswith(".cls")}  # type: ignore[union-attr]
        assert {(item.mtime, item.uid, item.gid, item.uname) for item in made.getmembers()} == {(0, 0, 0, "")}
    assert numbers == {b"0", b"1"}
    assert Path("shards/classnames.txt").read_text() == "cat\ndog\n"
    Path("shards/classnames.txt").write_text("bird\n")
    with pytest.raises(UexError, match="states a class 1, of 1"):
        listed("webdataset:shards")


def test_shards_hold_a_thousand_samples(tmp_path: Path) -> None:
    data = png(1, 1)
    given = [Sample(f"{n:04d}.png", None, data=lambda: data) for n in range(2001)]
    dataset("webdataset").write(f"webdataset:{tmp_path / 'a'}", given)
    shards = sorted((tmp_path / "a").iterdir())
    assert [path.name for path in shards] == [f"shard-00000{n}.tar" for n in range(3)]
    assert [len(listed(f"webdataset:{path}")) for path in shards] == [1000, 1000, 1]
    assert len(listed(f"webdataset:{tmp_path / 'a'}")) == 2001
    with pytest.raises(UsageError, match="holds shards already"):
        dataset("webdataset").write(f"webdataset:{tmp_path / 'a'}", given)


def test_shards_have_splits_where_their_names_say_so(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "val-0"):
        tar(tmp_path / "a" / f"{name}.tar", {f"{name}.png": png()})
    assert set(listed(f"webdataset:{tmp_path / 'a'}")) == {"train-0.png", "train-1.png"}
    assert set(listed(f"webdataset:{tmp_path / 'a'}", split="test")) == {"val-0.png"}
    (tmp_path / "a" / "val-0.tar").unlink()
    with pytest.raises(UexError, match="no shard here is called test"):
        listed(f"webdataset:{tmp_path / 'a'}", split="test")
    assert set(listed(f"webdataset:{tmp_path / 'a' / 'train-0.tar'}", split="test")) == {"train-0.png"}


def test_two_shards_may_not_hold_the_same_key(tmp_path: Path) -> None:
    for name in ("0", "1"):
        tar(tmp_path / f"{name}.tar", {"cat/1.png": png()})
    with pytest.raises(UexError, match=r"cat/1.png is in .*0.tar and in .*1.tar"):
        listed(f"webdataset:{tmp_path}")
    tar(tmp_path / "a" / "2.tar", {"cat/1.png": png(), "./cat/1.png": png()})
    with pytest.raises(UexError, match=r"holds cat/1.png twice"):
        listed(f"webdataset:{tmp_path / 'a'}")


HOSTILE: dict[str, tuple[dict[str, bytes | tarfile.TarInfo], str]] = {
    "absolute": ({"/etc/x.png": png()}, "leads out of it"),
    "upwards": ({"a/../../x.png": png()}, "leads out of it"),
    "upwards, hidden by a good one": ({"a.png": png(), "../x.png": png()}, "leads out of it"),
    "link": ({"x.png": special(tarfile.SYMTYPE, "/etc/passwd")}, "a link"),
    "hard link": ({"x.png": special(tarfile.LNKTYPE, "y.png")}, "a link"),
    "device": ({"x.png": special(tarfile.CHRTYPE)}, "no plain file"),
    "pipe": ({"x.png": special(tarfile.FIFOTYPE)}, "no plain file"),
    "key upwards": ({"x.png": png(), "x.json": b'{"uex_key": "../x.png"}'}, "no plain relative path"),
    "key of no image": ({"x.png": png(), "x.json": b'{"uex_key": "SHA256SUMS"}'}, "no plain relative path"),
    "key of no text": ({"x.png": png(), "x.json": b'{"uex_key": 3}'}, "no plain relative path"),
    "no JSON": ({"x.png": png(), "x.json": b"{"}, "no JSON document"),
    "deep JSON": ({"x.png": png(), "x.json": b"[" * 100_000}, "no JSON document"),
    "no text": ({"x.png": png(), "x.cls": b"\xff\xfe"}, "no UTF-8 text"),
    "long class": ({"x.png": png(), "x.cls": b"1" * 2**21}, "too many to say a class"),
    "two images": ({"x.1.png": png(), "x.2.png": png()}, "neither is its image"),
    "no image": ({"x.txt": b"x"}, "no image in these shards"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tar_is_refused(case: str, tmp_path: Path, uex: Callable[..., Ran]) -> None:
    members, words = HOSTILE[case]
    path = tar(tmp_path / "a.tar", members)
    ran = uex("fit", f"webdataset:{path}", "--method", "random")
    assert ran.code == 3, ran.err
    assert words in ran.err
    assert str(path) in ran.err


def test_a_damaged_tar_is_named(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar", {f"{n}.png": png(n) for n in range(4)}).read_bytes()
    assert len(listed(f"webdataset:{tmp_path / 'whole.tar'}")) == 4
    bad = {
        "empty": b"",
        "no tar": b"x" * 2000,
        "cut in an image": whole[:700],
        "cut in a header": whole[:1200],
        "cut between": whole[:2048],
        "cut at the end mark": whole[:4096],
        "a wrong header": whole[:1024] + b"y" * 512 + whole[1536:],
    }
    for case, data in bad.items():
        path = tmp_path / f"{case}.tar"
        path.write_bytes(data)
        with pytest.raises(UexError, match=f"{case}.tar: no intact tar file"):
            listed(f"webdataset:{path}")


def header(kind: bytes, size: int | bytes, name: bytes = b"x.png") -> bytes:
    """A tar header with any size, its checksum right."""
    length = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + length + b"00000000000\0" + b" " * 8)
    block += kind + bytes(100) + b"ustar\x0000"
    block = block.ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_huge_and_circular_headers_end_at_once(tmp_path: Path) -> None:
    negative = b"\xff" * 12  # -1, in base 256
    pax = b"19 size=-2000000000\n"
    digits = b"1" * 60_000
    cases = {
        "long name": header(tarfile.GNUTYPE_LONGNAME, 8**11 - 1),
        "pax": header(tarfile.XHDTYPE, 8**11 - 1),
        "negative": header(tarfile.XHDTYPE, negative),
        "negative file": header(tarfile.REGTYPE, negative) + bytes(1024),
        "back": header(tarfile.XHDTYPE, len(pax)) + pax.ljust(512, b"\0") + header(tarfile.REGTYPE, 0) + bytes(1024),
        "digits": header(tarfile.XHDTYPE, len(digits)) + digits.ljust(60_416, b"\0") + bytes(1024),
        "chain": header(tarfile.XHDTYPE, 0) * 5000 + bytes(1024),
        "image": header(tarfile.REGTYPE, 8**11 - 1) + bytes(1024),
    }
    for case, data in cases.items():
        path = tmp_path / f"{case}.tar"
        path.write_bytes(data)
        with pytest.raises(UexError, match=rf"{case}.tar: no intact tar file"):
            listed(f"webdataset:{path}")
    sparse = tmp_path / "sparse.tar"
    sparse.write_bytes(header(tarfile.REGTYPE, 2**31))
    os.truncate(sparse, 2**31 + 4096)
    with pytest.raises(UexError, match=r"sparse.tar: x.png has 2,147,483,648 bytes"):
        listed(f"webdataset:{sparse}")


def test_a_shard_that_became_shorter_is_told_of(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"x.png": png()})
    sample = listed(f"webdataset:{path}")["x.png"]
    os.truncate(path, 520)
    with pytest.raises(UexError, match=r"x.png: .*a.tar has become shorter"):
        photo_files.open_photo(sample)
    path.unlink()
    with pytest.raises(UexError, match=r"x.png: cannot be read \(No such file"):
        photo_files.digest_of(sample)


# -------------------------------------------------------------------------------------- huggingface


def parquet(path: Path, rows: dict[str, list[Any]], features: dict[str, Any] | None = None, **options: Any) -> Path:
    """Write a parquet file as `datasets` does."""
    pyarrow = pytest.importorskip("pyarrow", reason=PYARROW)
    from pyarrow import parquet as files

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(rows)
    if features is not None:
        told = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": told})
    files.write_table(table, path, **options)
    return path


def image(path: str | None, data: bytes | None = None) -> dict[str, Any]:
    return {"bytes": png() if data is None else data, "path": path}


NAMED = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def test_the_hub_files_are_read_by_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for part in range(2):
            rows = {"img": [image(None, png(n)) for n in range(3)], "label": [0, 1, -1]}
            parquet(tmp_path / "data" / f"{split}-0000{part}-of-00002.parquet", rows, NAMED, row_group_size=2)
    uri = f"huggingface:{tmp_path}"
    found = listed(uri)
    assert len(found) == 6
    assert list(found)[:2] == [f"data/train-00000-of-00002/row-00000{n}.png" for n in range(2)]
    assert [sample.label for sample in found.values()] == ["cat", "dog", None] * 2
    assert [photo_files.open_photo(sample).pixels[0, 0, 0] for sample in found.values()] == [0, 1, 2] * 2
    assert all("/test-" in key for key in listed(uri, split="test"))
    file = tmp_path / "data" / "test-00000-of-00002.parquet"
    assert next(iter(listed(f"huggingface:{file}"))) == "test-00000-of-00002/row-000000.png"
    (tmp_path / "b").mkdir()
    shutil.move(file, tmp_path / "b" / "x.parquet")
    assert len(listed(f"huggingface:{tmp_path / 'b'}")) == 3
    with pytest.raises(UexError, match="no file here is called test"):
        listed(f"huggingface:{tmp_path / 'b'}", split="test")


def test_paths_are_keys_where_they_are_safe_and_unique(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (4, 4)).save(jpeg, "JPEG")
    stated = ["a/1.png", "../x.png", "/etc/x.jpg", "twice.png", "twice.png", ".hidden.png", "novel.txt", None]
    rows = {"image": [image(path, jpeg.getvalue()) for path in stated], "label": ["x", "y", *"xxxxx", None]}
    path = parquet(tmp_path / "f.parquet", rows)
    found = listed(f"huggingface:{path}")
    assert set(found) == {
        "a/1.png", "f/row-000001.png", "f/row-000002.jpg", "f/row-000003.png", "f/row-000004.png", "f/row-000005.png",
        "f/row-000006.jpg", "f/row-000007.jpg",
    }  # fmt: skip
    assert found["f/row-000001.png"].label == "y"
    assert found["f/row-000007.jpg"].label is None


def test_a_path_without_bytes_is_not_followed(tmp_path: Path, photos: Path, uex: Callable[..., Ran]) -> None:
    secret = photos / "cat" / "0.png"
    pyarrow = pytest.importorskip("pyarrow", reason=PYARROW)
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": None, "path": str(secret)}, {"bytes": png(), "path": "1.png"}, None]
    parquet(tmp_path / "f.parquet", {"image": pyarrow.array(rows, kind), "label": [0, 1, 0]})
    ran = uex("fit", f"huggingface:{tmp_path}/f.parquet", "--method", "random")
    assert ran.code == 3
    assert "a path to elsewhere is not followed" in ran.err
    ran = uex("convert", f"huggingface:{tmp_path}/f.parquet", "copy")
    assert ran.code == 3
    assert ran.err.count("row-000000.png") == 1
    assert not Path("copy").exists()


def test_damaged_and_foreign_parquets_are_named(tmp_path: Path) -> None:
    rows = {"image": [image(f"{n}.png", png(n, 30)) for n in range(40)], "label": [n % 2 for n in range(40)]}
    whole = parquet(tmp_path / "whole.parquet", rows, row_group_size=10, write_page_checksum=True).read_bytes()
    for case, data in {"empty": b"", "text": b"x" * 100, "cut": whole[:-40], "head": b"PAR1" + whole[200:]}.items():
        path = tmp_path / f"{case}.parquet"
        path.write_bytes(data)
        with pytest.raises(UexError, match=f"{case}.parquet: no intact parquet file"):
            for sample in listed(f"huggingface:{path}").values():
                sample.encoded()
    table = parquet(tmp_path / "table.parquet", {"a": [1], "image": ["x.png"]})
    with pytest.raises(UexError, match="no column of images"):
        listed(f"huggingface:{table}")
    strange = parquet(tmp_path / "strange.parquet", {"image": [image("1.png")], "label": [7]}, NAMED)
    with pytest.raises(UexError, match="states a class 7, of 2"):
        listed(f"huggingface:{strange}")
    odd = parquet(tmp_path / "odd.parquet", {"image": [image("1.png")], "label": [[1]]}, {"label": {"names": 3}})
    assert listed(f"huggingface:{odd}")["1.png"].label is None
    with pytest.raises(UsageError, match="no parquet file"):
        (tmp_path / "x.zip").write_bytes(b"x")
        listed(f"huggingface:{tmp_path / 'x.zip'}")


def test_every_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    given = [Sample(f"{n}.png", str(n), data=lambda n=n: png(n)) for n in range(3)]  # type: ignore[misc]
    needs("huggingface")
    dataset("huggingface").write(f"huggingface:{tmp_path / 'a'}", given)
    path = next((tmp_path / "a").iterdir())
    whole = path.read_bytes()
    for position in range(0, len(whole), 17):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            for sample in listed(f"huggingface:{path}").values():
                sample.encoded()
        except UexError as error:
            assert "\n" not in str(error)


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    for value in (1, 2):
        (tmp_path / "f.parquet").unlink(missing_ok=True)
        path = parquet(tmp_path / "f.parquet", {"image": [image("1.png", png(value))]})
        assert listed(f"huggingface:{path}")["1.png"].encoded() == png(value)


def test_what_is_written_is_what_datasets_wants(photos: Path, uex: Callable[..., Ran]) -> None:
    needs("huggingface")
    from pyarrow import parquet as reader

    assert uex("convert", photos, "huggingface:out").code == 0
    table = reader.read_table("out/train-00000-of-00001.parquet")
    told = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert told == {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    first = table.to_pylist()[0]
    assert first == {"image": {"bytes": (photos / "cat" / "0.png").read_bytes(), "path": "cat/0.png"}, "label": 0}


def test_without_pyarrow_the_way_out_is_told(
    photos: Path, uex: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ran = uex("convert", photos, "huggingface:out")
    assert ran.code == 3
    assert "Run: pip install 'uexcli[huggingface]'" in ran.err
    Path("f.parquet").write_bytes(b"x")
    assert "Run: pip install 'uexcli[huggingface]'" in uex("fit", "huggingface:f.parquet", "--method", "random").err


def test_an_imagefolder_has_splits_and_classes(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(photos, root / "train")
    shutil.copytree(photos / "cat", root / "validation" / "cat")
    (root / "README.md").write_text("x")
    uri = f"huggingface:{root}"
    found = listed(uri)
    assert {key: sample.label for key, sample in found.items()} == {
        key: sample.label for key, sample in listed(str(photos)).items()
    }
    assert len(listed(uri, split="test")) == 8
    assert len(listed(f"huggingface:{photos}")) == 16
    with pytest.raises(UexError, match="no folder here is called test"):
        listed(f"huggingface:{photos}", split="test")
    (root / "train" / "notes.txt").write_text("x")
    assert dataset("huggingface").ignored(uri) == 2  # README.md, too


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_an_imagefolder_has_metadata(name: str, photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(photos / "cat", root / "train")
    names = sorted(path.name for path in (root / "train").iterdir())

    def write(rows: list[tuple[str, Any]]) -> None:
        lines = [json.dumps({"file_name": file, "label": label}) for file, label in rows]
        text = "file_name,label\n" + "".join(f"{file},{label}\n" for file, label in rows)
        (root / "train" / name).write_text(text if name.endswith("csv") else "\n".join(lines) + "\n")

    uri = f"huggingface:{root}"
    write([(file, n % 3) for n, file in enumerate(names)])
    assert [sample.label for sample in listed(uri).values()] == [str(n % 3) for n in range(8)]
    assert dataset("huggingface").ignored(uri) == 0
    for bad, words in (("../../photos/dog/0.png", "leads out of the folder"), ("nine.png", "nine.png is not there")):
        write([(bad, 1)])
        with pytest.raises(UexError, match=words):
            listed(uri)
    (root / "train" / name).write_bytes(b"\xff{")
    with pytest.raises(UexError, match="cannot be read"):
        listed(uri)


@pytest.mark.parametrize("name", ["x.tar", "x.parquet", "x.png"])
def test_pipes_and_links_out_are_not_read(name: str, photos: Path, tmp_path: Path) -> None:
    form = "webdataset" if name.endswith("tar") else "huggingface"
    root = tmp_path / "set"
    root.mkdir()
    os.mkfifo(root / name)
    with pytest.raises(UexError, match="pipe or a device"):
        listed(f"{form}:{root}")
    with pytest.raises(UsageError, match=r"no such file or folder|no parquet file"):
        listed(f"{form}:{root / name}")
    (root / name).unlink()
    (root / "x.png").symlink_to(photos / "cat" / "0.png")
    with pytest.raises(UexError, match="a link out of the folder"):
        listed(f"huggingface:{root}")
