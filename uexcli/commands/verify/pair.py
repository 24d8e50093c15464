"""Verifying one released image against its source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from uexcli import plugin
from uexcli.commands.protect import protector
from uexcli.commands.protect.protector import Protector, same_alpha
from uexcli.commands.verify.survival import survival
from uexcli.core import stripes
from uexcli.core.pixels import SLACK, peak_of
from uexcli.core.quality import evident, ssim
from uexcli.errors import UexError
from uexcli.io.images import photo_files
from uexcli.io.images.metadata import policy

SSIM_SIDE = 1024
# Bytes a value that comparing a pair takes at the most, measured: one value at a time, under norms that are summed over
# a whole image, and under those that look at it; and where the noise is looked for.
PAIR_BYTES, SUM_BYTES, WHOLE_BYTES, NOISE_BYTES = 8, 14, 150, 2
PRESENT = 0.5  # of agreement with the fitted noise: JPEG at quality 75 leaves less


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
    levels: float | None = None  # the largest change of any value, in 8-bit levels
    rms: float | None = None
    ssim: float | None = None
    visible: bool = False  # by a norm that judges, whatever its RMS
    suspicious: bool = False  # may be a clean copy of some other source
    counts: np.ndarray | None = None  # of values that change by so many 8-bit levels, rounded up: int64 (256,)
    present: float | None = None  # how well the change agrees with the noise it should be, 1 being that noise
    survival: Mapping[str, float] = field(default_factory=dict)  # see `verify_survival`


@dataclass(frozen=True)
class Bound:
    """The bound a release promises."""

    norm: plugin.Norm
    eps: float
    text: str
    size: int | None  # the side it is stated at; None: at each photo's own

    def at(self, height: int, width: int) -> float:
        """The bound for an image of this size."""
        fitted = (self.size, self.size) if self.size else (height, width)
        return self.norm.rescale(self.eps, fitted, (height, width))


def check_pair(
    root: Path,
    sample: plugin.Sample,
    name: str,
    bound: Bound,
    stated: Collection[str],
    *,
    protector: Protector | None = None,
    survive: bool = False,
) -> Checked:
    """Decode one pair and compare: size, mode, depth, orientation, alpha, profile, metadata, bound, leak.

    `stated` are the changes of mode that the release says it made, which are no findings. `protector` tells the noise
    that should be there; `survive` asks what is left of it after what trainers do.
    """
    source = photo_files.open_photo(sample, whole=True)
    try:
        published = photo_files.open_photo(plugin.Sample(name, None, path=root / name), whole=True)
    except UexError as error:
        return Checked(name, (Finding("unreadable", name, "an image", error.message),))
    found = hidden(root, name)
    if source.size != published.size:
        turned = source.size == published.size[::-1]
        shown = [f"{width}x{height}" for height, width in (source.size, published.size)]
        found.append(Finding("orientation" if turned else "changed-size", name, shown[0], shown[1]))
        return Checked(name, tuple(found), suspicious=True)
    if photo_files.COLOURED in stated and source.pixels.shape[2] == 1:
        try:
            source = photo_files.in_colour(source)
        except UexError as error:
            raise UexError(f"{sample.key}: {error.message}") from None
    if source.pixels.shape != published.pixels.shape:
        found.append(Finding("changed-mode", name, source.mode, published.mode))
        return Checked(name, tuple(found), suspicious=True)
    if (source.deep is None) != (published.deep is None):
        if photo_files.SHALLOW not in stated or source.deep is None:
            depths = ["16 bits a value" if one.deep is not None else "8 bits a value" for one in (source, published)]
            found.append(Finding("changed-depth", name, *depths))
        source, published = replace(source, deep=None), replace(published, deep=None)
    kept = same_alpha(source, published) and (source.alpha is None) == (published.alpha is None)
    if not kept and photo_files.FLATTENED not in stated:
        found.append(Finding("changed-alpha", name, "the source's alpha", "another"))
    if not photo_files.same_look(source, published, Path(name).suffix.lower()):
        found.append(Finding("changed-profile", name, "the source's colours", "another profile, or none"))
    size = float(stripes.size_of(source.values, published.values, bound.norm)[0])
    allowed = bound.at(*source.size)
    rms, levels = stripes.changed_by(source.values, published.values)
    over = size > allowed * (1 + SLACK)
    if over:
        limit = bound.norm.levels(bound.eps, 255 if source.deep is None else 65535)
        expected = f"at most {limit} levels" if limit is not None else f"{bound.norm.name} <= {allowed:.4g}"
        actual = f"{size:.4g}"
        if limit:
            most, beyond = stripes.count_over(source.values, published.values, limit)
            actual = f"{most} levels ({beyond} over)"
        found.append(Finding("over-bound", name, expected, actual))
    visible = evident(bound.norm, size, allowed, levels)
    present = None if protector is None else _present(protector, sample, source, published)
    if present is not None and present < PRESENT:
        found.append(
            Finding("noise-missing", name, "the fitted noise", f"a change that agrees with it by {present:.2f}")
        )
    left = survival(source.pixels, published.pixels) if survive and levels else {}
    counts = stripes.count_levels(source.values, published.values)
    centres = [stripes.planes(_centre(one.values)) for one in (source, published)]
    similar = float(ssim(*(centre.float() / peak_of(centre) for centre in centres))[0])
    return Checked(
        name, tuple(found), size, allowed, levels, rms, similar, visible,
        suspicious=over, counts=counts, present=present, survival=left,
    )  # fmt: skip


def memory_of_pair(norm: plugin.Norm, *, noise: bool) -> int:
    """Give the bytes a value that `check_pair` takes at the most; `noise`: with a protector."""
    if norm.needs_images:
        return WHOLE_BYTES
    if noise and not norm.local:
        return NOISE_BYTES + protector.SUM_BYTES
    return (PAIR_BYTES if norm.local else SUM_BYTES) + (NOISE_BYTES if noise else 0)


def hidden(root: Path, name: str) -> list[Finding]:
    """What a released file holds that must not get out."""
    data = (root / name).read_bytes()
    try:
        with photo_files.opened(data) as image:
            told = policy.private(data, image)
    except Exception:  # said by those who decode it, unless its metadata alone is odd
        told = policy.private(data, None)
    return [Finding("metadata", name, "pixels, a profile and public texts", "; ".join(told))] if told else []


def _present(
    protector: Protector, sample: plugin.Sample, source: photo_files.Photo, published: photo_files.Photo
) -> float | None:
    """Compare a change with the one its noise makes; None for a photo that has no noise in the file."""
    try:
        row, _ = protector.row(sample, source)
    except UexError:
        return None
    wanted = protector.protect(source, sample.key, row)
    if wanted.shape != source.values.shape:
        return None
    return stripes.agreement(source.values, published.values, wanted)


def _centre(values: np.ndarray) -> np.ndarray:
    """The middle of an image, at most 1024 x 1024: enough for SSIM, and bounded in time and memory."""
    height, width = values.shape[:2]
    top, left = max(0, (height - SSIM_SIDE) // 2), max(0, (width - SSIM_SIDE) // 2)
    return values[top : top + SSIM_SIDE, left : left + SSIM_SIDE]
