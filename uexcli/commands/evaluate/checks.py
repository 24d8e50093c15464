"""The ways in which a result may be wrong, and what to do about each; see docs/eval.md."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from uexcli.commands.evaluate.data import Data
from uexcli.commands.evaluate.verdict import ALIKE, FITTED, UNCLEAR, UNFIT
from uexcli.core.eval.learnability import renamed
from uexcli.core.eval.statistics import interval
from uexcli.wording import plainly

if TYPE_CHECKING:
    from uexcli.commands.evaluate.cell import Cell, Side

FEW = 100  # test images
RENAMED = 0.1  # of the test images
REACHED = 0.5  # of the bound that some image must come to, where photos were resized


def doubts(cells: Sequence[Cell], tests: int, *, faces: bool = False) -> list[str]:
    """Look at what was measured on so many test images, and on pairs of faces."""
    found = [*_of_cells(cells, tests), *_of_strength(cells, tests)]
    mute = sorted({cell.target for cell in cells if faces and not cell.clean.has("auc")})
    return [*found, *(f"target '{name}' has no features: pairs of faces are not compared" for name in mute)]


def of_data(folds: Sequence[Data]) -> list[str]:
    """Look at the images, before anything is trained on them."""
    found = []
    tests = sum(len(data.test_labels) for data in folds)
    levels = folds[0].levels
    if all(torch.equal(data.clean, data.protected) for data in folds):
        found.append("clean and protected images are the same at this size: there is no noise to measure")
    elif levels is not None and (most := max(map(_most, folds))) < REACHED * levels:
        found.append(
            f"no image comes near the bound: at most {most} of {levels} levels at this size; "
            "was the release re-encoded, or is `size` far below the photos'?"
        )
    if tests < FEW:
        found.append(f"only {tests} test images: accuracies are uncertain by about {100 / tests**0.5:.0f} points")
    leaked = sum(map(_leaked, folds))
    if leaked:
        found.append(
            f"{leaked} test images are, pixel for pixel at this size, among the training images: "
            "memorised images count as learnt; use a different test set"
        )
    return found


def _most(data: Data) -> int:
    """Give the largest difference of a value, in levels."""
    pairs = zip(data.protected.split(1024), data.clean.split(1024), strict=True)
    return max(int((after.short() - before.short()).abs().max()) for after, before in pairs)


def _leaked(data: Data) -> int:
    """Count the test images that are trained on."""
    trained = _digests(data.clean) | _digests(data.protected)
    return sum(digest in trained for digest in _digests(data.test, list))


def _digests(images: torch.Tensor, kind: type = set) -> Any:
    return kind(hashlib.sha256(image.tobytes()).digest() for image in images.cpu().numpy())


def _of_cells(cells: Sequence[Cell], tests: int) -> list[str]:
    found = []
    for cell in cells:
        where = f"under {plainly(cell.against)}, target '{cell.target}'{cell.at and ', '}{cell.at},"
        clean, protected = ([run.last for run in side.runs] for side in (cell.clean, cell.protected))
        if cell.learnability_peak is None:
            found.append(f"{where} the clean baseline is not above chance, so nothing can be told; train longer")
            continue
        fitted = cell.protected.mean("train_accuracy")
        if cell.verdict == UNCLEAR:
            found.append(
                f"{where} the clean baseline is within the uncertainty of chance, so nothing can be told; train longer"
            )
        elif cell.verdict == ALIKE:
            found.append(
                f"{where} clean and protected differ by less than they are uncertain: they cannot be told apart; "
                "take more test images, or more `seeds`"
            )
        if cell.protected.mean("last") - cell.clean.mean("last") > _together(clean, protected, tests):
            found.append(
                f"{where} the protected images are learnt better than the clean ones: "
                "the training on the clean ones broke down, or ended too early"
            )
        if fitted < FITTED and not cell.hinders:
            what = ", so nothing can be told" if cell.verdict == UNFIT else ""
            found.append(
                f"{where} the target fits only {fitted:.1%} of the protected training images{what}: "
                "it may not have been trained long enough"
            )
        if (better := _renamed(cell, tests)) is not None:
            found.append(
                f"{where} {better:.1%} of the test images are right once the classes it names are renamed: it takes "
                "one class for another, and who has a clean photo or two of each sees which"
            )
        if broken(cell.clean, cell.protected):
            what = ", so nothing can be told" if cell.verdict == UNFIT else ""
            found.append(f"{where} the net has no gradient at some images: it may have broken down{what}")
    return found


def _renamed(cell: Cell, tests: int) -> float | None:
    """Give what is right on the protected side after a renaming of the classes, where that is clearly more."""
    tables = [run.confusion for run in cell.protected.runs]
    if not all(tables):
        return None
    best = fmean(map(renamed, tables))
    as_it_is = max(cell.protected.mean("last"), cell.chance)
    sure = 2 * interval([run.last for run in cell.protected.runs], tests)
    return best if best - as_it_is > max(RENAMED, sure) else None


def broken(*sides: Side) -> bool:
    """Whether some net has no gradient, or none that is a number, at some of its images in the end."""
    return any(run.gradient is not None and run.gradient < FITTED for side in sides for run in side.runs)


def _together(clean: list[float], protected: list[float], tests: int) -> float:
    return float((interval(clean, tests) ** 2 + interval(protected, tests) ** 2) ** 0.5)


def _of_strength(cells: Sequence[Cell], tests: int) -> list[str]:
    """Compare countermeasures that differ in strength alone: the stronger one should undo no less."""
    found = []
    for weak in cells:
        for strong in cells:
            if (weak.target, weak.at) != (strong.target, strong.at) or not _weaker(weak, strong):
                continue
            pair = [[run.peak for run in cell.protected.runs] for cell in (weak, strong)]
            margin = (interval(pair[0], tests) ** 2 + interval(pair[1], tests) ** 2) ** 0.5
            if weak.protected.mean("peak") - strong.protected.mean("peak") > max(margin, 0.05):
                found.append(
                    f"the weaker '{weak.against}' undoes more than '{strong.against}', target '{weak.target}': "
                    "the stronger one may want a longer training, or take too much of the images with it"
                )
    return found


def _weaker(weak: Cell, strong: Cell) -> bool:
    if len(weak.strengths) != 1 or len(strong.strengths) != 1:
        return False
    (name, low), (other, high) = weak.strengths[0], strong.strengths[0]
    return name == other and low is not None and high is not None and low < high
