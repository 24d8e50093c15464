"""Datasets: folders with and without labels, and the real ones."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran

from uexcli import registry
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.io.sources import source_of


def listed(uri: str, **options: object) -> samples.Labelled:
    return source_of(registry.load(), uri).samples(**options)  # type: ignore[arg-type]


def test_class_folders_give_labels_and_hidden_files_are_left_out(photos: Path) -> None:
    (photos / "cat" / ".DS_Store").write_text("x")
    (photos / ".thumbnails").mkdir()
    (photos / "cat" / "notes.txt").write_text("x")
    found = listed(str(photos))
    assert found.classes == ("cat", "dog")
    assert found.keys[:2] == ["cat/0.png", "cat/1.png"]
    assert found.labels == (0,) * 8 + (1,) * 8


def test_numbered_classes_are_in_the_order_of_their_numbers(photos: Path) -> None:
    (photos / "cat").rename(photos / "10")
    (photos / "dog").rename(photos / "9")
    assert listed(str(photos)).classes == ("9", "10")


def test_a_csv_gives_labels(photos: Path, tmp_path: Path) -> None:
    rows = [f"{key},{'ab'[index % 2]}" for index, key in enumerate(listed(str(photos)).keys)]
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "\n".join(rows) + "\n")
    found = listed(str(photos), labels=table)
    assert found.classes == ("a", "b")
    assert found.labels == (0, 1) * 8


def test_limit_takes_from_each_class_in_turn_and_drops_classes_it_leaves_out(photos: Path) -> None:
    found = listed(str(photos))
    assert samples.limited(found, 5, ordered=False).labels == (0, 0, 0, 1, 1)
    assert samples.limited(found, 5, ordered=True).classes == ("cat",)
    assert samples.limited(found, None, ordered=False) == found


def test_photos_without_labels_are_protected_cluster_by_cluster_and_eval_needs_labels(
    photos: Path, uex: Callable[..., Ran]
) -> None:
    flat = photos / "cat"
    ran = uex("fit", flat, "--method", "random", "--seed", 3)
    assert ran.code == 0, ran.err
    assert "clusters stand in" in ran.err
    assert "clusterwise" in ran.err
    assert uex("apply", "cat.noise.safetensors", flat, "-o", "release").code == 0
    new = uex("apply", "cat.noise.safetensors", photos / "dog", "-o", "others", "--json")
    assert new.code == 3, "the same names with other bytes are refused"
    for path in (photos / "dog").iterdir():
        path.rename(path.with_name(f"new-{path.name}"))
    new = uex("apply", "cat.noise.safetensors", photos / "dog", "-o", "others", "--json")
    assert new.code == 0, new.err
    assert new.json["new"] == 8
    assert uex("eval", flat, "release").code == 2


def test_class_noise_protects_new_photos_of_its_classes_only(photos: Path, uex: Callable[..., Ran]) -> None:
    assert uex("fit", photos, "--method", "random", "--mode", "classwise", "-o", "n").code == 0
    for path in photos.rglob("*.png"):
        path.rename(path.with_name(f"new-{path.name}"))
    assert uex("apply", "n", photos, "-o", "release").code == 0
    (photos / "dog").rename(photos / "wolf")
    ran = uex("apply", "n", photos, "-o", "other")
    assert ran.code == 3
    assert "wolf/new-0.png: its class wolf has no noise" in ran.err


def test_mnist_reads_plain_and_gzipped_files_and_never_tests_on_what_it_trains(tmp_path: Path) -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    body = (0x803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28)) + images.tobytes()
    labels = (0x801).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes([7, 1])
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(body)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    found = listed(f"mnist:{tmp_path}")
    assert found.keys == ["7/00000.png", "1/00001.png"]
    with pytest.raises(UexError, match="serve as the training split"):
        listed(f"mnist:{tmp_path}", split="test")
    for part, data in (("images-idx3", body), ("labels-idx1", labels)):
        (tmp_path / f"train-{part}-ubyte.gz").write_bytes(gzip.compress(data))
    assert len(listed(f"mnist:{tmp_path}", split="test").keys) == 2
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(body[:-1]))
    with pytest.raises(UexError, match="not an IDX file, or cut short"):
        listed(f"mnist:{tmp_path}")


def test_real_mnist_is_grey_and_gets_one_channel_of_noise(real_data: Path, uex: Callable[..., Ran]) -> None:
    uri = f"mnist:{real_data / 'mnist_t10k'}"
    assert listed(uri).labels[:5] == (7, 2, 1, 0, 4)
    ran = uex("fit", uri, "--limit", 60, "--method", "lsp", "--json", "--quiet")
    assert ran.code == 0, ran.err
    assert (ran.json["plan"]["size"], ran.json["plan"]["channels"]) == (28, 1)
    assert ran.json["plan"]["output"] == "mnist.noise.safetensors"
    assert uex("apply", "mnist.noise.safetensors", uri, "-o", "release", "--quiet").code == 0
    # The 9,940 images outside --limit are accepted only where the release says it left them out.
    assert uex("verify", "release", "--source", uri, "--allow-missing").code == 0
    assert uex("verify", "release", "--source", uri).code == 1


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_real_cifar_comes_in_its_published_order(real_data: Path, tmp_path: Path, name: str, classes: int) -> None:
    if importlib.util.find_spec("pillow_jxl") is None:
        pytest.skip("pillow-jxl-plugin is not installed")
    subprocess.run(
        [sys.executable, real_data / "unpack_cifar.py", real_data / name, tmp_path], check=True, capture_output=True
    )
    found = listed(f"{name}:{tmp_path}")
    assert (len(found.samples), len(found.classes)) == (50_000, classes)
    first = {"cifar10": "frog/00000.png", "cifar100": "cattle/00000.png"}[name]
    assert found.keys[0] == first
    assert len(listed(f"{name}:{tmp_path}", split="test").samples) == 10_000
    (next(tmp_path.glob("cifar*")) / {"cifar10": "data_batch_1", "cifar100": "train"}[name]).write_bytes(b"x")
    with pytest.raises(UexError, match="not intact"):
        listed(f"{name}:{tmp_path}")


def test_files_that_are_no_images_are_ignored_and_counted(photos: Path, uex: Callable[..., Ran]) -> None:
    (photos / "cat" / "notes.txt").write_text("x")
    (photos / "list.csv").write_text("x")
    (photos / ".hidden").write_text("x")
    ran = uex("fit", photos, "--method", "random")
    assert "2 files are no images, and are ignored" in ran.err
    assert uex("apply", "photos.noise.safetensors", photos, "-o", "out").code == 0
    assert json.loads(Path("out/uex-release.json").read_text())["ignored"] == 2
