"""Bad input: one line that says what is wrong, the documented exit code, and nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from conftest import Ran, picture
from PIL import Image

from uexcli.io import leftovers
from uexcli.io.images import photo_files

Uex = Callable[..., Ran]
FIT = ("--method", "random", "--seed", 1 << 100)


def listing(root: Path) -> dict[str, str]:
    """Every path below a folder, with the digest of the files."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
    }


def refused(ran: Ran, code: int, *words: str, alone: bool = True) -> None:
    """One line on stderr (the last one, where messages may come before), none on stdout."""
    assert ran.code == code, ran.err
    assert ran.out == ""
    lines = ran.err.splitlines()
    complaints = [line for line in lines if line.startswith("Error: ")]
    assert complaints == lines[-1:], ran.err
    assert len(lines) == 1 or not alone, ran.err
    for word in words:
        assert word in lines[-1]


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """The working folder, where every test keeps its files, must be at the end as it was at the start."""
    before = listing(Path.cwd())
    yield
    assert listing(Path.cwd()) == before


def flat(root: Path, count: int = 4) -> Path:
    root.mkdir()
    for index in range(count):
        Image.fromarray(picture(900 + index)).save(root / f"{index}.png")
    return root


# ----------------------------------------------------------------------------------------- photos


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda root: None, 2, "no such folder"),
        (lambda root: root.write_bytes(b""), 2, "not a folder"),
        (lambda root: root.mkdir(), 3, "no image"),
        (lambda root: (root.mkdir(), (root / "notes.txt").write_text("x")), 3, "no image"),
        (lambda root: flat(root, 1), 3, "only one image"),
        (lambda root: (root.mkdir(), flat(root / "cat")), 3, "one class, 'cat'"),
    ],
    ids=["missing", "a-file", "empty", "no-images", "one-image", "one-class"],
)
def test_fit_on_photos_that_cannot_be_fitted(
    make: Callable[[Path], Any], code: int, words: str, tmp_path: Path, uex: Uex
) -> None:
    make(tmp_path / "in")
    with unchanged():
        refused(uex("fit", "in", *FIT), code, "in: ", words)


@pytest.mark.parametrize("command", ["apply", "eval", "verify"])
def test_missing_photos_folder(command: str, noise: Path, release: Path, uex: Uex) -> None:
    with unchanged():
        words = {
            "apply": ("apply", noise, "nowhere", "-o", "out"),
            "eval": ("eval", "nowhere", release),
            "verify": ("verify", release, "--source", "nowhere"),
        }[command]
        refused(uex(*words), 2, "nowhere: no such folder")


def truncated(path: Path) -> None:
    Image.fromarray(picture(7, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-400])


def float_tiff(path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.float32)).save(path)


def huge(path: Path) -> None:
    Image.new("1", (20_000, 5_000)).save(path)


