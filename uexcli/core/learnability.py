"""What share of what could be learnt is still learnt."""

from __future__ import annotations

from torch import Tensor


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
