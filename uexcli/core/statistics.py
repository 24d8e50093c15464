"""How sure a mean accuracy is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's t, two-sided, by degrees of freedom from 1


def interval(values: Sequence[float], tests: int) -> float:
    """Give half of the 95 % interval of a mean accuracy in [0, 1] over seeds, on `tests` test images.

    The spread over seeds and the sampling of the test images, as if they were independent. With one seed only the
    second is known.
    """
    mean = min(1.0, max(0.0, fmean(values)))
    sampling = 1.96 * math.sqrt(mean * (1 - mean) / tests)
    if len(values) < 2:
        return sampling
    student = T95[len(values) - 2] if len(values) - 2 < len(T95) else 2.0
    return math.hypot(sampling, student * stdev(values) / math.sqrt(len(values)))
