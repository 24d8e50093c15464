"""Few photos: each is tested once, by a net that has not seen it; the folds are put together as one run."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran, bright

from uexcli import plugin
from uexcli.commands import evaluate
from uexcli.commands.evaluate import data, folds, scenario
from uexcli.core.eval.pooled import pooled
from uexcli.core.eval.scores import early_stop, packed, unpacked
from uexcli.errors import UsageError
from uexcli.messages import Listener

Uex = Callable[..., Ran]
CPU = torch.device("cpu")
TINY = ("--target", "small:width=8,batch=4", "--epochs", 10)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    labels = ("a", "b", "c")
    return bright(tmp_path / "photos", labels, 11), bright(tmp_path / "release", labels, 11, invert=True)


def read(pair: tuple[Path, Path], folds: int | None) -> tuple[data.Data, ...]:
    return data.read(data.Sources(*map(str, pair), None, None, 16, "fail", folds=folds), CPU, Listener())


def as_bytes(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_each_photo_is_tested_once_and_not_by_who_was_trained_on_it(pair: tuple[Path, Path]) -> None:
    whole = data.read(
        data.Sources(*map(str, pair), str(pair[1]), None, 16, "fail"), CPU, Listener()
    )[0]  # fmt: skip
    folds = read(pair, 4)
    assert len(folds) == 4
    tested = [image for fold in folds for image in as_bytes(fold.test)]
    assert sorted(tested) == sorted(as_bytes(whole.clean))
    partner = dict(zip(as_bytes(whole.clean), as_bytes(whole.protected), strict=True))
    for fold in folds:
        trained = as_bytes(fold.clean)
        assert not set(trained) & set(as_bytes(fold.test)) and len(trained) + len(fold.test) == 33
        assert [partner[image] for image in trained] == as_bytes(fold.protected)  # both sides in one order
        assert fold.labels.bincount().tolist() == [11 - count for count in fold.test_labels.bincount(minlength=3)]
        assert len(fold.keys) == len(trained)


def test_the_folds_stay_the_same_whatever_the_order(pair: tuple[Path, Path]) -> None:
    before = [sorted(as_bytes(fold.test)) for fold in read(pair, 3)]
    assert before == [sorted(as_bytes(fold.test)) for fold in read(pair, 3)]
    assert all(3 * 3 <= len(part) <= 3 * 4 for part in before)  # each class is shared out


def test_copies_of_a_photo_are_in_one_fold(pair: tuple[Path, Path]) -> None:
    for root in pair:
        for number in range(11):
            shutil.copy(root / "a" / f"{number}.png", root / "a" / f"copy-{number}.png")
    for fold in read(pair, 4):
        assert not set(as_bytes(fold.clean)) & set(as_bytes(fold.test))


@pytest.mark.parametrize("sizes", [(3, 3), (4, 2), (2, 2, 2), (1, 1, 1, 1, 1, 1), (4, 3, 2, 1)])
def test_no_fold_is_empty_however_small_the_classes_are(sizes: tuple[int, ...], tmp_path: Path) -> None:
    both = (tmp_path / "photos", tmp_path / "release")
    for number, size in enumerate(sizes):
        for root, invert in zip(both, (False, True), strict=True):
            bright(root, (f"class {number}",), size, invert=invert, first=10 * number)
    assert {len(fold.test) for fold in read(both, None)} <= {1, 2}


def test_a_side_that_some_fold_lacks_is_left_out_of_all(pair: tuple[Path, Path]) -> None:
    whole = read(pair, 4)[0]
    few = [int((whole.labels == number).nonzero()[0]) for number in range(3)]
    small = dataclasses.replace(
        whole, clean=whole.clean[few], protected=whole.protected[few], labels=whole.labels[few],
        keys=tuple(whole.keys[place] for place in few),
    )  # fmt: skip
    wanted = scenario.Wanted(0.6)
    assert "clean part" in scenario.stage(whole, wanted).sides
    for made in (scenario.stage_all(both, wanted) for both in ((whole, small), (small, whole))):
        assert [set(one.sides) for one in made] == [{"clean", "protected"}] * 2


def test_no_fold_has_a_copy_of_its_own(pair: tuple[Path, Path]) -> None:
    folds = read(pair, 4)
    assert len({fold.clean.untyped_storage().data_ptr() for fold in folds}) == 1


@pytest.mark.parametrize(
    ("asked", "count", "wanted"), [(None, 999, 5), (None, 1000, 1), (None, 5, 1), (None, 6, 5), (1, 50, 1), (7, 50, 7)]
)
def test_how_many_folds_there_are(asked: int | None, count: int, wanted: int) -> None:
    assert folds.number(asked, count) == wanted


def test_more_folds_than_photos_are_refused() -> None:
    with pytest.raises(UsageError, match="only 3 photos"):
        folds.number(4, 3)


@pytest.mark.parametrize("words", [("--folds", 0), ("--folds", 3, "--test", "photos"), ("--folds", 34)])
def test_folds_that_cannot_be_meant_are_refused(words: tuple[object, ...], pair: tuple[Path, Path], uex: Uex) -> None:
    ran = uex("eval", *pair, *TINY, *words)
    assert ran.code == 2 and "--folds" in ran.err


def test_an_evaluation_in_folds(pair: tuple[Path, Path], uex: Uex) -> None:
    ran = uex("eval", *pair, *TINY, "--json")
    assert ran.code == 0, ran.err
    (cell,) = ran.json["cells"]
    assert ran.json["folds"] == 5 and ran.json["test_images"] == 33
    run = cell["clean"]["runs"][0]
    assert sum(run["right"]) == round(33 * run["curve"][-1]) and np.sum(run["confusion"]) == 33
    assert "of 5 folds" in ran.err and "may not be told apart" in ran.err
    assert uex("eval", *pair, *TINY, "--json").json["reused"] == 10


def test_progress_goes_forward_whatever_a_target_counts(pair: tuple[Path, Path]) -> None:
    done: list[float] = []

    class Heard(Listener):
        def step(self, progress: plugin.Progress) -> None:
            if progress.stage == "train":
                done.append(progress.done)

    evaluate.run(evaluate.Request(*map(str, pair), targets=("simclr:epochs=2,width=4",), folds=2), Heard())
    assert len(done) > 20 and done == sorted(done)


def outcome(shown: np.ndarray, **changes: object) -> plugin.Outcome:
    return plugin.Outcome(
        tuple(shown.mean(1).tolist()), 0.5, 1.0, right_images=tuple(packed(torch.from_numpy(row)) for row in shown),
        **changes,
    )  # type: ignore[arg-type]  # fmt: skip


def test_pooled_folds_are_the_run_of_one_long_test_set() -> None:
    drawn = np.random.default_rng(0)
    rights = [drawn.random((4, count)) < 0.6 for count in (10, 13, 8)]
    runs = [
        outcome(shown, right=(3, 2), confusion=((3, 1), (1, 2)), gradient=share, parts={"clean": share})
        for shown, share in zip(rights, (1.0, 0.5, 0.75), strict=True)
    ]
    made = pooled(runs, [10, 13, 8], [20, 17, 22])
    whole = np.concatenate(rights, 1)
    assert made.curve == pytest.approx(whole.mean(1).tolist())
    assert [unpacked(row, 31).tolist() for row in made.right_images] == whole.tolist()
    assert made.early_stop == early_stop(torch.from_numpy(whole))
    assert made.right == (9, 6) and made.confusion == ((9, 3), (3, 6)) and made.seconds == 3
    assert made.gradient == 0.5 and made.auc is None
    assert made.parts["clean"] == pytest.approx((20 * 1.0 + 17 * 0.5 + 22 * 0.75) / 59)


def test_folds_of_a_target_that_tells_no_images_are_weighted() -> None:
    runs = [plugin.Outcome((0.5, 1.0), 1.0, 1.0), plugin.Outcome((0.25, 0.0), 0.0, 1.0)]
    made = pooled(runs, [30, 10], [10, 30])
    assert made.curve == pytest.approx((0.4375, 0.75)) and made.train_accuracy == pytest.approx(0.25)
    assert made.right_images == () and made.early_stop is None
    marked = [plugin.Outcome((0.5, 1.0), 1.0, 1.0, right_images=("ff", text)) for text in ("ff", "no bits")]
    assert pooled(marked, [8, 8], [8, 8]).curve == pytest.approx((0.5, 1.0))  # of a file that was changed
