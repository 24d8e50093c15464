"""Reads textures off photos that were treated: the loss of `shield`, and its gradient in the noise of luma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn import functional

from uexcli.builtin.countermeasures.bdr import BitDepth
from uexcli.builtin.countermeasures.jpeg import Jpeg
from uexcli.builtin.countermeasures.resize import Resize
from uexcli.builtin.countermeasures.webp import Webp
from uexcli.builtin.methods._noticeable import luma_of

if TYPE_CHECKING:
    from uexcli.plugin import Countermeasure

GRID = 8  # of JPEG
WINDOW = 8  # px: textures are read in windows of this side, at every half of it
WIDTH = 0.03  # standard deviation of what is read around a place, in cycles a pixel
FLOOR = 1 / 255**2  # power below which a texture is nothing
LOUDEST = 40 / 255  # standard deviation of noise that is laid over photos, at most
# Treatments, and how often each is drawn: those under which textures are hardest to read come most often.
Treatment: TypeAlias = "Countermeasure | str | None"
NOISE = "noise"
TREATMENTS: tuple[tuple[Treatment, float], ...] = (
    (None, 1.0), (Jpeg(10), 5.0), (Webp(10), 5.0), (BitDepth(2), 1.0), (Resize(0.5), 1.0), (NOISE, 1.0),
)  # fmt: skip


def drawn(generator: Generator) -> Treatment:
    """Draw a treatment."""
    weights = torch.tensor([weight for _, weight in TREATMENTS])
    return TREATMENTS[int(torch.multinomial(weights, 1, generator=generator))][0]


def treated(images: Tensor, treatment: Treatment, generator: Generator) -> Tensor:
    """Do to float images `(B, C, S, S)` in [0, 1] what an attacker might; gradients pass as they are.

    On another grid half of the time: JPEG before a crop and JPEG after it cut differently.
    """
    if treatment is None:
        return images
    down, right, apart = torch.randint(0, GRID, (3,), generator=generator).tolist()
    if apart % 2:
        down = right = 0
    with torch.no_grad():
        moved = images.roll((down, right), (2, 3))
        if isinstance(treatment, str):
            loud = LOUDEST * torch.rand((), generator=generator)
            seen = moved + loud * torch.randn(moved.shape, generator=generator).to(moved.device)
        else:
            levels = (moved * 255).round_().clamp_(0, 255).to(torch.uint8)
            seen = treatment.apply(levels, generator).float() / 255
        change = seen.clamp_(0, 1).roll((-down, -right), (2, 3)) - images
    return images + change


@dataclass
class Reader:
    """Tells textures by their power: the mean over windows of the cross-entropy of the class's own.

    A closed form, and no net: nets that were trained to read textures, and moved the noise, made it what they alone
    read. `wanted`, int64 `(K, h, w)`, says which of T textures is each class's in each window.
    """

    gains: Tensor  # (T, S, S // 2 + 1), of frequencies; see `around`
    wanted: Tensor
    usual: Tensor  # (T, 1, 1): the mean of what is heard of clean photos

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Give the summed cross-entropy of float images, with gradients."""
        each = functional.cross_entropy(heard(images, self.gains) - self.usual, self.wanted[labels], reduction="none")
        return each.mean((1, 2)).sum()


def heard(images: Tensor, gains: Tensor) -> Tensor:
    """Give the log power of textures with `gains` in each window of float images: `(B, T, h, w)`."""
    luma = luma_of(images)
    spectrum = torch.fft.rfft2(luma - luma.mean((1, 2), keepdim=True))
    found = torch.fft.irfft2(spectrum[:, None] * gains, s=luma.shape[1:])
    return (in_windows(found.square()) + FLOOR).log()


def around(places: Tensor, size: int) -> Tensor:
    """Give what is kept of each frequency around places `(T, 2)`, in cycles a pixel: `(T, S, S // 2 + 1)`."""
    down, across = torch.fft.fftfreq(size).abs(), torch.fft.rfftfreq(size)
    off = (down[:, None] - places[:, 0, None, None]) ** 2 + (across - places[:, 1, None, None]) ** 2
    return torch.exp(-off / (2 * WIDTH**2))


def wanted(regions: Tensor, textures: Tensor) -> Tensor:
    """Say which texture is read in each window, int64 `(K, h, w)`.

    `regions` are `(M, S, S)`, of 0 and 1, `textures` int64 `(K, M)`: what each class has in each region.
    """
    return textures[:, in_windows(regions[:, None])[:, 0].argmax(0)]


def in_windows(planes: Tensor) -> Tensor:
    """Give the means of windows of planes, float `(B, T, S, S)` to `(B, T, h, w)`."""
    side = min(WINDOW, planes.shape[-1])
    return functional.avg_pool2d(planes, side, max(1, side // 2))
