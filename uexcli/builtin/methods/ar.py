"""AR: autoregressive noise, which a single convolution can tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Method, OnStep, Problem, Progress, Secret, UexError, hookimpl, option
from uexcli.builtin.methods._run import majority

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32  # the published constants are for noise of this side
MARGIN = 4  # lines and columns that still show where the noise started, and are dropped
TRIED = 3  # fields of a new kernel that are looked at
AT_A_TIME = 128  # kernels drawn at once
PATIENCE = 100  # such draws in vain
AT_ONCE = 1024 * SIDE**2  # pixels written at once


@dataclass(frozen=True)
class Autoregressive(Method):
    """Each value follows from its 8 neighbours above and to the left, by a 3x3 kernel per class and channel.

    The kernel with -1 at its last place is a filter that answers 0 everywhere on noise of its own class, and loudly on
    that of others. Kernels are drawn until the noise is neither huge nor quiet under the filters of the classes before.
    Every row starts from noise of its own, and is brought to the bound by the norm. The noise depends on the class
    alone, not on the image.
    """

    name: ClassVar[str] = "ar"
    summary: ClassVar[str] = "autoregressive noise: one small filter per class; no surrogate, takes seconds"
    paper: ClassVar[str] = "Sandoval-Segura et al., Autoregressive Perturbations for Data Poisoning, NeurIPS 2022"
    needs_surrogate: ClassVar[bool] = False
    default_norm: ClassVar[str] = "l2"

    response: float | None = option(None, "least answer of other classes' filters; auto: 10, or 3 above 10 classes")
    largest: float = option(50.0, "largest L2 length of noise of 32 px before it is scaled")

    def __post_init__(self) -> None:
        """Refuse what no kernel meets."""
        if self.largest <= 0 or (self.response is not None and self.response < 0):
            raise ValueError("largest must be above 0, and response not below")

    def usual_eps(self, channels: int, size: int) -> str:
        """1.0 at 32 px, and as the paper has it 3.0 at 96 px: the same change per value."""
        return f"{size / SIDE:.4g}"

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Draw the kernels, then a field per row."""

        count, channels, side, _ = problem.shape
        secret = problem.secret("ar")
        kernels = self._draw(problem.num_classes, channels, side, secret, on_step)
        row_class = majority(problem)
        delta = problem.bank()
        size = max(1, AT_ONCE // side**2)
        for begin in range(0, count, size):
            mine = slice(begin, min(begin + size, count))
            start = secret.normal(mine.stop - begin, channels, side + MARGIN, side + MARGIN)
            delta[mine] = grown(start, kernels[row_class[mine]])[..., MARGIN:, MARGIN:].to(delta.device)
            problem.release()
            on_step(Progress(1 + mine.stop / count, 2, "growing the noise"))
        on_step(Progress(2, 2))
        return problem.fill(delta)

    def _draw(self, classes: int, channels: int, side: int, secret: Secret, on_step: OnStep) -> Tensor:
        """Draw kernels that tell classes apart: float `(K, C, 3, 3)`."""
        import torch

        wanted = self.response if self.response is not None else (10.0 if classes <= 10 else 3.0)
        found: list[Tensor] = []
        vain = 0
        while vain < PATIENCE:
            kernels = secret.normal(AT_A_TIME, channels, 3, 3)
            kernels[:, :, 2, 2] = 0
            kernels /= kernels.sum((2, 3), keepdim=True)
            fields = _fields(kernels, SIDE, secret)
            calm = (_longest(fields) <= self.largest).nonzero().flatten()
            if side > SIDE:  # what is calm at 32 px may still grow beyond
                wide = _longest(_fields(kernels[calm], side, secret))
                calm = calm[wide <= self.largest * side / SIDE]
            before = len(found)
            for candidate in calm.tolist():
                if not found or float(answers(fields[candidate][:1], torch.stack(found)).min()) >= wanted:
                    found.append(kernels[candidate])
                    on_step(Progress(len(found) / classes, 2, "drawing kernels"))
                if len(found) == classes:
                    return torch.stack(found)
            vain = vain + 1 if len(found) == before else 0
            if vain and self.response is None:  # many classes crowd the kernels; better a weaker answer than none
                wanted *= 0.9
        raise UexError(
            f"method 'ar' found kernels for {len(found)} of {classes} classes only.",
            hint="Use a larger -O largest, or a smaller -O response.",
        )


def _fields(kernels: Tensor, side: int, secret: Secret) -> Tensor:
    """Let some fields of each kernel `(M, C, 3, 3)` grow: `(M, TRIED, C, side, side)`."""

    count, channels = kernels.shape[:2]
    start = secret.normal(count * TRIED, channels, side + MARGIN, side + MARGIN)
    fields = grown(start, kernels.repeat_interleave(TRIED, 0))[..., MARGIN:, MARGIN:]
    return fields.reshape(count, TRIED, channels, side, side)


def _longest(fields: Tensor) -> Tensor:
    """Give the L2 length of the longest field of each kernel, infinite where one is not finite: `(M,)`."""
    return fields.flatten(2).square().sum(2).sqrt().nan_to_num(float("inf"), float("inf")).amax(1)


def grown(start: Tensor, kernels: Tensor) -> Tensor:
    """Let fields grow in raster order: `(N, C, H, W)` and a kernel for each, `(N, C, 3, 3)`, to `(N, C, H, W)`.

    The first two lines and columns stay as they are; every other value becomes the answer of the kernel on the 3x3
    window that ends there. Lines above are known as a whole; along a line only two taps are left to do in turn.
    """
    import torch

    field = start.clone()
    _, _, height, width = field.shape
    taps = kernels.unsqueeze(-1)  # (N, C, 3, 3, 1)
    for line in range(2, height):
        known = torch.zeros_like(field[:, :, line, 2:])
        for down in (0, 1):
            for right in (0, 1, 2):
                known += taps[:, :, down, right] * field[:, :, line - 2 + down, right : right + width - 2]
        far, near = kernels[:, :, 2, 0], kernels[:, :, 2, 1]
        two, one = field[:, :, line, 0], field[:, :, line, 1]
        for column in range(width - 2):
            two, one = one, known[:, :, column] + far * two + near * one
            field[:, :, line, column + 2] = one
    return field


def answers(fields: Tensor, kernels: Tensor) -> Tensor:
    """Give the summed positive response of classes' filters, `(K, C, 3, 3)`, on fields `(N, C, H, W)`: `(N, K)`."""
    from torch.nn import functional

    filters = kernels.clone()
    filters[:, :, 2, 2] = -1
    return functional.conv2d(fields, filters).relu().flatten(2).sum(2)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Autoregressive]
