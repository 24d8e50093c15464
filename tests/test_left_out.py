"""Nothing of a dataset is lost without a word: labels, splits, links, and files that are not read."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, picture
from PIL import Image

from uexcli import plugin
from uexcli.io import labels, samples, unread
from uexcli.io.sources import Source, source_of
from uexcli.plugin import UexError, Unread, UsageError
from uexcli.registry import load

Uex = Callable[..., Ran]


def listed(uri: str, *, split: str = "train", table: Path | None = None) -> samples.Labelled:
    return source_of(load(), uri).samples(split=split, labels=table)


def left_out(uri: str, split: str = "train") -> dict[str, str]:
    return {item.path: item.reason for item in source_of(load(), uri).dataset.unread(uri, split=split)}


def written(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed)).save(buffer, "png")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------- labels


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A folder of `a.png`, `b.png`, `c,d.png` and `x/é.png`."""
    for number, name in enumerate(("a.png", "b.png", "c,d.png", "x/\xe9.png")):
        written(f"flat/{name}", png(number))
    return tmp_path / "flat"


ROWS = ["a.png,1", "b.png,2", '"c,d.png",1', "x/\xe9.png,2"]
SAME = {
    "plain": ROWS,
    "twice": [*ROWS, "a.png,1", "./a.png,1"],
    "dots": ["./a.png,1", "x/../b.png,2", '".//c,d.png",1', "./x/./\xe9.png,2"],
    "blanks": ["a.png, 1", " b.png,2 ", '"c,d.png",1', "x/\xe9.png,2", "", ",", " , "],
    "backslashes": ["a.png,1", ".\\b.png,2", '"c,d.png",1', "x\\\xe9.png,2"],
    "accents": [*ROWS[:3], unicodedata.normalize("NFD", "x/\xe9.png,2")],
    "commas at the end": [f"{row}," for row in ROWS],
}


@pytest.mark.parametrize("way", list(SAME))
@pytest.mark.parametrize("start", ["path,label\n", "\ufeffpath,label\r\n", " path , label \n"])
def test_a_csv_may_write_a_path_in_several_ways(way: str, start: str, flat: Path) -> None:
    found = listed(str(flat), table=written("l.csv", start + "\n".join(SAME[way])))
    assert [found.classes[number] for number in found.labels] == ["1", "2", "1", "2"]
    assert found.notes == ()


def test_a_csv_may_write_whole_paths(flat: Path) -> None:
    Path("link").symlink_to(flat)
    text = f'path,label\n{flat}/a.png,1\n{Path("link").absolute()}/b.png,2\n"{flat}/c,d.png",1\n{flat}/x/\xe9.png,2\n'
    for uri in ("link", f"links:{Path('link')}", f"folder:{Path('link').absolute()}"):
        assert len(listed(uri, table=written("l.csv", text)).labels) == 4


@pytest.mark.parametrize("again", ["a.png,2", "./a.png,2", ".\\a.png,2", "x/../a.png,2", "a.png , 2"])
def test_an_image_that_is_labelled_twice_and_differently_is_an_error(again: str, flat: Path, uex: Uex) -> None:
    written("l.csv", "path,label\n" + "\n".join([*ROWS, again]))
    for words in (("fit", flat, "--method", "random"), ("convert", flat, "copy"), ("eval", flat, flat)):
        ran = uex(*words, "--labels", "l.csv")
        assert ran.code == 3 and "l.csv: a.png is '1' in line 2, and '2' in line 6" in ran.err, ran.err


def test_a_name_with_a_backslash_is_what_it_is(tmp_path: Path) -> None:
    for number, name in enumerate(("d\\a.png", "d/a.png")):
        written(f"flat/{name}", png(number))
    found = listed("flat", table=written("l.csv", "path,label\nd\\a.png,1\nd/a.png,2\n"))
    assert dict(zip(found.keys, (found.classes[n] for n in found.labels), strict=True)) == {
        "d\\a.png": "1",
        "d/a.png": "2",
    }


