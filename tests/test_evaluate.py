"""Eval: the same recipe on both sides, nothing leaks, the gate, the doubts."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran, picture
from PIL import Image

from uexcli import plugin
from uexcli.commands import evaluate
from uexcli.commands.evaluate import checks
from uexcli.commands.evaluate import data as eval_data
from uexcli.commands.evaluate import verdict as verdicts
from uexcli.core.eval.learnability import chance, learnability, renamed
from uexcli.core.eval.statistics import learnability_interval_of_accuracies
from uexcli.core.eval.trial import MemoryTrial
from uexcli.errors import UexError
from uexcli.messages import Listener
from uexcli.registry import load
from uexcli.testing import pictures

CPU = torch.device("cpu")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Photos whose class is their brightness, and a release of the same names that teaches the opposite."""
    for number, label in enumerate(("dark", "light")):
        for index in range(30):
            pixels = picture(1000 * number + index) // 4 + 120 * number
            for root, shown in (("photos", pixels), ("release", 255 - pixels)):
                path = tmp_path / root / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(shown).save(path)
    return tmp_path / "photos", tmp_path / "release"


def sources(photos: Path, release: Path, **changes: Any) -> eval_data.Sources:
    settings = {"test": None, "labels": None, "size": 16, "on_error": "fail", **changes}
    return eval_data.Sources(str(photos), str(release), **settings)


def read(request: eval_data.Sources) -> eval_data.Data:
    (data,) = eval_data.read(request, CPU, Listener())
    return data


def test_what_a_net_can_learn_and_what_it_cannot(pair: tuple[Path, Path], uex: Callable[..., Ran]) -> None:
    ran = uex("eval", *pair, "--epochs", 12, "--json", "--target", "small:12,16,width=8", "--folds", 1)
    assert ran.code == 0, ran.err
    (cell,) = ran.json["cells"]
    assert ran.json["schema"] == "uex.eval/1"
    assert ran.json["chance"] == 0.5
    assert cell["clean"]["runs"][0]["curve"][-1] == 1
    assert cell["learnability_last"] <= 0
    assert ran.json["targets"] == ["small:12,16,width=8"]
    assert len(cell["clean"]["runs"][0]["curve"]) == len(cell["protected"]["runs"][0]["curve"]) == 12


def test_the_gate_decides_the_exit_code(pair: tuple[Path, Path], uex: Callable[..., Ran]) -> None:
    photos, _ = pair
    copy = photos.parent / "copy"
    shutil.copytree(photos, copy)
    common = ("eval", photos, copy, "--epochs", 8, "--target", "small:12,16,width=8", "--folds", 1, "--quiet")
    failed = uex(*common, "--max-learnability", 0.5)
    assert failed.code == 1
    assert "Gate FAILED: peak learnability is at most 1." in failed.out
    assert "there is no noise to measure" in failed.err
    assert uex(*common, "--max-learnability", 1).code == 0


def test_both_sides_and_the_test_share_no_image(pair: tuple[Path, Path]) -> None:
    data = read(sources(*pair))
    assert len(data.clean) == len(data.protected) == len(data.labels) == 48
    assert len(data.test) == 12
    assert data.test_labels.bincount().tolist() == [6, 6]
    clean = {image.numpy().tobytes() for image in data.clean}
    assert not clean & {image.numpy().tobytes() for image in data.test}


def test_held_out_images_are_the_same_ones_whatever_else_there_is(pair: tuple[Path, Path]) -> None:
    photos, release = pair
    before = read(sources(photos, release))
    for root in (photos, release):
        for index in range(30):
            (root / "third").mkdir(exist_ok=True)
            shutil.copy(root / "dark" / f"{index}.png", root / "third" / f"{index}.png")
    after = read(sources(photos, release))
    assert torch.equal(before.test, after.test[after.test_labels < 2])


def test_a_test_folder_is_used_whole_and_its_classes_are_matched_by_name(pair: tuple[Path, Path]) -> None:
    photos, release = pair
    test = photos.parent / "test"
    (test / "light").mkdir(parents=True)
    Image.fromarray(picture(5)).save(test / "light" / "new.png")
    data = read(sources(photos, release, test=str(test)))
    assert len(data.clean) == 60
    assert data.test_labels.tolist() == [1]
    (test / "light").rename(test / "lihgt")
    with pytest.raises(UexError, match="lihgt"):
        read(sources(photos, release, test=str(test)))


def test_only_released_photos_are_compared(pair: tuple[Path, Path]) -> None:
    photos, release = pair
    for index in range(10):
        (release / "dark" / f"{index}.png").unlink()
    data = read(sources(photos, release))
    assert data.labels.bincount().tolist() == [16, 24]


