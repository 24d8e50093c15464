"""How sure a mean accuracy is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

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


def interval(values: Sequence[float], tests: int) -> float:
    """Give half of the 95 % interval of a mean accuracy in [0, 1] over seeds, on `tests` test images.

    The spread over seeds and the sampling of the test images, as if they were independent. With one seed only the
    second is known: after Agresti and Coull, who count two successes and two failures more, so that it is never 0.
    """
    mean = (fmean(values) * tests + 2) / (tests + 4)
    sampling = 1.96 * math.sqrt(mean * (1 - mean) / (tests + 4))
    if len(values) < 2:
        return sampling
    student = T95[len(values) - 2] if len(values) - 2 < len(T95) else T95[-1]
    return math.hypot(sampling, student * stdev(values) / math.sqrt(len(values)))
