"""The norms that count, add up, look, and promise nothing; `test_pixels` has what holds for all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torchvision.models import alexnet

from uexcli import plugin, registry, testing
from uexcli.core.pixels import SLACK, measure, publish
from uexcli.core.seeding import generator
from uexcli.errors import UexError, UsageError

VARIABLE = "UEX_LPIPS_WEIGHTS"


def norm(name: str) -> plugin.Norm:
    return registry.load().make(plugin.Norm, "norm", name)  # type: ignore[type-abstract]


# ------------------------------------------------------------------------------------------------ l1


def shrunk(row: np.ndarray, eps: float) -> np.ndarray:
    """The nearest point of the L1 ball, by bisection on what every value loses."""
    low, high = 0.0, float(np.abs(row).max())
    if np.abs(row).sum() <= eps:
        return row
    for _ in range(100):
        middle = (low + high) / 2
        inside = np.maximum(np.abs(row) - middle, 0).sum() <= eps
        low, high = (low, middle) if inside else (middle, high)
    return np.sign(row) * np.maximum(np.abs(row) - high, 0)


@given(
    seed=st.integers(0, 2**32), side=st.integers(1, 9), eps=st.floats(1e-3, 30), spread=st.floats(1e-3, 2),
    few=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_l1_projects_to_the_nearest_point(seed: int, side: int, eps: float, spread: float, few: bool) -> None:
    rng = np.random.default_rng(seed)
    delta = rng.normal(0, spread, (3, 3, side, side))
    if few:  # equal magnitudes, and zeros
        delta = spread * rng.integers(-1, 2, delta.shape)
    found = norm("l1").project(torch.from_numpy(delta), eps).numpy()
    wanted = np.stack([shrunk(row.ravel(), eps).reshape(row.shape) for row in delta])
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_l1_leaves_rows_inside_untouched_and_its_gradient_is_the_projections() -> None:
    delta = torch.randn(3, 3, 4, 4, generator=generator(0, "l1"), dtype=torch.float64)
    delta[0] *= 1e-3
    before = delta.clone()
    projected = norm("l1").project(delta, 5.0)
    assert torch.equal(projected[0], delta[0])
    assert not torch.equal(projected[1], delta[1])
    assert torch.equal(delta, before)
    assert torch.autograd.gradcheck(lambda rows: norm("l1").project(rows, 5.0), delta.requires_grad_(True))


def test_l1_steps_on_a_twentieth_of_the_values_at_unit_size() -> None:
    grad = torch.randn(4, 3, 20, 20, generator=generator(0, "grad"))
    grad[3] = 0
    grad[2] = 0
    grad[2, 1, 3, 4] = -2
    steepest = norm("l1").steepest(grad)
    assert (steepest != 0).flatten(1).sum(1).tolist() == [60, 60, 1, 0]
    assert norm("l1").size(steepest).tolist() == pytest.approx([1, 1, 1, 0])
    moved = steepest[0] != 0
    assert float(grad[0][moved].abs().min()) > float(grad[0][~moved].abs().max())
    assert torch.equal(steepest[0][moved].sign(), grad[0][moved].sign())


def test_l1_grows_with_the_photo_as_stretched_noise_does() -> None:
    assert norm("l1").usual(3, 32) == "48.19"
    blocks = torch.randn(1, 3, 4, 4, generator=generator(0, "blocks")).repeat_interleave(8, 2).repeat_interleave(8, 3)
    large = blocks.repeat_interleave(3, 2).repeat_interleave(5, 3)
    allowed = norm("l1").rescale(float(norm("l1").size(blocks)), (32, 32), (96, 160))
    assert float(norm("l1").size(large)) == pytest.approx(allowed, rel=1e-5)


# ------------------------------------------------------------------------------------------------ l0


@given(seed=st.integers(0, 2**32), side=st.integers(2, 9), eps=st.floats(1, 40), channels=st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None)
def test_l0_keeps_the_pixels_that_change_most(seed: int, side: int, eps: float, channels: int) -> None:
    rng = np.random.default_rng(seed)
    delta = rng.normal(0, 1, (2, channels, side, side)).astype(np.float32)
    found = norm("l0").project(torch.from_numpy(delta), eps).numpy()
    for row, projected in zip(delta, found, strict=True):
        energy = (row**2).sum(0)
        stays = np.argsort(-energy.ravel(), kind="stable")[: int(eps)]
        wanted = np.zeros(side * side, dtype=bool)
        wanted[stays] = True
        assert np.array_equal(projected, row * wanted.reshape(side, side))


def test_l0_keeps_the_first_of_equals_and_never_more() -> None:
    delta = torch.ones(1, 3, 5, 5) * torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)
    projected = norm("l0").project(delta, 7)
    assert norm("l0").size(projected).tolist() == [7]
    assert projected[0].any(0).flatten().tolist() == [True] * 7 + [False] * 18


def test_l0_leaves_rows_inside_untouched_however_faint() -> None:
    delta = torch.zeros(2, 3, 5, 5)
    delta[0, 1, 2, 3], delta[0, 0, 4, 4] = 1e-30, -1e-30  # squares of these are zero
    delta[1] = 1
    projected = norm("l0").project(delta.requires_grad_(True), 2)
    assert torch.equal(projected[0], delta[0])
    (grad,) = torch.autograd.grad(projected.sum(), delta)
    assert grad[0].min() == 1
    assert grad[1].sum() == 2 * 3
    assert norm("l0").size(projected).tolist() == [2, 2]


@given(seed=st.integers(0, 2**32), eps=st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_l0_holds_on_the_written_pixels_and_uses_them(seed: int, eps: int) -> None:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(64, 192, (3, 3, 9, 9), dtype=np.uint8))
    delta = torch.from_numpy(rng.normal(0, 0.1, images.shape).astype(np.float32))
    delta[0] = norm("l0").project(delta[:1], eps)[0]
    written = publish(images, delta, norm("l0"), eps)
    size = measure(images, written, norm("l0"))
    assert size.max() <= eps
    assert size.min() >= 0.8 * eps  # of the largest changes, hardly any is rounded to nothing
    alone = publish(images[:1], delta[:1], norm("l0"), 81)
    assert torch.equal(written[:1], alone)  # what is inside is written as it is


def test_l0_takes_whole_pixels_only() -> None:
    assert norm("l0").parse("10") == norm("l0").parse("20/2") == 10
    for text in ("8/255", "0.5", "2.5", "0", "-3", "many"):
        with pytest.raises(UsageError, match="a whole number of pixels"):
            norm("l0").parse(text)
    assert [norm("l0").usual(3, side) for side in (4, 32, 224)] == ["1", "10", "502"]
    assert norm("l0").rescale(10, (32, 32), (96, 160)) == 150
    assert norm("l0").rescale(1, (32, 32), (16, 16)) == 1
    assert norm("l0").reach(10) == 1


# ----------------------------------------------------------------------------------------- unbounded


def test_unbounded_forbids_nothing_and_has_nothing_to_set() -> None:
    free = norm("unbounded")
    assert not free.bounded
    assert free.parse(free.usual(3, 32)) == free.parse("1.0") == 1
    for text in ("8/255", "2", "0", "much"):
        with pytest.raises(UsageError, match=r"norm 'unbounded' has no bound to set.*Leave `eps` out"):
            free.parse(text)
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    swapped = publish(images, torch.tensor([[[[1.0, -1.0]]]]), free, 1)
    assert swapped.flatten().tolist() == [255, 0]
    assert measure(images, swapped, free).tolist() == [1]
    faint = torch.full((1, 3, 2, 2), 1e-3)
    assert torch.equal(free.fill(faint, 1), faint)


# --------------------------------------------------------------------------------------------- lpips


@pytest.fixture
def lpips(lpips_weights: Path, monkeypatch: pytest.MonkeyPatch) -> plugin.Norm:
    monkeypatch.setenv(VARIABLE, str(lpips_weights))
    return norm("lpips")


def reference(first: Tensor, second: Tensor, path: Path) -> Tensor:
    """LPIPS by torchvision's own layers, as the paper has it."""
    tensors = load_file(path)
    layers = alexnet(weights=None).features.eval()
    layers.load_state_dict({name[9:]: tensor for name, tensor in tensors.items() if name.startswith("features.")})
    shift, scale = torch.tensor([-0.03, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.45])
    pair = [(2 * images - 1 - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for images in (first, second)]
    total, tap = torch.zeros(len(first)), 0
    for number, layer in enumerate(layers):
        pair = [layer(signal.clone()) for signal in pair]
        if number in {1, 4, 7, 9, 11}:
            one, other = (signal / (signal.norm(dim=1, keepdim=True) + 1e-10) for signal in pair)
            total += ((one - other) ** 2 * tensors[f"lin{tap}.weight"]).sum(1).mean((1, 2))
            tap += 1
    return total.detach()


def test_lpips_keeps_the_contract(lpips: plugin.Norm) -> None:
    testing.check(lpips)


def test_lpips_follows_torchvisions_layers(lpips: plugin.Norm, lpips_weights: Path) -> None:
    images = torch.rand(3, 3, 70, 90, generator=generator(0, "images"))
    delta = 0.1 * torch.randn(images.shape, generator=generator(0, "delta"))
    wanted = reference(images, (images + delta).clamp(0, 1), lpips_weights)
    torch.testing.assert_close(lpips.size(delta, images), wanted, rtol=1e-4, atol=1e-7)
    # Below 64 px the shorter side is enlarged to that, and grey is seen as colour.
    grey, faint = images[:, :1, :16, :32], delta[:, :1, :16, :32]
    pair = [functional.interpolate(one, (64, 128), mode="bilinear") for one in (grey, (grey + faint).clamp(0, 1))]
    wanted = reference(pair[0].expand(-1, 3, -1, -1), pair[1].expand(-1, 3, -1, -1), lpips_weights)
    torch.testing.assert_close(lpips.size(faint, grey), wanted, rtol=1e-4, atol=1e-7)


def test_lpips_grows_with_the_noise_and_is_met(lpips: plugin.Norm) -> None:
    images = testing.pictures(2, side=32).float() / 255
    noise = torch.randn(images.shape, generator=generator(0, "noise"))
    sizes = torch.stack([lpips.size(noise * level / 255, images) for level in (0, 2, 8, 32)])
    assert sizes[0].tolist() == [0, 0]
    assert bool((sizes.diff(dim=0) > 0).all())
    eps = float(sizes[2].mean())
    projected = lpips.project(noise * 32 / 255, eps, images)
    assert lpips.size(projected, images).tolist() == pytest.approx([eps] * 2, rel=1e-2)
    assert bool((lpips.size(projected, images) <= eps).all())
    whole = testing.pictures(2, side=32)
    written = publish(whole, noise * 32 / 255, lpips, eps)
    assert bool((measure(whole, written, lpips) <= eps * (1 + SLACK)).all())
    assert not torch.equal(written, whole)


def test_lpips_has_gradients_also_after_inference(lpips: plugin.Norm, lpips_weights: Path, tmp_path: Path) -> None:
    images = testing.pictures(1, side=32).float() / 255
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(shutil.copy(lpips_weights, tmp_path)))  # not loaded yet
        with torch.inference_mode():
            assert not lpips.size(images * 0, images.clone()).requires_grad
        delta = torch.full(images.shape, 0.01).requires_grad_(True)
        (grad,) = torch.autograd.grad(lpips.size(delta, images).sum(), delta)
    assert bool(grad.isfinite().all())
    assert float(grad.abs().max()) > 0