def test_an_error_says_how_paths_are_to_look(flat: Path, uex: Uex) -> None:
    written("l.csv", "path,label\nphotos/a.png,1\nphotos/b.png,2\n")
    ran = uex("fit", flat, "--labels", "l.csv", "--method", "random")
    assert ran.code == 3
    assert "has no label for a.png and 3 more" in ran.err
    assert "relative to the photos, such as a.png; it has photos/a.png, which is not there" in ran.err


def test_rows_of_no_image_are_counted_and_named(flat: Path, uex: Uex) -> None:
    more = [f"gone{number}.png,1" for number in range(5)]
    written("l.csv", "path,label\n" + "\n".join([*ROWS, *more, "A.PNG,1"]))
    ran = uex("fit", flat, "--labels", "l.csv", "--method", "random")
    assert ran.code == 0
    assert "l.csv also has 6 that are not here: gone0.png, gone1.png, gone2.png and 3 more" in ran.err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("path,label\nc,d.png,1\n", "line 2 has more fields"), ("file,label\na.png,1\n", "the first line must be")],
)
def test_a_csv_that_cannot_be_meant_is_told(text: str, complaint: str, flat: Path) -> None:
    with pytest.raises(UexError, match=complaint):
        labels.given(written("l.csv", text), ["c,d.png"], flat)
    with pytest.raises(UsageError, match="no such file"):
        labels.given(Path("none.csv"), ["a.png"], flat)


def test_groups_of_classes_and_metadata_say_one_thing(photos: Path, uex: Uex, release: Path) -> None:
    written("g.csv", "class,group\ncat,1\ndog,2\ncat,3\n")
    ran = uex("eval", photos, release, "--merge", "g.csv", "--epochs", 1)
    assert ran.code == 3 and "class cat is in '1' and in '3'" in ran.err
    written("set/a.png", png())
    for name, text in (
        ("metadata.csv", "file_name,label\na.png,1\na.png,2\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "label": 1}\n{"file_name": "./a.png", "label": 2}\n'),
    ):
        table = written(f"set/{name}", text)
        with pytest.raises(UexError, match=r"a\.png is '1' and '2'"):
            listed("huggingface:set")
        table.unlink()


def test_one_sample_has_one_class_file_and_one_name_one_class(tmp_path: Path) -> None:
    with tarfile.open("a.tar", "w") as tar:
        for name, data in (("a.png", png()), ("a.cls", b"1"), ("a.cls", b"0")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(UexError, match=r"holds a\.cls twice"):
        listed("webdataset:a.tar")
    written("classnames.txt", "cat\ncat\n")
    with pytest.raises(UexError, match="two classes are called 'cat'"):
        listed("webdataset:a.tar")


def test_a_release_whose_folders_do_not_tell_the_classes_says_so(flat: Path, photos: Path, uex: Uex) -> None:
    written("l.csv", "path,label\n" + "\n".join(ROWS))
    words = (flat, "--labels", "l.csv")
    lost = "the classes of these images are not in the release"
    assert uex("fit", *words, "--method", "random", "--mode", "classwise", "-o", "n").code == 0
    assert lost in uex("apply", "n", *words, "-o", "out").err
    for number in (1, 2):
        ran = uex("apply", "n", *words, "-o", "parts", "--shard", f"{number}/2", "-q")
        assert ran.code == 0 and lost not in ran.err
    assert lost in uex("merge", "parts", "-q").err
    assert uex("fit", *words, "--method", "random", "-o", "own").code == 0
    assert lost in uex("apply", "own", flat, "-o", "out2").err
    assert uex("fit", photos, "--method", "random", "-o", "told").code == 0
    assert lost not in uex("apply", "told", photos, "-o", "out3").err
    pairs = "".join(f"{key},{key.partition('/')[0]}\n" for key in listed(str(photos)).keys)
    written("same.csv", "path,label\n" + pairs)
    ran = uex("apply", "told", photos, "--labels", "same.csv", "-o", "out4")
    assert ran.code == 0 and lost not in ran.err


# ------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("train2017", "train"), ("train_images", "train"),
        ("images_train", "train"), ("trainset", "train"), ("TEST", "test"), ("testing", "test"), ("test-set", "test"),
        ("val", "validation"), ("valid", "validation"), ("validation", "validation"), ("val2017", "validation"),
        ("dev", "validation"), ("eval", "test"), ("evaluation", "test"),
        ("train_station", ""), ("trains", ""), ("protest", ""), ("tester", ""), ("cat", ""), ("value", ""), ("", ""),
        ("1", ""), ("test rig", ""), ("devil", ""),
    ],
)  # fmt: skip
def test_folders_that_are_splits_are_told_by_their_names(name: str, split: str) -> None:
    assert plugin.split_folder(name) == split


