"""What share of what could be learnt is still learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

HALVINGS = 20


def chance(labels: Tensor) -> float:
    """The accuracy of always naming the largest class; labels int64 `(N,)`."""
    return float(labels.bincount().max()) / len(labels)


def learnability(protected: float, clean: float, base: float) -> float | None:
    """Rescale what is right so that chance is 0 and the clean run is 1: (protected - chance) / (clean - chance).

    Whole numbers of images are best: an accuracy that is chance itself may come out a hair above it, by rounding.
    Negative where the protected run is below chance; None where the clean one is not above it: nothing can be said.
    """
    if clean <= base:
        return None
    return (protected - base) / (clean - base)


def renamed(confusion: Sequence[Sequence[int]]) -> float:
    """Give the accuracy that is left once each class that a net names is read as the one class that suits best.

    No two are read as the same. `confusion` counts test images of a class (rows) by what they were taken for, `(K, K)`.
    The renaming is chosen on half of the images of each class and judged on the others, over several draws of the
    halves: judged on those it was chosen on, it would flatter a net that only guesses.
    """
    from scipy.optimize import linear_sum_assignment  # scikit-learn needs it, too

    table, draws = np.asarray(confusion), np.random.default_rng(0)
    right = total = 0
    for _ in range(HALVINGS):
        half = np.stack([draws.multivariate_hypergeometric(row, row.sum() // 2) for row in table])
        for known, other in ((half, table - half), (table - half, half)):
            right += int(other[linear_sum_assignment(known, maximize=True)].sum())
        total += int(table.sum())
    return right / total
