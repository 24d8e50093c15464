"""How often the 95 % interval of learnability holds what is true: `python -m benchmarks.coverage --out CELLS.json`.

Draws what nets get right on test images: each image has a difficulty of its own that both sides share in part, each
training an effect of its own, each epoch another. What is true is known then: with one seed that of the nets that were
trained, with more that of all nets which this recipe trains. The last lines are of a clean net at chance: how often is
it held for one that learnt something, and how often would a gate pass?
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import Columns, table_of
from uexcli.core.eval.statistics import learnability_interval

BASE = 0.1  # ten classes
HARD = 1.5  # standard deviation of the difficulty, in logits
EPOCHS = 5  # at the end, of which the best is the peak
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
GATE = 0.5


@dataclass(frozen=True)
class Case:
    """What two nets know, in logits: of an image of middling difficulty."""

    clean: float
    protected: float
    shared: float  # correlation of an image's difficulty to both
    seeds: float  # standard deviation of a training's effect
    epochs: float = 0.05  # and of an epoch's


CASES = {
    "half is learnt": Case(0.8, -0.6, 0.7, 0.15),
    "little is learnt": Case(1.5, -2.3, 0.3, 0.10),
    "all is learnt": Case(1.0, 1.0, 0.9, 0.10),
    "a probe, 98 and 97 percent": Case(5.2, 4.7, 0.8, 0.20),
}


def logistic(value: np.ndarray) -> np.ndarray:
    """Accuracy of a logit."""
    return np.asarray(1 / (1 + np.exp(-value)))


def accuracy(logits: np.ndarray) -> np.ndarray:
    """The accuracy over all images, of nets with these logits: any shape to the same."""
    return np.asarray((logistic(logits[..., None] + HARD * NODES) * WEIGHTS).sum(-1))


def expected(middle: float, spread: float) -> float:
    """The accuracy over all images and all trainings."""
    return float((accuracy(middle + spread * NODES) * WEIGHTS).sum())


def draw(
    case: Case, seeds: int, tests: int, rng: np.random.Generator, epochs: int = EPOCHS
) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits of each training and epoch, `(2, S, E)`, and what is right, bool `(2, S, E, N)`; protected first."""
    own = rng.standard_normal((2, tests), np.float32)
    hard = np.float32(HARD) * np.stack([case.shared * own[1] + (1 - case.shared**2) ** 0.5 * own[0], own[1]])
    logits = np.array([case.protected, case.clean])[:, None] + case.seeds * rng.standard_normal((2, seeds))
    each = (logits[:, :, None] + case.epochs * rng.standard_normal((2, seeds, epochs))).astype(np.float32)
    return each, rng.random((2, seeds, epochs, tests), np.float32) < logistic(each[..., None] + hard[:, None, None])


def covered(case: Case, seeds: int, tests: int, draws: int, what: str) -> dict[str, float]:
    """Count how often the interval holds what is true; `what` is `last` or `peak`."""
    rng = np.random.default_rng([seeds, tests])
    held, told, width = 0, 0, 0.0
    best = np.sort(rng.standard_normal((100_000, EPOCHS)).max(1)).mean() * case.epochs if what == "peak" else 0.0
    spread = float(np.hypot(case.seeds, case.epochs))
    for _ in range(draws):
        epochs, right = draw(case, seeds, tests, rng, 1 if what == "last" else EPOCHS)
        if what == "last":
            true, shown = accuracy(epochs[:, :, -1]).mean(1), right[:, :, -1]
            every = [expected(middle, spread) for middle in (case.protected, case.clean)]
        else:
            at = right.mean(3).argmax(2)
            true = accuracy(epochs.max(2)).mean(1)
            shown = np.take_along_axis(right, at[:, :, None, None], 2)[:, :, 0]
            every = [expected(middle + best, case.seeds) for middle in (case.protected, case.clean)]
        protected, clean = true if seeds == 1 else every
        found = learnability_interval(shown[0], shown[1], BASE)
        if found is not None:
            told += 1
            held += found[0] <= (protected - BASE) / (clean - BASE) <= found[1]
            width += found[1] - found[0]
    return {"told": told / draws, "covered": held / max(1, told), "width": width / max(1, told)}


def at_chance(seeds: int, tests: int, draws: int) -> dict[str, float]:
    """Count how often a clean net at chance is held for one that learnt something, and a gate then passes."""
    rng = np.random.default_rng([seeds, tests, 1])
    told = passed = 0
    for _ in range(draws):
        shown = rng.random((2, seeds, tests)) < BASE
        found = learnability_interval(shown[0], shown[1], BASE)
        told += found is not None
        passed += found is not None and min(1.0, found[1]) <= GATE
    return {"told": told / draws, "passed": passed / draws}


def main() -> None:
    """Measure, print a table, write the cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    cells: list[dict[str, Any]] = []
    for seeds in (1, 3):
        for tests in (100, 600, 2000):
            for name, case in CASES.items():
                for what in ("last", "peak"):
                    found = covered(case, seeds, tests, given.draws, what)
                    cells.append({"case": name, "seeds": seeds, "tests": tests, "at": what, **found})
            chance = at_chance(seeds, tests, given.draws)
            cells.append({"case": "clean at chance", "seeds": seeds, "tests": tests, **chance})
    columns: Columns = (
        ("case", lambda cell: cell["case"]),
        ("seeds", lambda cell: str(cell["seeds"])),
        ("test images", lambda cell: f"{cell['tests']:,}"),
        ("at", lambda cell: cell["at"]),
        ("told", lambda cell: f"{cell['told']:.1%}"),
        ("covered", lambda cell: f"{cell['covered']:.1%}"),
        ("width", lambda cell: f"{cell['width']:.2f}"),
        ("gate passes", lambda cell: f"{cell['passed']:.1%}"),
    )
    print(table_of(columns, cells))
    if given.out is not None:
        given.out.write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    main()
