"""CUDA: filters instead of noise (the word is a name, not the driver)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin import Method, OnStep, Problem, Progress, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALL_SIDE = 96


@dataclass(frozen=True)
class Filters(Method):
    """All images of a class are blurred by one random filter, drawn from the seed, the private key.

    A filter has entries of U(0, blur), one of which is set to 1, the same for all channels; the filtered image, zeros
    outside, is divided by its largest value. That is visible, and inside no small bound: under the default norm
    nothing is promised but what is measured. New images of a class can be protected too.
    """

    name: ClassVar[str] = "cuda"
    summary: ClassVar[str] = "one random blur per class: visible, and without a bound; no surrogate, takes seconds"
    undone_by: ClassVar[tuple[str, ...]] = ("randsharp", "coin")
    paper: ClassVar[str] = "Sadasivan et al., CUDA: Convolution-based Unlearnable Datasets, CVPR 2023, arXiv 2303.04278"
    needs_surrogate: ClassVar[bool] = False
    default_norm: ClassVar[str] = "unbounded"
    modes: ClassVar[tuple[str, ...]] = ("classwise", "clusterwise")
    gives_network: ClassVar[bool] = True
    takes_patches: ClassVar[bool] = False

    kernel: int | None = option(None, "side of the filters, odd; auto: 3 up to 96 px, 9 above")
    blur: float | None = option(None, "largest entry of a filter but the 1; auto: .3 up to 96 px, .06 above")

    def __post_init__(self) -> None:
        """Refuse what is no filter."""
        if self.kernel is not None and (self.kernel < 3 or self.kernel % 2 == 0):
            raise ValueError("kernel must be odd, and at least 3")
        if self.blur is not None and not 0 < self.blur <= 1:
            raise ValueError("blur must be above 0, and at most 1")

    def network(self, *, channels: int, size: int, num_rows: int) -> nn.Module:
        """Build the filters."""
        from uexcli.builtin.methods._row_networks import Filtered

        return Filtered(num_rows, self.kernel or (3 if size <= SMALL_SIDE else 9))

    def fit(self, problem: Problem, on_step: OnStep) -> nn.Module:
        """Draw one filter per row."""
        _, channels, side, _ = problem.shape
        network: Any = self.network(channels=channels, size=side, num_rows=problem.num_rows)
        for row in range(problem.num_rows):
            network.filters[row] = self._draw(problem, row, network.filters.shape[-1], side)
            on_step(Progress(row + 1, problem.num_rows))
        made: nn.Module = network
        return made

    def _draw(self, problem: Problem, row: int, kernel: int, side: int) -> Tensor:
        secret = problem.secret(f"filter {row}")
        drawn = (secret.uniform(kernel * kernel) + 1) / 2 * (self.blur or (0.3 if side <= SMALL_SIDE else 0.06))
        drawn[secret.integers(kernel * kernel, 1)] = 1
        return drawn.view(kernel, kernel)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Filters]