def folders(root: Path, *names: str, photos: Path) -> Path:
    for name in names:
        shutil.copytree(photos, root / name)
    return root


@pytest.mark.parametrize("names", [("train", "val"), ("train", "test", "extra"), ("train",), ("Training", "valid")])
def test_splits_are_no_classes(names: tuple[str, ...], photos: Path, uex: Uex, tmp_path: Path) -> None:
    root = folders(tmp_path / "p", *names, photos=photos)
    first = names[0]
    for uri in (str(root), f"links:{root}", f"folder:{root}"):
        ran = uex("fit", uri, "--method", "random", "--dry-run")
        assert ran.code == 3 and f"Give the folder that is meant: {uri}/{first}." in ran.err, ran.err
        assert first in ran.err.partition(". ")[0] and "split" in ran.err
    assert uex("fit", f"{root}/{first}", "--method", "random", "--dry-run").code == 0
    assert uex("fit", root, "--method", "random", "--dry-run", "--no-labels").code == 0
    keys = listed(f"{root}/{first}").keys
    table = "".join(f"{name}/{key},{name}\n" for name in names for key in keys) + f"{first}/{keys[0]},{first}\n"
    written("l.csv", "path,label\n" + table)
    ran = uex("fit", root, "--method", "random", "--dry-run", "--labels", "l.csv")
    assert (ran.code == 0) == (len(names) > 1), ran.err
    ran = uex("convert", root, "webdataset:copy")
    assert ran.code == 0 and "taken for classes, though called as splits are" in ran.err


def test_eval_tests_on_no_split_as_a_class(photos: Path, release: Path, uex: Uex, tmp_path: Path) -> None:
    root = folders(tmp_path / "p", "train", "val", photos=photos)
    ran = uex("eval", photos, release, "--test", root)
    assert ran.code == 3 and f"Give the folder that is meant: {root}/val" in ran.err
    ran = uex("eval", root, release)
    assert ran.code == 3 and f"{root}/train" in ran.err


