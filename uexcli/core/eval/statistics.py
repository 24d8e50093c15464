"""How sure an accuracy is, and how sure the learnability that two of them give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np

NORMAL = 1.96  # two-sided 95 %
T95 = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
)  # Student's t, two-sided, by degrees of freedom from 1
PAIRS = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])  # what can become of one image on two sides
ADDED = 0.5  # images of each kind


def interval(values: Sequence[float], tests: int) -> float:
    """Give half of the 95 % interval of a mean accuracy in [0, 1] over seeds, on `tests` test images.

    The spread over seeds and the sampling of the test images, as if they were independent. With one seed only the
    second is known: after Agresti and Coull, who count two successes and two failures more, so that it is never 0.
    """
    mean = (fmean(values) * tests + 2) / (tests + 4)
    sampling = NORMAL * math.sqrt(mean * (1 - mean) / (tests + 4))
    if len(values) < 2:
        return sampling
    return math.hypot(sampling, student(len(values) - 1) * stdev(values) / math.sqrt(len(values)))


def student(freedom: int) -> float:
    """Give the two-sided 95 % quantile of Student's t, for 1 degree of freedom or more."""
    return T95[min(freedom, len(T95)) - 1]


def told_apart(tests: int) -> float:
    """Give the difference of two accuracies, in [0, 1], that so many test images can tell at the least.

    Planned before anything is known: two accuracies of a half, on images that have nothing to do with each other.
    """
    return NORMAL * math.sqrt(2 * 0.25 / tests)


def learnability_interval(protected: np.ndarray, clean: np.ndarray, base: float) -> tuple[float, float] | None:
    """Give the 95 % interval of (protected - base) / (clean - base); None: clean is not above `base` beyond doubt.

    Both are bool `(S, N)`: which of N test images are right, after the training with each of S seeds. A ratio of two
    uncertain numbers has no symmetric interval: it is Fieller's (1954), all ratios r for which protected - base may be
    r times clean - base. The variances are of images and of seeds as two crossed random effects: both sides share the
    images, so that what is easy for both cancels; with one seed it holds for the nets that were trained. Half an image
    of each kind (right or wrong on either side) is added, after Agresti and Min (2005), so that no interval is empty
    where all images are right or wrong.
    """
    seeds, images = clean.shape
    both = np.stack([protected, clean]).astype(float)  # (2, S, N)
    shown = np.concatenate([both.mean(1), PAIRS], 1)  # (2, N + 4)
    weights = np.concatenate([np.ones(images), np.full(PAIRS.shape[1], ADDED)])
    total = weights.sum()
    means = (shown * weights).sum(1) / total
    apart = shown - means[:, None]
    spread = NORMAL**2 * ((apart * weights) @ apart.T) / total**2  # squared half-widths, and what they share
    if seeds > 1:
        by_seed, by_image, whole = both.mean(2), both.mean(1), both.mean((1, 2))
        off = by_seed - whole[:, None]
        rest = (both - by_seed[:, :, None] - by_image[:, None, :] + whole[:, None, None]).reshape(2, -1)
        spread += student(seeds - 1) ** 2 * (off @ off.T) / ((seeds - 1) * seeds)
        # what neither seed nor image explains is in both of the terms above
        spread -= NORMAL**2 * (rest @ rest.T) / ((seeds - 1) * max(1, images - 1) * seeds * images)
    found = _ratio(float(both[0].mean()) - base, float(both[1].mean()) - base)
    return _fieller(means - base, spread, found)


def learnability_interval_of_accuracies(
    protected: Sequence[float], clean: Sequence[float], tests: int, base: float
) -> tuple[float, float] | None:
    """Give the same where only mean accuracies are known: as if both sides had test images of their own, and wider."""
    means = np.array([fmean(protected), fmean(clean)]) - base
    spread = np.diag([interval(protected, tests) ** 2, interval(clean, tests) ** 2])
    return _fieller(means, spread, _ratio(*means))


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def _fieller(means: np.ndarray, spread: np.ndarray, found: float | None) -> tuple[float, float] | None:
    """Give the ratios that two uncertain numbers may have; `found` is among them."""
    above, below = map(float, means)
    scale = below**2 - float(spread[1, 1])
    if found is None or below <= 0 or scale <= 0:
        return None
    middle = above * below - float(spread[0, 1])
    root = math.sqrt(max(0.0, middle**2 - scale * (above**2 - float(spread[0, 0]))))
    return min((middle - root) / scale, found), max((middle + root) / scale, found)