def test_lpips_needs_the_images(lpips: plugin.Norm) -> None:
    for call in (lpips.size, lambda delta: lpips.project(delta, 0.05)):
        with pytest.raises(UsageError, match=r"norm 'lpips' needs the image.*`mode=samplewise"):
            call(torch.zeros(1, 3, 8, 8))


def test_lpips_reads_the_names_of_the_lpips_package(lpips: plugin.Norm, lpips_weights: Path, tmp_path: Path) -> None:
    images = testing.pictures(2).float() / 255
    wanted = lpips.size(images * 0.1, images)
    renamed = {
        name.replace(".weight", ".model.1.weight") if name.startswith("lin") else name: tensor
        for name, tensor in load_file(lpips_weights).items()
    }
    save_file({**renamed, "classifier.6.bias": torch.zeros(1000)}, tmp_path / "theirs.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(tmp_path / "theirs.safetensors"))
        assert lpips.missing_requirement() is None
        assert torch.equal(lpips.size(images * 0.1, images), wanted)


def _spoil(lpips_weights: Path, path: Path, how: str) -> None:
    tensors = load_file(lpips_weights)
    match how:
        case "keys":
            del tensors["lin3.weight"]
        case "shape":
            tensors["features.0.weight"] = torch.zeros(64, 3, 3, 3)
        case "finite":
            tensors["features.3.bias"][7] = float("nan")
        case "negative":
            tensors["lin0.weight"][0, 5] = -1
    save_file(tensors, path)
    match how:
        case "cut":
            path.write_bytes(lpips_weights.read_bytes()[:-1])
        case "pickle":
            torch.save(tensors, path)
        case "text":
            path.write_text("{}")
        case "list":
            path.write_bytes((2).to_bytes(8, "little") + b"[]")


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("keys", "has no tensor 'lin3.weight'"),
        ("shape", r"'features.0.weight' has another shape than \(64, 3, 11, 11\)"),
        ("finite", "not finite"),
        ("negative", "linear ones below 0"),
        ("cut", "is no whole safetensors file"),
        ("pickle", "is no whole safetensors file"),
        ("text", "is no whole safetensors file"),
        ("list", "is no whole safetensors file"),
    ],
)
def test_a_broken_file_of_weights_is_told_in_one_line(
    lpips: plugin.Norm, lpips_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, complaint: str
) -> None:
    path = tmp_path / "broken.safetensors"
    _spoil(lpips_weights, path, how)
    monkeypatch.setenv(VARIABLE, str(path))
    images = torch.full((1, 3, 16, 16), 0.5)
    with pytest.raises(UexError, match=complaint) as raised:
        lpips.size(images * 0, images)
    assert VARIABLE in raised.value.hint
    if how not in {"finite", "negative"}:  # which the header does not tell
        assert str(lpips.missing_requirement()) == str(raised.value)