def test_what_is_fitted_without_labels_is_applied_and_verified(photos: Path, uex: Uex, tmp_path: Path) -> None:
    root = folders(tmp_path / "p", "train", "val", photos=photos)
    for name in ("train", "val"):
        for number, path in enumerate(sorted((root / name).rglob("*.png"))):
            Image.fromarray(picture(number + 100 * len(name))).save(path)
    assert uex("fit", root, "--no-labels", "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    assert uex("apply", "n", root, "-o", "out").code == 0
    assert uex("verify", "out", "--source", root).code == 0


@pytest.mark.parametrize("form", ["webdataset", "huggingface"])
def test_splits_within_other_forms_are_no_classes_either(form: str, photos: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "p", "train", "val", "extra", photos=photos)
    uri = f"huggingface:{root}"
    if form == "webdataset":
        with tarfile.open("a.tar", "w") as tar:
            tar.add(root, ".")
        uri = "webdataset:a.tar"
    with pytest.raises(UexError, match="train and val are splits of a dataset, not classes"):
        listed(uri)


def test_an_imagefolder_takes_a_split_and_says_what_it_left(photos: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "p", "train", "val", photos=photos)
    uri = f"huggingface:{root}"
    found = listed(uri)
    assert len(found.keys) == 16 and found.classes == ("cat", "dog")
    assert found.notes == (
        "left out, as of the split validation: 16 (val/cat/0.png, val/cat/1.png, val/cat/2.png and 13 more)",
    )
    classes = folders(tmp_path / "q", "train_station", "test_rig", photos=photos)
    assert listed(f"huggingface:{classes}").classes == ("test_rig", "train_station")


def test_a_folder_has_no_split_to_convert(photos: Path, uex: Uex) -> None:
    ran = uex("convert", photos, "copy", "--split", "test")
    assert ran.code == 2 and "a folder has no splits" in ran.err


# -------------------------------------------------------------------------------------------- links


def test_links_to_folders_are_followed_where_that_is_asked_for(photos: Path, tmp_path: Path, uex: Uex) -> None:
    root = tmp_path / "p"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "cat").symlink_to(photos / "cat")
    (root / "dog").symlink_to("../photos/dog")
    (root / "deep" / "er" / "both").symlink_to(photos)
    uri = f"links:{root}"
    assert len(listed(uri).keys) == 32 and listed(uri).classes == ("cat", "deep", "dog")
    ran = uex("fit", root, "--method", "random")
    assert ran.code == 3 and "say links:FOLDER" in ran.err
    assert uex("fit", uri, "--method", "random").code == 0
    assert uex("apply", "p.noise.safetensors", uri, "-o", "out").code == 0
    assert uex("verify", "out", "--source", uri).code == 0
    ran = uex("apply", "p.noise.safetensors", uri, "-o", photos / "cat" / "out")
    assert ran.code == 2 and "lies in or around" in ran.err


def test_links_that_go_round_end_and_are_named(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "up").symlink_to(photos)
    (photos / "cat" / "here").symlink_to(".")
    (photos / "self").symlink_to("self")
    other = tmp_path / "other"
    (other / "b").mkdir(parents=True)
    (photos / "dog" / "other").symlink_to(other)
    (other / "b" / "back").symlink_to(photos / "dog")
    back = "as a link back to a folder that it lies in"
    uri = f"links:{photos}"
    assert len(listed(uri).keys) == 16
    assert left_out(uri) == {
        "cat/here/": back, "cat/up/": back, "dog/other/b/back/": back, "self": plugin.NO_IMAGE,
        "dog/other/": "without an image in them",
    }  # fmt: skip


