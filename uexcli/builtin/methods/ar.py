"""AR: autoregressive noise, which a single convolution can tell apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.methods._passes import majority
from uexcli.plugin import Method, OnStep, Problem, Progress, UexError, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor

    Normal = Callable[..., Tensor]  # the sides of a shape to standard normal values

SIDE = 32  # the published constants are for noise of this side
MARGIN = 4  # lines and columns that still show where the noise started, and are dropped
TRIED = 3  # fields of a new kernel that are looked at
LOOKS = (10, 18)  # sides of their corners that are looked at first
LEAST_DRAWN, MOST_DRAWN = 512, 4096  # filters for single channels drawn at once
PATIENCE = 100  # such draws in vain
STRIDE, FEW = 15, 60  # windows of a field that are as good as neighbours; how many are looked at first
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
    undone_by: ClassVar[tuple[str, ...]] = ("grayscale",)
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
        normal = problem.secret("ar").normal
        kernels = self._draw(problem.num_classes, channels, side, normal, on_step)
        row_class = majority(problem)
        delta = problem.bank()
        size = max(1, AT_ONCE // side**2)
        for begin in range(0, count, size):
            mine = slice(begin, min(begin + size, count))
            start = _start(normal, mine.stop - begin, channels, side)
            delta[mine] = grown(start, kernels[row_class[mine]])[..., MARGIN:, MARGIN:].to(delta.device)
            problem.release()
            on_step(Progress(1 + mine.stop / count, 2, "growing the noise"))
        on_step(Progress(2, 2))
        return problem.fill(delta)

    def _draw(self, classes: int, channels: int, side: int, normal: Normal, on_step: OnStep) -> Tensor:
        """Draw kernels that tell classes apart: float `(K, C, 3, 3)`."""
        import torch

        wanted = self.response if self.response is not None else (10.0 if classes <= 10 else 3.0)
        size = min(MOST_DRAWN, max(LEAST_DRAWN, 16 * classes * channels))
        found, known = torch.empty(classes, channels, 3, 3), torch.empty(classes, channels * 9)
        number = vain = 0
        while vain < PATIENCE:
            kernels, fields = self._calm(size, channels, side, normal, 2 * (classes - number) + 8)
            before = number
            for kernel, windows in zip(kernels, _windows(fields), strict=True):
                if _is_loud(windows, known[:number], wanted):
                    found[number], known[number] = kernel, filters(kernel).flatten()
                    number += 1
                    on_step(Progress(number / classes, 2, "drawing kernels"))
                if number == classes:
                    return found
            vain = vain + 1 if number == before else 0
            if vain and len(kernels) and self.response is None:  # many classes crowd; better a weaker answer than none
                wanted *= 0.9
        raise UexError(
            f"method 'ar' found kernels for {number} of {classes} classes only.",
            hint="Use a larger `options[largest]`, or a smaller `options[response]`.",
        )

    def _calm(self, size: int, channels: int, side: int, normal: Normal, most: int) -> tuple[Tensor, Tensor]:
        """Draw filters for single channels; give at most so many kernels of them whose noise is not huge.

        Kernels are `(M, C, 3, 3)`, a field that each lets grow is `(M, C, SIDE, SIDE)`. A kernel is calm where all of
        `TRIED` fields are. That takes all of its channels to be, and each corner of a field: what is huge there is
        dropped before the rest has grown.
        """
        single = normal(size, 1, 3, 3)
        single[:, :, 2, 2] = 0
        single /= single.sum((2, 3), keepdim=True)
        starts = _start(normal, size * TRIED, 1, SIDE).view(size, TRIED, 1, SIDE + MARGIN, SIDE + MARGIN)
        lengths = fields = starts.new_zeros(0)
        for corner in (*LOOKS, SIDE + MARGIN):
            fields = _grown_each(starts[..., :corner, :corner], single)
            lengths = _squares(fields)
            kept = (lengths <= self.largest**2).all(1)
            single, starts, fields, lengths = single[kept], starts[kept], fields[kept], lengths[kept]
        count = len(single) // channels
        joined = [part[: count * channels].view(count, channels, *part.shape[1:]) for part in (single, fields, lengths)]
        calm = (joined[2].sum(1) <= self.largest**2).all(1).nonzero().flatten()[:most]
        kernels = joined[0][calm].squeeze(2)
        if side > SIDE and len(calm):  # what is calm at 32 px may still grow beyond
            start = _start(normal, len(calm) * TRIED, channels, side)
            wide = _grown_each(start.view(len(calm), TRIED, *start.shape[1:]), kernels)
            steady = (_squares(wide) <= (self.largest * side / SIDE) ** 2).all(1)
            calm, kernels = calm[steady], kernels[steady]
        return kernels, joined[1][calm][:, :, 0, 0]


def _start(normal: Normal, count: int, channels: int, side: int) -> Tensor:
    """Draw where fields start, `(N, C, side + MARGIN, side + MARGIN)`: two lines and columns; the rest is zeros."""
    import torch

    whole = side + MARGIN
    start = torch.zeros(count, channels, whole, whole)
    start[:, :, :2] = normal(count, channels, 2, whole)
    start[:, :, 2:, :2] = normal(count, channels, whole - 2, 2)
    return start


def _grown_each(start: Tensor, kernels: Tensor) -> Tensor:
    """Let fields of each kernel `(M, C, 3, 3)` grow from `(M, T, C, H, W)`; their margin is dropped."""
    count, tried = start.shape[:2]
    fields = grown(start.flatten(0, 1), kernels.repeat_interleave(tried, 0))[..., MARGIN:, MARGIN:].contiguous()
    return fields.view(count, tried, *fields.shape[1:])


def _squares(fields: Tensor) -> Tensor:
    """Give the squared L2 length of fields `(M, T, C, H, W)`, infinite where one is not finite: `(M, T)`."""
    return fields.flatten(2).square().sum(2).nan_to_num(float("inf"), float("inf"))


def _windows(fields: Tensor) -> Tensor:
    """Cut fields `(M, C, H, W)` into their 3x3 windows, those far from each other first: `(M, C * 9, windows)`."""
    import torch
    from torch.nn import functional

    cut = functional.unfold(fields, 3)
    return cut[:, :, torch.cat([torch.arange(first, cut.shape[2], STRIDE) for first in range(STRIDE)])]


def _is_loud(windows: Tensor, known: Tensor, wanted: float) -> bool:
    """Whether all known filters `(K, C * 9)` answer with at least so much to windows `(C * 9, W)`; see `answers`.

    An answer is a sum of what is not negative, so most are known to suffice from a few windows.
    """
    left, heard, done = known, known.new_zeros(len(known)), 0
    while len(left) and done < windows.shape[1]:
        more = windows[:, done : max(FEW, 4 * done)]
        heard = heard + (left @ more).relu().sum(1)
        quiet = heard < wanted
        left, heard, done = left[quiet], heard[quiet], done + more.shape[1]
    return not len(left)


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

    return functional.conv2d(fields, filters(kernels)).relu().flatten(2).sum(2)


def filters(kernels: Tensor) -> Tensor:
    """Make the filters that answer 0 to noise of their own class: kernels with -1 at the last place."""
    made = kernels.clone()
    made[..., 2, 2] = -1
    return made


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Autoregressive]
