"""What the adversaries of adversarial training share."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NORMS = {"linf": 1.0, "l2": 1000.0}  # the largest bound that can be meant


def bound(text: str, most: float = 1.0) -> float:
    """Read a bound such as 8/255.

    Raises:
        ValueError: it is no number above 0 and below `most`.
    """
    try:
        value = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"eps {text} is not a number such as 8/255") from None
    if not 0 < value < most:
        raise ValueError(f"eps {text} is not between 0 and {most:g}")
    return value


def length(noise: Tensor) -> Tensor:
    """Give the Euclidean norm of each, float `(B, C, S, S)` to `(B, 1, 1, 1)`, a little above 0 at least."""
    norm: Tensor = noise.flatten(1).norm(dim=1).clamp(min=1e-12)
    return norm.view(-1, 1, 1, 1)