def test_links_that_lead_to_ever_more_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uexcli.builtin.datasets import folder

    monkeypatch.setattr(folder, "MOST_FOLDERS", 1000)
    for number in range(12):
        (tmp_path / f"d{number}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"d{number}" / name).symlink_to(tmp_path / f"d{number + 1}")
    (tmp_path / "d12").mkdir()
    with pytest.raises(UexError, match="more than 1,000 folders"):
        listed(f"links:{tmp_path / 'd0'}")


# -------------------------------------------------------------------------------- what is not read


def test_a_folder_names_all_that_it_leaves_out(photos: Path, uex: Uex) -> None:
    for name in ("notes.txt", "cat/a.doc", "cat/.1.png", ".git/config", "dog/x.png.bak"):
        written(str(photos / name), b"x")
    (photos / "bird" / "small").mkdir(parents=True)
    assert left_out(str(photos)) == {
        "notes.txt": plugin.NO_IMAGE, "cat/a.doc": plugin.NO_IMAGE, "dog/x.png.bak": plugin.NO_IMAGE,
        "cat/.1.png": plugin.HIDDEN, ".git/": plugin.HIDDEN, "bird/": "without an image in them",
    }  # fmt: skip
    said = (
        "3 files are no images, and are ignored: cat/a.doc, dog/x.png.bak, notes.txt",
        "left out, being hidden: 2 (.git/, cat/.1.png)",
        "left out, without an image in them: 1 (bird/)",
    )
    fit = uex("fit", photos, "--method", "random")
    apply = uex("apply", "photos.noise.safetensors", photos, "-o", "out")
    verify = uex("verify", "out", "--source", photos)
    convert = uex("convert", photos, "copy")
    judged = uex("eval", photos, "out", "--epochs", 1)
    for ran in (fit, apply, verify, convert, judged):
        assert all(text in ran.err for text in said), ran.err
    assert json.loads(Path("out/uex-release.json").read_text())["ignored"] == 3


def test_names_that_are_left_out_stay_on_one_line(photos: Path, uex: Uex) -> None:
    written(str(photos / "a\n\x1b[2Jb.txt"), b"x")
    ran = uex("fit", photos, "--method", "random")
    assert "1 file is no image, and is ignored: a\\n\\x1b[2Jb.txt" in ran.err


def test_shards_name_all_that_they_leave_out(tmp_path: Path) -> None:
    for shard in ("train-0.tar", "val-0.tar"):
        with tarfile.open(written(f"set/{shard}", b""), "w") as tar:
            own = shard.partition("-")[0]
            for name in (f"a/{own}.png", f"a/{own}.mask.png", f"a/{own}.txt", f"a/.{own}.png", f"b/{own}.png"):
                info = tarfile.TarInfo(name)
                info.size = len(png())
                tar.addfile(info, io.BytesIO(png()))
    for name in ("README.md", "more.tar.gz", "more.tgz", ".x.tar", ".git/x.tar"):
        written(f"set/{name}", b"x")
    packed = "as a compressed shard: unpack it to .tar"
    assert left_out("webdataset:set") == {
        "train-0.tar: a/train.mask.png": "as beside the image of their sample",
        "train-0.tar: a/train.txt": plugin.NO_IMAGE, "train-0.tar: a/.train.png": plugin.HIDDEN,
        "val-0.tar": "as of the split validation", "README.md": plugin.NO_IMAGE,
        "more.tar.gz": packed, "more.tgz": packed, ".x.tar": plugin.HIDDEN, ".git/": plugin.HIDDEN,
    }  # fmt: skip
    assert left_out("webdataset:set", "test")["train-0.tar"] == "as of the split train"
    (tmp_path / "set" / "linked").symlink_to(tmp_path)
    with pytest.raises(UexError, match="a link to a folder"):
        listed("webdataset:set")


def test_parquet_files_name_all_that_they_leave_out(photos: Path, uex: Uex, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert uex("convert", photos, "huggingface:copy").code == 0
    assert left_out("huggingface:copy") == {}
    assert uex("convert", photos, "webdataset:shards").code == 0
    assert left_out("webdataset:shards") == {}
    shutil.copy("copy/train-00000-of-00001.parquet", "copy/test-00000-of-00001.parquet")
    written("copy/1.png", png())
    written("copy/README.md", b"x")
    found = left_out("huggingface:copy")
    assert found["test-00000-of-00001.parquet"] == "as of the split test"
    assert found["1.png"] == "as an image beside parquet files" and found["README.md"] == plugin.NO_IMAGE
    (tmp_path / "copy" / "linked").symlink_to(photos)
    with pytest.raises(UexError, match="a link to a folder"):
        listed("huggingface:copy")


def test_words_count_and_name() -> None:
    items = [Unread(f"{number}.txt", plugin.NO_IMAGE) for number in range(1200)]
    assert unread.words(items) == ["1,200 files are no images, and are ignored: 0.txt, 1.txt, 2.txt and 1,197 more"]
    assert unread.words([]) == []


def test_a_plugin_that_only_counts_is_still_heard(photos: Path) -> None:
    class Counting(type(source_of(load(), str(photos)).dataset)):  # type: ignore[misc]
        def unread(self, uri: str, *, split: str = "train") -> list[Unread]:
            return []

        def ignored(self, uri: str) -> int:
            return 2

    found = Source(str(photos), Counting())
    assert unread.words(found.unread()) == ["2 files are no images, and are ignored: ?, ?"]
    assert source_of(load(), str(photos)).ignored == 0
