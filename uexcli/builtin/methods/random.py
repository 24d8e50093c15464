"""Random noise: the control that every paper compares with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Method, OnStep, Problem, Progress, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Random(Method):
    """One uniform draw per row, scaled to the bound; no training."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "uniform noise at the bound, one draw per row: the control"
    paper: ClassVar[str] = "Huang et al., Unlearnable Examples, ICLR 2021"
    needs_surrogate: ClassVar[bool] = False

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Draw and scale."""
        delta = problem.fill(problem.start(random=True))
        on_step(Progress(1, 1))
        return delta


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Random]
