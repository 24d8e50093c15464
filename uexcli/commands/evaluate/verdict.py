"""What the figures of a cell are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

FITTED = 0.9  # of the own training images that a net must get right to have been trained long enough


BADLY, BEHIND = 2 / 3, 0.05  # below this it was not trained; so far behind the clean images not like them


TOLD, ALIKE, UNCLEAR, UNFIT = "told", "alike", "unclear", "unfit"  # what the figures of a cell are worth


def verdict(
    last: tuple[float, float] | None,
    peak: tuple[float, float] | None,
    fitted: tuple[float, float],
    *,
    hinders: bool,
    broken: bool = False,
) -> str:
    """Say what a cell is worth, by the intervals of its learnability and how well the net fits what it was trained on.

    `fitted` are the shares of the clean and of the protected training images that are right in the end.

    `unclear`: the clean side may be chance. `alike`: all may still be learnt, at the last epoch and at the best.
    `unfit`: less is learnt, by a net that had not learnt its own protected training images, or far fewer of them than
    of the clean ones, or that is `broken` in the end. Else `told`.
    """
    if last is None or peak is None:
        return UNCLEAR
    if last[1] >= 1 and peak[1] >= 1:
        return ALIKE
    clean, protected = fitted
    badly = protected < BADLY or (protected < FITTED and protected < clean - BEHIND)
    return UNFIT if broken or (badly and not hinders) else TOLD
