"""The pixel promise, as properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uexcli import plugin, registry
from uexcli.core.pixels import SLACK, match_channels, measure, publish, stretch
from uexcli.core.quality import psnr, ssim
from uexcli.core.seeding import generator, keyed_uniform

LINF = registry.load().make(plugin.Norm, "norm", "linf")  # type: ignore[type-abstract]
NORMS = registry.load().names("norm")


@given(
    seed=st.integers(0, 2**32), levels=st.floats(1, 40), side=st.integers(1, 20), channels=st.sampled_from([1, 3]),
    overshoot=st.floats(0.1, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_linf_rounds_half_to_even_keeps_the_sign_and_the_bound(
    seed: int, levels: float, side: int, channels: int, overshoot: float
) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, channels, side, side), dtype=np.uint8)
    delta = (rng.uniform(-1, 1, images.shape) * overshoot * levels / 255).astype(np.float32)
    written = publish(torch.from_numpy(images), torch.from_numpy(delta), LINF, levels / 255).numpy()
    exact = np.round(images.astype(np.float64) + 255 * delta.astype(np.float64))  # numpy rounds half to even
    limit = np.floor(levels + 1e-5)
    wanted = np.clip(images + np.clip(exact - images, -limit, limit), 0, 255)
    # float32 may fall on the other side of a half; nothing else may differ
    halves = np.abs(np.abs(255 * delta.astype(np.float64)) % 1 - 0.5) < 1e-3
    assert np.array_equal(written[~halves], wanted[~halves])
    assert np.abs(written.astype(int) - images).max() <= limit


def test_both_signs_are_written_without_bias() -> None:
    images = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    delta = (torch.rand(images.shape, generator=generator(0, "signs")) * 2 - 1) * 8 / 255
    change = publish(images, delta, LINF, 8 / 255).float() - images.float()
    assert abs(float(change.mean())) < 0.1
    assert float((change / 255 - delta).abs().max()) <= 0.5001 / 255
    assert float(change.square().sum() / (255 * delta).square().sum()) > 0.98


@pytest.mark.usefixtures("lpips_weights")
@pytest.mark.parametrize("name", NORMS)
@given(seed=st.integers(0, 2**32), share=st.floats(0.3, 3), size=st.integers(8, 24))
@settings(max_examples=15, deadline=None)
def test_every_norm_holds_on_the_written_pixels(name: str, seed: int, share: float, size: int) -> None:
    norm = registry.load().make(plugin.Norm, "norm", name)  # type: ignore[type-abstract]
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (3, 3, size, size), dtype=np.uint8))
    delta = torch.from_numpy(rng.normal(0, 20 / 255, images.shape).astype(np.float32))
    eps = share * norm.parse(norm.usual(3, size))
    written = publish(images, delta, norm, eps)
    assert bool((measure(images, written, norm) <= eps * (1 + SLACK)).all())


def test_l2_follows_numpy() -> None:
    norm = registry.load().make(plugin.Norm, "norm", "l2")  # type: ignore[type-abstract]
    delta = torch.randn(5, 3, 6, 7, generator=generator(0, "l2"))
    lengths = np.linalg.norm(delta.numpy().reshape(5, -1), axis=1)
    np.testing.assert_allclose(norm.size(delta).numpy(), lengths, rtol=1e-5)
    wanted = delta.numpy() * np.minimum(1, 9 / lengths)[:, None, None, None]
    np.testing.assert_allclose(norm.project(delta, 9.0).numpy(), wanted, rtol=1e-5)


def test_l2_grows_with_the_photo_as_stretched_noise_does() -> None:
    norm = registry.load().make(plugin.Norm, "norm", "l2")  # type: ignore[type-abstract]
    blocks = torch.randn(1, 3, 4, 4, generator=generator(0, "blocks")).repeat_interleave(8, 2).repeat_interleave(8, 3)
    large = blocks.repeat_interleave(3, 2).repeat_interleave(5, 3)
    allowed = norm.rescale(float(norm.size(blocks)), (32, 32), (96, 160))
    assert float(norm.size(large)) == pytest.approx(allowed, rel=1e-5)


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_stretching_never_exceeds_the_largest_value(height: int, width: int, seed: int) -> None:
    delta = torch.rand(1, 3, 16, 16, generator=generator(seed, "stretch")) * 2 - 1
    wide = stretch(delta, height, width)
    assert wide.shape == (1, 3, height, width)
    assert float(wide.abs().max()) <= float(delta.abs().max()) + 1e-6


def test_stretching_to_the_same_size_changes_nothing() -> None:
    delta = torch.randn(1, 3, 9, 9)
    assert stretch(delta, 9, 9) is delta


def test_channels_are_matched_by_the_mean_and_by_repeating() -> None:
    colour = torch.tensor([0.1, 0.2, 0.6]).view(1, 3, 1, 1)
    assert match_channels(colour, 1).item() == pytest.approx(0.3)
    assert match_channels(torch.full((1, 1, 1, 1), 0.5), 3).flatten().tolist() == [0.5] * 3


def test_ssim_is_one_only_for_the_same_image_and_knows_a_published_value() -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator(0, "ssim"))
    assert ssim(images, images).tolist() == pytest.approx([1, 1], abs=1e-6)
    constant = torch.full((1, 1, 32, 32), 0.2), torch.full((1, 1, 32, 32), 0.6)
    # Two constant images differ in luminance only: (2ab + c1) / (a^2 + b^2 + c1) with c1 = 0.0001.
    assert float(ssim(*constant)) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4), rel=1e-4)


def test_psnr_of_one_level_is_48_db() -> None:
    assert psnr(1) == pytest.approx(48.13, abs=0.01)
    assert psnr(0) == float("inf")


def test_starts_depend_on_the_key_and_not_on_the_order() -> None:
    first = keyed_uniform(["a", "b", "c"], (3, 4, 4), 7)
    again = keyed_uniform(["c", "a"], (3, 4, 4), 7)
    assert torch.equal(first[[2, 0]], again)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], keyed_uniform(["a"], (3, 4, 4), 8)[0])
    assert float(first.min()) >= -1
    assert float(first.max()) < 1