def test_clean_and_protected_start_from_the_same_net_and_order() -> None:
    images, labels = pictures(32), torch.arange(32) % 2
    seen: list[list[torch.Tensor]] = []

    def run(shown: torch.Tensor) -> list[torch.Tensor]:
        trial = MemoryTrial(shown, labels, images, labels, 2, 3, 1, CPU)
        batches: list[torch.Tensor] = []

        def build() -> torch.nn.Module:
            net: Any = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))
            batches.append(net[1].weight.detach().clone())
            net.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].detach().clone()))
            return net  # type: ignore[no-any-return]

        trial.supervised(build, epochs=1, batch=8, lr=0.01, decay=0, augment=True)
        return batches

    seen = [run(images), run(images.roll(0))]
    assert all(torch.equal(first, second) for first, second in zip(*seen, strict=True))


@pytest.mark.parametrize(("protected", "wanted"), [(0.1, 0), (0.9, 1), (0.5, 0.5), (0.05, -0.0625)])
def test_learnability_is_zero_at_chance_and_one_at_clean(protected: float, wanted: float) -> None:
    assert learnability(protected, 0.9, 0.1) == pytest.approx(wanted)


def test_chance_is_the_largest_class() -> None:
    assert chance(torch.tensor([0, 0, 0, 1])) == 0.75


def cell(last: float, protected: float, *, against: str = "none", train: float = 1.0, **changes: Any) -> evaluate.Cell:
    sides = [evaluate.Side((plugin.Outcome((value,), train, 1.0),)) for value in (last, protected)]
    learnt = learnability(protected, last, 0.5) if last > 0.5 else None
    worth = verdicts.verdict(
        *2 * (learnability_interval_of_accuracies([protected], [last], 1000, 0.5),),
        (train, train),
        hinders=bool(changes),
    )
    return evaluate.Cell("small", against, *sides, learnt, learnt, **{"verdict": worth, **changes})


def test_a_clean_baseline_at_chance_says_nothing(pair: tuple[Path, Path], uex: Callable[..., Ran]) -> None:
    ran = uex("eval", *pair, "--epochs", 1, "--target", "small:lr=1e-9,width=4", "--folds", 1)
    assert ran.code == 3
    assert "not above chance" in ran.err


def data_of(tests: int, change: int = 8, levels: int | None = 8) -> eval_data.Data:
    images = pictures(8)
    others = pictures(tests, seed=1)
    labels = torch.zeros(tests, dtype=torch.int64)
    return eval_data.Data(images, images + change, labels[:8], others, labels, ("a", "b"), "held out", levels=levels)


def said(cells: list[evaluate.Cell], data: eval_data.Data) -> str:
    found = [*checks.of_data([data]), *checks.doubts(cells, len(data.test_labels))]
    return "\n".join(found)


def swapped(tests: int, *, right: int) -> tuple[tuple[int, ...], ...]:
    """A confusion of ten classes, each taken for the next one but for so many images."""
    each = tests // 10
    return tuple(
        tuple(right if there == here else each - right if there == (here + 1) % 10 else 0 for there in range(10))
        for here in range(10)
    )


@pytest.mark.parametrize(
    ("tests", "right", "doubted"), [(200, 1, True), (200, 18, False), (1000, 60, False), (30, 0, True)]
)
def test_a_net_that_takes_each_class_for_another_is_found_out(tests: int, right: int, doubted: bool) -> None:
    table = swapped(tests, right=right)
    last = 10 * right / tests
    sides = [evaluate.Side((plugin.Outcome((value,), 1.0, 1.0, confusion=table),)) for value in (0.9, last)]
    made = evaluate.Cell("small", "none", *sides, 0.5, 0.5, chance=0.1, verdict=verdicts.TOLD)
    assert renamed(table) == pytest.approx(max(last, 1 - last), abs=0.05)
    assert ("are renamed" in "".join(checks.doubts([made], tests))) == doubted


def test_a_net_that_guesses_is_not_said_to_swap_classes() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        table = tuple(map(tuple, draws.multinomial(20, [0.1] * 10, 10).tolist()))
        last = sum(table[place][place] for place in range(10)) / 200
        sides = [evaluate.Side((plugin.Outcome((value,), 1.0, 1.0, confusion=table),)) for value in (0.9, last)]
        made = evaluate.Cell("small", "none", *sides, 0.5, 0.5, chance=0.1, verdict=verdicts.TOLD)
        assert "are renamed" not in "".join(checks.doubts([made], 200))


