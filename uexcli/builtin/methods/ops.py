"""OPS: one-pixel shortcut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin import Method, OnStep, Problem, Progress, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor, nn

TINY = 1e-12


@dataclass(frozen=True)
class OnePixel(Method):
    """All images of a class get one pixel of the same colour at the same place.

    Of all places and the corners v of the colour cube, a class takes the pair with the largest mean(|v - x|) over
    std(|v - x|), over its images and the channels, that no class before it took. New images of a class can be
    protected too.
    """

    name: ClassVar[str] = "ops"
    summary: ClassVar[str] = "one pixel per class, set to one colour in all its images; no surrogate, takes seconds"
    undone_by: ClassVar[tuple[str, ...]] = ("dead-pixel",)
    paper: ClassVar[str] = "Wu et al., One-Pixel Shortcut, ICLR 2023, arXiv 2205.12141"
    needs_surrogate: ClassVar[bool] = False
    default_norm: ClassVar[str] = "l0"
    modes: ClassVar[tuple[str, ...]] = ("classwise", "clusterwise")
    norms: ClassVar[tuple[str, ...]] = ("l0",)
    gives_network: ClassVar[bool] = True
    takes_patches: ClassVar[bool] = False
    seeded: ClassVar[bool] = False

    pixels: int = option(1, "how many pixels per class")

    def __post_init__(self) -> None:
        """Refuse no pixel."""
        if self.pixels < 1:
            raise ValueError("pixels must be at least 1")

    def usual_eps(self, channels: int, size: int) -> str:
        """As many pixels."""
        return str(self.pixels)

    def network(self, *, channels: int, size: int, num_rows: int) -> nn.Module:
        """Build the painter of pixels."""
        from uexcli.builtin.methods._row_networks import Pixels

        return Pixels(num_rows, self.pixels, channels)

    def fit(self, problem: Problem, on_step: OnStep) -> nn.Module:
        """Search, row by row, on sums and squares taken once."""
        import torch

        _, channels, side, _ = problem.shape
        sums, squares, counts = _moments(problem)
        corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * channels).view(-1, channels)
        network: Any = self.network(channels=channels, size=side, num_rows=problem.num_rows)
        free = torch.ones(side * side, len(corners), dtype=torch.bool)
        for row in range(problem.num_rows):
            scores = torch.stack([_score(sums[row], squares[row], counts[row], corner) for corner in corners], 1)
            open_here = free.clone()
            for pixel in range(self.pixels):
                if not bool(open_here.any()):  # more classes than pairs: they must share
                    open_here = torch.ones_like(free)
                best = int(scores.where(open_here, torch.tensor(-1.0)).argmax())
                place, corner = divmod(best, len(corners))
                network.places[row, pixel] = place
                network.colours[row, pixel] = corners[corner]
                open_here[place] = False  # a row's pixels lie at different places
                free[place, corner] = False
            on_step(Progress(row + 1, problem.num_rows))
        made: nn.Module = network
        return made


def _moments(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Sum values and squares per row, float64 `(R, C, S * S)` each, and count its images, `(R,)`."""
    import torch

    _, channels, side, _ = problem.shape
    sums = torch.zeros(problem.num_rows, channels, side * side, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    for batch in problem.batches(problem.chunk):
        images = problem.inputs(batch).cpu().double().flatten(2)
        rows = problem.rows[batch].cpu()
        sums.index_add_(0, rows, images)
        squares.index_add_(0, rows, images.square())
    counts = problem.rows.cpu().bincount(minlength=problem.num_rows)
    return problem.reduce(sums), problem.reduce(squares), problem.reduce(counts)


def _score(sums: Tensor, squares: Tensor, count: Tensor, corner: Tensor) -> Tensor:
    """Give mean(|v - x|) / std(|v - x|) per place, float64 `(S * S,)`, for the corner v; |v - x| is x or 1 - x."""
    ones = corner.view(-1, 1).bool()
    first = (count - sums).where(ones, sums)
    second = (count - 2 * sums + squares).where(ones, squares)
    values = count * len(corner)
    mean = first.sum(0) / values
    spread = (second.sum(0) / values - mean.square()).clamp(min=TINY).sqrt()
    return mean / spread


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [OnePixel]