def test_lpips_without_weights_says_where_they_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = torch.full((1, 3, 16, 16), 0.5)
    for value, complaint in (("", f"{VARIABLE} is not set"), (str(tmp_path / "nowhere"), "is no file")):
        monkeypatch.setenv(VARIABLE, value)
        lacking = norm("lpips").missing_requirement()
        assert lacking is not None
        assert complaint in lacking.message
        assert VARIABLE in lacking.hint
        for call in (norm("lpips").size, lambda delta, given: norm("lpips").project(delta, 0.05, given)):
            with pytest.raises(UexError, match=complaint):
                call(images * 0, images)
    with pytest.raises(AssertionError, match="'lpips' cannot be checked here"):
        testing.check(norm("lpips"))


def test_what_is_wrong_with_weights_is_said_without_torch(lpips_weights: Path) -> None:
    code = "import sys; from uexcli.builtin.norms.lpips import Lpips; "
    code += "print(Lpips().missing_requirement(), 'torch' in sys.modules)"
    environment = {**os.environ, VARIABLE: str(lpips_weights)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["None", "False"]


def windows(image: np.ndarray, other: np.ndarray) -> float:
    """SSIM of float64 (H, W), window by window."""
    grid = np.arange(11) - 5
    one = np.exp(-(grid**2) / 4.5)
    weight = np.outer(one, one) / one.sum() ** 2
    found = []
    for top in range(image.shape[0] - 10):
        for left in range(image.shape[1] - 10):
            a, b = (each[top : top + 11, left : left + 11] for each in (image, other))
            mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
            var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
            both = (weight * (a - mean_a) * (b - mean_b)).sum()
            light = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            found.append(light * (2 * both + 9e-4) / (var_a + var_b + 9e-4))
    return float(np.mean(found))


@pytest.mark.parametrize("low", [0, 0.5, 0.98])
def test_ssim_is_exact_on_flat_and_bright_images(low: float) -> None:
    draw = np.random.default_rng(1)
    image = np.round(255 * draw.uniform(low, 1 if low == 0.98 else low + 0.02, (20, 24))) / 255
    changed = np.round(255 * np.clip(image + draw.uniform(-8, 8, image.shape) / 255, 0, 1)) / 255
    first, second = (torch.from_numpy(each).float()[None, None] for each in (image, changed))
    wanted = 1 - windows(first[0, 0].double().numpy(), second[0, 0].double().numpy())
    assert float(norm("ssim").size(second - first, first)) == pytest.approx(wanted, rel=2e-6)
