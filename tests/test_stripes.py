"""Large photos in stripes: the very pixels that come out at once, of every shape, channel, depth and norm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from uexcli import plugin
from uexcli.builtin.norms.l0 import L0
from uexcli.builtin.norms.l1 import L1
from uexcli.builtin.norms.l2 import L2
from uexcli.builtin.norms.linf import Linf
from uexcli.builtin.norms.ssim import Ssim
from uexcli.builtin.norms.unbounded import Unbounded
from uexcli.core import stripes
from uexcli.core.pixels import match_channels, measure, peak_of, publish, stretch
from uexcli.core.quality import ssim

# of photos: taller, wider, hardly larger than the noise, as large, narrower, and smaller
SHAPES = [(97, 61), (61, 97), (33, 34), (32, 32), (300, 20), (20, 300), (25, 31), (131, 32), (200, 200)]


@pytest.fixture(params=[1, 3000])
def thin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every photo is large, and a stripe holds a row, or some."""
    monkeypatch.setattr(stripes, "LARGE", 1)
    monkeypatch.setattr(stripes, "STRIPE", request.param)
    yield


def noise_of(kind: str, channels: int, size: int, seed: int) -> torch.Tensor:
    """Noise as fits give it: on the 8-bit grid, or any number, or on few pixels."""
    drawn = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(seed))
    if kind == "grid":
        return (drawn * 8).round().clamp(-8, 8) / 255
    if kind == "sparse":
        return drawn * (torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed + 1)) < 0.05)
    return drawn * 8 / 255


def photo_of(height: int, width: int, channels: int, depth: int, seed: int) -> np.ndarray:
    """A photo with black and white in it."""
    drawn = np.random.default_rng(seed).integers(-60, 316, (height, width, channels)).clip(0, 255)
    return drawn.astype(np.uint8) if depth == 8 else (drawn * 257).astype(np.uint16)


def at_once(values: np.ndarray, noise: torch.Tensor, norm: plugin.Norm, eps: float, *, fill: bool) -> np.ndarray:
    """What `pixels` makes of a whole photo."""
    source = stripes.planes(values)
    delta = match_channels(stretch(noise, *values.shape[:2]), values.shape[2])
    if fill:
        delta = norm.fill(delta, eps, source.float() / peak_of(source))
    made: np.ndarray = publish(source, delta, norm, eps)[0].permute(1, 2, 0).numpy()
    return made.astype(values.dtype)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_those_of_the_whole(thin: None, size: int, channels: int, threads: int) -> None:
    torch.set_num_threads(threads)
    for seed, (height, width) in enumerate([*SHAPES, (1500, 129), (700, 640)]):
        noise = noise_of("any", channels, size, seed)
        wide = stripes._rows_of(noise, (height, width, channels))
        whole = stretch(noise, height, width)
        for band in stripes.bands((height, width, channels)):
            assert torch.equal(wide.rows(band), whole[:, :, band]), (height, width, band)


@pytest.mark.parametrize(
    ("channels", "colours", "depth"), [(1, 1, 8), (3, 3, 8), (1, 3, 8), (3, 1, 8), (3, 3, 16), (1, 3, 16)]
)
@pytest.mark.parametrize(
    ("norm", "kind", "share"),
    [
        (Linf(), "grid", 8 / 255), (Linf(), "any", 2.5 / 255), (Unbounded(), "any", 1.0), (L2(), "any", 0.02),
        (L2(), "grid", 0.002), (L1(), "any", 0.01), (L1(), "grid", 0.001), (L0(), "sparse", 0.02), (L0(), "any", 0.5),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)  # fmt: skip
def test_the_same_pixels_come_out(
    thin: None, norm: plugin.Norm, kind: str, share: float, channels: int, colours: int, depth: int
) -> None:
    for seed, (height, width) in enumerate(SHAPES):
        values = photo_of(height, width, channels, depth, seed)
        noise = match_channels(noise_of(kind, colours, 32, seed), channels)
        count = {"l2": (height * width * channels) ** 0.5, "l1": height * width * channels, "l0": height * width}
        eps = share * count.get(norm.name, 1)
        fill = colours > channels or min(height, width) < 32
        wanted = at_once(values, noise, norm, eps, fill=fill)
        made = stripes.protect(values, noise, norm, eps, fill=fill)
        assert made.dtype == values.dtype
        assert np.array_equal(made, wanted), (height, width)
        size = stripes.size_of(values, made, norm)
        assert torch.equal(size, measure(stripes.planes(values), stripes.planes(wanted), norm))


@pytest.mark.parametrize("share", [0.01, 0.0005])
def test_a_change_that_is_too_large_on_the_grid_is_projected_and_scaled(thin: None, share: float) -> None:
    values = photo_of(90, 70, 3, 8, 0)
    noise = noise_of("any", 3, 32, 0)
    for norm in (L2(), L1()):
        eps = share * (values.size**0.5 if norm.name == "l2" else values.size)
        rounded = stripes.protect(values, noise, Unbounded(), 1.0, fill=False)
        assert float(stripes.size_of(values, rounded, norm)) > eps  # so there is something to do
        made = stripes.protect(values, noise, norm, eps, fill=False)
        assert np.array_equal(made, at_once(values, noise, norm, eps, fill=False))


def test_a_photo_for_a_norm_that_judges_it_is_done_at_once(thin: None) -> None:
    values = photo_of(60, 70, 3, 8, 0)
    noise = noise_of("any", 3, 32, 0)
    made = stripes.protect(values, noise, Ssim(), 0.05, fill=False)
    assert np.array_equal(made, at_once(values, noise, Ssim(), 0.05, fill=False))


@pytest.mark.parametrize("depth", [8, 16])
def test_figures_are_those_of_the_whole(thin: None, depth: int) -> None:
    for seed, (height, width) in enumerate([*SHAPES, (9, 200)]):
        before = photo_of(height, width, 3, depth, seed)
        after = stripes.protect(before, noise_of("any", 3, 32, seed), Linf(), 8 / 255, fill=False)
        change = after.astype(np.float64) - before
        unit = 1 if depth == 8 else 255 / 65535
        rms, most = stripes.changed_by(before, after)
        assert rms == pytest.approx(unit * np.sqrt(np.mean(change**2)), rel=1e-6)
        assert most == pytest.approx(unit * np.abs(change).max())
        levels = np.ceil(np.abs(change) / (1 if depth == 8 else 257)).astype(int)
        assert np.array_equal(stripes.count_levels(before, after), np.bincount(levels.ravel(), minlength=256))
        assert stripes.count_over(before, after, 3) == (np.abs(change).max(), (np.abs(change) > 3).sum())
        pair = [stripes.planes(photo).float() / (255 if depth == 8 else 65535) for photo in (before, after)]
        assert stripes.ssim(before, after) == pytest.approx(float(ssim(*pair)), abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (4000, 3, 3), (3, 4000, 1)])
def test_bands_cover_a_photo_once(thin: None, shape: tuple[int, int, int]) -> None:
    rows = [row for band in stripes.bands(shape) for row in range(shape[0])[band]]
    assert rows == list(range(shape[0]))


def test_a_small_photo_is_one_band() -> None:
    assert list(stripes.bands((375, 500, 3))) == [slice(0, 375)]
    assert len(list(stripes.bands((3000, 4000, 3)))) > 8
