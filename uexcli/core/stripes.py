"""The pixel promise on large photos, stripe by stripe: the very pixels of `pixels.publish`, in a part of its memory.

Photos are numpy arrays `(H, W, C)`, uint8 or uint16, as decoders give them. Small ones are one stripe.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from uexcli.core.pixels import SLACK, measure, on_levels, peak_of, publish, stretch
from uexcli.core.quality import ssim_map, window_of
from uexcli.plugin import Norm

LARGE = 2**23  # values from which on a photo is worked on in stripes
STRIPE = 2**18  # values of a stripe, so that its float32 copies stay in a processor's cache
NARROW = 128  # px; below, torch may resize a row by another kernel than the whole


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut a photo of this shape, `(H, W, C)`, into stripes of rows; one, where it is not large."""
    height, values = shape[0], math.prod(shape)
    rows = height if values < LARGE else max(1, STRIPE * height // values)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def planes(pixels: np.ndarray) -> Tensor:
    """An image's values, uint8 or uint16 (H, W, C), as a batch of one: uint8 or int32 `(1, C, H, W)`."""
    kind = np.uint8 if pixels.dtype == np.uint8 else np.int32
    # in torch's channels-last order, so that nothing is moved
    return torch.from_numpy(pixels.astype(kind, order="C"))[None].permute(0, 3, 1, 2)


def protect(values: np.ndarray, noise: Tensor, norm: Norm, eps: float, *, fill: bool) -> np.ndarray:
    """Add noise of any size, float `(1, 1 or C, S, S)`, to a photo on its own grid: `values` to the same.

    It is stretched to the photo, brought up to the bound first if `fill` asks for it, and keeps the bound.
    """
    if values.size < LARGE or norm.needs_images:
        return _at_once(values, noise, norm, eps, fill=fill)
    wide: _Whole | _Rows = _rows_of(noise, values.shape)
    if fill:
        wide = _Whole(norm.fill(wide.whole(values.shape[2]), eps))
    made = np.empty_like(values)
    size = _write(values, made, wide, norm, eps)
    if bool(size > eps * (1 + SLACK)):  # as `pixels.publish` does it
        wide = _Whole(norm.project(wide.whole(values.shape[2]), eps))
        size = _write(values, made, wide, norm, eps)
    share = torch.ones_like(size)
    for _ in range(200):
        if not bool(size > eps * (1 + SLACK)):
            return made
        share *= (eps / size).clamp(max=0.995)
        size = _write(values, made, wide, norm, eps, share.view(-1, 1, 1, 1))
    return values.copy()  # no change at all keeps every bound


def _at_once(values: np.ndarray, noise: Tensor, norm: Norm, eps: float, *, fill: bool) -> np.ndarray:
    source = planes(values)
    delta = stretch(noise, *values.shape[:2]).expand(-1, values.shape[2], -1, -1)
    if fill:
        delta = norm.fill(delta, eps, source.float() / peak_of(source))
    made: np.ndarray = publish(source, delta, norm, eps)[0].permute(1, 2, 0).contiguous().numpy()
    return made.astype(values.dtype, copy=False)


def _write(
    values: np.ndarray, made: np.ndarray, wide: _Whole | _Rows, norm: Norm, eps: float, share: Tensor | None = None
) -> Tensor:
    """Fill `made` with the photo and its noise, and give the size of the change, `(1,)`."""
    sizes = []
    for band in bands(values.shape):
        source = planes(values[band])
        delta = wide.rows(band)
        if share is not None:
            delta = delta * share
        changed = on_levels(source.float(), delta, norm, eps, source.dtype, peak_of(source))
        made[band] = changed[0].permute(1, 2, 0).numpy()
        if norm.local:  # while it is at hand
            sizes.append(measure(source, changed, norm))
    return torch.cat(sizes).amax(0, keepdim=True) if sizes else size_of(values, made, norm)


def size_of(values: np.ndarray, made: np.ndarray, norm: Norm) -> Tensor:
    """Give the size of a change in the norm's units, `(1,)`: `pixels.measure` of two photos."""
    if values.size < LARGE or norm.needs_images:
        return measure(planes(values), planes(made), norm)
    if norm.local:
        parts = [measure(planes(values[band]), planes(made[band]), norm) for band in bands(values.shape)]
        return torch.cat(parts).amax(0, keepdim=True)
    change = torch.empty(1, values.shape[2], *values.shape[:2])
    for band in bands(values.shape):
        before = planes(values[band])
        change[:, :, band] = planes(made[band]).float().sub_(before.float()).div_(peak_of(before))
    return norm.size(change)


class _Whole:
    """Noise at a photo's size, `(1, C, H, W)`."""

    def __init__(self, delta: Tensor) -> None:
        self._delta = delta

    def rows(self, band: slice) -> Tensor:
        return self._delta[:, :, band]

    def whole(self, channels: int) -> Tensor:
        return self._delta.expand(-1, channels, -1, -1)


class _Rows:
    """Noise that torch stretches row by row, to the bits of `pixels.stretch`.

    Where a row of the photo lies between two rows of the noise is told by float32 arithmetic that depends on the row's
    number. For a row by itself the same place is said as the scale: torch takes row 0 of a stretched pair of rows from
    `scale / 2 - 1 / 2`, and twice the place plus one is a float32 wherever the number has no digits below 2^-23. The
    first rows, above the middle of the noise's second one, may have; torch stretches those together.
    """

    def __init__(self, noise: Tensor, height: int, width: int) -> None:
        self._noise = noise.contiguous(memory_format=torch.channels_last)
        self._height, self._width = height, width
        size = noise.shape[2]
        scale = torch.tensor(float(size)) / torch.tensor(float(height))
        # in float64 for torch's multiply-and-add, which rounds once
        middles = scale.double() * (torch.arange(height).double() + 0.5) - 0.5
        places = middles.float().clamp(min=0)
        self._low = places.long().clamp(max=size - 1)
        self._place = (places - self._low).clamp(0, 1)
        self._first = int((places < 1).sum())
        self._top: Tensor | None = None

    def rows(self, band: slice) -> Tensor:
        rows = torch.empty(1, self._noise.shape[1], band.stop - band.start, self._width).contiguous(
            memory_format=torch.channels_last
        )
        if self._first > band.start:
            if self._top is None:
                self._top = _resized(self._noise, self._first, self._width, self._height / self._noise.shape[2])
            rows[:, :, : self._first - band.start] = self._top[:, :, band]
        else:
            self._top = None
        for row in range(max(band.start, self._first), band.stop):
            low = int(self._low[row])
            pair = self._noise[:, :, [low, min(low + 1, self._noise.shape[2] - 1)]]
            pair = pair.contiguous(memory_format=torch.channels_last)
            here = row - band.start
            rows[:, :, here : here + 1] = _resized(pair, 1, self._width, 1 / (2 * float(self._place[row]) + 1))
        return rows

    def whole(self, channels: int) -> Tensor:
        return stretch(self._noise, self._height, self._width).expand(-1, channels, -1, -1)


def _resized(noise: Tensor, height: int, width: int, factor: float) -> Tensor:
    """The first rows of what torch stretches by `factor` downwards."""
    resized: Tensor = torch.ops.aten.upsample_bilinear2d(noise, [height, width], False, factor, width / noise.shape[3])
    return resized


def _rows_of(noise: Tensor, shape: tuple[int, ...]) -> _Whole | _Rows:
    """The noise of a photo of this shape by rows where torch can give them, else at once: a third of a colour photo's
    values where it is grey, and seldom, where the photo is narrower than the noise."""
    height, width, channels = shape
    smaller = height <= noise.shape[2] or width <= noise.shape[3]
    if smaller or noise.shape[1] != channels or channels == 1 or (torch.get_num_threads() > 1 and width <= NARROW):
        return _Whole(stretch(noise, height, width).expand(-1, channels, -1, -1))
    return _Rows(noise, height, width)


def memory_of(values: np.ndarray) -> Callable[[np.ndarray], bool]:
    """Give what tells later whether a photo is this one, to the bit; a large one is not kept for it."""
    if values.size < LARGE:
        return lambda other: np.array_equal(values, other)
    kind, wanted = (values.shape, values.dtype), _digest(values)
    return lambda other: (other.shape, other.dtype) == kind and _digest(other) == wanted


def _digest(values: np.ndarray) -> bytes:
    digest = hashlib.sha256()
    for band in bands(values.shape):
        digest.update(np.ascontiguousarray(values[band]).data)
    return digest.digest()


def changed_by(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The root mean square and the largest change of values, (H, W, C), both in 8-bit levels."""
    unit = 1.0 if before.dtype == np.uint8 else 255 / 65535
    squares, largest = 0.0, 0
    for band in bands(before.shape):
        change = np.subtract(after[band], before[band], dtype=np.int32 if unit < 1 else np.int16)
        flat = change.reshape(-1).astype(np.float32)
        squares += float(np.dot(flat, flat))
        largest = max(largest, int(np.abs(change).max()))
    return unit * math.sqrt(squares / before.size), unit * largest


def count_levels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Count the values that change by so many 8-bit levels, rounded up: int64 (256,)."""
    step = 1 if before.dtype == np.uint8 else 257
    levels = np.zeros(256, np.int64)
    for band in bands(before.shape):
        change = np.abs(np.subtract(after[band], before[band], dtype=np.int32 if step > 1 else np.int16))
        levels += np.bincount((-(-change // step)).ravel(), minlength=256)
    return levels


def count_over(before: np.ndarray, after: np.ndarray, limit: int) -> tuple[int, int]:
    """The largest change in levels of the photo's own grid, and how many values change by more than `limit` of them."""
    largest, over = 0, 0
    for band in bands(before.shape):
        change = np.abs(np.subtract(after[band], before[band], dtype=np.int32))
        largest, over = max(largest, int(change.max())), over + int((change > limit).sum())
    return largest, over


def agreement(base: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The cosine between the changes that make two photos of one; 0 where one is none."""
    squares, others, product = 0.0, 0.0, 0.0
    for band in bands(base.shape):
        here = base[band].astype(np.float32)
        one, other = (photo[band] - here for photo in (first, second))
        squares, others = squares + float(np.vdot(one, one)), others + float(np.vdot(other, other))
        product += float(np.vdot(one, other))
    size = math.sqrt(squares) * math.sqrt(others)
    return product / size if size else 0.0


def ssim(before: np.ndarray, after: np.ndarray) -> float:
    """Structural similarity of two photos, see `quality.ssim`; stripes overlap by a window."""
    height, width, _ = before.shape
    side = window_of(height, width)
    peak = 255 if before.dtype == np.uint8 else 65535
    total, rows = 0.0, 0
    for band in bands((height - side + 1, *before.shape[1:])):
        here = slice(band.start, band.stop + side - 1)
        pair = [planes(photo[here]).float() / peak for photo in (before, after)]
        found = ssim_map(*pair)
        total += float(found.mean(dtype=torch.float64)) * found.shape[2]
        rows += found.shape[2]
    return total / rows
