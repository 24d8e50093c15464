"""The ways in which a result may be wrong, and what to do about each; see docs/eval.md."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from uexcli.commands.eval_data import Data
from uexcli.core.statistics import interval

if TYPE_CHECKING:
    from uexcli.commands.evaluate import Cell, Side

FITTED = 0.9  # of the own training images that a net must get right to have been trained long enough
FEW = 100  # test images
TOLD, ALIKE, UNCLEAR = "told", "alike", "unclear"  # what the figures of a cell are worth
REACHED = 0.5  # of the bound that some image must come to, where photos were resized


def doubts(cells: Sequence[Cell], base: float, tests: int, *, faces: bool = False) -> list[str]:
    """Look at what was measured on so many test images, and on pairs of faces."""
    found = [*_of_cells(cells, base, tests), *_of_strength(cells, tests)]
    mute = sorted({cell.target for cell in cells if faces and not cell.clean.has("auc")})
    return [*found, *(f"target '{name}' has no features: pairs of faces are not compared" for name in mute)]


def of_data(data: Data) -> list[str]:
    """Look at the images, before anything is trained on them."""
    found = []
    tests = len(data.test_labels)
    if torch.equal(data.clean, data.protected):
        found.append("clean and protected images are the same at this size: there is no noise to measure")
    elif data.levels is not None:
        pairs = zip(data.protected.split(1024), data.clean.split(1024), strict=True)
        most = max(int((after.short() - before.short()).abs().max()) for after, before in pairs)
        if most < REACHED * data.levels:
            found.append(
                f"no image comes near the bound: at most {most} of {data.levels} levels at this size; "
                "was the release re-encoded, or is --size far below the photos'?"
            )
    if tests < FEW:
        found.append(f"only {tests} test images: accuracies are uncertain by about {100 / tests**0.5:.0f} points")
    leaked = _leaked(data)
    if leaked:
        found.append(
            f"{leaked} test images are, pixel for pixel at this size, among the training images: "
            "memory passes for learning; test on others"
        )
    return found


def _leaked(data: Data) -> int:
    """Count the test images that are trained on."""
    trained = _digests(data.clean) | _digests(data.protected)
    return sum(digest in trained for digest in _digests(data.test, list))


def _digests(images: torch.Tensor, kind: type = set) -> Any:
    return kind(hashlib.sha256(image.tobytes()).digest() for image in images.cpu().numpy())


def _of_cells(cells: Sequence[Cell], base: float, tests: int) -> list[str]:
    found = []
    for cell in cells:
        where = f"under '{cell.against}', target '{cell.target}',"
        clean, protected = ([run.last for run in side.runs] for side in (cell.clean, cell.protected))
        if cell.learnability_peak is None:
            found.append(f"{where} the clean baseline is not above chance, so nothing can be said; train longer")
            continue
        worth = verdict(cell.clean, cell.protected, cell.learnability_peak, base, tests)
        if worth == UNCLEAR:
            found.append(f"{where} the clean baseline is within the uncertainty of chance; train longer")
        elif worth == ALIKE:
            found.append(
                f"{where} clean and protected differ by less than they are uncertain: they cannot be told apart; "
                "take more test images, or more --seeds"
            )
        if cell.protected.mean("last") - cell.clean.mean("last") > _together(clean, protected, tests):
            found.append(
                f"{where} the protected images are learnt better than the clean ones: "
                "the training on the clean ones broke down, or ended too early"
            )
        if cell.protected.mean("train_accuracy") < FITTED and not cell.hinders:
            found.append(
                f"{where} the target fits only {cell.protected.mean('train_accuracy'):.1%} of the "
                "protected training images: it may not have been trained long enough to tell"
            )
        for side in (cell.clean, cell.protected):
            if any(run.gradient is not None and run.gradient < FITTED for run in side.runs):
                found.append(f"{where} the net has no gradient at some images: it may have broken down")
                break
    return found


def verdict(clean: Side, protected: Side, peak: float | None, base: float, tests: int) -> str:
    """Say what a cell is worth: `unclear` if its clean side may be chance, `alike` if its sides are not told apart."""
    first, second = ([run.last for run in side.runs] for side in (clean, protected))
    if peak is None or clean.mean("last") < base + interval(first, tests):
        return UNCLEAR
    apart = abs(clean.mean("last") - protected.mean("last"))
    return ALIKE if apart < _together(first, second, tests) else TOLD


def _together(clean: list[float], protected: list[float], tests: int) -> float:
    return float((interval(clean, tests) ** 2 + interval(protected, tests) ** 2) ** 0.5)


def _of_strength(cells: Sequence[Cell], tests: int) -> list[str]:
    """Compare countermeasures that differ in strength alone: the stronger one should undo no less."""
    found = []
    for weak in cells:
        for strong in cells:
            if weak.target != strong.target or not _weaker(weak, strong):
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
