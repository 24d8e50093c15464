"""LSP: linearly separable synthetic perturbations, without any net."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.methods._passes import majority
from uexcli.plugin import Method, OnStep, Problem, Progress, Secret, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 256  # rows written at once: the bank may be bigger than memory


@dataclass(frozen=True)
class Lsp(Method):
    """Coarse coloured blocks whose values are drawn, class by class, from Gaussians that a line separates.

    The draw is that of scikit-learn's `make_classification`: class k has its own corner of {-10, 10}^F as centre and
    its own matrix A_k of U(-1, 1) entries, and a point is centre + z A_k with z ~ N(0, I). Each row of the bank is one
    point of the class its images have most often, repeated to blocks and brought to the bound by the norm.
    """

    name: ClassVar[str] = "lsp"
    summary: ClassVar[str] = "linearly separable coloured blocks; no surrogate, takes seconds"
    undone_by: ClassVar[tuple[str, ...]] = ("class-mean",)
    paper: ClassVar[str] = "Yu et al., Availability Attacks Create Shortcuts, KDD 2022"
    aliases: ClassVar[tuple[str, ...]] = ("synper",)
    needs_surrogate: ClassVar[bool] = False
    default_norm: ClassVar[str] = "l2"

    block: int = option(0, "side of a block in pixels; 0: a quarter of the image up to 64 px, a seventh above")
    separation: float = option(10.0, "how far the class centres lie from the origin, in each feature")

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.block < 0 or self.separation <= 0:
            raise ValueError("block must not be negative, and separation must be above 0")

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Draw one point per row and repeat it to blocks."""
        import torch

        count, channels, height, width = problem.shape
        block = self.block or max(1, height // (4 if height <= 64 else 7))
        across = (math.ceil(height / block), math.ceil(width / block))
        size = channels * math.prod(across)
        secret = problem.secret("lsp")
        row_class = majority(problem)
        points = secret.normal(count, size)
        drawn = torch.empty_like(points)
        for label, centre in enumerate(_corners(problem.num_classes, size, secret)):
            mixing = secret.uniform(size, size)
            mine = row_class == label
            drawn[mine] = centre * self.separation + points[mine] @ mixing
            on_step(Progress(label + 1, problem.num_classes))
        blocks = drawn.view(count, channels, *across)
        delta = problem.bank()
        for begin in range(0, count, AT_ONCE):
            part = blocks[begin : begin + AT_ONCE].repeat_interleave(block, 2).repeat_interleave(block, 3)
            delta[begin : begin + AT_ONCE] = part[:, :, :height, :width].to(delta.device)
            problem.release()
        return problem.fill(delta)


def _corners(count: int, size: int, secret: Secret) -> Tensor:
    """Distinct random corners of {-1, 1}^size, float `(count, size)`."""
    import torch

    corners: list[Tensor] = []
    seen: set[bytes] = set()
    for _ in range(count):
        while True:
            corner = secret.integers(2, size)
            name = corner.numpy().tobytes()
            if name not in seen or len(seen) == 2 ** min(size, 62):  # more classes than corners must share
                break
        seen.add(name)
        corners.append(corner)
    return torch.stack(corners).float() * 2 - 1


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Lsp]
