"""Verifying one released image against its source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from uexcli import api
from uexcli.commands.protect import planes
from uexcli.core.pixels import SLACK, measure
from uexcli.core.quality import evident, ssim
from uexcli.errors import UexError
from uexcli.io import images

SSIM_SIDE = 1024


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    code: str
    path: str
    expected: str
    found: str


@dataclass(frozen=True)
class Checked:
    """What was measured of one released image."""

    name: str
    findings: tuple[Finding, ...]
    size: float | None = None  # of the change, in the norm's units
    allowed: float | None = None
    levels: int | None = None  # the largest change of any value
    rms: float | None = None
    ssim: float | None = None
    visible: bool = False  # by a norm that judges, whatever its RMS
    suspicious: bool = False  # may be a clean copy of some other source


@dataclass(frozen=True)
class Bound:
    """The bound a release promises."""

    norm: api.Norm
    eps: float
    text: str
    size: int | None  # the side it is stated at; None: at each photo's own

    def at(self, height: int, width: int) -> float:
        """The bound for an image of this size."""
        fitted = (self.size, self.size) if self.size else (height, width)
        return self.norm.rescale(self.eps, fitted, (height, width))


def check_pair(root: Path, sample: api.Sample, name: str, bound: Bound, flattened: set[str]) -> Checked:
    """Decode one pair and compare: size, mode, orientation, alpha, profile, bound, leak."""
    source = images.open_photo(sample)
    try:
        published = images.open_photo(api.Sample(name, None, path=root / name))
    except UexError as error:
        return Checked(name, (Finding("unreadable", name, "an image", error.message),))
    found: list[Finding] = []
    if source.size != published.size:
        turned = source.size == published.size[::-1]
        shown = [f"{width}x{height}" for height, width in (source.size, published.size)]
        found.append(Finding("orientation" if turned else "changed-size", name, shown[0], shown[1]))
        return Checked(name, tuple(found), suspicious=True)
    if source.pixels.shape != published.pixels.shape:
        found.append(Finding("changed-mode", name, source.mode, published.mode))
        return Checked(name, tuple(found), suspicious=True)
    if not _same_alpha(source, published) and name not in flattened:
        found.append(Finding("changed-alpha", name, "the source's alpha", "another"))
    if source.icc != published.icc:
        found.append(Finding("changed-profile", name, "the source's ICC profile", "another, or none"))
    before, after = planes(source.pixels), planes(published.pixels)
    size, allowed = float(measure(before, after, bound.norm)[0]), bound.at(*source.size)
    change = after.short() - before.short()
    levels = int(change.abs().max())
    over = size > allowed * (1 + SLACK)
    if over:
        limit = bound.norm.levels(bound.eps)
        expected = f"at most {limit} levels" if limit is not None else f"{bound.norm.name} <= {allowed:.4g}"
        actual = f"{levels} levels ({int((change.abs() > limit).sum())} over)" if limit is not None else f"{size:.4g}"
        found.append(Finding("over-bound", name, expected, actual))
    rms = float(change.float().square().mean().sqrt())
    visible = evident(bound.norm, size, allowed, levels)
    similar = float(ssim(_centre(before).float() / 255, _centre(after).float() / 255)[0])
    return Checked(name, tuple(found), size, allowed, levels, rms, similar, visible, suspicious=over)


def _centre(planes_: Tensor) -> Tensor:
    """The middle of an image, at most 1024 x 1024: enough for SSIM, and bounded in time and memory."""
    _, _, height, width = planes_.shape
    top, left = max(0, (height - SSIM_SIDE) // 2), max(0, (width - SSIM_SIDE) // 2)
    return planes_[:, :, top : top + SSIM_SIDE, left : left + SSIM_SIDE]


def _same_alpha(source: images.Photo, published: images.Photo) -> bool:
    if source.alpha is None or published.alpha is None:
        return source.alpha is published.alpha
    return bool(np.array_equal(source.alpha, published.alpha))
