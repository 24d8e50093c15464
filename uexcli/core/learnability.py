"""What share of what could be learnt is still learnt."""

from __future__ import annotations

from torch import Tensor


def chance(labels: Tensor) -> float:
    """The accuracy of always naming the largest class; labels int64 `(N,)`."""
    return float(labels.bincount().max()) / len(labels)


def learnability(protected: float, clean: float, base: float) -> float:
    """Rescale an accuracy so that chance is 0 and the clean run is 1: (protected - chance) / (clean - chance).

    Negative where the protected run is below chance. `clean` must be above `base`.
    """
    return (protected - base) / (clean - base)