def animated(path: Path) -> None:
    frames = [Image.fromarray(picture(seed)) for seed in (1, 2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


UNREADABLE = {
    "empty": ("bad.png", lambda path: path.write_bytes(b""), "cannot be decoded"),
    "text": ("bad.jpg", lambda path: path.write_text("no image"), "no image format"),
    "truncated-png": ("bad.png", truncated, "cannot be decoded"),
    "truncated-jpeg": ("bad.jpg", truncated, "truncated"),
    "link-to-nothing": ("bad.png", lambda path: path.symlink_to("nothing"), "cannot be read"),
    "float": ("bad.tif", float_tiff, "floating point"),
    "too-large": ("bad.png", huge, "20000x5000"),
    "animated": ("bad.gif", animated, "2 frames"),
}


@pytest.fixture(params=UNREADABLE.values(), ids=UNREADABLE.keys())
def unreadable(request: pytest.FixtureRequest, noise: Path, photos: Path) -> tuple[str, str]:
    """Put a bad file among the photos, after their fit: its key, and what is said of it."""
    name, make, words = request.param
    make(photos / "cat" / name)
    return f"cat/{name}", words


def test_fit_stops_at_an_unreadable_image(unreadable: tuple[str, str], photos: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("fit", photos, *FIT, "-o", "n.safetensors"), 3, *unreadable, "--on-error skip")


def test_apply_stops_at_an_unreadable_image(unreadable: tuple[str, str], photos: Path, noise: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out"), 3, *unreadable, "--on-error skip")


def test_fit_skips_an_unreadable_image(unreadable: tuple[str, str], photos: Path, uex: Uex) -> None:
    key, words = unreadable
    ran = uex("fit", photos, *FIT, "-o", "n.safetensors", "--on-error", "skip", "--json")
    assert ran.code == 0, ran.err
    assert [line for line in ran.err.splitlines() if key in line and words in line]
    assert [item["key"] for item in ran.json["skipped"]] == [key]
    assert words in ran.json["skipped"][0]["reason"]
    assert ran.json["plan"]["images"] == 16


def test_apply_skips_an_unreadable_image(
    unreadable: tuple[str, str], photos: Path, noise: Path, uex: Uex, tmp_path: Path
) -> None:
    key, words = unreadable
    ran = uex("apply", noise, photos, "-o", "out", "--on-error", "skip", "--json")
    assert ran.code == 0, ran.err
    assert [line for line in ran.err.splitlines() if key in line and words in line]
    assert [item["key"] for item in ran.json["skipped"]] == [key]
    assert ran.json["written"] == 16
    facts = json.loads((tmp_path / "out" / "uex-release.json").read_text())
    assert [item["path"] for item in facts["skipped"]] == [key]
    assert words in facts["skipped"][0]["reason"]


@pytest.mark.parametrize("kept", [0, 1])
def test_too_few_images_are_left_after_skipping(kept: int, tmp_path: Path, uex: Uex) -> None:
    root = flat(tmp_path / "in", kept)
    for index in range(2):
        (root / f"bad{index}.png").write_bytes(b"")
    with unchanged():
        refused(uex("fit", root, *FIT, "--mode", "samplewise", "--on-error", "skip"), 3, alone=False)


def test_one_class_is_left_after_skipping(photos: Path, uex: Uex) -> None:
    for path in (photos / "dog").iterdir():
        path.write_bytes(b"")
    with unchanged():
        refused(uex("fit", photos, *FIT, "--on-error", "skip"), 3, "one class", alone=False)


def test_apply_when_every_image_is_skipped(photos: Path, noise: Path, uex: Uex) -> None:
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out", "--on-error", "skip"), 3, "not one", alone=False)


# ------------------------------------------------------------------------------------ command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--eps", "8"), "Did you mean 8/255?"),
        (("--eps", "1"), "below 1"),
        (("--eps", "0"), "above 0"),
        (("--eps", "-8/255"), "above 0"),
        (("--eps", "lots"), "not a number"),
        (("--eps", ""), "not a number"),
        (("--eps", "8/0"), "not a number"),
        (("--eps", "nan"), "not a number"),
        (("--eps", "inf"), "not a number"),
        (("--eps", "1e999"), "--eps 1e999"),
        (("--eps", "0.5/255"), "--eps 0.5/255"),
        (("--eps", "0.003"), "less than one 8-bit level"),
        (("--norm", "l2", "--eps", "0"), "above 0"),
        (("--norm", "ssim", "--eps", "1"), "below 1"),
        (("--method", "randm"), "Did you mean 'random'?"),
        (("--norm", "lnf"), "Did you mean 'linf'?"),
        (("--mode", "classwize"), "Did you mean 'classwise'?"),
        (("--method", "em", "--surrogate", "resnet81"), "Did you mean 'resnet18'?"),
        (("--method", "em", "-O", "roundz=3"), "Did you mean 'rounds'?"),
        (("--method", "em", "-O", "rounds=three"), "rounds=three"),
        (("--method", "em", "-O", "rounds"), "key=value"),
        (("--method", "em", "-O", "=3"), "key=value"),
        (("--method", "lsp", "-O", "separation=0"), "separation must be above 0"),
        (("--norm", "ssim", "--mode", "classwise"), "--mode samplewise"),
        (("--method", "lsp", "--surrogate", "small"), "uses no surrogate"),
        (("--device", "gpu"), "no such kind"),
        (("--precision", "float8"), "Known: auto"),
        (("--on-error", "ignore"), "Known: fail, skip"),
        (("--size", "4"), "too small"),
        (("--limit", "1"), "at least 2"),
        (("--labels", "labels.csv"), "no such file"),
        (("-o", "photos"), "is a folder"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_fit_refuses_what_was_typed(words: tuple[str, ...], said: str, photos: Path, uex: Uex) -> None:
    with unchanged():
        usual = () if "--method" in words else ("--method", "random")
        refused(uex("fit", photos, *usual, *words), 2, said)


@pytest.mark.parametrize("shift", [["--surprise"], ["--seed", "one"], ["--limit", "1.5"]], ids=" ".join)
def test_what_the_parser_refuses(shift: list[str], photos: Path, uex: Uex) -> None:
    with unchanged():
        ran = uex("fit", photos, *shift)
        assert ran.code == 2
        assert ran.out == ""
        assert shift[0] in ran.err
        assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "gif"), "Known: png"),
        (("--format", "jpeg"), "--allow-lossy"),
        (("--png-level", "10"), "0 to 9"),
        (("--jobs", "-1"), "--jobs"),
        (("--on-error", "ignore"), "Known: fail, skip"),
        (("--labels", "labels.csv"), "no such file"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_apply_refuses_what_was_typed(words: tuple[str, ...], said: str, photos: Path, noise: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out", *words), 2, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-learnability", "1.5"), "not within 0 to 1"),
        (("--max-learnability", "-0.1"), "not within 0 to 1"),
        (("--max-learnability", "nan"), "not within 0 to 1"),
        (("--target", "resnet19"), "Did you mean 'resnet18'?"),
        (("--against", "jpg:10"), "Did you mean 'jpeg'?"),
        (("--against", "jpeg:0"), "not within 1 to 95"),
        (("--against", "jpeg:ten"), "quality=ten"),
        (("--against", "jpeg:10,20"), "takes 1 value"),
        (("--seeds", "0"), "at least 1"),
        (("--epochs", "0"), "at least 1"),
        (("--size", "4"), "too small"),
        (("--on-error", "ignore"), "Known: fail, skip"),
        (("--device", "gpu"), "no such kind"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_eval_refuses_what_was_typed(words: tuple[str, ...], said: str, photos: Path, release: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("eval", photos, release, *words), 2, said)


def test_eval_without_labels(tmp_path: Path, uex: Uex) -> None:
    root = flat(tmp_path / "in")
    shutil.copytree(root, tmp_path / "out")
    with unchanged():
        refused(uex("eval", root, "out"), 2, "no labels", "--labels FILE.csv")


def test_eval_of_another_release(photos: Path, tmp_path: Path, uex: Uex) -> None:
    flat(tmp_path / "out")
    with unchanged():
        refused(uex("eval", photos, "out"), 3, "none of")


def test_eval_of_one_class(photos: Path, release: Path, uex: Uex) -> None:
    shutil.rmtree(photos / "dog")
    with unchanged():
        refused(uex("eval", photos, release), 3, "one class", alone=False)


@pytest.mark.parametrize("command", ["fit", "eval"])
def test_a_device_that_is_not_there(
    command: str, photos: Path, release: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with unchanged():
        words = ("fit", photos, *FIT, "-o", "n") if command == "fit" else ("eval", photos, release)
        refused(uex(*words, "--device", "cuda"), 3, "--device cuda", "--device cpu")


def test_with_json_an_error_leaves_stdout_empty(photos: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("fit", photos, "--method", "random", "--eps", "8", "--json"), 2, "8/255")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, 2, "no such file"),
        ("cat/0.png,cat\n", 3, "the first line must be 'path,label'"),
        ("", 3, "the first line must be 'path,label'"),
        ("path,label\ncat/0.png,a\ncat/1.png,b\n", 3, "has no label for cat/2.png and 13 more"),
        ("path,label\ncat/0.png\n", 3, "has no label for cat/0.png"),
        ("path,label\n\udce9,a\n", 3, "cannot be read as a CSV"),
    ],
    ids=["missing", "no-header", "empty", "images-missing", "no-label", "not-utf-8"],
)
def test_labels_file(text: str | None, code: int, words: str, photos: Path, tmp_path: Path, uex: Uex) -> None:
    if text is not None:
        (tmp_path / "labels.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with unchanged():
        refused(uex("fit", photos, *FIT, "--labels", "labels.csv"), code, "labels.csv", words)


def test_photos_beside_class_folders_have_no_label(photos: Path, uex: Uex) -> None:
    Image.fromarray(picture(7)).save(photos / "stray.png")
    with unchanged():
        refused(uex("fit", photos, *FIT), 3, "stray.png", "--labels")


# ------------------------------------------------------------------------------------- noise file


def test_apply_to_photos_of_another_dataset(noise: Path, tmp_path: Path, uex: Uex) -> None:
    other = flat(tmp_path / "other")
    with unchanged():
        refused(uex("apply", noise, other, "-o", "out"), 3, "fitted on 16 other images")


def test_apply_to_a_photo_that_was_not_fitted(photos: Path, noise: Path, uex: Uex) -> None:
    Image.fromarray(picture(7)).save(photos / "cat" / "new.png")
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out"), 3, "cat/new.png", "not among the 16 images")


def test_apply_to_a_photo_whose_bytes_changed(photos: Path, noise: Path, uex: Uex) -> None:
    Image.fromarray(picture(7)).save(photos / "dog" / "3.png")
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out"), 3, "dog/3.png", "fit again")


def test_apply_to_a_class_that_has_no_noise(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, *FIT, "--mode", "classwise", "-o", "n.safetensors").code == 0
    (photos / "cow").mkdir()
    Image.fromarray(picture(7)).save(photos / "cow" / "0.png")
    with unchanged():
        refused(uex("apply", "n.safetensors", photos, "-o", "out"), 3, "cow/0.png", "cat, dog")


@pytest.mark.parametrize("command", ["apply", "info"])
def test_missing_noise_file(command: str, photos: Path, uex: Uex) -> None:
    with unchanged():
        words = (
            ("apply", "none.safetensors", photos, "-o", "out") if command == "apply" else ("info", "none.safetensors")
        )
        refused(uex(*words), 2, "none.safetensors: no such noise file")


class Trap:
    """Leaves a trace if it is ever unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("pwned",))


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one-byte-short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "header-cut": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "text": lambda path: path.write_text("Dear diary, today I fitted noise.\n"),
    "huge-header-length": lambda path: path.write_bytes(b"\xff" * 16),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "torch-zip": lambda path: torch.save({"delta": torch.zeros(1), "trap": Trap()}, path),
    "numpy": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(200)),
    "foreign-safetensors": lambda path: safetensors.torch.save_file({"weight": torch.zeros(3)}, path),
    "foreign-metadata": lambda path: safetensors.torch.save_file({"w": torch.zeros(3)}, path, {"uex": "hello"}),
    "foreign-json": lambda path: safetensors.torch.save_file({"w": torch.zeros(3)}, path, {"uex": "[1]"}),
}


@pytest.mark.parametrize("spoil", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("command", ["apply", "info"])
def test_what_is_no_noise_file(command: str, spoil: Callable[[Path], Any], photos: Path, noise: Path, uex: Uex) -> None:
    spoil(noise)
    with unchanged():
        words = ("apply", noise, photos, "-o", "out") if command == "apply" else ("info", noise)
        refused(uex(*words), 3, noise.name)


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]) -> None:
    """Change the tensors and the header of a noise file."""
    with safetensors.safe_open(path, "pt") as opened:
        header = json.loads(opened.metadata()["uex"])
    tensors = safetensors.torch.load_file(path)
    change(tensors, header)
    safetensors.torch.save_file(
        {name: t.contiguous() for name, t in tensors.items()}, path, {"uex": json.dumps(header)}
    )


def without(*keys: str) -> Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]:
    def change(_tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
        for key in keys[:-1]:
            header = header[key]
        del header[keys[-1]]

    return change


def nan(tensors: dict[str, torch.Tensor], _header: dict[str, Any]) -> None:
    tensors["delta"] = tensors["delta"].half()
    tensors["delta"][3, 0, 0, 0] = float("nan")


DAMAGED: dict[str, Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]] = {
    "row-too-high": lambda tensors, _: tensors["rows"].__setitem__(3, 16),
    "row-negative": lambda tensors, _: tensors["rows"].__setitem__(3, -1),
    "row-missing": lambda tensors, _: tensors.update(rows=tensors["rows"][:-1]),
    "rows-2d": lambda tensors, _: tensors.update(rows=tensors["rows"][:, None]),
    "delta-nan": nan,
    "delta-missing": lambda tensors, _: tensors.pop("delta"),
    "delta-3d": lambda tensors, _: tensors.update(delta=tensors["delta"][0]),
    "delta-2-channels": lambda tensors, _: tensors.update(delta=tensors["delta"][:, :2]),
    "delta-not-square": lambda tensors, _: tensors.update(delta=tensors["delta"][:, :, :8]),
    "delta-no-pixels": lambda tensors, _: tensors.update(delta=tensors["delta"][:, :, :0, :0]),
    "digest-missing": lambda tensors, _: tensors.update(digests=tensors["digests"][:-32]),
    "key-twice": lambda tensors, _: tensors["keys"].__setitem__(4, tensors["keys"][14]),
    "eps-zero": lambda _, header: header.update(eps=0),
    "eps-text": lambda _, header: header.update(eps="8/255"),
    "eps-nan": lambda _, header: header.update(eps=float("nan")),
    "options-no-dict": lambda _, header: header["recipe"]["norm"].update(options=[1]),
    "no-classes": without("classes"),
    "no-eps": without("eps"),
    "no-eps-text": without("eps_text"),
    "seed-text": lambda _, header: header.update(seed="1"),
    "no-recipe": without("recipe"),
    "no-dataset": without("dataset"),
    "no-method": without("recipe", "method"),
    "no-norm": without("recipe", "norm"),
    "no-granularity": without("recipe", "granularity"),
}


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_noise_file(change: Callable[..., Any], photos: Path, noise: Path, uex: Uex) -> None:
    rewrite(noise, change)
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out"), 3, "noise")


@pytest.mark.parametrize(
    "change", [without("measured"), without("dataset", "uri"), without("recipe", "method", "from")], ids=range(3)
)
def test_info_on_a_header_that_lacks_what_it_shows(change: Callable[..., Any], noise: Path, uex: Uex) -> None:
    rewrite(noise, change)
    ran = uex("info", noise)
    if ran.code:
        refused(ran, 3, noise.name)


@pytest.mark.parametrize("kind", ["norm", "granularity"])
def test_a_noise_file_that_needs_a_plugin(kind: str, photos: Path, noise: Path, uex: Uex) -> None:
    rewrite(noise, lambda _, header: header["recipe"][kind].update({"name": "exotic", "from": "uex-exotic 3.1"}))
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out"), 3, f"{kind} 'exotic'", "uex-exotic 3.1")


@pytest.mark.parametrize("bare", [False, True], ids=["same-header", "other-header"])
@pytest.mark.parametrize("command", ["apply", "info"])
def test_an_unknown_format_names_the_uexcli_that_is_needed(
    command: str, bare: bool, photos: Path, noise: Path, uex: Uex
) -> None:
    def newer(_: Any, header: dict[str, Any]) -> None:
        if bare:
            header.clear()
        header.update({"format": 99, "uexcli": "12.3.4"})

    rewrite(noise, newer)
    with unchanged():
        words = ("apply", noise, photos, "-o", "out") if command == "apply" else ("info", noise)
        refused(uex(*words), 3, "format 99", "Use uexcli 12.3.4")


# ---------------------------------------------------------------------------------- existing output


def test_fit_keeps_a_noise_file_of_another_recipe(photos: Path, noise: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("fit", photos, *FIT, "-o", noise, "--eps", "4/255"), 2, "another recipe", "--force")


@pytest.mark.parametrize("words", [("--seed", 2), ("--mode", "classwise"), ("--norm", "l2"), ("--size", 8)], ids=str)
def test_a_recipe_is_another_by(words: tuple[Any, ...], photos: Path, noise: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("fit", photos, *FIT, "-o", noise, *words), 2, "another recipe")


def test_fit_keeps_a_noise_file_of_other_photos(photos: Path, noise: Path, uex: Uex) -> None:
    Image.fromarray(picture(7)).save(photos / "cat" / "0.png")
    with unchanged():
        refused(uex("fit", photos, *FIT, "-o", noise), 2, "other photos", "--force")


def test_fit_keeps_what_is_no_noise_file(photos: Path, tmp_path: Path, uex: Uex) -> None:
    (tmp_path / "thesis.txt").write_text("all my work")
    with unchanged():
        refused(uex("fit", photos, *FIT, "-o", "thesis.txt"), 2, "no noise file")


def test_fit_does_nothing_where_the_same_noise_lies(photos: Path, noise: Path, uex: Uex) -> None:
    with unchanged():
        when = noise.stat().st_mtime_ns
        for seed in (FIT, FIT[:2]):
            ran = uex("fit", photos, *seed, "-o", noise)
            assert ran.code == 0
            assert "nothing to do" in ran.out
        assert noise.stat().st_mtime_ns == when


def test_fit_replaces_with_force(photos: Path, noise: Path, uex: Uex) -> None:
    assert uex("fit", photos, *FIT, "-o", noise, "--eps", "4/255", "--force").code == 0
    assert uex("info", noise, "--json").json["header"]["eps_text"] == "4/255"


def test_fit_never_replaces_a_photo(photos: Path, uex: Uex) -> None:
    with unchanged():
        refused(uex("fit", photos, *FIT, "-o", photos / "cat" / "0.png", "--force"), 2, "0.png")


def test_apply_keeps_a_release_of_another_recipe_but_replaces_it_with_force(
    photos: Path, release: Path, tmp_path: Path, uex: Uex
) -> None:
    assert uex("fit", photos, *FIT, "--eps", "4/255", "-o", "other.safetensors").code == 0
    before = listing(tmp_path)
    refused(uex("apply", "other.safetensors", photos, "-o", release), 2, "not this release", "--force")
    assert listing(tmp_path) == before
    assert uex("apply", "other.safetensors", photos, "-o", release, "--force").code == 0
    ran = uex("verify", release, "--source", photos, "--json")
    assert (ran.code, ran.json["most_levels"]) == (0, 4)


@pytest.mark.parametrize("force", [False, True])
def test_apply_never_deletes_what_is_no_release(
    force: bool, photos: Path, noise: Path, tmp_path: Path, uex: Uex
) -> None:
    flat(tmp_path / "holidays")
    with unchanged():
        words = ["--force"] if force else []
        refused(uex("apply", noise, photos, "-o", "holidays", *words), 2, "no uex release" if force else "--force")


@pytest.mark.parametrize("force", [False, True])
def test_apply_never_deletes_a_stranger_called_partial(
    force: bool, photos: Path, noise: Path, tmp_path: Path, uex: Uex
) -> None:
    flat(tmp_path / "out.partial")
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out", *(["--force"] if force else [])), 2, "out.partial")


def test_apply_repairs_nothing_in_silence(photos: Path, noise: Path, release: Path, uex: Uex) -> None:
    (release / "cat" / "0.png").unlink()
    refused(uex("apply", noise, photos, "-o", release), 2, "not this release")
    assert uex("apply", noise, photos, "-o", release, "--force").code == 0
    assert uex("verify", release, "--source", photos).code == 0


@pytest.mark.parametrize("where", ["photos", "photos/out", ".", "photos/cat/../out", "link"])
def test_apply_writes_neither_in_nor_around_the_photos(
    where: str, photos: Path, noise: Path, tmp_path: Path, uex: Uex
) -> None:
    (tmp_path / "link").symlink_to(photos)
    with unchanged():
        for force in ([], ["--force"]):
            refused(uex("apply", noise, photos, "-o", where, *force), 2, "in or around")


def test_apply_to_a_file(photos: Path, noise: Path, tmp_path: Path, uex: Uex) -> None:
    (tmp_path / "out").write_text("mine")
    with unchanged():
        refused(uex("apply", noise, photos, "-o", "out", "--force"), 2, "out is a file")


def test_apply_into_an_empty_working_folder(
    photos: Path, noise: Path, tmp_path: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ran = uex("apply", noise, photos, "-o", ".")
    if ran.code:
        refused(ran, 2)
    else:
        assert uex("verify", tmp_path / "here", "--source", photos).code == 0


def test_dry_runs_write_nothing(photos: Path, noise: Path, uex: Uex) -> None:
    with unchanged():
        assert uex("fit", photos, "--method", "random", "--dry-run").code == 0
        assert uex("apply", noise, photos, "-o", "out", "--dry-run").code == 0


# ------------------------------------------------------------------------------------------- disk


def refusing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("force", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("step", ["write", "fsync"])
def test_fit_without_space(
    step: str,
    force: bool,
    photos: Path,
    noise: Path,
    uex: Uex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with unchanged():
        if step == "fsync":
            monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
        else:
            monkeypatch.setattr(os, "fdopen", full_disk(os.fdopen))
        output = noise if force else "n.safetensors"
        ran = uex("fit", photos, "--method", "random", "--seed", 2, "-o", output, *(["--force"] if force else []))
        refused(ran, 3, "no space left", alone=False)


def full_disk(opener: Callable[..., Any]) -> Callable[..., Any]:
    """Make an opener whose files take half of what is written, then no more."""

    def open_(*args: Any, **kwargs: Any) -> Any:
        file = opener(*args, **kwargs)
        if not file.writable():
            return file

        class Full:
            def __enter__(self) -> Full:
                return self

            def fileno(self) -> int:
                return int(file.fileno())

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> None:
                file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    return open_


def test_apply_without_space_from_the_start(
    photos: Path, noise: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unchanged():
        monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
        refused(uex("apply", noise, photos, "-o", "out"), 3, "no space left", alone=False)


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_apply_without_space_for_an_image(
    on_error: str, photos: Path, noise: Path, tmp_path: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes
    calls: list[Path] = []

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".tmp":
            calls.append(path)
            if len(calls) > 3:
                write(path, data[:10])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    before = listing(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    ran = uex("apply", noise, photos, "-o", "out", "--jobs", 1, "--on-error", on_error)
    monkeypatch.undo()
    refused(ran, 3, "no space left", alone=False)
    assert len(calls) > 3
    assert not (tmp_path / "out").exists()
    assert not [name for name in listing(tmp_path) if name.endswith(".tmp")]
    assert {name: digest for name, digest in listing(tmp_path).items() if "out.partial" not in name} == before
    monkeypatch.chdir(tmp_path)
    assert uex("apply", noise, photos, "-o", "out", "--resume", "--on-error", on_error).code == 0
    assert uex("verify", "out", "--source", photos).code == 0


@pytest.mark.parametrize("command", ["fit", "apply"])
def test_a_read_only_file_system(
    command: str, photos: Path, noise: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unchanged():
        if command == "fit":
            monkeypatch.setattr(leftovers, "create", refusing(errno.EROFS))
            ran = uex("fit", photos, *FIT, "-o", "n.safetensors")
        else:
            monkeypatch.setattr(Path, "mkdir", refusing(errno.EROFS))
            ran = uex("apply", noise, photos, "-o", "out")
        refused(ran, 3, "read-only", "-o", alone=False)


def test_apply_with_a_noise_file_on_a_read_only_medium(
    photos: Path, noise: Path, tmp_path: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = leftovers.create

    def only_elsewhere(folder: Path, **kwargs: Any) -> Any:
        return refusing(errno.EROFS)() if folder == noise.parent else make(folder, **kwargs)

    (tmp_path / "elsewhere").mkdir()
    before = listing(tmp_path)
    monkeypatch.setattr(leftovers, "create", only_elsewhere)
    ran = uex("apply", noise, photos, "-o", "elsewhere/out")
    if ran.code:
        refused(ran, 3, "read-only", alone=False)
        assert listing(tmp_path) == before
    else:
        assert uex("verify", "elsewhere/out", "--source", photos).code == 0


@pytest.mark.parametrize("output", ["photos/cat/0.png/out", "n" * 300], ids=["below-a-file", "long"])
@pytest.mark.parametrize("command", ["fit", "apply"])
def test_a_path_that_cannot_be_written(command: str, output: str, photos: Path, noise: Path, uex: Uex) -> None:
    with unchanged():
        words = ("fit", photos, *FIT) if command == "fit" else ("apply", noise, photos)
        ran = uex(*words, "-o", output)
        refused(ran, 2 if ran.code == 2 else 3, alone=False)


# -------------------------------------------------------------------------------------- interrupted


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = photo_files.encode
    calls: list[int] = []

    def pressed(*args: Any, **kwargs: Any) -> bytes:
        calls.append(1)
        if len(calls) > count:
            raise KeyboardInterrupt
        return encode(*args, **kwargs)

    monkeypatch.setattr(photo_files, "encode", pressed)


def interrupted(words: tuple[Any, ...], count: int, uex: Uex) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["uex", *map(str, words)])
        interrupt_after(count, patch)
        return uex(*words)


def test_an_interrupted_apply_goes_on_to_the_same_bytes(
    photos: Path, noise: Path, release: Path, tmp_path: Path, uex: Uex
) -> None:
    words = ("apply", noise, photos, "-o", "out", "--jobs", 1)
    before = listing(tmp_path)
    ran = interrupted(words, 5, uex)
    assert ran.code == 130
    assert ran.out == ""
    last = ran.err.splitlines()[-1]
    assert last.startswith("Interrupted.")
    assert last.endswith("--resume")
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "out.partial").rglob("*.png"))) == 5
    assert {name: digest for name, digest in listing(tmp_path).items() if "out.partial" not in name} == before

    left = listing(tmp_path)
    refused(uex(*words), 2, "out.partial", "--resume")
    assert listing(tmp_path) == left

    ran = uex(*words, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["kept"], ran.json["written"]) == (5, 11)
    assert listing(tmp_path / "out") == listing(release)
    assert not (tmp_path / "out.partial").exists()
    assert "nothing to do" in uex(*words).out


def test_an_interrupted_apply_starts_afresh_with_force(
    photos: Path, noise: Path, release: Path, tmp_path: Path, uex: Uex
) -> None:
    words = ("apply", noise, photos, "-o", "out", "--jobs", 1)
    assert interrupted(words, 5, uex).code == 130
    ran = uex(*words, "--force", "--json")
    assert (ran.code, ran.json["kept"], ran.json["written"]) == (0, 0, 16)
    assert listing(tmp_path / "out") == listing(release)


def test_resume_refuses_another_job(photos: Path, noise: Path, tmp_path: Path, uex: Uex) -> None:
    assert interrupted(("apply", noise, photos, "-o", "out"), 2, uex).code == 130
    assert uex("fit", photos, *FIT, "--eps", "4/255", "-o", "other.safetensors").code == 0
    before = listing(tmp_path)
    refused(uex("apply", "other.safetensors", photos, "-o", "out", "--resume"), 2, "another job")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-60]),
        lambda path: path.write_bytes(b""),
        lambda path: Image.fromarray(picture(7)).save(path),
        lambda path: path.with_name(".0123456789abcdef01234567.tmp").write_bytes(b"half"),
    ],
    ids=["truncated", "empty", "other-pixels", "leftover"],
)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_resume_does_not_trust_what_a_power_cut_left(
    on_error: str, spoil: Callable[[Path], Any], photos: Path, noise: Path, release: Path, tmp_path: Path, uex: Uex
) -> None:
    words = ("apply", noise, photos, "-o", "out", "--jobs", 1, "--on-error", on_error)
    assert interrupted(words, 5, uex).code == 130
    spoil(next((tmp_path / "out.partial").rglob("*.png")))
    ran = uex(*words, "--resume")
    assert ran.code == 0, ran.err
    assert listing(tmp_path / "out") == listing(release)


def test_an_interrupted_fit_leaves_nothing(photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with unchanged():
        monkeypatch.setattr(os, "fsync", pressed)
        ran = uex("fit", photos, *FIT)
        assert (ran.code, ran.out) == (130, "")
        assert ran.err.splitlines()[-1].startswith("Interrupted.")


def test_a_terminated_apply_can_go_on(
    photos: Path, noise: Path, release: Path, tmp_path: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = photo_files.encode

    def killed(*args: Any, **kwargs: Any) -> bytes:
        os.kill(os.getpid(), signal.SIGTERM)
        return encode(*args, **kwargs)

    words = ("apply", noise, photos, "-o", "out", "--jobs", 1)
    with monkeypatch.context() as patch:
        patch.setattr(photo_files, "encode", killed)
        ran = uex(*words)
    assert (ran.code, ran.out) == (143, "")
    assert ran.err.splitlines()[-1].startswith("Terminated.")
    assert not (tmp_path / "out").exists()
    assert uex(*words, "--resume").code == 0
    assert listing(tmp_path / "out") == listing(release)


@pytest.mark.parametrize("surface", ["stdout", "stderr"])
def test_names_that_are_no_text(surface: str, tmp_path: Path, uex: Uex) -> None:
    root = flat(tmp_path / "in")
    odd = os.fsdecode(b"caf\xe9\n1.png")
    if surface == "stdout":
        Image.fromarray(np.eye(16, dtype=bool)).save(root / odd)
    else:
        (root / odd).write_bytes(b"")
    fit = uex("fit", root, *FIT, "--mode", "universal", "-o", "n.safetensors", "--on-error", "skip")
    assert fit.code == 0, fit.err
    ran = uex("apply", "n.safetensors", root, "-o", "out", "--on-error", "skip")
    assert ran.code == 0, ran.err
    shown = ran.out if surface == "stdout" else ran.err
    assert [line for line in shown.splitlines() if "caf" in line and "1.png" in line]
    assert uex("apply", "n.safetensors", root, "-o", "dry", "--dry-run", "--on-error", "skip").code == 0