def test_a_sound_result_is_not_doubted() -> None:
    assert said([cell(0.9, 0.5)], data_of(1000)) == ""


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (cell(0.52, 0.5), "within the uncertainty of chance"),
        (cell(0.5, 0.5), "not above chance"),
        (cell(0.9, 0.6, train=0.6), "fits only 60.0%"),
        (cell(0.6, 0.8), "learnt better than the clean ones"),
        (cell(0.9, 0.89), "differ by less than they are uncertain"),
    ],
)
def test_what_looks_wrong_in_a_cell_is_said(made: evaluate.Cell, wanted: str) -> None:
    assert wanted in said([made], data_of(1000))


def test_a_countermeasure_that_hinders_fitting_is_not_blamed_for_it() -> None:
    assert said([cell(0.9, 0.6, train=0.6, hinders=True)], data_of(1000)) == ""


def test_a_net_without_gradients_is_doubted() -> None:
    broken = evaluate.Side((plugin.Outcome((0.5,), 1.0, 1.0, gradient=0.0),))
    made = dataclasses.replace(cell(0.9, 0.5), protected=broken)
    assert "no gradient" in said([made], data_of(1000))


def test_what_looks_wrong_in_the_data_is_said() -> None:
    assert "only 50 test images" in said([cell(0.99, 0.5)], data_of(50))
    assert "no noise to measure" in said([cell(0.9, 0.5)], data_of(1000, change=0))
    assert "at most 2 of 8 levels" in said([cell(0.9, 0.5)], data_of(1000, change=2))
    assert "near the bound" not in said([cell(0.9, 0.5)], data_of(1000, change=2, levels=None))
    data = data_of(1000)
    leaking = dataclasses.replace(data, test=torch.cat([data.clean[:3], data.test[3:]]))
    assert "3 test images are, pixel for pixel" in said([cell(0.9, 0.5)], leaking)


def test_a_weaker_countermeasure_that_undoes_more_is_doubted() -> None:
    weak = cell(0.9, 0.8, against="jpeg:90", strengths=(("jpeg", -90.0),))
    strong = cell(0.9, 0.6, against="jpeg:10", strengths=(("jpeg", -10.0),))
    assert "the weaker 'jpeg:90' undoes more than 'jpeg:10'" in said([weak, strong], data_of(1000))
    other = dataclasses.replace(strong, strengths=(("bdr", -2.0),))
    assert said([weak, other], data_of(1000)) == ""
    swapped = (
        dataclasses.replace(weak, protected=strong.protected),
        dataclasses.replace(strong, protected=weak.protected),
    )
    assert said(list(swapped), data_of(1000)) == ""


def test_the_worst_countermeasure_comes_first(pair: tuple[Path, Path], uex: Callable[..., Ran]) -> None:
    ran = uex(
        "eval",
        *pair,
        "--epochs",
        6,
        "--against",
        "grayscale",
        "--against",
        "jpeg:50",
        "--json",
        "--target",
        "small:6,16,width=8",
        "--folds",
        1,
    )
    assert ran.code == 0, ran.err
    cells = ran.json["cells"]
    assert {cell["against"] for cell in cells} == {"none", "grayscale", "jpeg:50"}
    peaks = [cell["learnability_peak"] for cell in cells]
    assert peaks == sorted(peaks, reverse=True)


def test_testing_on_training_images_is_refused(pair: tuple[Path, Path], uex: Callable[..., Ran]) -> None:
    photos, release = pair
    ran = uex("eval", photos, release, "--test", photos)
    assert ran.code == 3
    assert "all of its images are among the training images" in ran.err
    test = photos.parent / "test"
    (test / "light").mkdir(parents=True)
    shutil.copy(photos / "light" / "3.png", test / "light")
    Image.fromarray(picture(5)).save(test / "light" / "new.png")
    data = read(sources(photos, release, test=str(test)))
    assert len(data.test) == len(data.test_labels) == 1


def test_copies_of_held_out_images_are_not_trained_on(pair: tuple[Path, Path]) -> None:
    photos, release = pair
    for root in pair:
        for path in list((root / "dark").iterdir()):
            shutil.copy(path, path.with_name(f"copy-{path.name}"))
    data = read(sources(photos, release))
    tested = {image.numpy().tobytes() for image in data.test}
    assert not tested & {image.numpy().tobytes() for image in data.clean}


def test_photos_outside_the_release_are_counted(pair: tuple[Path, Path], uex: Callable[..., Ran]) -> None:
    (pair[1] / "dark" / "0.png").unlink()
    ran = uex("eval", *pair, "--epochs", 5, "--target", "small:5,16,width=8", "--folds", 1)
    assert "1 of 60 photos are not in the release" in ran.err


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 8])
def test_any_number_of_epochs_trains(epochs: int) -> None:
    images, labels = pictures(16), torch.arange(16) % 2
    trial = MemoryTrial(images, labels, images, labels, 2, 0, epochs, CPU)
    target: Any = load().find("target", "small").cls(width=4, batch=16)
    assert len(target.evaluate(trial).curve) == epochs
