"""What the adversaries of adversarial training share."""

from __future__ import annotations

from fractions import Fraction


def bound(text: str) -> float:
    """Read a bound such as 8/255.

    Raises:
        ValueError: it is no number above 0 and below 1.
    """
    try:
        value = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"eps {text} is not a number such as 8/255") from None
    if not 0 < value < 1:
        raise ValueError(f"eps {text} is not between 0 and 1")
    return value
